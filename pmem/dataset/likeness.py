"""The words that carry a sentence's meaning, in English: to see whether two sentences say the same."""
# ruff: noqa: SIM905 - a word list reads better as text

import re

# Words that any sentence may have, and those by which preferences are put ("prefers", "tends to").
_EMPTY = frozenset(
    """a about after all also although always an and any are as at away be because been before being between both but by
    can could did do does doing don't down during each either enough even every few for from get gets getting go goes
    had has have having he her here hers him his how however i i'd i'm i've if in instead into is it it's its itself
    just keep keeps less like likes liked liking made make makes many me more most much must my myself neither never no
    nor not now of off often on once one ones only or other others our out over own rather really same she should since
    so some such take takes tend tends than that the their them then there these they thing things this those through to
    too under until up use used uses using usually very want wants was way we well were what when where whether which
    while who will with within without would you your yours prefer prefers preferred love loves loved enjoy enjoys
    enjoyed hate hates hated dislike dislikes avoid avoids favourite favorite sister brother mother father partner best
    friend colleague neighbour boss cousin flatmate client grandmother teenage son daughter""".split()
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\d+")
_ENDINGS = re.compile(r"(?:'s|’s|ies|ing|ed|es|s|y|e)$")


def content_words(text: str) -> frozenset[str]:
    """The words of an English text that carry its meaning, in lower case and without common endings."""
    words = (word.replace("’", "'") for word in _WORD.findall(text.lower()))
    return frozenset(_stem(word) for word in words if word not in _EMPTY)


def _stem(word: str) -> str:
    """A word without the ending of a plural, a verb's form or a possessive, where enough of it is left."""
    stem = _ENDINGS.sub("", word)
    if len(stem) > 3 and stem[-1] == stem[-2]:  # jogging, jog
        stem = stem[:-1]
    return stem if len(stem) > 2 else word


def likeness(one: str, other: str) -> float:
    """Share of the content words of two texts that both have (Jaccard), 0 to 1."""
    first, second = content_words(one), content_words(other)
    return len(first & second) / len(first | second) if first or second else 0.0
