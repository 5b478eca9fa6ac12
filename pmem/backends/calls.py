"""Calls, made patiently: as many at once as may be, within rates and budget, repeated after faults, committed."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

import orjson

from pmem.backends.base import Request, Unavailable, Usage
from pmem.backends.cache import Cache
from pmem.backends.limits import Pace, Places, Rate
from pmem.backends.usage import Budget, Tally
from pmem.errors import BackendError, ModelError

Said = TypeVar("Said")

TRIES = 8
"""Attempts per call; with the waits below the last comes after about a minute."""
FIRST_TRIES = 4
"""Attempts as long as nothing has answered as a model server: a wrong address should not take minutes to report."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds between attempts: doubled each time, with jitter
MOST_ADAPTED = 3
"""Attempts beside these, each without a parameter that the server didn't take."""
LONGEST_BUSY_WAIT = 8.0
"""The same for calls that a busy server turned away: `Pace` sees to it that not too many come back at once."""
PATIENCE = 600.0
"""Seconds for which a call turned away by a busy server is tried again, however often."""
LONGEST_ASKED = 600.0
"""Seconds: a server that asks to wait longer has a limit per hour or day, and no run should sit that out unseen."""
TOKENS_PER_BYTE = 1 / 4  # of a prompt, until the server has told better
MOST_TOKENS_PER_BYTE = 1 / 2  # of a prompt: a bound; UTF-8 takes 3 bytes for a Chinese character of one token or less
LIKELY_REPLY = 4096  # tokens: the bound of a reply without --max-tokens, until a longer one has come


class Limits(NamedTuple):
    """What holds calls back. jobs: in flight; tries: attempts per call; rpm, tpm: requests and tokens a minute."""

    jobs: int = 16
    tries: int = TRIES
    rpm: float | None = None
    tpm: float | None = None
    budget: Budget | None = None


class Asked(NamedTuple, Generic[Said]):
    """What a model said, the same as a value for the cache, and the tokens it took."""

    said: Said
    value: bytes
    usage: Usage


class Calls:
    """Makes the calls of one model. A call keeps its place until its reply is committed to the cache: what a crash
    may lose is at most what was in flight. While it waits to be repeated, others have its place."""

    def __init__(self, tally: Tally, cache: Cache | None, limits: Limits) -> None:
        self.tally = tally
        self.places = Places(limits.jobs)
        self._cache = cache
        self._tries = limits.tries
        self._requests = Rate(limits.rpm) if limits.rpm else None
        self._tokens = Rate(limits.tpm) if limits.tpm else None
        self._pace = Pace()
        self._budget = limits.budget
        self._reached = False
        self._sent_bytes = self._sent_tokens = 0
        self._longest_reply = LIKELY_REPLY
        if self._budget and tally.price is None:
            raise BackendError(
                f"--max-cost: the price of {tally.name} is not known; a table that has it can be given with --prices"
            )

    def found(self, _request: Request, _value: bytes | None) -> None:
        """A reply that needs no call: its value from the cache, or None where an identical call is in flight."""
        self.tally.hits += 1

    async def make(self, request: Request, ask: Callable[[], Awaitable[Asked[Said]]]) -> Said:
        """What `ask` gives for the request, committed under its key, after as many attempts as it takes.

        Errors: ModelError when the attempts are used up, BackendError if no server has ever answered, Spent.
        """
        began = time.monotonic()
        wait, attempt, adapted = FIRST_WAIT, 0, 0
        while True:
            try:
                attempt += 1
                async with self.places:
                    return await self._attempt(request, ask)
            except Unavailable as fault:
                if fault.adapted and adapted < MOST_ADAPTED:
                    adapted += 1
                    continue
                self._give_up_if_hopeless(fault, request, attempt, time.monotonic() - began)
                pause = _pause(fault, wait)
                wait = min(2 * wait, LONGEST_BUSY_WAIT if fault.busy else LONGEST_WAIT)
            except ModelError:
                self.tally.failed += 1
                raise
            self.tally.retries += 1
            await asyncio.sleep(pause)

    async def _attempt(self, request: Request, ask: Callable[[], Awaitable[Asked[Said]]]) -> Said:
        reserved = await self._reserve(request)
        cost = 0.0
        try:
            expected = await self._slowed(request)
            began = time.monotonic()
            try:
                said, value, usage = await ask()
            except Unavailable as fault:
                self._reached = self._reached or fault.reached
                self._heard(refused=fault.busy)
                raise
            except asyncio.CancelledError:
                self.tally.abandoned += 1
                raise
            self._reached = True
            self._heard(refused=False)
            self.tally.seconds += time.monotonic() - began
            self._learn(request, usage, expected)
            if self.tally.price:  # a server that doesn't tell tokens is taken to have used as many as it could
                cost = self.tally.price.of(usage) if any(usage) else reserved
        finally:
            if self._budget:
                self._budget.settle(reserved, cost)
        if self._cache:
            await self._cache.put(request.key, value, model=self.tally.name, step=request.step)
        return said

    def _heard(self, *, refused: bool) -> None:
        self.places.heard(refused=refused)
        self._pace.heard(refused=refused, in_flight=self.places.taken - 1)

    async def _reserve(self, request: Request) -> float:
        """Set aside the most that the call may cost, if there is a limit; the US dollars."""
        if not (self._budget and self.tally.price):
            return 0.0
        reply = request.max_tokens or self._longest_reply
        size = request.size + (len(orjson.dumps(request.schema)) if request.schema else 0)
        most = self.tally.price.of(Usage(round(size * MOST_TOKENS_PER_BYTE), 0, reply))
        await self._budget.reserve(most)
        return most

    async def _slowed(self, request: Request) -> float:
        """Wait as long as the rates demand; the tokens taken for the call."""
        wait = self._requests.take(1) if self._requests else 0.0
        expected = 0.0
        if self._tokens:
            known = self._sent_tokens / self._sent_bytes if self._sent_bytes else TOKENS_PER_BYTE
            replies = self.tally.usage.completion / self.tally.calls if self.tally.calls else 0.0
            expected = request.size * known + replies
            wait = max(wait, self._tokens.take(expected))
        if wait:
            await asyncio.sleep(wait)
        if self._pace.set:
            await self._pace.wait()
        return expected

    def _learn(self, request: Request, usage: Usage, expected: float) -> None:
        self.tally.calls += 1
        self.tally.add(usage)
        self._longest_reply = max(self._longest_reply, usage.completion)
        if self._tokens and usage.prompt:
            self._sent_bytes += request.size
            self._sent_tokens += usage.prompt
            self._tokens.correct(usage.prompt + usage.completion - expected)

    def _give_up_if_hopeless(self, fault: Unavailable, request: Request, attempt: int, passed: float) -> None:
        name = self.tally.name
        if not self._reached:
            if attempt >= min(FIRST_TRIES, self._tries):
                raise BackendError(f"{name}: {fault}") from None
        elif fault.wait is not None and fault.wait > LONGEST_ASKED:
            raise BackendError(f"{name}: {fault}; it asks to wait {fault.wait:,.0f} s: try again later") from None
        elif (attempt >= self._tries or fault.adapted) and not (fault.busy and passed < PATIENCE and self._tries > 1):
            self.tally.failed += 1
            raise ModelError(f"{name}: {fault} (tried {attempt} times)", call=request.call) from None


def _pause(fault: Unavailable, own: float) -> float:
    """Seconds until the next attempt. Servers ask all callers to wait equally long: without jitter they all come back
    at once. One that asks for no wait at all gets the usual one, unless it is busy, where `Pace` holds calls back."""
    own *= random.uniform(0.5, 1.5)
    if fault.wait is None:
        return own
    asked = fault.wait * random.uniform(1, 1.2)
    return asked if fault.busy else max(asked, own)
