"""The words of messages that statements of memories rest on."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pmem.stream.source import records
from pmem.tokens import text_of

Record = dict[str, Any]


class Cited(NamedTuple):
    """A message: who said it, on which date if that is known, and what."""

    role: str
    date: str | None
    text: str


Words = dict[str, dict[int, Cited]]
"""History id -> index of a message -> the message. A history that wasn't found is missing."""


def places(memories: Iterable[Record]) -> dict[str, set[int]]:
    """The messages that memories cite, by their history."""
    found: dict[str, set[int]] = {}
    for memory in memories:
        for entry in memory["entries"]:
            found.setdefault(memory["history_id"], set()).update(entry["evidence"])
            for one in entry.get("earlier", ()):
                found.setdefault(one["history_id"], set()).update(one["messages"])
    return found


def words(files: tuple[str, ...], wanted: Mapping[str, Iterable[int]]) -> Words:
    """The wanted messages of each history, out of files of history records; InputError at a fault in them.

    One history at a time is in memory. An index that the history doesn't have is left out.
    """
    found: Words = {}
    for history in records(files, "history") if files else ():
        if history["id"] in wanted and history["id"] not in found:
            messages = history["messages"]
            indices = sorted(index for index in wanted[history["id"]] if index < len(messages))
            found[history["id"]] = {index: _cited(history, index) for index in indices}
    return found


def _cited(history: Record, index: int) -> Cited:
    message = history["messages"][index]
    dates = (one["date"] for one in history["sessions"] if one["start"] <= index < one["end"])
    return Cited(message["role"], next(dates, None), message_text(message))


def message_text(message: Record) -> str:
    """A message as text; a line stands for each image."""
    content = message["content"]
    parts = [] if isinstance(content, str) else [part for part in content if part["type"] == "image_url"]
    urls = [part["image_url"]["url"] for part in parts]
    return "\n".join([text_of(content), *("[image]" if url.startswith("data:") else f"[image {url}]" for url in urls)])
