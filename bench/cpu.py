"""CPU of child processes, paired: each round runs the base and every command, and compares within the round."""

import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

PMEM = str(Path(sys.executable).with_name("pmem"))


class Ratio(NamedTuple):
    """CPU of a command relative to the base of the same round, over all rounds."""

    median: float
    low: float
    high: float
    seconds: float  # median CPU seconds of the command itself


def cpu_seconds(command: list[str], stdin: Path | None = None) -> float:
    """User and system CPU seconds of one run of a command, its output thrown away."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Path(stdin or os.devnull).open("rb") as source:
        subprocess.run(
            command, stdin=source, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=environment
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def paired(
    base: list[str], commands: Mapping[str, list[str]], rounds: int, stdin: Path | None = None
) -> dict[str, Ratio]:
    """Ratios of each command's CPU to the base's, round by round."""
    ratios: dict[str, list[float]] = {name: [] for name in commands}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for command in (base, *commands.values()):
        cpu_seconds(command, stdin)  # warm: byte code, page cache
    for _ in range(rounds):
        reference = cpu_seconds(base, stdin)
        for name, command in commands.items():
            used = cpu_seconds(command, stdin)
            ratios[name].append(used / reference)
            seconds[name].append(used)
    return {
        name: Ratio(statistics.median(found), min(found), max(found), statistics.median(seconds[name]))
        for name, found in ratios.items()
    }


def table(base: str, results: Mapping[str, Ratio]) -> str:
    """The ratios as text."""
    lines = [f"relative to {base}: median (min to max)"]
    lines += [
        f"  {name:<28} {r.median:5.2f} ({r.low:.2f} to {r.high:.2f})  {r.seconds:.3f} s" for name, r in results.items()
    ]
    return "\n".join(lines)
