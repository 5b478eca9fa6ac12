"""What a memory in training reads and is asked: the loop of `pmem/memory`, whichever engine makes the replies."""

from typing import Any, NamedTuple

import orjson

from pmem.backends.base import Request
from pmem.errors import InputError, RecordError
from pmem.evaluation.question import window_of
from pmem.memory.chunks import Chunk, chunked
from pmem.memory.loop import Form, asked
from pmem.memory.unread import unread
from pmem.train.questions import Ask, Asking

Record = dict[str, Any]


class Reading(NamedTuple):
    """asking: how questions are put; form, chunk_tokens: how memories are written, as in memdump."""

    asking: Asking
    form: Form
    chunk_tokens: int

    def chunks(self, history: Record) -> list[Chunk]:
        """What is read of it at once, in order."""
        return list(chunked(unread(history, []).messages, self.chunk_tokens, self.form.count))

    def update(self, memory: str, chunk: Chunk) -> Request:
        """What memdump sends for the memory after a chunk."""
        return Request(asked(memory, chunk, self.form), call="train/update", thinking=self.asking.thinking)

    async def question(self, ask: Ask, memory: str) -> Request:
        """What `eval --context memory` sends where this is the memory. InputError: the question can't be put, or is too
        long for --context-length."""
        given = self.asking._replace(scenes=self.asking.scenes.over(_Given(memory)), context="memory")
        return await given.request(ask)


class _Given:
    """Stands for the file of memories: the one that has just been written."""

    def __init__(self, memory: str) -> None:
        self._memory = memory

    async def record(self, own_id: str) -> Record:
        return {"id": f"of {own_id}", "text": self._memory}


async def history_of(ask: Ask, asking: Asking) -> Record:
    """The history that a question is about, messages included. InputError: there is none."""
    try:
        own_id: str = ask.qa["histories"][window_of(ask.qa, asking.window)]["id"]
        return await history_of_id(own_id, asking)
    except (RecordError, InputError) as fault:
        raise InputError(f"{ask.name}: {fault}") from None


async def history_of_id(own_id: str, asking: Asking) -> Record:
    """A history, messages included. InputError: there is none of that id."""
    histories = asking.scenes.histories
    assert histories
    try:
        return {**await histories.record(own_id), "messages": orjson.loads(await histories.messages(own_id))}
    except RecordError as fault:
        raise InputError(str(fault)) from None
