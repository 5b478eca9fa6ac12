"""Counts of answers by persona, which make shares with intervals."""

from collections import Counter
from typing import Any, NamedTuple

from pmem.report.clusters import right
from pmem.report.intervals import proportion


class Share(NamedTuple):
    """A share of answers with its 95% interval, which respects personas (None: there are no answers)."""

    share: float | None
    low: float
    high: float
    hits: int
    answers: int
    personas: int

    def figures(self) -> dict[str, Any]:
        """It for JSON."""
        rounded = None if self.share is None else round(self.share, 6)
        return {**self._asdict(), "share": rounded, "low": round(self.low, 6), "high": round(self.high, 6)}


class Tally:
    """Answers, and those among them that count (the right ones, say), by persona."""

    def __init__(self) -> None:
        self._answers: Counter[str] = Counter()
        self._counting: Counter[str] = Counter()

    def __bool__(self) -> bool:
        """Whether there are any answers."""
        return bool(self._answers)

    def add(self, persona: str, counts: bool) -> None:
        """One more answer about a persona."""
        self._answers[persona] += 1
        self._counting[persona] += counts

    def share(self) -> Share:
        """The share of answers that count."""
        hits, answers = self._counting.total(), self._answers.total()
        if not answers:
            return Share(None, 0.0, 1.0, 0, 0, 0)
        found = proportion(right(size, self._counting[persona]) for persona, size in self._answers.items())
        return Share(hits / answers, found.low, found.high, hits, answers, len(self._answers))
