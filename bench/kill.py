"""kill -9 in the middle of a `pmem personas` run, then the same command again: nothing lost, nothing paid twice.

python bench/kill.py FILE [TRIALS] [LATENCY_MS]

FILE holds persona lines. For each trial: a fresh cache and a stub server with fresh counts; the run is killed at a
random moment and started again; then the output must equal that of an undisturbed run, every reply committed to the
cache before the kill must not be asked for again, and calls asked twice are at most those that were in flight.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cpu import PMEM

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.stub import Stub, running

JOBS = 64


def command(lines: Path, url: str, folder: Path) -> list[str]:
    """The command under test."""
    model = ["-m", "openai:stub", "--base-url", url, "-j", str(JOBS), "--cache", str(folder / "cache.sqlite")]
    return [PMEM, "personas", str(lines), *model, "-o", str(folder / "out.jsonl"), "-q"]


def committed(folder: Path) -> int:
    """Replies in the cache, which must be a sound database."""
    path = folder / "cache.sqlite"
    if not path.exists():
        return 0
    with sqlite3.connect(path) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        return int(db.execute("select count(*) from reply").fetchone()[0])


def trial(lines: Path, stub: Stub, wanted: bytes, calls: int, seconds: float) -> tuple[int, int]:
    """(replies committed at the kill, calls asked twice) of one disturbed run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stub.reset()
        run = subprocess.Popen(command(lines, stub.url, folder))
        time.sleep(seconds)
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert not (folder / "out.jsonl").exists()
        held = committed(folder)
        time.sleep(0.3)  # the server may still be answering what nobody waits for any more
        before = stub.counts()["requests"]
        subprocess.run(command(lines, stub.url, folder), check=True)
        assert (folder / "out.jsonl").read_bytes() == wanted
        asked = stub.counts()["requests"]
        assert asked - before == calls - held, "a committed reply was asked for again"
        twice = asked - calls
        assert 0 <= twice <= JOBS
        return held, twice


if __name__ == "__main__":
    source, trials = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20
    latency = float(sys.argv[3]) if len(sys.argv) > 3 else 20
    os.environ["OPENAI_API_KEY"] = "sk-bench"
    with running(latency=latency) as stub, tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        subprocess.run(command(source, stub.url, Path(name)), check=True)
        whole = time.perf_counter() - began
        wanted, calls = (Path(name) / "out.jsonl").read_bytes(), stub.counts()["requests"]
        print(f"undisturbed: {calls:,} calls in {whole:.1f} s, -j {JOBS}, {latency:g} ms latency")
        for number in range(1, trials + 1):
            moment = random.uniform(0.3, 0.7 * whole)
            held, twice = trial(source, stub, wanted, calls, moment)
            print(f"{number:3}: killed after {moment:4.1f} s, {held:5,} committed, {twice:2} asked twice, same output")
