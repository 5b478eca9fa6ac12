"""Memories that are made when a question first asks for one: as memdump makes them, once for each history."""

import asyncio
from typing import Any

import orjson

from pmem.backends.model import Model
from pmem.errors import RecordError
from pmem.memory.loop import form_of, unbroken
from pmem.memory.memories import CHUNK, Setup, memories
from pmem.prompts import Prompts
from pmem.stream.lookup import Lookup
from pmem.tokens import DEFAULT

Record = dict[str, Any]


class Remembering:
    """Looks memories up by history as `Lookup` does, but makes them: the same as `pmem memdump` with the same model,
    and from the same replies in the cache."""

    def __init__(self, model: Model, prompts: Prompts, seed: int, histories: Lookup) -> None:
        self._model = model.without_limit()
        form = form_of(prompts, DEFAULT)
        self._setup = Setup(form, CHUNK, False, prompts.provenance("memdump", model.name, seed, form.names))
        self._histories = histories
        self._made: dict[str, asyncio.Task[Record]] = {}
        self._chunks = 0

    async def record(self, own_id: str) -> Record:
        """The memory after the history's last chunk. RecordError: no such history, or nothing in it; ModelError."""
        if own_id not in self._made:
            self._made[own_id] = asyncio.create_task(self._make(own_id))
        return await asyncio.shield(self._made[own_id])

    async def _make(self, own_id: str) -> Record:
        history = await self._histories.record(own_id)
        history["messages"] = orjson.loads(await self._histories.messages(own_id))

        async def ask(messages: list[Record], number: int, _left: int) -> str:
            reply = await self._model.chat(messages, call=f"memdump/{own_id}/{number}", step="update")
            return unbroken(reply.text, cut=reply.finish == "length")

        last: Record | None = None
        async for one in memories(history, None, ask, self._setup):
            last = one.record
            self._chunks += one.step is not None
        if last is None:
            raise RecordError(f"history {own_id} has no messages to remember", reason="schema")
        return last

    def report(self) -> str:
        """For the summary line."""
        return f"{len(self._made):,} memories made of {self._chunks:,} chunks"

    async def close(self) -> None:
        """End what is still being made."""
        for task in self._made.values():
            task.cancel()
        await asyncio.gather(*self._made.values(), return_exceptions=True)
