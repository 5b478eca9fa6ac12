"""What a run notices beside its results: histories that come up again and again, votes that disagree."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from pmem.evaluation.question import history_of
from pmem.evaluation.takes import Take
from pmem.reward.open_ended import disputed

SHARED = ("full", "memory")
"""Contexts that all questions on a history have in common."""


class Noted(NamedTuple):
    """Of one question: histories that its prompts begin with, themselves or their memories; results that were voted on,
    and those where votes disagree."""

    histories: list[str]
    judged: int
    disputed: int


def noted(takes: Iterable[Take], results: list[dict[str, Any]]) -> Noted:
    """What there is to notice about a question's results."""
    histories = [history_of(take.qa, take.window) for take in takes if take.context in SHARED and take.window]
    judged = [record["votes"] for record in results if record["votes"]]
    return Noted(histories, len(judged), sum(map(disputed, judged)))


class Noticed:
    """Counts what goes by, in the order of the input."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._latest: str | None = None
        self._returns = 0
        self._judged = self._disputed = 0

    def add(self, noted: Noted) -> None:
        """The next question has been answered."""
        self._judged += noted.judged
        self._disputed += noted.disputed
        for own_id in noted.histories:
            if own_id != self._latest:
                self._returns += own_id in self._seen
                self._seen.add(own_id)
                self._latest = own_id

    def order(self) -> str:
        """A warning, if questions on one history did not follow each other."""
        if not self._returns:
            return ""
        times = "once" if self._returns == 1 else f"{self._returns:,} times"
        return (
            f"pmem eval: the questions are not in the order of their {len(self._seen):,} histories: a server that keeps"
            f" what it has computed of a history had to go back to an earlier one {times}"
        )

    def disputes(self) -> str:
        """How often votes disagreed, for the summary line."""
        return f"votes disagree on {self._disputed:,} of {self._judged:,} replies" if self._judged else ""
