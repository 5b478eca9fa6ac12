"""How long conversations get, by the rows that verl will read: settings have to leave room for the longest."""

import heapq
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from pmem.backends.base import Message, Request
from pmem.backends.local import prompt_ids
from pmem.errors import BackendError, first_line
from pmem.memory.chunks import Chunk, chunked
from pmem.memory.loop import Form, asked
from pmem.memory.unread import unread
from pmem.tokens import count_messages

TRIED = 16
"""Of the longest by bytes, so many are counted; the others only by what a byte of these comes to."""
STEP = 64
"""Room is made in steps of so many tokens."""
SPARE = 1.1
"""A memory's size is kept to in another tokenizer's tokens, and its ratio to the model's differs between texts."""

Count = Callable[[list[Message]], int]
"""Tokens of messages as the model is sent them."""


class Load(NamedTuple):
    """What a rollout (SFT: a lesson) is made of. conversations, prompt: how many, and the tokens of all their prompts,
    on average; reply: tokens of its replies, at most (SFT: of the target, on average); longest: of the longest prompt
    (SFT: with its reply); updates: of a memory, at most."""

    conversations: float
    prompt: float
    reply: float
    longest: int
    updates: int = 0


def counter(model: str, thinking: bool | None, *, guess: bool) -> Count:
    """Counts with the model's own tokenizer, a reply at the end included.

    guess: with pmem's instead where the model isn't at hand; else BackendError.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=guess)
    except Exception as fault:  # whatever the hub and broken files raise
        if guess:
            return count_messages
        raise BackendError(f"local model '{model}': its tokenizer can't be read: {first_line(fault)}") from None

    def count(messages: list[Message]) -> int:
        if messages[-1]["role"] != "assistant":
            return len(prompt_ids(Request(messages, thinking=thinking), tokenizer, "the model"))
        from pmem.train.verl.lessons import ids_of

        return sum(map(len, ids_of(messages, tokenizer, thinking)))

    return count


def of_lessons(path: Path, count: Count) -> Load:
    """Of SFT's rows."""
    whole, targets, prompts = _Longest(), 0, 0
    rows = 0
    for messages in _column(path, "messages"):
        rows += 1
        target = _size(messages[-1:])
        targets += target
        prompts += whole.look(messages) - target
    longest, each = whole.counted(count)
    return Load(1, each * prompts / rows, each * targets / rows, longest)


def of_prompts(path: Path, count: Count, reply: int) -> Load:
    """Of RL rows whose prompts are sent as they stand. reply: most tokens of one."""
    whole, size, rows = _Longest(), 0, 0
    for messages in _column(path, "prompt"):
        rows += 1
        size += whole.look(messages)
    longest, each = whole.counted(count)
    return Load(1, each * size / rows, reply, longest)


def of_memories(path: Path, count: Count, form: Form, chunk_tokens: int, update: int, answer: int) -> Load:
    """Of RL rows whose histories are read chunk by chunk. update, answer: most tokens of a reply."""
    known: dict[str, tuple[int, int]] = {}  # a history's chunks, and the bytes that are sent of it
    whole = _Longest()
    chunks = size = rows = 0
    for prompt, extra in zip(_column(path, "prompt"), _column(path, "extra_info"), strict=True):
        rows += 1
        whole.look(prompt)
        history = orjson.loads(extra["history"])
        if history["id"] not in known:
            made = list(chunked(unread(history, []).messages, chunk_tokens, form.count))
            sent = [_sent(one, form) for one in made]
            known[history["id"]] = len(made), sum(map(whole.look, sent))
        chunks += known[history["id"]][0]
        size += known[history["id"]][1]
    longest, each = whole.counted(count)
    most = max(number for number, _ in known.values())
    memory = round(SPARE * form.most)
    prompts = each * size / rows + memory * chunks / rows + count([{"role": "user", "content": ""}])
    replies = update * chunks / rows + answer
    return Load(chunks / rows + 1, prompts, replies, longest + memory, most)


def _sent(chunk: Chunk, form: Form) -> list[Message]:
    return asked("", chunk, form)


class _Longest:
    """The longest, by bytes, of what is looked at."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, int, list[Message]]] = []
        self._seen = 0

    def look(self, messages: list[Message]) -> int:
        """Keep them if they are among the longest; their bytes."""
        size = _size(messages)
        self._seen += 1
        add = heapq.heappushpop if len(self._kept) == TRIED else heapq.heappush
        add(self._kept, (size, self._seen, messages))
        return size

    def counted(self, count: Count) -> tuple[int, float]:
        """Tokens of the longest, and for each byte of all that are counted."""
        found = [count(messages) for _, _, messages in self._kept]
        return max(found), sum(found) / max(1, sum(size for size, _, _ in self._kept))


def _column(path: Path, name: str) -> Iterator[Any]:
    import pyarrow.parquet

    for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=64, columns=[name]):
        yield from batch.column(0).to_pylist()


def _size(messages: list[Message]) -> int:
    """Bytes: tokens are nearer to these than to characters, where scripts differ."""
    return sum(len(one["content"].encode()) for one in messages)


def rounded(tokens: int) -> int:
    """The room that is made for so many tokens."""
    return -(-tokens // STEP) * STEP
