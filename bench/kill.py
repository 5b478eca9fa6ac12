"""kill -9 in the middle of a run, then the same command again: nothing lost, nothing paid twice.

python bench/kill.py [--trials N] [--latency MS] [FILE]
python bench/kill.py --hostile [--trials N] [--records N] [--jobs N] [--stall S] [--retries N]

The first form: `pmem personas` over lines that describe persons (default: the first 1,000 of PersonaHub where they are
at hand, else made-up ones). For each trial: a fresh cache and a stub server with fresh counts; the run is killed at a
random moment and started again. The columns: when it was killed; replies committed to the cache by then; calls in
flight (that the server had got and the cache had not); calls that the server got twice over both runs; committed
replies that were asked for again; and whether the output equals that of an undisturbed run.

The second form: one `pmem converse` over personas, against a server where everything goes wrong (see hostile.py),
killed again and again and resumed each time. What the model says depends on the prompt alone, faults on the way on the
attempt too; so the output and the rejects equal those of an undisturbed run, if no call runs out of attempts: --retries
gives pmem more of them. After each kill the cache must pass SQLite's integrity check, and at most --jobs replies may
have been sent and not committed; the next run may ask for no more prompts again than that.

The exit status is 1 if anything was lost, paid twice, or if the API key was found in a file or a command line.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from cpu import PMEM
from watched import EACH_AT_5_PERCENT, KEY, Folder, log_of, personas, watched

from tests.stub import Stub, running

ROOT = Path(__file__).parent.parent
JOBS = 64
LOGGED = 110  # bytes of a line in the stub's log
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


def command(lines: Path, url: str, folder: Folder) -> list[str]:
    """The command under test."""
    model = ["-m", "openai:stub", "--base-url", url, "-j", str(JOBS), "--cache", str(folder.cache)]
    return [PMEM, "personas", str(lines), *model, "-o", str(folder.output), "-q"]


def trial(lines: Path, stub: Stub, wanted: bytes, calls: int, moment: float) -> Trial:
    """Kill a run after `moment` seconds, and run it again; an undisturbed one makes `calls` calls."""
    with tempfile.TemporaryDirectory() as name:
        folder = Folder(Path(name))
        stub.reset()
        run = subprocess.Popen(command(lines, stub.url, folder))
        time.sleep(moment)
        run.kill()
        run.wait()
        assert not folder.output.exists(), "it was done before the kill"
        held = folder.committed()
        time.sleep(SETTLE)
        before = stub.counts()["requests"]
        subprocess.run(command(lines, stub.url, folder), check=True)
        counts = stub.counts()
        again = counts["requests"] - before - (calls - held)
        return Trial(held, before - held, counts["repeats"], again, folder.output.read_bytes() == wanted)


def trials(source: Path, count: int, latency: float) -> int:
    """Print the table; how many trials were not sound."""
    with running(latency=latency) as stub, tempfile.TemporaryDirectory() as name:
        folder = Folder(Path(name))
        began = time.perf_counter()
        subprocess.run(command(source, stub.url, folder), check=True)
        whole = time.perf_counter() - began
        wanted, calls = folder.output.read_bytes(), stub.counts()["requests"]
        print(f"undisturbed: {calls:,} calls in {whole:.1f} s, -j {JOBS}, {latency:g} ms latency")
        print(f"{'':>3} {'killed at':>9} {'committed':>9} {'in flight':>9} {'got twice':>9} {'paid again':>10}  output")
        lost = 0
        for number in range(1, count + 1):
            moment = random.uniform(0.3, 0.9 * whole)
            one = trial(source, stub, wanted, calls, moment)
            shown = f"{one.committed:>9,} {one.in_flight:>9} {one.twice:>9} {one.again:>10}"
            verdict = "identical" if one.same else "DIFFERENT"
            print(f"{number:>3} {moment:>7.1f} s {shown}  {verdict}{'' if one.sound else ' NOT SOUND'}", flush=True)
            lost += not one.sound
        return lost


class Hostile:
    """One run that is killed again and again, and an undisturbed one to compare it with."""

    def __init__(self, root: Path, records: int, jobs: int, stall: float, more: list[str]) -> None:
        self.root, self.jobs, self.more = root, jobs, more
        self.people, self.log = root / "personas.jsonl", root / "log"
        self.server = {"fault": EACH_AT_5_PERCENT, "stall": stall, "latency": 20}
        self.wrong: list[str] = []
        self.calls = 0  # of the undisturbed run
        personas(self.people, records)

    def undisturbed(self) -> tuple[Folder, float]:
        """What it is to come to, and how long it takes."""
        folder = self._folder("undisturbed")
        with running(**self.server) as stub:
            began = time.perf_counter()
            watched(folder.converse(self.people, stub.url, self.jobs, self.more))
            self.calls = stub.counts()["requests"]
            return folder, time.perf_counter() - began

    def _killable(self, folder: Folder, url: str, calls: int | None) -> bool:
        """Run until so many calls more are answered (None: all), then kill; whether it had ended by itself."""
        until = self.log.stat().st_size + LOGGED * calls if calls is not None else None
        run = folder.converse(self.people, url, self.jobs, self.more)
        watched(run, lambda: until is not None and self.log.stat().st_size >= until)
        ended = run.poll() is not None
        run.kill()
        run.wait()
        time.sleep(SETTLE)
        return ended

    def disturbed(self, kills: int) -> Folder:
        """Kill it so many times, then let it end. Prints a line for each kill.

        The moments are random in calls, not in seconds: most of an undisturbed run's time goes by in waiting for the
        last calls' last attempts.
        """
        folder = self._folder("disturbed")
        print(f"{'':>3} {'calls':>7} {'committed':>9} {'sent only':>9} {'again':>6}")
        sent_only, answered, position = 0, set[str](), 0
        with running(**self.server, log=self.log) as stub:
            for number in range(1, kills + 2):
                calls = random.randrange(2 * self.calls // kills) if number <= kills else None
                ended = self._killable(folder, stub.url, calls)
                asked = log_of(self.log, position)
                position = self.log.stat().st_size
                again = len({one.hash for one in asked} & answered)
                self._expect(again <= sent_only, f"run {number} asked again for {again - sent_only} committed replies")
                answered |= {one.hash for one in asked if one.readable}
                before, committed = sent_only, folder.committed()
                sent_only = len(answered) - committed
                self._expect(sent_only >= 0, f"the cache holds {-sent_only} replies that were never sent")
                lost = sent_only - before
                self._expect(lost <= self.jobs, f"kill {number} lost {lost} replies, more than were in flight")
                print(f"{number:>3} {len(asked):>7,} {committed:>9,} {sent_only:>9} {again:>6}", flush=True)
                if ended:
                    print(f"ended by itself after {number - 1} kills")
                    break
        self._expect(sent_only == 0, f"{sent_only} replies were never committed")
        return folder

    def compare(self, disturbed: Folder, undisturbed: Folder) -> None:
        """Output and rejects, byte for byte; and the key in neither folder."""
        for one, other in ((disturbed.output, undisturbed.output), (disturbed.rejects, undisturbed.rejects)):
            self._expect(one.exists() and one.read_bytes() == other.read_bytes(), f"{one.name} differs")
        for folder in (disturbed, undisturbed):
            self.wrong += [f"the key is in {folder.path.name}/{file}" for file in folder.shows_key()]

    def _folder(self, name: str) -> Folder:
        (self.root / name).mkdir()
        return Folder(self.root / name)

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.wrong.append(otherwise)


def hostile(records: int, kills: int, jobs: int, stall: float, more: list[str]) -> int:
    """Print what happened; how much was wrong."""
    with tempfile.TemporaryDirectory() as name:
        run = Hostile(Path(name), records, jobs, stall, more)
        undisturbed, whole = run.undisturbed()
        print(f"undisturbed: {records:,} records, {undisturbed.committed():,} replies in {whole:.0f} s, -j {jobs}")
        run.compare(run.disturbed(kills), undisturbed)
    print("\n".join(run.wrong) or "output and rejects identical; no committed reply asked for again; the key nowhere")
    return len(run.wrong)


def made_up(folder: str) -> Path:
    """Lines that describe persons."""
    path = Path(folder) / "lines"
    path.write_text("".join(f"A beekeeper who has kept {n} hives and repairs clocks.\n" for n in range(1000)))
    return path


def main() -> int:
    """Read the options and run; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="lines that describe persons")
    parser.add_argument("--trials", type=int, help="kills (default: 20; hostile: 50)")
    parser.add_argument("--latency", type=float, default=20, help="ms; not for --hostile")
    parser.add_argument("--hostile", action="store_true")
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=256)
    parser.add_argument("--stall", type=float, default=60, help="seconds")
    parser.add_argument("--retries", type=int, help="passed on to pmem: attempts of each call")
    given = parser.parse_args()
    os.environ["OPENAI_API_KEY"] = KEY
    if given.hostile:
        more = ["--retries", str(given.retries)] if given.retries else []
        return 1 if hostile(given.records, given.trials or 50, given.jobs, given.stall, more) else 0
    with tempfile.TemporaryDirectory() as name:
        lines = given.file or (LINES if LINES.exists() else made_up(name))
        return 1 if trials(lines, given.trials or 20, given.latency) else 0


if __name__ == "__main__":
    sys.exit(main())
