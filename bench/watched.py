"""pmem as a child under watch: its memory, what it leaves, and whether its API key shows up anywhere."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import samples
from cpu import PMEM

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.stub.faults import FAULTS

KEY = "sk-bench-0123456789-never-to-be-seen"
UNREADABLE = {"resetbody", "truncated", "notjson", "empty", "huge"}
"""Faults of the stub that come with status 200 and hold no reply that a client keeps."""
EACH_AT_5_PERCENT = dict.fromkeys(FAULTS, 0.05)
EVERY = 0.25  # seconds between two looks at the child's memory


class Sample(NamedTuple):
    """Resident memory at a moment (seconds since the start), and the most so far; MiB."""

    at: float
    resident: int
    peak: int


class Asked(NamedTuple):
    """A line of the stub's log: which body, its how-manyth attempt, whether a reply came through."""

    hash: str
    n: int
    readable: bool


class Folder:
    """Where a run writes: `out.jsonl`, `rejects.jsonl`, `cache.sqlite`, `stderr`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.output, self.rejects, self.cache, self.stderr = (
            path / name for name in ("out.jsonl", "rejects.jsonl", "cache.sqlite", "stderr")
        )

    def converse(self, personas: Path, url: str, jobs: int, more: Iterable[str]) -> "subprocess.Popen[bytes]":
        """Start `pmem converse`: one call for each persona."""
        model = ["-m", "openai:stub", "--base-url", url, "-j", str(jobs), "--cache", str(self.cache)]
        written = ["-o", str(self.output), "--rejects", str(self.rejects)]
        environment = os.environ | {"OPENAI_API_KEY": KEY}
        with self.stderr.open("ab") as stderr:
            command = [PMEM, "converse", str(personas), *model, *written, *more]
            return subprocess.Popen(command, env=environment, stderr=stderr)

    def committed(self) -> int:
        """Replies in the cache, which must pass SQLite's integrity check."""
        db = sqlite3.connect(self.cache)
        try:
            assert db.execute("pragma integrity_check").fetchone() == ("ok",)
            return int(db.execute("select count(*) from reply").fetchone()[0])
        except sqlite3.OperationalError:  # killed before there was a table
            return 0
        finally:
            db.close()

    def shows_key(self) -> list[str]:
        """The files here that contain the key."""
        found = []
        for path in self.path.iterdir():
            with path.open("rb") as file:
                before = b""
                while chunk := file.read(1 << 20):
                    if KEY.encode() in before + chunk:
                        found.append(path.name)
                        break
                    before = chunk[-len(KEY) :]
        return found


def personas(path: Path, count: int) -> list[str]:
    """Write personas of one preference; their ids."""
    records = list(samples.personas(count))
    samples.write(path, records)
    return [record["id"] for record in records]


def records(path: Path) -> list[dict[str, Any]]:
    """The records of a file; none if there is no file."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def log_of(path: Path, start: int = 0) -> list[Asked]:
    """The stub's log from a byte on."""
    with path.open("rb") as file:
        file.seek(start)
        lines = [orjson.loads(line) for line in file]
    return [
        Asked(line["hash"], line["n"], line["status"] == 200 and line["fault"] not in UNREADABLE)
        for line in lines
        if line["hash"]
    ]


def watched(process: "subprocess.Popen[bytes]", enough: Callable[[], bool] = lambda: False) -> list[Sample]:
    """Samples of a child's memory until it ends, or until it is enough. Its command line may not hold the key."""
    began = time.perf_counter()
    found: list[Sample] = []
    while process.poll() is None and not enough():
        passed = time.perf_counter() - began
        if not found or passed >= found[-1].at + EVERY:
            with contextlib.suppress(OSError, IndexError):  # it ends just now
                assert KEY.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
                told = Path(f"/proc/{process.pid}/status").read_text()
                found.append(Sample(passed, *(_mebibytes(told, name) for name in ("VmRSS", "VmHWM"))))
        time.sleep(0.01)
    return found


def _mebibytes(status: str, name: str) -> int:
    return int(status.split(f"{name}:")[1].split()[0]) // 1024
