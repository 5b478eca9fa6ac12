"""A model server where everything goes wrong: `pmem converse` over 10,000 personas, each fault of the stub at 5%.

python bench/hostile.py [--records N] [--jobs N] [--stall S] [--json FILE] [-- OPTIONS OF PMEM]

The faults: 429 with and without Retry-After, 500, 503, resets before and in the body, JSON cut off, HTML, JSON against
the schema, no choices, refusals, silence for a minute, a body that drips for 2 s, redirects, 10 MB replies, replies cut
off for length. Checked: each persona's conversation is in the output or among the rejects, once; a reject for the
server's sake is one for whose prompt every attempt failed, all attempts used; the API key is in no output, log, cache
or command line. Printed: time, memory over time, calls, and why records were rejected. Exit status 1 if a check fails.
"""

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from cpu import write_json
from watched import EACH_AT_5_PERCENT, Asked, Folder, Sample, log_of, personas, records, watched

from pmem.backends.calls import TRIES
from tests.stub import running

INVALID = "no valid reply in"  # a reject for what the model said, not for the server


def reasons(rejects: list[dict[str, Any]]) -> Counter[str]:
    """How often records were rejected for what; numbers and quotations left out."""
    return Counter(re.sub(r"'.*'|\d+", "…", record["message"].split(": ", 1)[-1])[:100] for record in rejects)


def faults_found(
    ids: list[str], output: list[dict[str, Any]], rejects: list[dict[str, Any]], log: list[Asked]
) -> list[str]:
    """What is wrong with what a run left; nothing if all is well."""
    wrong = []
    written = [record["persona_id"] for record in output]
    refused = [record["record"]["id"] for record in rejects]
    if sorted(written + refused) != sorted(ids):
        twice = len(written + refused) - len(set(written + refused))
        lost = len(set(ids) - set(written + refused))
        wrong.append(f"{lost} records are neither in the output nor in the rejects, {twice} are there twice")
    attempts: Counter[str] = Counter(one.hash for one in log)
    answered = {one.hash for one in log if one.readable}
    failed = [attempts[body] for body in attempts if body not in answered]
    server = [record for record in rejects if INVALID not in record["message"]]
    if len(failed) != len(server):
        wrong.append(f"{len(server)} rejects for the server's sake, but {len(failed)} prompts that were never answered")
    if failed and min(failed) < TRIES:  # more are made of a call that the server turned away as too busy
        wrong.append(f"a call was given up after {min(failed)} attempts")
    return wrong


def memory(samples: list[Sample]) -> str:
    """Memory over time, at ten moments."""
    shown = samples[:: max(1, len(samples) // 10)]
    return "\n".join(f"  {one.at:7.1f} s {one.resident:6,} MiB, at most {one.peak:6,} MiB" for one in shown)


def main(count: int, jobs: int, stall: float, more: list[str], json: str | None) -> bool:
    """Run, check, print; whether all is well."""
    with tempfile.TemporaryDirectory() as name:
        folder, log = Folder(Path(name) / "run"), Path(name) / "log"
        folder.path.mkdir()
        ids = personas(Path(name) / "personas.jsonl", count)
        with running(fault=EACH_AT_5_PERCENT, stall=stall, latency=20, log=log) as stub:
            began = time.perf_counter()
            process = folder.converse(Path(name) / "personas.jsonl", stub.url, jobs, more)
            samples = watched(process)
            seconds = time.perf_counter() - began
            counts = stub.counts()
        output, rejects = records(folder.output), records(folder.rejects)
        wrong = faults_found(ids, output, rejects, log_of(log))
        wrong += [f"the key is in {file}" for file in folder.shows_key()]
        wrong += [f"exit status {process.returncode}"] if process.returncode != (3 if rejects else 0) else []
        said = folder.stderr.read_text().splitlines()
        kept = folder.cache.stat().st_size >> 20
    why = reasons(rejects)
    print(f"{count:,} records, -j {jobs}, stalls of {stall:g} s: {seconds:.0f} s")
    print(f"{len(output):,} written, {len(rejects):,} rejected; {counts['requests']:,} calls, {counts['by_status']}")
    print(f"paid for again: {counts['paid_again']}; cache: {kept:,} MiB; {said[-1] if said else ''}")
    print("\n".join(f"  {many:6,}  {text}" for text, many in why.most_common()))
    print(memory(samples))
    print("\n".join(wrong) or "all records accounted for; the key was nowhere")
    figures: dict[str, Any] = {
        "records": count,
        "jobs": jobs,
        "stall": stall,
        "seconds": seconds,
        "written": len(output),
    }
    figures |= {"rejects": dict(why), "calls": counts, "peak MiB": max(one.peak for one in samples), "cache MiB": kept}
    write_json(json, figures | {"memory": [one._asdict() for one in samples], "wrong": wrong})
    return not wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=256)
    parser.add_argument("--stall", type=float, default=60, help="seconds")
    parser.add_argument("--json", help="write the figures there")
    parser.add_argument("pmem", nargs="*", help="options for pmem, after --")
    options = parser.parse_args()
    sys.exit(not main(options.records, options.jobs, options.stall, options.pmem, options.json))
