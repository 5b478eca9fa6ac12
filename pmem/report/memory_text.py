"""A memory as text for reading: statement by statement, each with the messages that it rests on."""

from collections.abc import Iterator
from typing import Any

import click

from pmem.memory.lineage import Kept, of_record
from pmem.report.cited import Words
from pmem.report.memory_log import ranges, wrapped

Record = dict[str, Any]

SHOWN = 300
"""Characters of a message that are shown below a statement."""


def lines(memory: Record, words: Words | None) -> list[str]:
    """The memory's lines, with styles for a terminal. words: of the messages that it cites, if histories were given."""
    facts = [f"user {memory['user_id']}", f"chunk {memory['chunk']} of {memory['chunks']}"]
    facts += [f"{memory['tokens']:,} tokens", f"history {memory['history_id']}"]
    facts += ["edited by hand"] * memory["edited"] + ["trimmed"] * memory["trimmed"]
    shown = [" | ".join(facts)]
    section = None
    for kept in of_record(memory, memory["history_id"]):
        if kept.entry.section != section:
            section = kept.entry.section
            shown += ["", *([click.style(section, bold=True)] if section else [])]
        shown.append(wrapped("  - ", kept.entry.text))
        if memory["entries"]:  # else nothing is known of their past
            shown.append(wrapped("      ", _past(kept)))
        shown += _said(kept, memory["history_id"], words or {})
    return shown


def _past(kept: Kept) -> str:
    told = [f"since chunk {kept.since}"]
    told += [f"changed in chunk {kept.changed}"] if kept.changed != kept.since else []
    told += ["by hand"] if kept.edited else []
    told += [f"messages {ranges(messages)} of {own_id}" for own_id, messages in kept.earlier]
    told += [f"messages {ranges(kept.evidence)}"] if kept.evidence else []
    return click.style("; ".join(told), dim=True)


def _said(kept: Kept, history_id: str, words: Words) -> Iterator[str]:
    """The words of the messages that a statement rests on, as far as they were found."""
    for own_id, messages in (*kept.earlier, (history_id, kept.evidence)):
        for index in messages:
            if message := words.get(own_id, {}).get(index):
                head = " ".join(filter(None, (f"[{index}]", message.role, message.date))) + ": "
                text = " ".join(message.text.split())
                cut = text if len(text) <= SHOWN else f"{text[:SHOWN].rstrip()} ..."
                yield wrapped("      ", head + cut)
