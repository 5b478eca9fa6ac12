"""Exports of chat services as they are in the wild, made up: the shapes are the services', the people are nobody."""

import io
import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

Record = dict[str, Any]
ROOT_OF_CLAUDE = "00000000-0000-4000-8000-000000000000"


def seconds(date: str) -> float:
    """An ISO time as ChatGPT has times."""
    return datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()


def text(*parts: Any, kind: str = "text") -> Record:
    return {"content_type": kind, "parts": [*parts]}


def picture(file: str, **meta: Any) -> Record:
    """An image as a part of a message."""
    return {
        "content_type": "image_asset_pointer",
        "asset_pointer": f"file-service://{file}",
        "size_bytes": 52_431,
        "width": 1024,
        "height": 768,
        "fovea": None,
        "metadata": meta or None,
    }


class Tree:
    """A conversation of ChatGPT: every message is said after the last one, or after the one that is named."""

    def __init__(self, number: int, title: str | None, date: str) -> None:
        self.id = f"6{number:07x}-0000-8000-9000-{number:012x}"
        self._at = datetime.fromisoformat(date).replace(tzinfo=UTC)
        self._last: str | None = None
        self.item: Record = {
            "title": title,
            "create_time": self._at.timestamp(),
            "update_time": self._at.timestamp(),
            "mapping": {},
            "moderation_results": [],
            "current_node": None,
            "plugin_ids": None,
            "conversation_id": self.id,
            "conversation_template_id": None,
            "gizmo_id": None,
            "is_archived": False,
            "safe_urls": [],
            "default_model_slug": "gpt-4o",
            "is_do_not_remember": None,
            "id": self.id,
        }
        self.node(None)
        hidden = {"is_visually_hidden_from_conversation": True}
        self.say("system", text(""), weight=0, metadata=hidden, timed=False)

    def node(self, message: Record | None, after: str | None = None) -> str:
        """A node of the tree; its name."""
        mapping = self.item["mapping"]
        name = f"{self.id}-{len(mapping)}"
        parent = after or self._last
        mapping[name] = {"id": name, "message": message, "parent": parent, "children": []}
        if parent:
            mapping[parent]["children"].append(name)
        self._last = self.item["current_node"] = name
        return name

    def say(
        self,
        role: str,
        content: Any = "",
        *,
        after: str | None = None,
        timed: bool = True,
        wait: float = 1,
        **more: Any,
    ) -> str:
        """A message, so many minutes after the last one; its node's name."""
        self._at += timedelta(minutes=wait)
        message = {
            "id": f"{self.id}-{len(self.item['mapping'])}",
            "author": {"role": role, "name": more.pop("name", None), "metadata": {}},
            "create_time": self._at.timestamp() if timed else None,
            "update_time": None,
            "content": text(content) if isinstance(content, str) else content,
            "status": "finished_successfully",
            "end_turn": True,
            "weight": 1.0,
            "metadata": {},
            "recipient": "all",
            "channel": None,
            **more,
        }
        self.item["update_time"] = self._at.timestamp()
        return self.node(message, after)

    def chat(self, *turns: str) -> "Tree":
        """User and assistant in turn."""
        for number, turn in enumerate(turns):
            self.say(("user", "assistant")[number % 2], turn)
        return self


def instructions(profile: str, answers: str) -> Record:
    """The content of the hidden message that holds a user's custom instructions."""
    told = {"about_user_message": profile, "about_model_message": answers}
    return {
        "content": {
            "content_type": "user_editable_context",
            "user_profile": f"The user says of themselves:\n```{profile}```",
            "user_instructions": f"The user wants answers like this:\n```{answers}```",
        },
        "metadata": {
            "is_user_system_message": True,
            "is_visually_hidden_from_conversation": True,
            "user_context_message_data": told,
        },
    }


def zipped(files: dict[str, Any]) -> bytes:
    """A zip file of JSON files (or of whatever bytes are given)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in files.items():
            archive.writestr(name, value if isinstance(value, bytes) else orjson.dumps(value))
    return buffer.getvalue()


def chatgpt_zip(trees: Iterable[Tree], shards: int = 0) -> bytes:
    """The file that ChatGPT sends: in one conversations.json, or in so many."""
    items = [tree.item for tree in trees]
    size = -(-len(items) // shards) if shards else 0
    conversations: dict[str, Any] = (
        {f"conversations-{n:03}.json": items[n * size : (n + 1) * size] for n in range(shards)}
        if shards
        else {"conversations.json": items}
    )
    return zipped(
        {
            "chat.html": b"<html><body>...</body></html>",
            **conversations,
            "message_feedback.json": [],
            "shared_conversations.json": [{"id": "s", "conversation_id": "c", "title": "t", "is_anonymous": True}],
            "user.json": {"id": "user-x", "email": "nobody@example.com", "chatgpt_plus_user": True},
            "file-cat-IMG_2041.jpg": b"\xff\xd8\xff",
        }
    )


def of_claude(number: int, name: str, date: str, *turns: str | Record, account: str = "acc-1") -> Record:
    """A conversation of Claude; a turn may be given as a message's further keys. Each follows the one before."""
    at, before = datetime.fromisoformat(date).replace(tzinfo=UTC), ROOT_OF_CLAUDE
    own_id = f"c{number:07x}-0000-4000-8000-{number:012x}"
    messages = []
    for place, turn in enumerate(turns):
        at += timedelta(minutes=2)
        said = turn if isinstance(turn, str) else str(turn.get("text", ""))
        stamp = at.isoformat().replace("+00:00", "Z")
        message = {
            "uuid": f"{own_id}-{place}",
            "text": said,
            "content": [
                {"start_timestamp": stamp, "stop_timestamp": stamp, "type": "text", "text": said, "citations": []}
            ],
            "sender": ("human", "assistant")[place % 2],
            "created_at": stamp,
            "updated_at": stamp,
            "attachments": [],
            "files": [],
            "parent_message_uuid": before,
            **(turn if isinstance(turn, dict) else {}),
        }
        before = message["uuid"]
        messages.append(message)
    begun = datetime.fromisoformat(date).replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")
    return {
        "uuid": own_id,
        "name": name,
        "created_at": begun,
        "updated_at": messages[-1]["created_at"] if messages else begun,
        "account": {"uuid": account},
        "chat_messages": messages,
    }


def claude_zip(conversations: list[Record]) -> bytes:
    """The file that Claude sends."""
    users = [{"uuid": "acc-1", "full_name": "Nobody", "email_address": "nobody@example.com"}]
    return zipped({"users.json": users, "projects.json": [], "conversations.json": conversations})
