"""What bench/client.py compares: pmem as a child process, and each other client as one."""

import os
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

import orjson
import samples
from cpu import PMEM, cpu_seconds
from peers import MODEL, PACKAGES

from pmem.prompts import Prompts, describe

HERE = Path(__file__).parent
JOBS = 64


class Shape(NamedTuple):
    """Prompts of one kind. few, many: records of pmem's two runs; peers: calls of the slow clients."""

    per_history: int | None
    few: int
    many: int
    peers: int

    def scaled(self, by: float) -> "Shape":
        """The same with more or fewer records."""
        return Shape(self.per_history, *(max(1, round(by * n)) for n in (self.few, self.many, self.peers)))


SHAPES = {
    "1k": Shape(None, 500, 10_500, 1_000),
    "130k-shared": Shape(25, 200, 4_200, 200),
    "130k-each": Shape(1, 64, 800, 200),
}


class Figure(NamedTuple):
    """What one run of a contestant costs, per call."""

    cpu: float  # seconds
    rate: float  # calls a second, on one core


class Bench:
    """The files of one shape, and how each contestant runs on them."""

    def __init__(self, shape: Shape, folder: Path, url: str, pythons: list[str]) -> None:
        self.shape, self.folder, self.url, self.pythons = shape, folder, url, pythons
        self.versions: dict[str, str] = {}
        self._write_files()

    def _write_files(self) -> None:
        """Questions and histories, for pmem as records, for the others as texts."""
        per_history, many = self.shape.per_history, self.shape.many
        questions = list(samples.questions(many, per_history=per_history or 1))
        samples.write(self.folder / "qa.jsonl", questions)
        histories = list(samples.histories(-(-many // per_history))) if per_history else []
        samples.write(self.folder / "h.jsonl", histories)
        prompts = Prompts(None)
        with (self.folder / "questions.jsonl").open("wb") as file:
            for number, qa in enumerate(questions):
                text = prompts.render("eval/mcq", query=qa["query"], options=describe.options(qa["options"]))
                place = number // per_history if per_history else None
                file.write(orjson.dumps({"text": text, "history": place}) + b"\n")
        with (self.folder / "histories.jsonl").open("wb") as file:
            for history in histories:
                file.write(orjson.dumps("".join(one["content"] for one in history["messages"])) + b"\n")

    def command(self, records: int, *more: str, jobs: int = JOBS) -> list[str]:
        """pmem over so many records."""
        context = ["--histories", str(self.folder / "h.jsonl")] if self.shape.per_history else ["--context", "none"]
        model = ["-m", f"openai:{MODEL}", "--base-url", self.url, "-j", str(jobs), "-q"]
        output = ["-o", str(self.folder / "out.jsonl")]
        return [PMEM, "eval", str(self.folder / "qa.jsonl"), "--limit", str(records), *context, *model, *output, *more]

    def _slope(self, *more: str | dict[int, str]) -> Figure:
        """Cost per record, without what doesn't grow with the records."""
        few, many = self.shape.few, self.shape.many
        cpu, wall = (y - x for x, y in zip(self._run(few, *more), self._run(many, *more), strict=True))
        return Figure(cpu / (many - few), (many - few) / wall)

    def _run(self, records: int, *more: str | dict[int, str]) -> tuple[float, float]:
        """CPU and wall seconds of one run, whose results must all be scored. A dict holds an option by records."""
        options = [one if isinstance(one, str) else one[records] for one in more]
        began = time.perf_counter()
        used = cpu_seconds(self.command(records, *options))
        wall = time.perf_counter() - began
        answered = (self.folder / "out.jsonl").read_bytes().count(b'"choice":"B","parsed":true')
        assert answered == records, f"{answered} of {records} records were answered"
        return used, wall

    def pmem(self) -> dict[str, Figure]:
        """A fresh cache, the same command again, no cache."""
        caches = {n: str(self.folder / f"cache-{n}") for n in (self.shape.few, self.shape.many)}
        figures = {
            "pmem eval": self._slope("--cache", caches),
            "pmem eval, cache hits": self._slope("--cache", caches),
            "pmem eval --no-cache": self._slope("--no-cache"),
        }
        for path in self.folder.glob("cache-*"):
            path.unlink()
        return figures

    def client(self, name: str, *, jobs: int = JOBS, count: int | None = None) -> Figure | None:
        """Another client; None if it isn't installed."""
        pythons = [sys.executable] if name.startswith("raw") else self.pythons  # raw: the aiohttp that pmem uses
        python = next((one for one in pythons if _has(one, PACKAGES[name])), None)
        if python is None:
            return None
        count = count or (self.shape.many if name.startswith("raw") else self.shape.peers)
        command = [python, str(HERE / "peers.py"), name, self.url, str(self.folder), str(count), str(jobs)]
        with tempfile.TemporaryDirectory() as home:
            quiet = {"HOME": home, "CURATOR_CACHE_DIR": home, "CURATOR_DISABLE_RICH_DISPLAY": "1"}
            environment = os.environ | quiet | {"TELEMETRY_ENABLED": "0"}
            ran = subprocess.run(command, capture_output=True, env=environment)
        if ran.returncode:
            raise SystemExit(f"{name} failed:\n{ran.stderr.decode()[-2000:]}")
        said = orjson.loads(ran.stdout)
        self.versions[name] = said["version"]
        return Figure(said["cpu"] / count, count / said["wall"])


@cache
def _has(python: str, package: str) -> bool:
    """Whether a Python has a distribution installed."""
    test = f"import importlib.metadata as m; m.version({package!r})"
    return subprocess.run([python, "-c", test], stderr=subprocess.DEVNULL).returncode == 0
