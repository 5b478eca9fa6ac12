"""Chats as `messages` of user and assistant, in one session or several, to histories without questions."""

from pathlib import Path
from typing import Any

from pmem.draws import fingerprint
from pmem.errors import RecordError
from pmem.formats.imported import Session, history, said, text
from pmem.stream.made import Made
from pmem.stream.source import Entry

SOURCE = "messages"
NAMES = ("user_id", "user", "id", "conversation_id", "context_id", "message_tree_id")
"""Keys that may say whose a chat is; the first that is there counts."""
_SYSTEM = ("system", "developer")


def importer(entry: Entry) -> Made:
    """The history of an object with `messages`, or with `sessions` that have them. Its other keys become labels."""
    item = entry.record
    given = item["sessions"] if isinstance(item.get("sessions"), list) else [item]
    if not all(isinstance(one, dict) and isinstance(one.get("messages"), list) for one in given):
        found = ", ".join(list(item)[:5])
        raise RecordError(f"no chat: expected a list messages, or sessions that have one; found {found}", reason="type")
    systems: dict[str, None] = {}
    sessions = []
    for number, one in enumerate(given, 1):
        pointer = f"/sessions/{number - 1}/messages" if given[0] is not item else "/messages"
        own = one["messages"]
        if own and isinstance(own[0], dict) and own[0].get("role") in _SYSTEM:
            systems[text(own[0].get("content"), f"{pointer}/0")] = None
            own = own[1:]
        name = str(one.get("doc_id") or one.get("id") or f"session {number}")
        if own:
            sessions.append(Session(name, said(own, pointer), _date(one.get("date"))))
    name = next((str(item[key]) for key in NAMES if item.get(key)), f"{Path(entry.file).name}:{entry.number}")
    labels = {key: str(value) for key, value in item.items() if isinstance(value, str | int | float)}
    system = "\n\n".join(systems) or None
    key = [name, fingerprint([system, [one._asdict() for one in sessions]])]
    record, _ = history(SOURCE, key, "whole", name, system, sessions, labels)
    return Made([record])


def _date(value: Any) -> str | None:
    return value[:10] if isinstance(value, str) and value[4:5] == value[7:8] == "-" else None
