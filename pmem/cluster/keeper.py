"""What all workers of a run share: its input, the response cache, the limit of cost. One actor, beside the driver."""

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

from pmem.backends.cache import Cache
from pmem.backends.usage import Budget, Spent
from pmem.errors import PmemError

MOST_BYTES = 256 << 20
"""Bytes of input that has been read and isn't done: what bounds the keeper's memory."""


class Refused(NamedTuple):
    """An answer that is an error which ends the run: exceptions would come with the keeper's stack around them."""

    message: str


class Keeper:
    """The actor. Nothing in it is lost or doubled when a worker dies: input stays until its results are written,
    replies are stored before a worker goes on."""

    def __init__(self, cache: str | None, most_cost: float | None, most_parcels: int) -> None:
        self._cache_path = cache
        self._cache: Cache | None = None
        self._budget = Budget(most_cost) if most_cost else None
        self._most_parcels = most_parcels
        self._parcels: dict[int, bytes] = {}
        self._bytes = self._count = 0
        self._ended = False
        self._change = asyncio.Event()
        self._reserved: dict[str, list[float]] = {}  # by worker, as long as it lives
        self._deaths = 0

    async def open(self) -> Refused | None:
        """Open the cache, which may not be possible."""
        try:
            self._cache = Cache(Path(self._cache_path)) if self._cache_path else None
        except PmemError as fault:
            return Refused(fault.message)
        return None

    async def close(self) -> int:
        """Write what is waiting. How often a worker died."""
        if self._cache:
            self._cache.close()
        return self._deaths

    async def joined(self, worker: str) -> None:
        """A worker begins. If it began before, it died: what it had set aside may have been spent."""
        self._deaths += worker in self._reserved
        for amount in self._reserved.pop(worker, []):
            assert self._budget
            self._budget.settle(amount, amount)
        self._reserved[worker] = []

    # ---- input ------------------------------------------------------------------------------------------------

    async def put_parcel(self, parcel: bytes) -> None:
        """The next parcel of input; returns when there is room for another."""
        self._parcels[self._count] = parcel
        self._count += 1
        self._bytes += len(parcel)
        self._changed()
        while len(self._parcels) >= self._most_parcels or self._bytes >= MOST_BYTES:
            await self._change.wait()

    async def end(self) -> None:
        """No parcel follows."""
        self._ended = True
        self._changed()

    async def parcel(self, number: int) -> bytes | None:
        """A parcel, once it is there; empty if its results are written, None behind the last."""
        while number >= self._count and not self._ended:
            await self._change.wait()
        return self._parcels.get(number, b"") if number < self._count else None

    async def done(self, number: int) -> None:
        """A parcel's results are written."""
        self._bytes -= len(self._parcels.pop(number))
        self._changed()

    def _changed(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    # ---- replies ----------------------------------------------------------------------------------------------

    async def get(self, key: bytes) -> bytes | Refused | None:
        """The value stored under a key."""
        assert self._cache
        try:
            return self._cache.get(key)
        except PmemError as fault:
            return Refused(fault.message)

    async def put(self, key: bytes, value: bytes, model: str, step: str) -> Refused | None:
        """Store a value; returns when it is committed."""
        assert self._cache
        try:
            await self._cache.put(key, value, model=model, step=step)
        except PmemError as fault:
            return Refused(fault.message)
        return None

    # ---- cost -------------------------------------------------------------------------------------------------

    async def reserve(self, worker: str, amount: float) -> Refused | None:
        """As Budget.reserve."""
        assert self._budget
        held = self._reserved[worker]
        try:
            await self._budget.reserve(amount)
        except Spent as fault:
            return Refused(fault.message)
        if held is not self._reserved[worker]:  # it died while it waited
            self._budget.settle(amount, 0.0)
        else:
            held.append(amount)
        return None

    async def settle(self, worker: str, amount: float, cost: float) -> None:
        """As Budget.settle."""
        assert self._budget
        self._reserved[worker].remove(amount)
        self._budget.settle(amount, cost)


def _sound(answer: Any) -> Any:
    if isinstance(answer, Refused):
        raise PmemError(answer.message)
    return answer


class KeptCache(Cache):
    """The keeper's cache, as a worker sees it."""

    def __init__(self, keeper: Any) -> None:
        self._keeper = keeper

    def get(self, key: bytes) -> bytes | None:
        """The value stored under a key. Waits for the keeper, which takes about a millisecond."""
        import ray

        value: bytes | None = _sound(ray.get(self._keeper.get.remote(key)))
        return value

    async def put(self, key: bytes, value: bytes, *, model: str, step: str) -> None:
        """Store a value; returns when it is committed."""
        _sound(await self._keeper.put.remote(key, value, model, step))

    def close(self) -> None:
        """Nothing: it is the keeper's."""


class KeptBudget(Budget):
    """The keeper's limit of cost, as a worker sees it."""

    def __init__(self, keeper: Any, worker: str) -> None:
        self._keeper, self._worker = keeper, worker

    async def reserve(self, amount: float) -> None:
        """Set an amount aside."""
        _sound(await self._keeper.reserve.remote(self._worker, amount))

    def settle(self, reserved: float, cost: float) -> None:
        """Book a call's cost instead of what was set aside for it."""
        self._keeper.settle.remote(self._worker, reserved, cost)
