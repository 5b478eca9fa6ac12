"""Chats as `messages` of user and assistant, in one session or several, to histories without questions.

Messages are as chat APIs have them; what tools are told and say is left out, with messages that hold nothing.
ShareGPT's `conversations` are read as messages, too.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pmem import check
from pmem.draws import fingerprint
from pmem.errors import RecordError
from pmem.formats.imported import Message, Record, Session, history, keys, text
from pmem.formats.logs import Chat, Log, Said, day_of, known_time
from pmem.stream.made import Made
from pmem.stream.source import Entry

SOURCE = "messages"
SHAREGPT = "sharegpt"
NAMES = ("user_id", "user", "id", "conversation_id", "context_id", "message_tree_id")
"""Keys that may say whose a chat is; the first that is there counts."""
TIMES = ("date", "created_at", "create_time", "timestamp", "time")
"""Keys that may say when something was said."""
SYSTEM = ("system", "developer")
TOOLS = ("tool", "function", "ipython")
SPEAKERS = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "assistant", "model", "bing", "bard", "claude"), "assistant"),
    **dict.fromkeys(("tool", "function", "function_call", "function_response", "observation"), "tool"),
    "system": "system",
}
"""Who speaks in ShareGPT's conversations, as a role."""


class _Sitting(NamedTuple):
    """A session as it was given. name: its own, if it has one; systems: the texts of its system messages."""

    name: str | None
    said: list[Said]
    systems: tuple[str, ...]
    begun: float | None


def importer(entry: Entry, source: str = SOURCE) -> Made:
    """The history of an object with `messages`, or with `sessions` that have them. Its other keys become labels."""
    item, sittings = entry.record, _sittings(entry.record)
    sessions = [
        Session(one.name or f"session {number}", [said.message for said in one.said], day_of(one.begun))
        for number, one in enumerate(sittings, 1)
        if one.said
    ]
    name = next((str(item[key]) for key in NAMES if item.get(key)), f"{Path(entry.file).name}:{entry.number}")
    labels = {key: str(value) for key, value in item.items() if isinstance(value, str | int | float)}
    system = "\n\n".join(dict.fromkeys(text for one in sittings for text in one.systems)) or None
    key = [name, fingerprint([system, [_as_dict(one) for one in sessions]])]
    record, _ = history(source, key, "whole", name, system, sessions, labels)
    return Made([record])


def maker(source: str, log: Log, user: str | None) -> Callable[[Entry], Made]:
    """What makes the history of each object; or, if it is known whose they are, gathers them as that user's log."""

    def make(entry: Entry) -> Made:
        read = of_sharegpt(entry) if source == SHAREGPT else entry
        if not user:
            return importer(read, source)
        made = [log.add(user, chat, entry.record) for chat in chats(read.record)]
        return Made([], dropped=[one for some in made for one in some.dropped])

    return make


def chats(item: Record) -> list[Chat]:
    """The same object's sessions as chats of one person's log."""
    name = next((str(item[key]) for key in NAMES if item.get(key)), "chat")
    title = item.get("title")
    return [
        Chat(
            f"{one.name or name}-{fingerprint([said.message for said in one.said], 8)}",
            title if isinstance(title, str) else None,
            one.said,
            one.begun,
            one.systems,
        )
        for one in _sittings(item)
    ]


def of_sharegpt(entry: Entry) -> Entry:
    """An object with ShareGPT's `conversations` as one with `messages`. RecordError for any other."""
    item = entry.record
    turns = item.get("conversations")
    if not isinstance(turns, list):
        raise RecordError(f"no chat of ShareGPT: expected a list conversations; found {keys(item)}", reason="type")
    messages = []
    for place, turn in enumerate(turns):
        speaker = turn.get("from", turn.get("role")) if isinstance(turn, dict) else None
        role = SPEAKERS.get(speaker.lower()) if isinstance(speaker, str) else None
        if role is None:
            known = ", ".join(SPEAKERS)
            raise RecordError(f"expected from: one of {known}", reason="schema", pointer=f"/conversations/{place}")
        messages.append({**turn, "role": role, "content": turn.get("value", turn.get("content"))})
    rest = {key: value for key, value in item.items() if key not in ("conversations", "sessions")}
    return entry._replace(record={**rest, "messages": messages})


def _sittings(item: Record) -> list[_Sitting]:
    given = item["sessions"] if isinstance(item.get("sessions"), list) else [item]
    if not all(isinstance(one, dict) and isinstance(one.get("messages"), list) for one in given):
        raise RecordError(
            f"no chat: expected a list messages, or sessions that have one; found {keys(item)}", reason="type"
        )
    return [
        _sitting(one, "/messages" if one is item else f"/sessions/{number}/messages")
        for number, one in enumerate(given)
    ]


def _sitting(one: Record, pointer: str) -> _Sitting:
    systems, said = [], []
    for place, message in enumerate(one["messages"]):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RecordError("expected a message with role and content", reason="schema", pointer=f"{pointer}/{place}")
        role, content = message["role"], message.get("content")
        if role in SYSTEM:
            systems.append(text(_joined(content), f"{pointer}/{place}/content"))
        elif role in ("user", "assistant"):
            if kept := _content(message, f"{pointer}/{place}/content"):
                said.append(Said({"role": role, "content": kept}, _when(message)))
        elif role not in TOOLS:
            expected = "expected user, assistant, system or tool"
            found = check.plain(role, 40)
            raise RecordError(f"{expected}, found {found}", reason="schema", pointer=f"{pointer}/{place}/role")
    begun = next((said_one.when for said_one in said if said_one.when is not None), None)
    name = one.get("doc_id") or one.get("id")
    return _Sitting(str(name) if name else None, said, tuple(systems), begun if begun is not None else _when(one))


def _when(one: Record) -> float | None:
    return next((when for key in TIMES if (when := known_time(one.get(key))) is not None), None)


def _content(message: Message, pointer: str) -> str | list[Record]:
    """A message's content as records have it; empty if there is none, as where the assistant calls a tool."""
    content = message.get("content")
    if content is None and message["role"] == "assistant":
        refusal = message.get("refusal")
        return refusal.strip() if isinstance(refusal, str) else ""
    if isinstance(content, str):
        return content if content.strip() else ""
    if not isinstance(content, list):
        raise RecordError("expected text, or parts of text and images", reason="schema", pointer=pointer)
    parts = [_part(part, f"{pointer}/{place}") for place, part in enumerate(content)]
    return [part for part in parts if part]


def _part(part: Any, pointer: str) -> Record | None:
    """A part as records have it: text and images as they are, of anything else that it was there."""
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str):
        raise RecordError("expected a part with a type", reason="schema", pointer=pointer)
    if kind in ("text", "input_text", "output_text", "refusal"):
        said = part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(said, str):
            raise RecordError("expected text", reason="schema", pointer=f"{pointer}/text")
        return {"type": "text", "text": said} if said.strip() else None
    if kind in ("image_url", "input_image"):
        image = part.get("image_url")
        if isinstance(image, str):
            return {"type": "image_url", "image_url": {"url": image}}
        return {"type": "image_url", "image_url": image}
    if kind in ("tool_use", "tool_result", "tool_call", "thinking", "reasoning"):
        return None
    audio = part.get("input_audio") or part.get("audio")
    spoken = audio.get("transcript") if isinstance(audio, dict) else None
    return {"type": "text", "text": spoken if isinstance(spoken, str) and spoken.strip() else f"[{kind}]"}


def _joined(content: Any) -> Any:
    """The text of a system message, whose content may be parts as well."""
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return "\n".join(str(part.get("text", "")) for part in content)
    return content


def _as_dict(session: Session) -> Record:
    """What of a session makes the history what it is."""
    return {"id": session.id, "messages": session.messages, "date": session.date, "what": session.what}
