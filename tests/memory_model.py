"""Models for tests of the memory: pure functions from messages to a reply, and histories to read."""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import orjson

from pmem import tokens
from pmem.memory.loop import Form
from pmem.memory.memories import Remembered, Setup, memories
from pmem.memory.previous import Before
from pmem.prompts import Prompts

Record = dict[str, Any]


def hashed(messages: list[Record]) -> str:
    """A reply that is a hash of all that the model was sent."""
    return hashlib.sha256(orjson.dumps(messages)).hexdigest()


class Model:
    """Answers by a function of the messages, and keeps what it was sent."""

    def __init__(self, reply: Any = hashed) -> None:
        self._reply = reply
        self.sent: list[str] = []

    async def __call__(self, messages: list[Record], _number: int = 0, _left: int = 0) -> str:
        self.sent.append(messages[-1]["content"])
        return str(self._reply(messages))


def form(**options: Any) -> Form:
    """A form that counts in o200k_base."""
    return Form(Prompts(), partial(tokens.count), **options)


def setup(*, chunk: int = 5000, redact: bool = False, **options: Any) -> Setup:
    return Setup(form(**options), chunk, redact, {"stage": "memdump", "pmem": "0"})


def history(*chats: Sequence[str], number: int = 0, user: str = "ana", dates: bool = True) -> Record:
    """A history of chats in which user and assistant take turns."""
    messages: list[Record] = []
    sessions = []
    for place, chat in enumerate(chats):
        start = len(messages)
        messages += [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(chat)]
        sessions.append(
            {
                "id": f"c-{number:08x}{place:08x}",
                "what": "imported",
                "start": start,
                "end": len(messages),
                "token_start": 0,
                "tokens": 0,
                "date": f"2025-01-{place + 1:02}" if dates else None,
                **dict.fromkeys(("event", "preference", "scenario", "topic")),
            }
        )
    return of_messages(messages, number=number, user=user) | {"sessions": sessions, "messages": messages}


def of_messages(messages: list[Record], *, number: int = 0, user: str = "ana") -> Record:
    """A history of these messages, without sessions."""
    return {
        "type": "history",
        "id": f"h-{number:016x}",
        "persona_id": None,
        "user_id": user,
        "window": "all",
        "budget": None,
        "tokenizer": tokens.DEFAULT,
        "tokens": 0,
        "relevant_tokens": 0,
        "filler_tokens": 0,
        "persona": None,
        "system": None,
        "sessions": [],
        "provenance": {"stage": "import", "pmem": "0"},
        "messages": messages,
    }


async def run(history: Record, model: Model, before: Record | Before | None = None, **options: Any) -> list[Remembered]:
    """All memories of a history. before: the last record of an earlier run, or what became of it."""
    past = Before(before, before["text"]) if isinstance(before, dict) else before
    return [one async for one in memories(history, past, model, setup(**options))]
