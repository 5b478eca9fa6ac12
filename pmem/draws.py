"""Ids, and every random draw in pmem: both depend on content and the run's seed, never on time, order or hash seeds."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import orjson

T = TypeVar("T")


def canonical(value: Any) -> bytes:
    """JSON bytes that are the same for equal values: sorted keys, no spaces."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def fingerprint(value: Any, digits: int = 16) -> str:
    """The first hex digits of the SHA-256 of `value` as canonical JSON."""
    return hashlib.sha256(canonical(value)).hexdigest()[:digits]


def make_id(prefix: str, *parts: Any) -> str:
    """A record's id, `prefix-` and 16 hex digits, from what determines the record."""
    return f"{prefix}-{fingerprint(parts)}"


def seed_for(seed: int, record_id: str, purpose: str) -> int:
    """A seed (63 bits) for one purpose within one record of one run."""
    digest = hashlib.sha256(canonical([seed, record_id, purpose])).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Draw:
    """Random draws for one purpose within one record.

    Everything is built on `Random.random`, the one method whose stream Python promises to keep from version to
    version.
    """

    def __init__(self, seed: int, record_id: str, purpose: str) -> None:
        self._uniform = random.Random(seed_for(seed, record_id, purpose)).random

    def below(self, n: int) -> int:
        """An integer from 0 to n - 1."""
        return int(self._uniform() * n)

    def between(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return low + self.below(high - low + 1)

    def chance(self, p: float) -> bool:
        """True with probability p."""
        return self._uniform() < p

    def pick(self, items: Sequence[T]) -> T:
        """One of the items, all equally likely."""
        return items[self.below(len(items))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        """One of the keys, in proportion to its weight (weights need not add up to 1; one must be above 0)."""
        point = self._uniform() * sum(weights.values())
        last: T | None = None
        for item, weight in weights.items():
            if weight > 0:
                last = item
                if point < weight:
                    return item
            point -= weight
        if last is None:
            raise ValueError("no weight is above 0")
        return last  # rounding left the point at the very end

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in random order (Fisher-Yates)."""
        mixed = list(items)
        for i in range(len(mixed) - 1, 0, -1):
            j = self.below(i + 1)
            mixed[i], mixed[j] = mixed[j], mixed[i]
        return mixed

    def sample(self, items: Sequence[T], k: int) -> list[T]:
        """k different items, or all in random order if there are fewer."""
        return self.shuffled(items)[:k]
