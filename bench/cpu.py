"""CPU of child processes, paired: each round runs the base and every command, and compares within the round."""

import datetime
import importlib.metadata
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

PMEM = str(Path(sys.executable).with_name("pmem"))


class Ratio(NamedTuple):
    """CPU of a command relative to the base of the same round, over all rounds."""

    median: float
    low: float
    high: float
    seconds: float  # median CPU seconds of the command itself


def cpu_seconds(command: list[str], stdin: Path | None = None, **more: str) -> float:
    """User and system CPU seconds of one run of a command, all its threads; its output is thrown away.

    more: environment variables that it gets beside this process's own.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | more
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Path(stdin or os.devnull).open("rb") as source:
        subprocess.run(
            command, stdin=source, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=environment
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ratio(values: Iterable[float], base: Iterable[float], seconds: float) -> Ratio:
    """Of values to those of the base in the same rounds."""
    found = [value / reference for value, reference in zip(values, base, strict=True)]
    return Ratio(statistics.median(found), min(found), max(found), seconds)


def paired(
    base: list[str], commands: Mapping[str, list[str]], rounds: int, stdin: Path | None = None
) -> dict[str, Ratio]:
    """Ratios of each command's CPU to the base's, round by round."""
    reference: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for command in (base, *commands.values()):
        cpu_seconds(command, stdin)  # warm: byte code, page cache
    for _ in range(rounds):
        reference.append(cpu_seconds(base, stdin))
        for name, command in commands.items():
            seconds[name].append(cpu_seconds(command, stdin))
    return {name: ratio(used, reference, statistics.median(used)) for name, used in seconds.items()}


def table(base: str, results: Mapping[str, Ratio]) -> str:
    """The ratios as text."""
    lines = [f"relative to {base}: median (min to max)"]
    lines += [
        f"  {name:<28} {r.median:5.2f} ({r.low:.2f} to {r.high:.2f})  {r.seconds:.3f} s" for name, r in results.items()
    ]
    return "\n".join(lines)


def as_json(base: str, results: Mapping[str, Ratio]) -> dict[str, Any]:
    """The ratios for `write_json`."""
    return {"relative to": base, "results": {name: r._asdict() for name, r in results.items()}}


def write_json(path: str | None, figures: dict[str, Any]) -> None:
    """Write figures with the date and the machine that they were measured on, if there is a path."""
    if path:
        told = {"date": datetime.date.today().isoformat(), "machine": machine(), **figures}
        Path(path).write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def machine() -> dict[str, Any]:
    """Processor, cores, Python, and the versions of what matters most."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    packages = ("pmem", "aiohttp", "orjson", "click", "jsonschema-rs")
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }
