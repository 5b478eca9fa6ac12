"""What a run notices beside its results: histories that come up again and again, votes that disagree."""

from collections.abc import Iterable
from typing import Any

from pmem.evaluation.question import history_of
from pmem.evaluation.takes import Take
from pmem.reward.open_ended import disputed

SHARED = ("full", "memory")
"""Contexts that all questions on a history have in common."""


class Noticed:
    """Counts what goes by, in the order of the input."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._latest: str | None = None
        self._returns = 0
        self._judged = self._disputed = 0

    def histories(self, takes: Iterable[Take]) -> None:
        """What is asked next, as far as its prompts begin with a history or its memory."""
        for take in takes:
            if take.context in SHARED and take.window and (own_id := history_of(take.qa, take.window)) != self._latest:
                self._returns += own_id in self._seen
                self._seen.add(own_id)
                self._latest = own_id

    def results(self, records: list[dict[str, Any]]) -> None:
        """Results have been made."""
        judged = [record["votes"] for record in records if record["votes"]]
        self._judged += len(judged)
        self._disputed += sum(map(disputed, judged))

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
