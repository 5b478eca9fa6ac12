"""Which of several equal servers gets a call: the one that knows its history, else the one with least to do."""

import asyncio
import hashlib
import random
import time
from collections.abc import Callable

from pmem.backends.base import Unavailable

FAULTS = 3
"""Faults in a row after which a server is left alone for a while."""
FIRST_REST, LONGEST_REST = 5.0, 300.0  # seconds: doubled each time that it fails again
CROWDED = 1.25
"""A history's own server is passed over while it has so many times the average of calls in flight: consistent hashing
with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2016)."""


class Server:
    """One address, with what is known of it.

    in_flight: calls now; faults: failures since its last answer; resting: until when it is left alone, a dead one;
    paused: until when it asked to be spared (both by `time.monotonic`).
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.in_flight = 0
        self.faults = 0
        self.resting = self.paused = 0.0
        self._rest = FIRST_REST

    def ready(self, now: float) -> bool:
        """Whether it may get a call. One back from a rest gets one at a time, until it answers."""
        return self.resting <= now and (self.faults < FAULTS or not self.in_flight)

    def answered(self) -> None:
        """It works."""
        self.faults, self.resting, self._rest = 0, 0.0, FIRST_REST

    def failed(self, now: float) -> None:
        """It gave no answer that a working server gives."""
        self.faults += 1
        if self.faults >= FAULTS and self.resting <= now:  # else a call from before it was left alone
            self.resting = now + self._rest * random.uniform(0.8, 1.2)
            self._rest = min(2 * self._rest, LONGEST_REST)

    def spare(self, until: float) -> None:
        """It asks for no calls until then."""
        self.paused = max(self.paused, until)


class Servers:
    """One or several servers of the same model."""

    def __init__(self, urls: list[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.all = [Server(url) for url in urls]
        self.clock = clock
        self._turn = 0
        self._orders: dict[str, list[Server]] = {}

    async def choose(self, history: str | None) -> Server:
        """The server for a call, after waiting where all of them ask to be spared."""
        while True:
            now = self.clock()
            free = [server for server in self.all if server.paused <= now]
            if free:
                return self._best([server for server in free if server.ready(now)] or free, history)
            wait = self.wait()
            if wait > LONGEST_REST:
                raise Unavailable("the server allows no more requests for now", wait=wait, busy=True)
            await asyncio.sleep(wait * random.uniform(1, 1.1))

    def wait(self) -> float:
        """Seconds until one of them may be asked again."""
        return max(0.0, min(server.paused for server in self.all) - self.clock())

    def _best(self, servers: list[Server], history: str | None) -> Server:
        if len(servers) == 1:
            return servers[0]
        if history is not None:
            room = CROWDED * (1 + sum(server.in_flight for server in servers)) / len(servers)
            for server in self._order(history):
                if server in servers and server.in_flight < room:
                    return server
        self._turn += 1
        return min(servers[self._turn % len(servers) :] + servers, key=lambda server: server.in_flight)

    def _order(self, history: str) -> list[Server]:
        """A history's servers, its own first: by rendezvous hashing, so that a server that comes or goes moves only
        its own histories, and another run chooses alike."""
        order = self._orders.get(history)
        if order is None:
            if len(self._orders) > 4096:
                self._orders.clear()

            def weight(server: Server) -> bytes:
                return hashlib.sha256(f"{history} {server.url}".encode()).digest()

            order = self._orders[history] = sorted(self.all, key=weight)
        return order
