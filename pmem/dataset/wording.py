"""What a program can see in a question's wording: lengths that tell the answer, artefacts, leaks by words.

Judges see more (`votes.py`), but what is found here costs no vote: the model is asked again at once.
"""

import re
from collections.abc import Iterable, Sequence

LONGEST, SHORTEST = 1.3, 0.7
"""The right option may have at most, or must have at least, so many times the characters of the longest, or the
shortest, of the others. The numbers are ours (docs/audit.md)."""
LEAK_WORDS, LEAK_SHARE, LEAK_ANYWAY = 2, 1 / 2, 4
"""A request gives a preference away that has two of its words and half of them, or four of any number."""
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
about after along also always another anybody anything avoid avoids away because been before being best better between
both cannot come could dislike dislikes does doing done down during each either enjoy enjoyable enjoying enjoys ever
every everything feel feels find finds from gets give gives goes going good great hardly have having help here however
instead into itself just keep keeps knows less like liked likes looking love loves made make makes many more most much
must need needs neither never nobody nothing often only other others over possible prefer preference preferred
preferring prefers puts rather recommend same should since some somebody something still strong strongly such suggest
take takes than that their them then there these they thing things this those through time under until user uses
usually very want wanted wants well were what when where which while whose will with within without would your
"""
COMMON = frozenset(_COMMON.split())
"""Words of four letters and more that say nothing of what a preference is about."""


def length_tells(right: str, wrong: Sequence[str], *, longest: float = LONGEST, shortest: float = SHORTEST) -> bool:
    """Whether the right option is by a wide margin the longest or the shortest."""
    sizes = [len(text) for text in wrong]
    return not shortest * min(sizes) <= len(right) <= longest * max(sizes)


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
    few = len(shared) < LEAK_WORDS or len(shared) < min(LEAK_SHARE * len(known), LEAK_ANYWAY)
    return [] if few else sorted(known[stem] for stem in shared)


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
