"""The cold start of a memory: updates that led to a right answer, out of `memdump --trace`, as lessons."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pmem.backends.base import Request
from pmem.errors import InputError
from pmem.memory.chunks import Chunk
from pmem.memory.lineage import Kept, of_record, text_of
from pmem.memory.text import written
from pmem.train.questions import Asking
from pmem.train.reading import Reading, history_of_id
from pmem.train.targets import Lesson

Record = dict[str, Any]


class Update(NamedTuple):
    """An update to learn. before, after: memory records, the first one's `before` is None; chunks: of the history."""

    before: Record | None
    after: Record
    chunks: int


def updates_of(trace: Iterable[Record], memories: Iterable[str | None]) -> list[Update]:
    """The updates that made these memories (by id), each once. trace: records of `memdump --trace`.

    InputError if there is none whose every update stands in the trace, made by a model: none that a person has edited,
    none that goes on from another run.
    """
    known = {one["id"]: one for one in trace}
    chains = [_chain(known[own_id], known) for own_id in dict.fromkeys(memories) if own_id in known]
    updates = [update for chain in chains for update in chain]
    if not updates:
        raise InputError("--trajectories: no reply that ended right rests on a memory whose every update stands there")
    return updates


def _chain(last: Record, known: dict[str, Record]) -> list[Update]:
    """The updates that made a memory, the last first; none if one of them is missing, or wasn't a model's."""
    chain: list[Update] = []
    after = last
    while True:
        before = known.get(after["previous_id"]) if after["previous_id"] else None
        number = before["chunk"] if before else 0
        if after["edited"] or after["chunk"] != number + 1 or (before is None and after["previous_id"]):
            return []
        chain.append(Update(before, after, last["chunk"]))
        if before is None:
            return chain
        after = before


class Teacher:
    """Makes prompt and reply of lessons. reading: how memories are written, needed for updates."""

    def __init__(self, asking: Asking, reading: Reading | None = None) -> None:
        self._asking, self._reading = asking, reading
        self._read: tuple[str, list[Chunk]] = ("", [])

    async def said(self, lesson: "Lesson | Update") -> tuple[Request, str]:
        """What is sent, and the reply to learn. InputError: the question can't be put, or the trace fits another
        history."""
        if isinstance(lesson, Lesson):
            return await self._asking.request(lesson.ask), lesson.reply
        assert self._reading
        own_id, number = lesson.after["history_id"], lesson.after["chunk"]
        chunks = await self._chunks(own_id)
        if len(chunks) != lesson.chunks:
            raise InputError(
                f"--trajectories: memory {lesson.after['id']} was written in {lesson.chunks:,} updates, and history "
                f"{own_id} is read in {len(chunks):,}: give --chunk-tokens and --tokenizer as memdump had them"
            )
        chunk = chunks[number - 1]
        before = text_of(of_record(lesson.before, own_id)) if lesson.before else ""
        memory = of_record(lesson.after, own_id)
        reply = _cited(memory, chunk) if self._reading.form.evidence else text_of(memory)
        return self._reading.update(before, chunk), reply

    async def _chunks(self, own_id: str) -> list[Chunk]:
        """A history's chunks; the last history's are at hand."""
        if self._read[0] != own_id:
            assert self._reading
            self._read = (own_id, self._reading.chunks(await history_of_id(own_id, self._asking)))
        return self._read[1]


def name(lesson: "Lesson | Update") -> str:
    """A lesson in messages."""
    if isinstance(lesson, Lesson):
        return lesson.ask.name
    return f"memory {lesson.after['id']}"


def _cited(memory: Sequence[Kept], chunk: Chunk) -> str:
    """A memory as a model writes it: with the numbers of those of the chunk's messages that an entry rests on."""
    numbers = {index: str(number) for number, index in enumerate(chunk.indices, 1)}
    entries = []
    for kept in memory:
        cited = [numbers[index] for index in kept.evidence if index in numbers]
        entries.append(kept.entry._replace(text=f"{kept.entry.text} [{', '.join(cited)}]") if cited else kept.entry)
    return written(entries)
