"""pmem eval at scale: 5,000 questions over 200 histories of 128k tokens, 128 calls in flight, against stub.c.

python bench/evaluation.py [--questions N] [--histories N] [--jobs N] [--json FILE]

Prints the peak of resident memory (VmHWM of the child), calls a second, CPU per call (user and system time of a run
over all questions, less that of a run over as many as one history has, by the difference in calls), and what of that
goes into serialising prompts: the question as JSON, the key of the cache, the pieces of the body, timed by themselves
in this process. Beside it stands what it would take to serialise each prompt whole. The history's bytes are taken from
the file as they are. Then, without a server: how often the history changes from one call to the next, in the order in
which calls are issued.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
import samples
from cpu import PMEM, write_json
from stub_c import running_c
from watched import watched

from pmem.backends.base import Completion, Prefix, Request
from pmem.backends.model import Model
from pmem.backends.openai import OpenAIBackend
from pmem.prompts import Prompts, describe
from pmem.prompts.replies import user
from pmem.tokens import count_messages

LENGTH = 1366
"""Messages of a history: 128k tokens."""


class Run:
    """The files of a run, and the command over them."""

    def __init__(self, folder: Path, questions: int, histories: int, jobs: int) -> None:
        self.folder, self.jobs, self.questions = folder, jobs, questions
        self.each = questions // histories
        samples.write(folder / "qa.jsonl", samples.questions(questions, per_history=self.each))
        samples.write(folder / "h.jsonl", samples.histories(histories, length=LENGTH))

    def options(self, url: str, limit: int) -> list[str]:
        """What follows `pmem`."""
        read = ["eval", str(self.folder / "qa.jsonl"), "--histories", str(self.folder / "h.jsonl")]
        model = ["-m", "openai:m", "--base-url", url, "-j", str(self.jobs), "--cache", str(self.folder / f"c{limit}")]
        return [*read, *model, "-q", "--limit", str(limit), "-o", str(self.folder / "out.jsonl")]

    def watched(self, url: str, limit: int) -> tuple[float, float, int]:
        """CPU seconds, wall seconds and peak MiB of a run over so many questions."""
        began, before = time.perf_counter(), os.times()
        peak = watched(subprocess.Popen([PMEM, *self.options(url, limit)]))[-1].peak
        wall, after = time.perf_counter() - began, os.times()
        answered = (self.folder / "out.jsonl").read_bytes().count(b'"choice":"B","parsed":true')
        assert answered == limit, f"{answered} of {limit} questions were answered"
        used = after.children_user + after.children_system - before.children_user - before.children_system
        return used, wall, peak


def serialising(folder: Path, rounds: int = 200) -> dict[str, float]:
    """Milliseconds a call takes to serialise its prompt: pmem's way, and whole by orjson and by json."""
    history = next(samples.histories(1, length=LENGTH))
    qa = next(samples.questions(1))
    prefix = Prefix(history["id"], orjson.dumps(history["messages"]))
    backend = OpenAIBackend("m", ("http://localhost:1/v1",))
    model = Model("openai:m", backend, cache=None)
    text = Prompts(folder).render("eval/mcq", query=qa["query"], options=describe.options(qa["options"]))
    messages = user(text)

    def own() -> None:
        raw = orjson.dumps(messages)
        key = model._key(raw, prefix, model._form(None), b"0.0")
        backend.parts(Request(messages, prefix, raw=raw, key=key, seed=1))

    whole = {"model": "m", "messages": [*history["messages"], *messages]}
    ways = {"pmem": own, "whole, orjson": lambda: orjson.dumps(whole), "whole, json": lambda: json.dumps(whole)}
    found = {}
    for name, way in ways.items():
        way()
        began = time.process_time()
        for _ in range(rounds):
            way()
        found[name] = 1000 * (time.process_time() - began) / rounds
    return found


def changes(run: Run) -> int:
    """How many stretches of calls on one history a run issues."""
    from pmem.cli import main

    issued: list[str] = []

    async def complete(_: OpenAIBackend, request: Request) -> Completion:
        issued.append(request.prefix.id if request.prefix else "")
        await asyncio.sleep(0.001 * (len(issued) % 7))  # so that they don't end in the order in which they began
        return Completion("Answer: B")

    OpenAIBackend.complete = complete  # type: ignore[method-assign]
    main([*run.options("http://localhost:1/v1", run.questions), "--no-cache"], standalone_mode=False)
    assert len(issued) == run.questions
    return len(list(groupby(issued)))


def main() -> None:
    """Read the options, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=5_000)
    parser.add_argument("--histories", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=128)
    parser.add_argument("--json", help="write the figures there")
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    with running_c(latency=20) as stub, tempfile.TemporaryDirectory() as name:
        run = Run(Path(name), given.questions, given.histories, given.jobs)
        first = next(samples.histories(1, length=LENGTH))["messages"]
        size = (run.folder / "h.jsonl").stat().st_size / given.histories / 1e6
        tokens = count_messages(first)
        print(f"{given.questions:,} questions, {given.histories} histories of {tokens:,} tokens ({size:.2f} MB)")
        few = run.watched(stub.url, run.each)
        many = run.watched(stub.url, given.questions)
        calls = given.questions - run.each
        cpu = 1000 * (many[0] - few[0]) / calls
        figures |= {"peak MiB": many[2], "calls a second": given.questions / many[1], "CPU ms a call": cpu}
        figures["serialising, ms a call"] = ways = serialising(Path(name))
        print(f"peak memory {many[2]} MiB; {given.questions / many[1]:,.0f} calls a second; {cpu:.3f} ms of CPU a call")
        for way, cost in ways.items():
            print(f"  serialising, {way:<14} {cost:8.4f} ms, {cost / cpu:7.1%} of that")
        figures["changes of history"] = found = changes(run)
        print(f"the history changes {found} times over {given.histories} histories, -j {given.jobs}")
    write_json(given.json, figures)


if __name__ == "__main__":
    sys.exit(main())
