"""How many calls may be in flight, and how fast they may follow each other."""

import asyncio
import heapq
import time
from collections.abc import Callable

from pmem.turns import turn

MINUTE = 60.0
BURST = 1.0
"""Seconds of an allowance that may be used at once after a pause: servers enforce a limit per minute in slices."""
GROWTH = 1.05
"""How much the number of places grows in a round trip, beside one more place."""


class Rate:
    """An allowance per minute (requests or tokens), as a token bucket.

    Kept as the moment from which the bucket has something to give again; it may be overdrawn by one amount, so that
    a call larger than the bucket gets through, and later ones wait for it.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._each = MINUTE / per_minute  # seconds per unit
        self._clock = clock
        self._free = clock() - BURST

    def take(self, amount: float) -> float:
        """Take an amount from the bucket; the seconds to wait before using it."""
        now = self._clock()
        begin = max(self._free, now - BURST)
        self._free = begin + amount * self._each
        return max(0.0, begin - now)

    def correct(self, more: float) -> None:
        """An amount taken turned out to be larger by so much (smaller: negative)."""
        self._free += more * self._each


class Places:
    """Places for calls in flight; whoever waits for one gets it in the order of the records that the calls are for.

    most: places at best. The present limit falls when the server asks for fewer requests, in proportion to the share
    of calls that it turned away in the last round trip, and rises again slowly (as DCTCP does, RFC 8257, section 3.3):
    a few refusals out of many hardly slow a run down, a server that refuses half is soon asked for what it can take.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = self.lowest = float(most)
        self.taken = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._number = 0
        self._heard = self._refused = 0

    async def __aenter__(self) -> None:
        if self.taken < int(self.limit) and not self._waiting:
            self.taken += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._number += 1
        heapq.heappush(self._waiting, (turn.get(), self._number, place))
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # given just as the call was abandoned
                self._give_back()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._give_back()

    def _give_back(self) -> None:
        self.taken -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self.taken < int(self.limit):
            place = heapq.heappop(self._waiting)[2]
            if not place.done():
                self.taken += 1
                place.set_result(None)

    def heard(self, *, refused: bool) -> None:
        """A call ended: was it turned away because there are too many?"""
        self._heard += 1
        self._refused += refused
        if self._heard < self.limit:
            return
        share = self._refused / self._heard
        self._heard = self._refused = 0
        if share or self.limit < self.most:
            self.limit = min(self.most, max(1.0, self.limit * (1 - share / 2)) * GROWTH + (share < 1))
            self.lowest = min(self.lowest, self.limit)
            self._admit()
