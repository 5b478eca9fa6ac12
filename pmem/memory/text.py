"""The memory's text: entries under headings. What a model writes is read leniently, and always written in one way."""

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import NamedTuple

from pmem.memory.cutting import Count, sentences

OTHERS = "Other people's (not the user's)"
TOPICS = "Not to be remembered"
SECTIONS = (
    "About",
    "Work and study",
    "People",
    "Tastes and habits",
    "Health and wellbeing",
    "How they like to be answered",
    "Changes",
    OTHERS,
    TOPICS,
)
"""Headings that the prompts ask for, in this order. What stands under TOPICS is what the user asked never to be
remembered, each named by a few words for its topic, never by what it was."""

HEADING = re.compile(r"#{1,6}\s+(.*?)[\s#]*\Z|(?:\*\*|__)([^*_]+?)(?:\*\*|__):?\s*\Z")
BULLET = re.compile(r"(\s*)(?:[-*+•]|\d{1,3}[.)])\s+(.*)\Z")
FENCE = re.compile(r"\s*(?:```\w*|</?(?:memory|chats)>)\s*\Z")
"""What models put around a memory: fences, and the frames in which the prompt shows it."""
PLAIN = re.compile(r"[\W_]+")
NOTHING = re.compile(r"\(?(?:nothing(?: yet)?|none|empty)\)?\.?\Z", re.IGNORECASE)


class Entry(NamedTuple):
    """One statement: a bullet, or a sentence of prose; `opens`: the first one of its paragraph."""

    text: str
    section: str = ""
    bullet: bool = True
    opens: bool = False

    @property
    def is_topic(self) -> bool:
        """Whether it names what is not to be remembered."""
        return plain(self.section) in ("nottoberemembered", "donotremember", "nevertoberemembered")


@lru_cache(maxsize=1 << 14)
def plain(text: str) -> str:
    """Letters and digits only, in lower case: for comparing texts that may be set differently."""
    return PLAIN.sub("", text).casefold()


def parsed(text: str) -> list[Entry]:
    """The entries of a text: bullets (with what is indented below them), the sentences of other lines."""
    found: list[Entry] = []
    section, indent = "", -1  # indent: of the bullet that a line may belong to; -1: none
    prose = False  # whether the line before is one of a paragraph
    for line in text.splitlines():
        goes_on, prose = prose, False
        if bullet := BULLET.match(line):  # first, since nearly all lines are; it is neither heading nor fence
            if indent >= 0 and len(bullet[1]) > indent + 1:
                found[-1] = _longer(found[-1], bullet[2], " " if found[-1].text.endswith(":") else "; ")
            else:
                indent = len(bullet[1])
                found.append(Entry(bullet[2].strip(), section))
        elif FENCE.match(line) or not line.strip():
            indent = -1 if not line.strip() else indent
        elif heading := HEADING.match(line.strip()):
            section, indent = (heading[1] or heading[2] or "").strip(), -1
        elif indent >= 0:
            found[-1] = _longer(found[-1], line, " ")
        else:
            found += _prose(line, section, found if goes_on else [])
            prose = True
    return [entry for entry in found if plain(entry.text) and not NOTHING.match(entry.text)]


def _longer(entry: Entry, more: str, between: str) -> Entry:
    return entry._replace(text=f"{entry.text}{between}{more.strip()}" if entry.text else more.strip())


def _prose(line: str, section: str, before: list[Entry]) -> list[Entry]:
    """A line's sentences. One that begins in lower case goes on with the line before it."""
    line = line.strip()
    last = before[-1] if before else None
    joined = f"{last.text} {line}" if last and line[0].islower() else ""
    taken_otherwise = BULLET.match(joined) or HEADING.match(joined)
    goes_on = bool(joined and last and not last.bullet and last.section == section and not taken_otherwise)
    opens = before.pop().opens if goes_on else True
    line = joined if goes_on else line
    parts: list[str] = []
    for part in (part.strip() for part in sentences(line)):
        if parts and not (plain(parts[-1]) and plain(part)):  # mere signs are no sentence of their own
            parts[-1] += f" {part}"
        else:
            parts.append(part)
    return [Entry(part, section, bullet=False, opens=opens and not n) for n, part in enumerate(parts) if part]


def written(entries: Sequence[Entry]) -> str:
    """Entries as a text, sections in the order in which they first come, the topics last; "" for none."""
    sections: dict[str, list[Entry]] = {}
    for entry in entries:
        sections.setdefault(entry.section, []).append(entry)
    # what stands under no heading comes first
    ordered = sorted(sections.items(), key=lambda one: (one[0] != "", one[1][0].is_topic))
    return "\n\n".join((f"## {name}\n\n" if name else "") + _block(inside) for name, inside in ordered)


def _block(entries: Sequence[Entry]) -> str:
    parts: list[str] = []
    after: Entry | None = None
    for entry in entries:
        if after and after.bullet == entry.bullet and not entry.opens:
            parts.append("\n" if entry.bullet else " ")
        elif after:
            parts.append("\n\n")
        parts.append(f"- {entry.text}" if entry.bullet else entry.text)
        after = entry
    return "".join(parts)


def trimmed(entries: list[Entry], most: int, count: Count, by_hand: Collection[Entry] = ()) -> list[Entry]:
    """The entries that fit into `most` tokens: whole ones are left out from the end, those that the user wrote only
    after all others, topics last."""
    if count(written(entries)) <= most:
        return entries
    ranked = sorted(entries, key=lambda entry: (not entry.is_topic, entry not in by_hand))
    low, high = 0, len(ranked) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if count(written(_in_place(entries, ranked[:middle]))) <= most:
            low = middle
        else:
            high = middle - 1
    return _in_place(entries, ranked[:low])


def _in_place(entries: list[Entry], chosen: list[Entry]) -> list[Entry]:
    kept = {id(entry) for entry in chosen}
    return [entry for entry in entries if id(entry) in kept]
