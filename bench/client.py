"""CPU of a model call: a whole `pmem eval` stage against raw aiohttp and orjson, and against other clients.

python bench/client.py [--rounds N] [--shapes A,B] [--only NAME,...] [--scale X] [--peers-python PATH]... [--json FILE]
python bench/client.py --latency-trial [--json FILE]

Three shapes of prompts: `1k` (questions from a file, no history), `130k-shared` (histories of 130 KB in 290 messages,
25 questions on each) and `130k-each` (one question on each). pmem reads questions and histories from files, checks
them, asks, stores the replies in its cache, scores, checks and writes results, 64 calls in flight. The others get the
same messages in memory and do nothing with the replies but read them (see peers.py). The server is stub.c on the
second core; everything else runs on the first.

Every round runs each contestant once; ratios are to `raw` in the same round, and the table gives their median and
range. Start-up doesn't count: pmem's CPU per record is the difference between a run over many records and a run over a
few, divided by the difference in records (user and system time of the child process, all threads, by getrusage);
the others start their clock after a warm-up.

--latency-trial: 20,000 records, 512 calls in flight, a server that takes 500 ms: the ideal is 1,024 calls a second.
Its time is the server's, from the first request to the last answer, so that start-up doesn't count, but the slow
beginning and the last, half empty half second do.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from contestants import SHAPES, Bench, Figure, Shape
from cpu import as_json, ratio, write_json
from peers import PACKAGES
from stub_c import running_c


def compare(name: str, bench: Bench, rounds: int, wanted: set[str]) -> dict[str, Any]:
    """All contestants, round by round; prints the table, returns the figures."""
    found: dict[str, list[Figure]] = {}
    clients = [one for one in PACKAGES if one == "raw" or one in wanted]
    if name == "1k":  # without a history these are the same
        clients = [one for one in clients if not one.startswith("raw-")]
    for _ in range(rounds):
        for client in clients:
            if figure := bench.client(client):
                found.setdefault(client, []).append(figure)
        if "pmem" in wanted:
            for label, figure in bench.pmem().items():
                found.setdefault(label, []).append(figure)
    raw = [one.cpu for one in found["raw"]]
    results = {
        label: ratio([one.cpu for one in figures], raw, statistics.median(one.cpu for one in figures))
        for label, figures in found.items()
    }
    rates = {label: statistics.median(one.rate for one in figures) for label, figures in found.items()}
    print(f"\n{name}: CPU per call, relative to raw in the same round ({rounds} rounds): median (min to max)")
    for label, r in results.items():
        spread = f"{r.median:7.2f} ({r.low:.2f} to {r.high:.2f})"
        cost = f"{1000 * r.seconds:7.3f} ms {rates[label]:8,.0f} calls/s"
        print(f"  {label:<22} {bench.versions.get(label, ''):<9} {spread:<26} {cost}")
    for label in clients:
        if label not in found:
            print(f"  {label:<22} not installed: skipped (--peers-python)")
    return {"versions": bench.versions, "calls a second": rates, **as_json("raw", results)}


def latency_trial(core: int | None, *, records: int = 20_000, jobs: int = 512, latency: float = 500) -> dict[str, Any]:
    """Calls a second of pmem and of raw, where only the latency and the calls in flight set the limit."""
    ideal = jobs / latency * 1000
    figures: dict[str, Any] = {"records": records, "ideal": ideal}
    for name in ("raw", "pmem eval"):
        with running_c(latency=latency, core=core) as stub, tempfile.TemporaryDirectory() as folder:
            bench = Bench(Shape(None, 0, records, 0), Path(folder), stub.url, [sys.executable])
            if name == "raw":
                bench.client("raw", jobs=jobs, count=records)
            else:
                subprocess.run(bench.command(records, "--cache", f"{folder}/cache", jobs=jobs), check=True)
        counts = stub.counts
        rate = counts["requests"] / counts["seconds"]
        figures[name] = {"calls a second": rate, "share": rate / ideal, "in flight": counts["in_flight_max"]}
        print(
            f"{name:<10} {rate:6,.0f} calls/s, {rate / ideal:.1%} of {ideal:,.0f}; {counts['in_flight_max']} in flight"
        )
    return figures


def main() -> None:
    """Read the options, pin everything to its core, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", default=",".join(SHAPES), help="(default: all)")
    parser.add_argument("--only", help=f"of pmem, {', '.join(PACKAGES)}; raw always runs (default: all)")
    parser.add_argument("--scale", type=float, default=1, help="so many times the usual records and calls")
    parser.add_argument(
        "--peers-python", action="append", default=[], help="a Python with some of peers.txt (repeatable)"
    )
    parser.add_argument("--latency-trial", action="store_true")
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    stub_core = pinned()
    if options.latency_trial:
        write_json(options.json, {"512 calls in flight, 500 ms": latency_trial(stub_core)})
        return
    wanted = set(options.only.split(",")) if options.only else {"pmem", *PACKAGES}
    figures = {}
    for name in options.shapes.split(","):
        with running_c(core=stub_core) as stub, tempfile.TemporaryDirectory() as folder:
            bench = Bench(
                SHAPES[name].scaled(options.scale), Path(folder), stub.url, [*options.peers_python, sys.executable]
            )
            figures[name] = compare(name, bench, options.rounds, wanted)
    write_json(options.json, figures)


def pinned() -> int | None:
    """Keep this process, and what it starts, on the first core; the number of the second, for the server.

    None where there is only one, or where a process can't be pinned.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        print("client and server share a core: calls a second mean little")
        return None
    os.sched_setaffinity(0, {cores[0]})
    return cores[1]


if __name__ == "__main__":
    main()
