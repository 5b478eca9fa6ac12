"""Chats of Claude's data export: lists of messages, in which those of abandoned branches stand as well."""

import re
from typing import Any

from pmem.errors import RecordError
from pmem.formats.imported import Record, keys
from pmem.formats.logs import Chat, Said, time_of
from pmem.images import in_words

SOURCE = "claude"
PASTE = re.compile(r"(?:paste(?:[-_ ]?\d+)?(?:\.txt)?)?\Z", re.IGNORECASE)
"""Names of what a user pasted: long pastes are kept as attachments, most without any name."""
IMAGE = re.compile(r".*\.(?:png|jpe?g|gif|webp|heic)\Z", re.IGNORECASE)


def chat(item: Record) -> Chat:
    """A conversation of conversations.json. RecordError for what is none."""
    messages = item.get("chat_messages")
    if not isinstance(messages, list):
        other = "; `pmem import chatgpt` reads such files" if "mapping" in item else ""
        raise RecordError(
            f"no conversation of Claude: expected chat_messages; found {keys(item)}{other}", reason="type"
        )
    for place, one in enumerate(messages):
        if not isinstance(one, dict) or one.get("sender") not in ("human", "assistant"):
            raise _fault("expected a message whose sender is human or assistant", f"/chat_messages/{place}")
    times = [time_of(one.get("created_at"), f"/chat_messages/{n}/created_at") for n, one in enumerate(messages)]
    said = []
    for place in _live(messages, times, item.get("current_leaf_message_uuid")):
        if text := _text(messages[place], f"/chat_messages/{place}"):
            role = "user" if messages[place]["sender"] == "human" else "assistant"
            said.append(Said({"role": role, "content": text}, times[place]))
    name, title = item.get("uuid"), item.get("name")
    begun = time_of(item.get("created_at"), "/created_at")
    if not isinstance(name, str) or not name:
        raise _fault("expected the conversation's uuid", "/uuid")
    return Chat(name, title if isinstance(title, str) else None, said, begun)


def account(item: Record) -> str | None:
    """Whose conversation it is: exports of organisations hold those of many accounts."""
    found = item.get("account")
    name = found.get("uuid") if isinstance(found, dict) else None
    return name if isinstance(name, str) and name else None


def _live(messages: list[Record], times: list[float | None], leaf: Any) -> list[int]:
    """The places of the messages that their user sees: of those that follow the same one (after an edit, or another
    try) the one that leads to the leaf; if the export names none, to the newest message."""
    places = {one["uuid"]: place for place, one in enumerate(messages) if isinstance(one.get("uuid"), str)}
    parents = [one.get("parent_message_uuid") for one in messages]
    newest = max(range(len(messages)), key=lambda place: (times[place] or 0.0, place), default=None)
    at = places.get(leaf, newest) if isinstance(leaf, str) else newest
    path: set[int] = set()
    while at is not None and at not in path:
        path.add(at)
        parent = parents[at]
        at = places.get(parent) if isinstance(parent, str) else None
    chosen: dict[str, int] = {}
    for place, parent in enumerate(parents):
        if isinstance(parent, str) and chosen.get(parent) not in path:
            chosen[parent] = place
    live: list[int] = []
    dead: set[str] = set()
    for place, parent in enumerate(parents):  # a message stands behind the one that it follows
        if isinstance(parent, str) and (parent in dead or chosen[parent] != place):
            dead.add(str(messages[place].get("uuid")))
        else:
            live.append(place)
    return live


def _text(message: Record, pointer: str) -> str:
    """What a message says: its blocks of text, not what was thought or told to tools; then what came with it."""
    blocks = message.get("content")
    if blocks is None or blocks == []:
        blocks = [{"type": "text", "text": message.get("text") or ""}]
    if not isinstance(blocks, list):
        raise _fault("expected a list of blocks", f"{pointer}/content")
    texts: list[str] = []
    for place, block in enumerate(blocks):
        if not isinstance(block, dict):
            raise _fault("expected a block with a type", f"{pointer}/content/{place}")
        if block.get("type") in ("text", "voice_note"):
            if not isinstance(block.get("text"), str):
                raise _fault("expected text", f"{pointer}/content/{place}/text")
            texts.append(block["text"])
    return "\n".join(text for text in [*texts, *_attached(message)] if text.strip()).strip()


def _attached(message: Record) -> list[str]:
    """Pastes as they are, files and images by their names."""
    found = []
    for key in ("attachments", "files"):
        given = message.get(key)
        for one in given if isinstance(given, list) else []:
            if not isinstance(one, dict):
                continue
            name, content = str(one.get("file_name") or ""), one.get("extracted_content")
            if isinstance(content, str) and content.strip() and PASTE.match(name):
                found.append(content)
            elif IMAGE.match(name):
                found.append(in_words(name))
            elif name:
                found.append(f"[file: {name}]")
    return found


def _fault(said: str, pointer: str) -> RecordError:
    return RecordError(said, reason="schema", pointer=pointer)
