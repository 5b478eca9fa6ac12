"""What a program can see in a question's wording: lengths that tell the answer, artefacts, leaks by words.

Judges see more (`votes.py`), but what is found here costs no vote: the model is asked again at once.
"""

import re
from collections.abc import Iterable, Sequence

LONGEST, SHORTEST = 1.3, 0.7
"""The right option may be at most so much longer than the longest of the others, or shorter than the shortest."""
LEAK_WORDS, LEAK_SHARE = 2, 1 / 3
"""A request with so many of a preference's words, and such a share of them, gives it away. Of the 964 pairs of
preference and question in PrefEval's files 52 share two words and none more, of 8 to 11: real requests stay below."""
STEM = 5
"""Words that agree in so many first letters count as one: "recipe" and "recipes"."""

ARTEFACTS = {
    "begins like a chatbot's preamble": re.compile(
        r"^\W*(?:(?:sure|certainly|absolutely|of course)\s*[,!]|here(?:'s|’s| is| are)\b[^.!?\n]*:)", re.IGNORECASE
    ),
    "speaks of itself as an AI": re.compile(r"\bas an? (?:ai|(?:large )?language model)\b", re.IGNORECASE),
    "carries a label": re.compile(
        r"^\W*(?:(?:option|answer|reply|response|choice)(?:\s+[a-d1-4])?\s*[:)]|[a-d][.):]\s"
        r"|(?:right|generic|stereotype|refusal|query)\s*:|\w+_\w+\s*:)",
        re.IGNORECASE,
    ),
    "holds leftover markup": re.compile(r"\{\{|\}\}|```|</?(?:think|reply|answer|option)>", re.IGNORECASE),
}
"""What is wrong with a text -> how it shows."""

LISTED = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE)
WORD = re.compile(r"[^\W\d_]{4,}")
_COMMON = """
about after along also always another anybody anything away because been before being between both cannot come could
does doing done down during each either enjoys ever every everything feels finds from gets gives goes hardly have
having here however instead into itself just keeps knows less like likes love loves made make makes many more most
much must need needs neither never nobody nothing often only other others over prefer prefers puts rather same should
since some somebody something still such take takes than that their them then there these they thing things this those
through time under until user uses usually very wants well were what when where which while whose will with within
without would your
"""
COMMON = frozenset(_COMMON.split())
"""Words of four letters and more that say nothing of what a preference is about."""


def length_tells(right: str, wrong: Sequence[str]) -> bool:
    """Whether the right option is by a wide margin the longest or the shortest."""
    sizes = [len(text) for text in wrong]
    return not SHORTEST * min(sizes) <= len(right) <= LONGEST * max(sizes)


def lengths_in_words(right: str, wrong: Sequence[str]) -> str:
    """The lengths that `length_tells` goes by."""
    sizes = [len(text) for text in wrong]
    return f"the right option has {len(right)} characters, the others {min(sizes)} to {max(sizes)}"


def form_tells(right: str, wrong: Sequence[str]) -> bool:
    """Whether the right option is the only list, the only text of several lines, or the only one that is not."""
    looks = [(bool(LISTED.search(text)), "\n" in text.strip()) for text in (right, *wrong)]
    return any(looks[0][way] not in {look[way] for look in looks[1:]} for way in range(2))


def artefact(text: str) -> str | None:
    """What shows that a text was made by a program, or None."""
    if not text.strip():
        return "is empty"
    return next((what for what, shows in ARTEFACTS.items() if shows.search(text)), None)


def leaked_words(query: str, preference: str) -> list[str]:
    """The preference's words by which a request gives it away, sorted; none where they are too few to do so."""
    known = {word[:STEM]: word for word in _words(preference)}
    shared = {word[:STEM] for word in _words(query)} & known.keys()
    tells = len(shared) >= LEAK_WORDS and len(shared) >= LEAK_SHARE * len(known)
    return sorted(known[stem] for stem in shared) if tells else []


def leaks_value(query: str, value: str) -> bool:
    """Whether a text holds a private detail, however it is spaced and punctuated."""
    return _bare(value) in _bare(query)


def same(texts: Iterable[str]) -> bool:
    """Whether two of the texts differ in nothing but case and spaces."""
    plain = [" ".join(text.casefold().split()) for text in texts]
    return len(set(plain)) < len(plain)


def _words(text: str) -> list[str]:
    return [word for word in WORD.findall(text.casefold()) if word not in COMMON]


def _bare(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())
