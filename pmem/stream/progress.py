"""What a run says on stderr: a progress bar while it goes, one line when it ends."""

import os
import stat
import sys
import time
from collections.abc import Mapping
from typing import Any

import click


class Progress:
    """A tqdm bar where somebody is looking, nothing elsewhere.

    Shown when stderr is a terminal and stdout isn't the next command's pipe (one bar for a whole pipeline), or when
    asked for.
    """

    def __init__(self, stage: str, asked: bool, quiet: bool) -> None:
        self._bar: Any = None
        if sys.stderr and (asked or (not quiet and sys.stderr.isatty() and not _feeds_a_pipe())):
            from tqdm import tqdm

            self._bar = tqdm(desc=stage, unit=" records", leave=False, mininterval=0.3, file=sys.stderr)

    def advance(self, count: int = 1) -> None:
        """So many more records are done."""
        if self._bar is not None:
            self._bar.update(count)

    def measure(self, done: int, of: int, values: Mapping[str, float]) -> None:
        """So many of a known number of steps are done; some of what the last one measured."""
        if self._bar is not None:
            self._bar.unit, self._bar.total, self._bar.n = " steps", of, done
            self._bar.set_postfix({name: f"{value:.3g}" for name, value in values.items()})

    def say(self, text: str) -> None:
        """A line on stderr that doesn't tear the bar."""
        if self._bar is not None:
            self._bar.clear()
        click.echo(text, err=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _feeds_a_pipe() -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(1).st_mode)
    except OSError:
        return False


def counted(number: int, what: str) -> str:
    """So many of something: "1 record", "2,000 records"."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def seconds(since: float) -> str:
    """Time passed since a `time.perf_counter()` reading, for people."""
    return duration(time.perf_counter() - since)


def duration(passed: float) -> str:
    """Seconds, for people."""
    if passed < 100:
        return f"{passed:.1f} s"
    minutes, rest = divmod(round(passed), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d} min"
