"""Two workers on a Ray cluster of this machine against one process: the same bytes, and how much faster.

python bench/workers.py [--records N] [--latency MS] [--jobs N] [--local-records N] [--json FILE]

Asks a stub server that answers after so many milliseconds, whoever asks: with --jobs calls in flight for each process,
the model is the limit. Then the same with a tiny local: model in each process, on one thread, one call at a time. Times
are those of the whole command, and from the first record written to the last: a cluster takes a while to start.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import samples
from cpu import PMEM, machine, write_json

from tests.stub import running
from tests.tiny_models import saved


class Run(NamedTuple):
    """What a command wrote, and how long it took: to the first line, and to the end."""

    out: bytes
    first: float
    whole: float

    @property
    def rate(self) -> float:
        """Records a second once they come."""
        return (self.out.count(b"\n") - 1) / (self.whole - self.first)


def timed(command: list[str], folder: Path) -> Run:
    """Run a command that writes records."""
    began = time.perf_counter()
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENAI_API_KEY": "none"}
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout and child.stderr
        out = child.stdout.readline()
        first = time.perf_counter() - began
        out += child.stdout.read()
        said = child.stderr.read().decode()
    if child.returncode:
        sys.exit(said)
    return Run(out, first, time.perf_counter() - began)


def compared(name: str, command: list[str], folder: Path) -> dict[str, Any]:
    """One process and two workers."""
    one = timed(command, folder)
    two = timed([*command, "--ray", "local", "--workers", "2"], folder)
    found = {
        "records": one.out.count(b"\n"),
        "same_bytes": one.out == two.out,
        "seconds_one": round(one.whole, 1),
        "seconds_two": round(two.whole, 1),
        "first_record_one": round(one.first, 1),
        "first_record_two": round(two.first, 1),
        "ratio_whole": round(one.whole / two.whole, 2),
        "ratio_rate": round(two.rate / one.rate, 2),
    }
    print(f"{name}: {found['records']:,} records, {'the same bytes' if found['same_bytes'] else 'OTHER BYTES'}")
    for run, label in ((one, "one process"), (two, "two workers")):
        print(f"  {label}  {run.whole:7.1f} s, first record after {run.first:5.1f} s, then {run.rate:7.1f} a second")
    print(f"  two workers are {found['ratio_whole']} times as fast in all, {found['ratio_rate']} times once they run")
    return found


def main() -> None:
    """Both comparisons; status 1 if bytes differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=1000)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--local-records", type=int, default=2000)
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as name, running(latency=options.latency) as stub:
        folder = Path(name)
        ask = [PMEM, "eval", "--context", "none", "--no-cache", "-q"]
        if options.records:
            path = samples.write(folder / "questions.jsonl", samples.questions(options.records))
            server = ["-m", "openai:stub", "--base-url", stub.url, "-j", str(options.jobs)]
            found["stub"] = compared("stub", [*ask, str(path), *server], folder)
        if options.local_records:
            path = samples.write(folder / "local.jsonl", samples.questions(options.local_records))
            model = ["-m", f"local:{saved(folder / 'tiny')}", "-j", "1", "--max-tokens", "4"]
            found["local"] = compared("local", [*ask, str(path), *model], folder)
    write_json(options.json, found)
    sys.exit(0 if all(found[kind]["same_bytes"] for kind in ("stub", "local") if kind in found) else 1)


if __name__ == "__main__":
    main()
