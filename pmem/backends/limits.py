"""How many calls may be in flight, and how fast they may follow each other."""

import asyncio
import heapq
import math
import time
from collections.abc import Callable

from pmem.turns import turn

MINUTE = 60.0
BURST = 1.0
"""Seconds of an allowance that may be used at once after a pause: servers enforce a limit per minute in slices."""
SPELL, LONGEST_SPELL = 0.3, 1.0
"""Seconds over which a server's refusals are counted: the longer while fewer than ENOUGH calls have ended."""
ENOUGH = 20
MANY = 0.2
"""The share of refusals that says: too fast. A few may have other reasons; a run shouldn't crawl for them."""
PACE_BURST = 0.05
"""Seconds of its pace that may be made up for: timers are late."""
FIRST_GROWTH = 0.05
"""How much faster calls may come after a spell without refusals: each further one doubles it."""
LONGEST_GAP = 1.0
"""Seconds between calls, at most, to a server that refuses all of them: it tells so when it takes calls again."""
GROWTH = 1.05
"""How much the number of places grows in a round trip, beside one more place."""


def _many(refused: int, ended: int) -> bool:
    """Whether more calls were turned away than MANY of those that ended, and than chance would make it look like."""
    return refused > MANY * ended + 1.5 * math.sqrt(MANY * (1 - MANY) * ended)


class Rate:
    """An allowance per minute (requests or tokens), as a token bucket.

    Kept as the moment from which the bucket has something to give again; it may be overdrawn by one amount, so that
    a call larger than the bucket gets through, and later ones wait for it.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic, *, burst: float = BURST) -> None:
        self._each = MINUTE / per_minute  # seconds per unit
        self._clock = clock
        self._burst = burst
        self._free = clock() - burst

    def take(self, amount: float) -> float:
        """Take an amount from the bucket; the seconds to wait before using it."""
        now = self._clock()
        begin = max(self._free, now - self._burst)
        self._free = begin + amount * self._each
        return max(0.0, begin - now)

    def change(self, per_minute: float) -> None:
        """Another allowance from now on; what has been taken stays taken."""
        self._each = MINUTE / per_minute

    def correct(self, more: float) -> None:
        """An amount taken turned out to be larger by so much (smaller: negative)."""
        self._free += more * self._each


class Pace:
    """How fast calls may follow each other, as far as the server lets it be known: as fast as they like, until it turns
    many away. Then as fast as it seemed to answer; slower after each spell with many refusals, in proportion to these
    (a server that counts by the second may answer nothing for most of one, so what it answered in a spell says
    little); a little faster after each one with few, and more and more so while there are none.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rate: Rate | None = None
        self._per_minute = 0.0
        self._growth = FIRST_GROWTH
        self._since = clock()
        self._answered = self._refused = 0
        self._next = asyncio.Lock()

    async def wait(self) -> None:
        """Wait until the next call may be made. One at a time, so that a change of pace counts at once."""
        async with self._next:
            if self._rate and (wait := self._rate.take(1)):
                await asyncio.sleep(wait)

    @property
    def set(self) -> bool:
        """Whether there is a pace to keep."""
        return self._rate is not None

    def heard(self, *, refused: bool, in_flight: int) -> None:
        """A call ended: was it turned away because there are too many? in_flight: those that haven't ended yet."""
        self._refused += refused
        self._answered += not refused
        passed, ended = self._clock() - self._since, self._answered + self._refused
        if passed < (SPELL if ended >= ENOUGH else LONGEST_SPELL):
            return
        answered = MINUTE * self._answered / passed
        if _many(self._refused, ended):
            # refusals come at once, answers later: at first, what is still in flight counts as answered
            first = MINUTE * (self._answered + in_flight) / passed
            slower = self._per_minute * (1 - self._refused / ended / 2)
            self._set(max(slower if self._rate else first, MINUTE / LONGEST_GAP))
            self._growth = FIRST_GROWTH
        elif self._rate and answered > self._per_minute / 2:  # else it isn't what holds calls back
            self._set(self._per_minute * (1 + self._growth))
            self._growth = FIRST_GROWTH if self._refused else min(2 * self._growth, 1.0)
        self._since += passed
        self._answered = self._refused = 0

    def _set(self, per_minute: float) -> None:
        self._per_minute = per_minute
        if self._rate:
            self._rate.change(per_minute)
        else:
            self._rate = Rate(per_minute, self._clock, burst=PACE_BURST)


class Places:
    """Places for calls in flight; whoever waits for one gets it in the order of the records that the calls are for.

    most: places at best. The present limit falls when the server asks for fewer requests, in proportion to the share
    of calls that it turned away in the last round trip (as DCTCP does, RFC 8257, section 3.3), if these were many, and
    rises again slowly.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self.taken = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._number = 0
        self._called = 0  # they have been given a place, and come to take it in a moment
        self._heard = self._refused = 0

    async def __aenter__(self) -> None:
        if self.taken < int(self.limit) and not self._waiting and not self._called:
            self.taken += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._number += 1
        heapq.heappush(self._waiting, (turn.get(), self._number, place))
        self._admit()
        try:
            if place.done():
                await asyncio.sleep(0)  # those who were called before it come first
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # given just as the call was abandoned
                self._called -= 1
                self._give_back()
            raise
        self._called -= 1

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
                self._called += 1
                place.set_result(None)

    def heard(self, *, refused: bool) -> None:
        """A call ended: was it turned away because there are too many?"""
        self._heard += 1
        self._refused += refused
        if self._heard < self.limit:
            return
        if _many(self._refused, self._heard):
            self.limit = max(1.0, self.limit * (1 - self._refused / self._heard / 2))
        elif self.limit < self.most:
            self.limit = min(self.most, self.limit * GROWTH + 1)
            self._admit()
        self._heard = self._refused = 0
