"""A history, and the memory of an earlier run if there is one, to memory records."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple

from pmem.draws import make_id
from pmem.memory.chunks import Chunk, chunked, redacted
from pmem.memory.lineage import Edits, Kept, as_record, edited, of_record, text_of
from pmem.memory.loop import Form, Step, remembered
from pmem.memory.previous import Before
from pmem.memory.unread import unread

Record = dict[str, Any]
AskAt = Callable[[list[Record], int, int], Awaitable[str]]
"""Messages, the chunk's number, characters that are still to be read (this chunk's counted) -> the reply."""

CHUNK = 5000
"""Most tokens that are read at once (the paper's section 5)."""


class Setup(NamedTuple):
    """How memories are made. chunk: most tokens of one; redact: whether private details are masked before they are
    sent; provenance: of the records."""

    form: Form
    chunk: int
    redact: bool
    provenance: Record


class Remembered(NamedTuple):
    """One memory record. step: what made it, None where no model was asked; known: messages that had been read before
    (told by the last)."""

    record: Record
    step: Step | None
    known: int = 0


async def memories(history: Record, before: Before | None, ask: AskAt, setup: Setup) -> AsyncIterator[Remembered]:
    """The memory of a history's user after each chunk; first, if there is one, what a person made of the memory before.

    Nothing new gives the memory as it was; nothing at all gives nothing. How many chunks there are is known at the end:
    until then, a record's `chunks` is its own number.
    """
    record = before.record if before else None
    news = unread(history, record.get("read", []) if record else [])
    said = map(redacted, news.messages) if setup.redact else news.messages
    chunks = _Chunks(chunked(said, setup.chunk, setup.form.count), sum(len(one.text) for one in news.messages))
    done = record["chunk"] if record else 0
    maker = _Maker(history, setup, record["id"] if record else None, news.read)
    memory: Sequence[Kept] = of_record(record, history["id"]) if record else []
    changes = None
    if before and text_of(memory) != before.text:
        left, did = edited(memory, before.text, max(done, 1))
        changes = did if text_of(left) != text_of(memory) else None  # else only set differently
        memory = left
    if changes and record:
        made = maker.edited(memory, changes, done, last=not chunks.more)
        yield Remembered(made, None, 0 if chunks.more else news.known)
    elif record and not chunks.more:
        entries = [as_record(kept) for kept in memory]
        yield Remembered(
            {**record, "history_id": history["id"], "read": news.read, "entries": entries}, None, news.known
        )
    number = done

    async def at_chunk(messages: list[Record]) -> str:
        return await ask(messages, number + 1, chunks.left)

    async for step in remembered(chunks, at_chunk, setup.form, before=memory, number=done):
        number += 1
        made = maker.updated(step, chunks.given, changes, number, last=not chunks.more)
        yield Remembered(made, step, 0 if chunks.more else news.known)


class _Chunks:
    """Chunks one by one. given: the last that was; more: whether another follows; left: characters from `given` on."""

    given: Chunk

    def __init__(self, chunks: Iterator[Chunk], characters: int) -> None:
        self._chunks = chunks
        self._next = next(chunks, None)
        self._behind = characters  # in the chunks to come
        self.left = characters

    @property
    def more(self) -> bool:
        return self._next is not None

    def __iter__(self) -> Iterator[Chunk]:
        while self._next is not None:
            self.given, self._next = self._next, next(self._chunks, None)
            self.left = self._behind
            self._behind -= sum(len(piece.text) for piece in self.given.pieces)
            yield self.given


class _Maker:
    """Makes the records of one run over one history; each is named after the one before, like the commits of a log."""

    def __init__(self, history: Record, setup: Setup, previous_id: str | None, read: list[str]) -> None:
        self._history, self._setup, self._read = history, setup, read
        self._previous_id = previous_id

    def edited(self, memory: Sequence[Kept], edits: Edits, number: int, *, last: bool) -> Record:
        """What a person left, after chunk `number`."""
        text = text_of(memory)
        step = Step([*memory], text, self._setup.form.count(text))
        return self._record(step, "edited", edits, number, by_hand=True, last=last)

    def updated(self, step: Step, chunk: Chunk, edits: Edits | None, number: int, *, last: bool) -> Record:
        """What the model left, after chunk `number`."""
        return self._record(step, chunk.digest(), edits, number, by_hand=False, last=last)

    def _record(self, step: Step, cause: str, edits: Edits | None, number: int, *, by_hand: bool, last: bool) -> Record:
        history = self._history
        user_id = history["user_id"]
        own_id = make_id("m", user_id, self._previous_id, number, cause, step.text)
        record = {
            "type": "memory",
            "id": own_id,
            "user_id": user_id,
            "history_id": history["id"],
            "chunk": number,
            "chunks": number,
            "text": step.text,
            "tokens": step.tokens,
            "trimmed": step.trimmed,
            "previous_id": self._previous_id,
            "edited": by_hand,
            "entries": [as_record(kept) for kept in step.memory],
            **({"edits": _in_words(edits)} if edits and (by_hand or last) else {}),
            **({"read": self._read} if last else {}),
            **({"labels": history["labels"]} if "labels" in history else {}),
            "provenance": self._setup.provenance,
        }
        self._previous_id = own_id
        return record


def _in_words(edits: Edits) -> Record:
    changed = [{"from": old, "to": new} for old, new in edits.changed]
    return {"came": edits.came, "changed": changed, "went": edits.went}
