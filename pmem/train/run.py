"""One training run from the outside: its steps, what they measured, where it is kept."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson

from pmem.train.checkpoints import Checkpoints
from pmem.train.policy import Policy

HEADLINES = ("loss", "reward/mean", "eval/accuracy")


class Pace(NamedTuple):
    """steps: in all; every so many of them the run is saved, and measured on held-out questions (0: at the end)."""

    steps: int
    save_every: int = 50
    eval_every: int = 0


class Run:
    """Steps, metric records and checkpoints of a run.

    write: takes a metric record's line; show: is told (step, steps, values) after each, for a progress bar.
    """

    def __init__(
        self,
        name: str,
        pace: Pace,
        checkpoints: Checkpoints,
        write: Callable[[bytes], None],
        show: Callable[[int, int, Mapping[str, float]], None],
    ) -> None:
        self.name, self.pace, self._checkpoints = name, pace, checkpoints
        self._write, self._show = write, show
        self._lines: list[bytes] = []
        self.last: dict[str, float] = {}
        self.step = 0

    def begin(self, policy: Policy) -> int:
        """Go on where the last checkpoint left the run: how many steps are done. Their records are written again, so
        that the output is that of a run that was never interrupted."""
        done, self._lines = self._checkpoints.restore(policy)
        for line in self._lines:
            self._write(line)
        self.step = done
        return done

    def report(self, step: int, values: Mapping[str, float]) -> None:
        """What was measured at a step, counted from 1 (0: before the first). Values that don't exist (NaN: a mean over
        nothing) are left out."""
        self.step = step
        self.last = {name: value for name, value in values.items() if math.isfinite(value)}
        record: dict[str, Any] = {"type": "metric", "run": self.name, "step": step, "values": self.last}
        self._lines.append(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        self._write(self._lines[-1])
        self._show(step, self.pace.steps, self.last)

    def told(self) -> str:
        """How far it got and what it measured last, for people."""
        shown = ", ".join(f"{name} {value:.3g}" for name, value in self.last.items() if name in HEADLINES)
        return f"step {self.step} of {self.pace.steps}" + (f": {shown}" if shown else "")

    def measures(self, step: int) -> bool:
        """Whether held-out questions are asked after a step (0: before the first)."""
        every = self.pace.eval_every
        return step == self.pace.steps or (every > 0 and step % every == 0)

    def keep(self, step: int, policy: Policy) -> None:
        """Save the run after a step, where it is time to."""
        if self.pace.save_every and step % self.pace.save_every == 0 and step < self.pace.steps:
            self._checkpoints.save(step, policy, self._lines)

    def finish(self, policy: Policy) -> None:
        """All steps are done: leave the model."""
        self._checkpoints.finish(policy)


class Clock:
    """Where a run's time goes. What is counted within something else is counted there only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._within = 0.0

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        """Counts the time spent within."""
        began, before, self._within = time.perf_counter(), self._within, 0.0
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self.seconds[what] = self.seconds.get(what, 0.0) + spent - self._within
            self._within = before + spent

    def told(self) -> str:
        """Shares of what was counted, for people."""
        whole = sum(self.seconds.values())
        return ", ".join(f"{what} {spent / whole:.0%}" for what, spent in self.seconds.items()) if whole else ""
