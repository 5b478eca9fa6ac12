"""What a run asked of its models and what that cost; and the most that it may cost."""

import asyncio
from typing import Any

from pmem.backends.base import Usage
from pmem.backends.prices import FREE, Price
from pmem.errors import PmemError


class Spent(PmemError):
    """The next call might cost more than --max-cost leaves."""


class Budget:
    """The most that a run may cost, in US dollars, over all its models.

    Before each call its highest cost is set aside, after it the true one is booked: the limit is not passed by calls
    whose cost is bounded (see `Calls`).
    """

    def __init__(self, most: float) -> None:
        self.most = most
        self.spent = self.reserved = 0.0
        self._waiting: list[asyncio.Future[None]] = []

    async def reserve(self, amount: float) -> None:
        """Set an amount aside, waiting for calls in flight to end if need be; Spent if even then it's too much."""
        while self.spent + self.reserved + amount > self.most:
            if not self.reserved:
                raise Spent(
                    f"--max-cost {self.most:g}: {dollars(self.spent)} spent, and the next call may cost"
                    f" {dollars(amount)}; with a higher limit the same command goes on from what the cache holds"
                )
            change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(change)
            await change
        self.reserved += amount

    def settle(self, reserved: float, cost: float) -> None:
        """A call has ended: book its cost instead of what was set aside for it."""
        self.reserved = max(0.0, self.reserved - reserved)
        if self.reserved < 1e-12:  # sums of fractions leave dust
            self.reserved = 0.0
        self.spent += cost
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            if not change.done():
                change.set_result(None)


class Tally:
    """Calls, tokens and cost of one model in one role ("model", "judge") during a run.

    calls: replies that were computed for this run; hits: replies from the cache or shared by identical calls in
    flight; retries: attempts that had to be repeated; failed: calls given up; abandoned: calls that a run's end broke
    off; invalid: replies that were no valid ones; seconds: that all calls together took, from asking to the whole
    reply. price: None where it isn't known.
    """

    def __init__(self, name: str, role: str = "model", price: Price | None = None) -> None:
        self.name, self.role, self.price = name, role, price
        self.calls = self.hits = self.retries = self.failed = self.abandoned = self.invalid = 0
        self.untold = 0
        self.seconds = 0.0
        self.usage = Usage()

    def add(self, usage: Usage) -> None:
        """Count one reply's tokens, which some servers don't tell."""
        self.untold += not any(usage)
        self.usage = Usage(*map(int.__add__, self.usage, usage))

    def counts(self) -> list[float]:
        """All its counts, for `join`."""
        own = [self.calls, self.hits, self.retries, self.failed, self.abandoned, self.invalid, self.untold]
        return [*own, self.seconds, *self.usage]

    def join(self, counts: list[float]) -> None:
        """Add what another process counted of the same model in the same role."""
        calls, hits, retries, failed, abandoned, invalid, untold = map(int, counts[:7])
        self.calls, self.hits, self.retries = self.calls + calls, self.hits + hits, self.retries + retries
        self.failed, self.abandoned = self.failed + failed, self.abandoned + abandoned
        self.invalid, self.untold = self.invalid + invalid, self.untold + untold
        self.seconds += counts[7]
        self.usage = Usage(*(mine + int(more) for mine, more in zip(self.usage, counts[8:], strict=True)))

    @property
    def cost(self) -> float | None:
        """US dollars so far; None if the price isn't known, or the server didn't tell the tokens of each reply."""
        told = not self.untold or self.price == FREE
        return self.price.of(self.usage) if self.price and told else None

    def report(self) -> str:
        """What the model was asked, for the summary line; "" if nothing."""
        if not (self.calls or self.hits or self.failed or self.abandoned):
            return ""
        parts = [f"{self.calls:,} calls to {self.name}" + (" as judge" if self.role == "judge" else "")]
        counts = (
            (self.hits, "from cache"),
            (self.retries, "attempts repeated"),
            (self.failed, "given up"),
            (self.abandoned, "broken off"),
            (self.invalid, "invalid replies"),
        )
        parts += [f"{count:,} {what}" for count, what in counts if count]
        if self.usage.prompt:
            parts.append(f"{_part(self.usage.prompt, self.usage.cached, 'cached')} tokens in")
            parts.append(f"{_part(self.usage.completion, self.usage.reasoning, 'reasoning')} out")
        if self.calls and self.cost is None:
            parts.append("cost unknown")
        elif self.cost:
            parts.append(dollars(self.cost))
        return ", ".join(parts)

    def record(self, stage: str) -> dict[str, Any]:
        """The same as a usage record."""
        return {
            "type": "usage",
            "stage": stage,
            "role": self.role,
            "model": self.name,
            "calls": self.calls,
            "from_cache": self.hits,
            "repeated": self.retries,
            "failed": self.failed,
            "abandoned": self.abandoned,
            "invalid": self.invalid,
            "prompt_tokens": self.usage.prompt,
            "cached_tokens": self.usage.cached,
            "completion_tokens": self.usage.completion,
            "reasoning_tokens": self.usage.reasoning,
            "latency_seconds": round(self.seconds / self.calls, 3) if self.calls else None,
            "cost_usd": None if self.cost is None else round(self.cost, 6),
            "prices": (self.price.date or None) if self.price else None,
        }


def _part(count: int, of_it: int, what: str) -> str:
    return f"{count:,} ({of_it:,} {what})" if of_it else f"{count:,}"


def dollars(amount: float) -> str:
    """An amount of money for people: cents, or enough digits to see something of a small sum."""
    if amount >= 0.1 or amount == 0:
        return f"${amount:,.2f}"
    return f"${amount:.2g}" if amount >= 0.0001 else f"${amount:.1e}"
