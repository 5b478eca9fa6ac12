"""A history as questions see it: whole or cut, with its system message or without, or searched. Made once for all."""

from functools import cached_property
from typing import Any, NamedTuple

import orjson

from pmem.backends.base import Message, Prefix
from pmem.evaluation.photos import Photos
from pmem.evaluation.retrieval import Index
from pmem.tokens import MESSAGE_OVERHEAD, text_of, tokenizer


class Shown(NamedTuple):
    """What of a history a model sees, and how many tokens: of that, and of what was left out."""

    prefix: Prefix
    tokens: int
    left_out: int


def language_of(history: dict[str, Any]) -> str | None:
    """The language that the user of a history writes in; None where that isn't known."""
    return history["persona"]["language"] if history["persona"] else None


class Past:
    """One history.

    raw: its messages as a JSON array's bytes; record: the rest of it; counted_by: a tokenizer; photos: how its images
    are shown.
    """

    def __init__(self, raw: bytes, record: dict[str, Any], counted_by: str, photos: Photos) -> None:
        self.id: str = record["id"]
        self.language = language_of(record)
        self._raw, self._record, self._counted_by, self._photos = raw, record, counted_by, photos
        self._cuts: dict[tuple[str, int, bool], Shown] = {}

    def system(self) -> list[Message]:
        """The message that an imported history began with, if it did."""
        return [{"role": "system", "content": self._record["system"]}] if self._record["system"] else []

    @cached_property
    def index(self) -> Index:
        """Its turns, ready to be searched."""
        return Index(self._photos.in_words(orjson.loads(self._raw)), self._record["sessions"])

    @cached_property
    def tokens(self) -> list[int]:
        """Tokens of each message."""
        encode = tokenizer(self._counted_by).encode
        messages = self._photos.in_words(orjson.loads(self._raw))
        return [len(encode(text_of(one["content"]))) + MESSAGE_OVERHEAD for one in messages]

    def whole(self, *, with_system: bool) -> Prefix:
        """All of its messages."""
        before, raw = self.system() if with_system else [], self._photos.shown_raw(self._raw)
        if not before:
            return Prefix(self.id, raw)
        return self._prefix("whole", orjson.dumps(before)[:-1] + b"," + raw[1:])

    def cut(self, room: int, how: str, *, with_system: bool) -> Shown:
        """What fits into `room` tokens; messages are left out whole, a user's with the replies to it.

        how: "oldest" leaves out from the beginning; "middle" keeps as much of the beginning as fits into half of the
        room, and of the end what then fits. Nothing may be left. The system message always stays.
        """
        key = (how, room, with_system)
        if key not in self._cuts:
            if len(self._cuts) >= 8:
                self._cuts.clear()
            self._cuts[key] = self._cut(room, how, self.system() if with_system else [])
        return self._cuts[key]

    def _cut(self, room: int, how: str, before: list[Message]) -> Shown:
        encode = tokenizer(self._counted_by).encode
        system = sum(len(encode(one["content"])) + MESSAGE_OVERHEAD for one in before)
        messages = orjson.loads(self._raw)
        head, tail = _kept(messages, self.tokens, room - system, how)
        shown = [*before, *self._photos.shown([*messages[:head], *messages[tail:]])]
        left_out = sum(self.tokens[head:tail])
        name = f"{how} {head}-{tail}" if head < tail else "whole"
        prefix = self._prefix(name, orjson.dumps(shown)) if before or head < tail else self.whole(with_system=False)
        return Shown(prefix, system + sum(self.tokens) - left_out, left_out)

    def _prefix(self, name: str, raw: bytes) -> Prefix:
        return Prefix(f"{self.id} {name}", raw)


def _kept(messages: list[Message], sizes: list[int], room: int, how: str) -> tuple[int, int]:
    """(head, tail): messages[:head] and messages[tail:] are kept. A turn is the user's message with what follows it."""
    starts = [n for n, one in enumerate(messages) if n == 0 or one["role"] == "user"]
    turns = list(zip(starts, [*starts[1:], len(messages)], strict=True))
    head, tail, used = 0, len(messages), 0
    if sum(sizes) <= room:
        return tail, tail
    for start, end in turns if how == "middle" else []:
        if used + (size := sum(sizes[start:end])) > room // 2:
            break
        head, used = end, used + size
    for start, end in reversed(turns):
        if start < head or used + (size := sum(sizes[start:end])) > room:
            break
        tail, used = start, used + size
    return head, tail
