"""`pmem memdump` over many users: is the server kept busy, does memory stay constant, is nothing lost by kill -9?

python bench/memory.py [--users N] [--tokens N] [--jobs N] [--latency MS] [--kill] [--json FILE]

Every user has a history of so many tokens, and a user's chunks follow each other: only different users' calls can be
in flight together. The stub takes --latency for each and writes nearly full memories (memory_reply.py). `busy` is the
share of connections x time in which the stub is at work on a call, each taken as --latency long: `until the tail` from
the first call until fewer users than connections are left, `in all` from the command's start to its end. `peak` is the
most resident memory of pmem; run it with more users to see that it stays.
`CPU ms per update` is pmem's own, user and system, less that of a run over nothing (which loads the tokenizer): at 64
connections and 500 ms it must be well under 7.8. On a machine that does other things too, it is more than it would be.

--kill: the run is killed (SIGKILL) half way and started again: the output must be the same, and no call may be made
twice but those in flight.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import samples
from cpu import PMEM, write_json
from machine import heading, machine
from watched import watched

sys.path.insert(0, str(Path(__file__).parent.parent))
from pmem.tokens import count
from tests.stub import Stub, running

MESSAGE = 400
"""Tokens of a message, about, as in published histories of 128k tokens."""


def histories(users: int, tokens: int) -> Iterator[dict[str, Any]]:
    """A history of about so many tokens for each user; no two hold the same messages."""
    book = [f"{number} " + samples.words(MESSAGE * 3 // 4, samples.random.Random(number)) for number in range(400)]
    sizes = [count(text) + 4 for text in book]
    for user in range(users):
        messages: list[dict[str, Any]] = []
        size = 0
        while size < tokens:
            number = len(messages)
            text = book[(user * 7 + number) % len(book)]
            messages.append({"role": ("user", "assistant")[number % 2], "content": f"User {user}, {number}. {text}"})
            size += sizes[(user * 7 + number) % len(book)] + 8
        yield {
            "type": "history",
            "id": samples.id_of("h", user),
            "persona_id": None,
            "user_id": f"user-{user}",
            "window": "128k",
            "budget": None,
            "tokenizer": "o200k_base",
            "tokens": size,
            "relevant_tokens": 0,
            "filler_tokens": 0,
            "persona": None,
            "system": None,
            "sessions": [],
            "provenance": {"stage": "import", "pmem": "0.1.0"},
            "messages": messages,
        }


def started(file: Path, folder: Path, url: str, jobs: int) -> "subprocess.Popen[bytes]":
    """The command under test."""
    model = ["-m", "openai:stub", "--base-url", url, "-j", str(jobs), "--cache", str(folder / "cache")]
    command = [PMEM, "memdump", str(file), *model, "-o", str(folder / "out.jsonl")]
    return subprocess.Popen(command, env=os.environ | {"OPENAI_API_KEY": "none"})


def spent() -> float:
    """CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def until_tail(calls: list[tuple[float, str]], jobs: int, latency: float) -> tuple[float, float]:
    """Seconds from the first call until fewer users than connections are left, and the share of connections that were
    busy in them. calls: when each came and whose it was."""
    ends = sorted({user: at + latency for at, user in sorted(calls)}.values())
    begin, end = min(calls)[0], ends[max(0, len(ends) - jobs)]
    busy = sum(max(0.0, min(end, at + latency) - at) for at, _ in calls if at < end)
    return end - begin, busy / (jobs * (end - begin))


def whole_run(file: Path, folder: Path, stub: Stub, jobs: int, latency: float) -> dict[str, Any]:
    """Figures of an undisturbed run."""
    folder.mkdir()
    stub.reset()
    called = Path(os.environ["CALLED"])
    before = spent()
    assert started(Path(os.devnull), folder, stub.url, jobs).wait() == 0
    start = spent() - before
    began = time.perf_counter()
    process = started(file, folder, stub.url, jobs)
    seen = watched(process)
    wall = time.perf_counter() - began
    assert process.returncode == 0
    counts = stub.counts()
    calls = [line.split() for line in called.read_text().splitlines()]
    tail, until = until_tail([(float(at), user) for at, user in calls], jobs, latency / 1000)
    return {
        "calls": counts["requests"],
        "seconds": wall,
        "CPU ms per update": (spent() - before - 2 * start) / counts["requests"] * 1000,
        "in flight at most": counts["in_flight_max"],
        "busy until the tail": until,
        "seconds until the tail": tail,
        "busy in all": counts["requests"] * latency / 1000 / (jobs * wall),
        "peak MiB": max(sample.peak for sample in seen),
        "resident MiB at a quarter and at the end": [seen[len(seen) // 4].resident, seen[-2].resident],
    }


def killed(file: Path, folder: Path, stub: Stub, jobs: int, wanted: bytes, calls: int) -> dict[str, Any]:
    """What a kill half way costs."""
    folder.mkdir()
    stub.reset()
    process = started(file, folder, stub.url, jobs)
    while stub.counts()["requests"] < calls // 2:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert started(file, folder, stub.url, jobs).wait() == 0
    twice = stub.counts()["requests"] - calls
    return {"same output": (folder / "out.jsonl").read_bytes() == wanted, "calls made twice": twice}


def main() -> None:
    """Read the options, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=128_000)
    parser.add_argument("--jobs", type=int, default=64)
    parser.add_argument("--latency", type=float, default=500)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    found = machine()
    print(heading(found))
    reply = Path(__file__).with_name("memory_reply.py")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["CALLED"] = str(folder / "called")
        file = samples.write(folder / "histories.jsonl", histories(options.users, options.tokens))
        with running(latency=options.latency, reply=reply) as stub:
            figures = whole_run(file, folder / "whole", stub, options.jobs, options.latency)
            if options.kill:
                wanted = (folder / "whole" / "out.jsonl").read_bytes()
                figures |= killed(file, folder / "killed", stub, options.jobs, wanted, figures["calls"])
    for key, value in figures.items():
        print(f"{key:<42} {value:.3f}" if isinstance(value, float) else f"{key:<42} {value}")
    write_json(options.json, {"machine": found, **vars(options), **figures})


if __name__ == "__main__":
    main()
