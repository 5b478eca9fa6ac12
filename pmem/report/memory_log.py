"""The history of a memory as text: what came, changed and went after each chunk; and entry by entry, since when."""

import difflib
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import click

from pmem.memory.lineage import continued

Record = dict[str, Any]
WIDTH = 100


def log(memories: Sequence[Record]) -> str:
    """A user's memories in order, each as the difference to the one before, oldest first."""
    before: Record | None = None
    blocks = []
    for memory in memories:
        blocks.append("\n".join([_head(memory), *_changes(before, memory)]))
        before = memory
    return "\n\n".join(blocks)


def _head(memory: Record) -> str:
    cause = "edited by hand" if memory["edited"] else f"chunk {memory['chunk']} of {memory['chunks']}"
    notes = [cause, f"{memory['tokens']:,} tokens", *(["trimmed"] if memory["trimmed"] else [])]
    return f"{click.style(memory['id'], fg='yellow')}  {', '.join(notes)}"


def _changes(before: Record | None, memory: Record) -> list[str]:
    """Lines: + came, ~ changed (what left it in [-...-], what came in {+...+}), - went."""
    old = [entry["text"] for entry in before["entries"]] if before else []
    entries = memory["entries"]
    olds = continued(old, [entry["text"] for entry in entries])
    lines = []
    for entry, number in zip(entries, olds, strict=True):
        if number is None:
            lines.append(_line("+", "green", entry["text"] + _evidence(entry)))
        elif old[number] != entry["text"]:
            lines.append(_line("~", "cyan", difference(old[number], entry["text"]) + _evidence(entry)))
    lines += [_line("-", "red", text) for number, text in enumerate(old) if number not in olds]
    return lines or ["  (no change)"]


def difference(old: str, new: str) -> str:
    """Two texts as one, word by word: [-gone-] and {+come+}."""
    a, b = old.split(), new.split()
    parts = []
    for what, a1, a2, b1, b2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if what == "equal":
            parts += a[a1:a2]
            continue
        parts += [f"[-{' '.join(a[a1:a2])}-]"] if a2 > a1 else []
        parts += [f"{{+{' '.join(b[b1:b2])}+}}"] if b2 > b1 else []
    return " ".join(parts)


def blame(memory: Record) -> str:
    """A memory's entries, each with the chunk since which it stands, the one that last changed it, and its messages."""
    width = len(str(memory["chunk"]))
    lines = [f"{_head(memory)}", f"{'since':>5}  {'changed':>7}"]
    for entry in memory["entries"]:
        since, changed = entry["since_chunk"], entry["changed_chunk"]
        told = f"{since:>{max(width, 5)}}  {changed if changed != since else '':>7}  "
        by_hand = " (by hand)" if entry.get("edited") else ""
        lines.append(wrapped(told, entry["text"] + by_hand + _evidence(entry)))
    return "\n".join(lines)


def _evidence(entry: Record) -> str:
    """The messages that an entry rests on: ranges of indices, of earlier histories with their ids."""
    places = [f"of {one['history_id']}: {ranges(one['messages'])}" for one in entry.get("earlier", ())]
    places += [ranges(entry["evidence"])] if entry["evidence"] else []
    return f"  <- messages {'; '.join(places)}" if places else ""


def ranges(numbers: Iterable[int]) -> str:
    """Numbers in order in words: 3, 4, 5, 9 as 3-5, 9."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)


def _line(sign: str, colour: str, text: str) -> str:
    return click.style(wrapped(f"  {sign} ", text), fg=colour)


def wrapped(begin: str, text: str) -> str:
    """Text in lines of WIDTH behind `begin`, further lines under the text."""
    return textwrap.fill(
        text, WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
