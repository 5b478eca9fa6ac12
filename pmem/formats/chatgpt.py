"""Chats of ChatGPT's data export: a tree of messages for each, of which the branch counts that its user sees.

Of the messages those count that user and assistant show each other. Left out are hidden ones, what the assistant
thinks or says to a tool, and what a tool says; a picture that a tool made is the assistant's answer.
"""

# ruff: noqa: SIM905 - word lists read better as text

import re
from typing import Any

import orjson

from pmem.errors import RecordError
from pmem.formats.imported import Record, keys
from pmem.formats.logs import Chat, Said, time_of
from pmem.images import in_words

SOURCE = "chatgpt"
HIDDEN = frozenset(
    "thoughts reasoning_recap user_editable_context model_editable_context execution_output tether_browsing_display "
    "tether_quote sonic_webpage computer_output system_error".split()
)
"""Types of content that aren't shown as something said."""
_MARK = re.compile("\ue200([^\ue200-\ue202]*)(?:\ue202([^\ue200\ue201]*))?\ue201")
_STRAY = re.compile("[\ue200-\ue206]|【\\d+[^】]*†[^】]*】")
"""Marks for sources in answers, which are shown as links; \ue203 and \ue204 stand around what they are for."""


def chat(item: Record) -> Chat:
    """A conversation of conversations.json. RecordError for what is none, or whose tree is broken."""
    mapping = item.get("mapping")
    if not isinstance(mapping, dict):
        other = "; `pmem import claude` reads such files" if "chat_messages" in item else ""
        raise RecordError(f"no conversation of ChatGPT: expected mapping; found {keys(item)}{other}", reason="type")
    said, about = [], None
    for name in _branch(mapping, item.get("current_node")):
        message = mapping[name].get("message")
        if message is None:
            continue
        pointer = f"/mapping/{name}/message"
        if not isinstance(message, dict):
            raise _fault("expected a message or null", pointer)
        about = _about(message) or about
        if (text := _shown(message, pointer)) and (role := _role(message, pointer)):
            when = time_of(message.get("create_time"), f"{pointer}/create_time")
            said.append(Said({"role": role, "content": text}, when))
    name = item.get("conversation_id") or item.get("id") or next(iter(mapping), "")
    begun = time_of(item.get("create_time") or item.get("update_time"), "/create_time")
    title = item.get("title")
    return Chat(str(name), title if isinstance(title, str) else None, said, begun, about=about)


def _branch(mapping: Record, current: Any) -> list[str]:
    """The nodes from the root to the one that its user saw last; if the export doesn't say, to the newest end."""
    for name, node in mapping.items():
        if not isinstance(node, dict):
            raise _fault("expected a node with message, parent and children", f"/mapping/{name}")
    at = current if isinstance(current, str) and current in mapping else _newest(mapping)
    branch: dict[str, None] = {}
    while at is not None:
        if not isinstance(at, str) or at not in mapping:
            before = next(reversed(branch))
            raise _fault("the message that it follows isn't there", f"/mapping/{before}/parent")
        if at in branch:
            raise _fault("messages follow each other in a circle", f"/mapping/{at}/parent")
        branch[at] = None
        at = mapping[at].get("parent")
    return [*reversed(branch)]


def _newest(mapping: Record) -> str | None:
    """Of the nodes that none follows, the last by time."""
    parents = {node["parent"] for node in mapping.values() if isinstance(node.get("parent"), str)}
    ends = [name for name in mapping if name not in parents]

    def when(name: str) -> float:
        message = mapping[name].get("message")
        pointer = f"/mapping/{name}/message/create_time"
        return (time_of(message.get("create_time"), pointer) if isinstance(message, dict) else None) or 0.0

    return max(reversed(ends), key=when, default=None)


def _role(message: Record, pointer: str) -> str | None:
    """Whose message it is, None for nobody's who talks here."""
    author = message.get("author")
    role = author.get("role") if isinstance(author, dict) else None
    if not isinstance(role, str):
        raise _fault("expected an author with a role", f"{pointer}/author")
    return {"user": "user", "assistant": "assistant", "tool": "assistant"}.get(role)


def _shown(message: Record, pointer: str) -> str:
    """What user and assistant see of a message, as text; "" if it isn't for them."""
    role, content = _role(message, pointer), message.get("content")
    if not isinstance(content, dict) or not isinstance(content.get("content_type"), str):
        raise _fault("expected content with a content_type", f"{pointer}/content")
    meta = _meta(message)
    hidden = message.get("weight") == 0 or meta.get("is_visually_hidden_from_conversation")
    thought = message.get("channel") == "analysis" or content["content_type"] in HIDDEN
    if role is None or hidden or thought or meta.get("is_user_system_message"):
        return ""
    author = message["author"]["role"]
    if author == "assistant" and message.get("recipient") not in (None, "", "all"):
        return ""
    made = author == "tool"
    names = {} if made else _names(meta)
    parts = _parts(content, names, f"{pointer}/content", only_pictures=made)
    text = "\n".join(part for part in [*parts, *(f"[file: {name}]" for name in names.values() if name)] if part)
    return (_unmarked(text) if author == "assistant" else text).strip()


def _parts(content: Record, names: dict[str, str], pointer: str, *, only_pictures: bool) -> list[str]:
    """The parts of a content as text. names: of attached files by id; those that are shown are taken out."""
    if isinstance(content.get("text"), str) and not only_pictures:
        code = content["content_type"] == "code"
        return [f"```\n{content['text']}\n```" if code else content["text"]]
    parts = content.get("parts") or []
    if not isinstance(parts, list):
        raise _fault("expected a list of parts", f"{pointer}/parts")
    texts = []
    for place, part in enumerate(parts):
        if isinstance(part, dict):
            meta = part.get("metadata")
            made = meta.get("dalle") or meta.get("generation") if isinstance(meta, dict) else None
            if part.get("content_type") == "image_asset_pointer" and (made or not only_pictures):
                name = names.pop(str(part.get("asset_pointer")).rpartition("//")[2], "")
                asked = made.get("prompt") if isinstance(made, dict) else None
                texts.append(in_words(asked if isinstance(asked, str) and asked else name))
            elif isinstance(part.get("text"), str) and not only_pictures:  # such as what was spoken
                texts.append(part["text"])
        elif isinstance(part, str):
            texts += [] if only_pictures else [part]
        elif part is not None:
            raise _fault("expected text or an object", f"{pointer}/parts/{place}")
    return texts


def _names(meta: Record) -> dict[str, str]:
    """The names of a message's attached files by their ids."""
    given = meta.get("attachments")
    files = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    return {str(one.get("id") or one.get("name")): str(one.get("name") or "") for one in files}


def _unmarked(text: str) -> str:
    """An answer without the marks of its sources; of those that stand for a name or a link, its text is left."""

    def words(mark: re.Match[str]) -> str:
        if mark[1] == "entity":
            try:
                value = orjson.loads(mark[2] or "")
            except orjson.JSONDecodeError:
                return ""
            return str(value[1]) if isinstance(value, list) and len(value) > 1 else ""
        return (mark[2] or "").partition("\ue202")[0] if mark[1] == "url" else ""

    return _STRAY.sub("", _MARK.sub(words, text))


def _about(message: Record) -> str | None:
    """What the user had set down for all chats (their custom instructions), if this message holds it."""
    content, told = message.get("content"), _meta(message).get("user_context_message_data")
    if isinstance(told, dict):
        texts = [told.get("about_user_message"), told.get("about_model_message")]
    elif isinstance(content, dict) and content.get("content_type") == "user_editable_context":
        texts = [content.get("user_profile"), content.get("user_instructions")]
    else:
        return None
    return "\n\n".join(text.strip() for text in texts if isinstance(text, str) and text.strip()) or None


def _meta(message: Record) -> Record:
    meta = message.get("metadata")
    return meta if isinstance(meta, dict) else {}


def _fault(said: str, pointer: str) -> RecordError:
    return RecordError(said, reason="schema", pointer=pointer)
