"""Dialogues that have nothing to do with a persona, held as bytes, and drawn until a window is full."""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from pmem.draws import Draw
from pmem.errors import InputError, RecordError
from pmem.tokens import count_messages


class Dialogue(NamedTuple):
    """A filler dialogue: its id, its size in tokens, and its messages as JSON, a tenth of what they take parsed."""

    id: str
    tokens: int
    json: bytes

    def messages(self) -> list[dict[str, Any]]:
        """The messages, parsed."""
        parsed: list[dict[str, Any]] = orjson.loads(self.json)
        return parsed


class Pool:
    """All filler of a run: each dialogue once, counted once, smallest first. repeated: how many came again.

    InputError if one can't be counted.
    """

    def __init__(self, records: Iterable[dict[str, Any]], tokenizer: str) -> None:
        self.repeated = 0
        found: dict[str, Dialogue] = {}
        for record in records:
            own, messages = record["id"], record["messages"]
            if own in found:
                self.repeated += 1
                continue
            try:
                found[own] = Dialogue(own, count_messages(messages, tokenizer), orjson.dumps(messages))
            except RecordError as fault:
                raise InputError(f"filler {own}: {fault}") from None
        self._dialogues = sorted(found.values(), key=lambda one: (one.tokens, one.id))
        self._sizes = [one.tokens for one in self._dialogues]

    def fill(self, room: int, draw: Draw) -> list[Dialogue]:
        """Different dialogues of at most `room` tokens together, in drawn order, until none of the others fits.

        Every one that still fits is equally likely to be next. It takes as many steps as dialogues are drawn, however
        many there are: a shuffle of the sorted pool that is made as far as it is needed. `moved` says what has been
        put into a place; only larger ones come in from further up, so that one which no longer fits is passed over
        for good, and places beyond the last size that fits need no look.
        """
        taken: list[Dialogue] = []
        moved: dict[int, int] = {}
        left = len(self._sizes)
        while left := min(left, bisect_right(self._sizes, room)):
            place = draw.below(left)
            left -= 1
            number = moved.get(place, place)
            moved[place] = moved.get(left, left)
            if self._sizes[number] <= room:
                taken.append(self._dialogues[number])
                room -= self._sizes[number]
        return taken
