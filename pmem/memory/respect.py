"""What never enters a memory, whatever a model writes: private details, and what the user asked not to remember."""
# ruff: noqa: SIM905 - word lists read better as text

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from pmem.memory.chunks import masked
from pmem.memory.text import TOPICS, Entry, plain
from pmem.private import cues, found
from pmem.private.text import Text

TOPIC_WORDS = 12
"""The longest topic: what goes on after that says what it was."""
SHORTEST_VALUE = 6
"""Letters and digits of a private value that is looked for word for word: shorter ones stand everywhere."""
DIGIT = re.compile(r"[\d@]")
WORD = re.compile(r"[^\W_]+")
OR = re.compile(r"[/,;]|\bor\b")
GENERAL = frozenset(
    "a about all an and any anything at by detail details everything fact for from habit habits he her hers his in "
    "information is issue issues it its matter matters my of on or personal preference preferences private s she some "
    "something subject taste tastes that the their them they thing things this to topic topics user users was what "
    "which with".split()
)
"""Words that say nothing of what a topic is about."""


class Respected(NamedTuple):
    """entries: those that may stay; private: how many were left out for a private detail; forgotten: how many for what
    is not to be remembered."""

    entries: list[Entry]
    private: int
    forgotten: int


def respected(
    entries: Iterable[Entry], topics: Iterable[str], said: Iterable[str], known: Iterable[str] = ()
) -> Respected:
    """The entries but for those that hold a private detail or touch a topic that is not to be remembered.

    topics: those known before, which stay; said: the texts that the entries were made from: a private detail there is
    none less for standing in an entry without the word that gave it away; known: entries of before, which were held
    against what was said then. By form and by words only: who writes a number out in words, or says the forgotten in
    other words, isn't caught here.
    """
    entries = list(entries)
    new = {entry.text for entry in entries}.difference(known)
    # a look at all that was said costs more than all else; values without a digit are passwords and keys
    telling = any(DIGIT.search(text) for text in new)
    values = {value for text in said if new and (telling or _hints(text)) for value in _values(text)}
    named = [*topics, *(_topic(entry.text) for entry in entries if entry.is_topic)]
    banned: dict[str, str] = {}
    for topic in named:
        if plain(topic):
            banned.setdefault(plain(topic), topic)
    kept: list[Entry] = []
    private = forgotten = 0
    for entry in entries:
        if entry.is_topic:
            continue
        if _looks_private(entry.text) or _holds(entry.text, values):
            private += 1
        elif any(touches(entry.text, topic) for topic in banned.values()):
            forgotten += 1
        else:
            kept.append(entry)
    held = [topic for topic in banned.values() if not _holds(topic, values)]
    return Respected([*kept, *(Entry(topic, TOPICS) for topic in held)], private, forgotten)


@lru_cache(maxsize=1 << 14)
def _looks_private(text: str) -> bool:
    """Whether something in a text has the form of a private detail. Most entries come again with each chunk."""
    return bool(found(text))


def _holds(text: str, values: set[str]) -> bool:
    """Whether one of the values stands in a text, however it is set."""
    return bool(values) and any(value in plain(text) for value in values)


def touches(text: str, topic: str) -> bool:
    """Whether a text has all the telling words of a topic, or of one of its names ("coffee / caffeine")."""
    words = _words(text)
    return any(
        wanted and all(any(_same(word, one) for one in words) for word in wanted)
        for wanted in (_words(name) for name in OR.split(topic.casefold()))
    )


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.casefold())) - GENERAL


def _same(one: str, other: str) -> bool:
    """Whether two words are forms of one: smokes, smoking; party, parties; therapy, therapist."""
    short, long = sorted((_stem(one), _stem(other)), key=len)
    return short == long or (len(short) >= 5 and long.startswith(short) and len(long) - len(short) <= 4)


def _stem(word: str) -> str:
    """An English word without its ending, as far as four letters are left (three before a plural s)."""
    word = re.sub(r"ies\Z", "y", word)
    for ending in ("ing", "ed", "es", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word.removesuffix(ending)
    return word[:3] if len(word) == 4 and word.endswith("s") else word


def _topic(text: str) -> str:
    """A topic in a few words, private details by their kind."""
    return " ".join(masked(text).split()[:TOPIC_WORDS])


def _hints(text: str) -> bool:
    """Whether a text may hold a password or a key."""
    seen = Text(text)
    return cues.PASSWORD.hinted(seen) or cues.KEY.hinted(seen)


def _values(text: str) -> Iterable[str]:
    """Private details in a text, plain; of an address the lines with a number each."""
    for one in found(text):
        parts = [part for part in one.value.split(",") if any(map(str.isdigit, part))]
        yield from (plain(part) for part in (one.value, *parts) if len(plain(part)) >= SHORTEST_VALUE)
