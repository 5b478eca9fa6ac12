"""kill -9 in the middle of a `pmem personas` run, then the same command again: nothing lost, nothing paid twice.

python bench/kill.py [FILE] [TRIALS] [LATENCY_MS]

FILE holds lines that describe persons (default: the first 1,000 of PersonaHub where they are at hand, else made-up
ones). For each trial: a fresh cache and a stub server with fresh counts; the run is killed at a random moment and
started again. The columns: when it was killed; replies committed to the cache by then; calls in flight (that the
server had got and the cache had not); calls that the server got twice over both runs; committed replies that were
asked for again; and whether the output equals that of an undisturbed run. The exit status is 1 if anything was lost.
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
from typing import NamedTuple

from cpu import PMEM

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.stub import Stub, running

ROOT = Path(__file__).parent.parent
JOBS = 64
SETTLE = 0.3  # seconds in which the server learns of what nobody waits for any more
LINES = ROOT.parent / "shared" / "data" / "personahub" / "persona_1000.jsonl"


class Trial(NamedTuple):
    """What became of one disturbed run."""

    committed: int
    in_flight: int
    twice: int
    again: int
    same: bool

    @property
    def sound(self) -> bool:
        """Whether it lost nothing but calls in flight, and no more of these than may be."""
        return self.same and not self.again and self.twice == self.in_flight <= JOBS


def command(lines: Path, url: str, folder: Path) -> list[str]:
    """The command under test."""
    model = ["-m", "openai:stub", "--base-url", url, "-j", str(JOBS), "--cache", str(folder / "cache.sqlite")]
    return [PMEM, "personas", str(lines), *model, "-o", str(folder / "out.jsonl"), "-q"]


def committed(folder: Path) -> int:
    """Replies in the cache, which must be a sound database."""
    db = sqlite3.connect(folder / "cache.sqlite")
    try:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        return int(db.execute("select count(*) from reply").fetchone()[0])
    except sqlite3.OperationalError:  # killed before there was a table
        return 0
    finally:
        db.close()


def trial(lines: Path, stub: Stub, wanted: bytes, calls: int, moment: float) -> Trial:
    """Kill a run after `moment` seconds, and run it again; an undisturbed one makes `calls` calls."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stub.reset()
        run = subprocess.Popen(command(lines, stub.url, folder))
        time.sleep(moment)
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert not (folder / "out.jsonl").exists(), "it was done before the kill"
        held = committed(folder)
        time.sleep(SETTLE)
        before = stub.counts()["requests"]
        subprocess.run(command(lines, stub.url, folder), check=True)
        counts = stub.counts()
        again = counts["requests"] - before - (calls - held)
        same = (folder / "out.jsonl").read_bytes() == wanted
        return Trial(held, before - held, counts["repeats"], again, same)


def main(source: Path, trials: int, latency: float) -> int:
    """Print the table; how many trials were not sound."""
    with running(latency=latency) as stub, tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        subprocess.run(command(source, stub.url, Path(name)), check=True)
        whole = time.perf_counter() - began
        wanted, calls = (Path(name) / "out.jsonl").read_bytes(), stub.counts()["requests"]
        print(f"undisturbed: {calls:,} calls in {whole:.1f} s, -j {JOBS}, {latency:g} ms latency")
        print(f"{'':>3} {'killed at':>9} {'committed':>9} {'in flight':>9} {'got twice':>9} {'paid again':>10}  output")
        lost = 0
        for number in range(1, trials + 1):
            moment = random.uniform(0.3, 0.9 * whole)
            one = trial(source, stub, wanted, calls, moment)
            shown = f"{one.committed:>9,} {one.in_flight:>9} {one.twice:>9} {one.again:>10}"
            verdict = "identical" if one.same else "DIFFERENT"
            print(f"{number:>3} {moment:>7.1f} s {shown}  {verdict}{'' if one.sound else ' NOT SOUND'}", flush=True)
            lost += not one.sound
        return lost


if __name__ == "__main__":
    given = sys.argv[1:]
    os.environ["OPENAI_API_KEY"] = "sk-bench"
    with tempfile.TemporaryDirectory() as name:
        lines = Path(given[0]) if given else LINES
        if not lines.exists() and not given:
            lines = Path(name) / "lines"
            lines.write_text("".join(f"A beekeeper who has kept {n} hives and repairs clocks.\n" for n in range(1000)))
        trials, latency = int(given[1]) if given[1:] else 20, float(given[2]) if given[2:] else 20.0
        sys.exit(1 if main(lines, trials, latency) else 0)
