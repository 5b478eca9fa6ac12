"""shell/dataset.sh, from lines to splits, against a judge that fails 70% of the questions; killed and run again."""

import contextlib
import os
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from tests.command import environment, records, wait_for
from tests.stub import Stub, running

ROOT = Path(__file__).parent.parent
QUOTAS = """
total = 30
[kind]
health = 3
therapy = 3
[case]
other = 2
sensitive = 3
"""
SETTINGS = {
    "YES": "1",
    "OUT": "data",
    "QUOTAS": "quotas.toml",
    "VOTES": "1",
    "ATTEMPTS": "9",
    "WINDOWS": "6k 9k",
    "PREFERENCES": "stereotypical=2,anti_stereotypical=2,neutral=1,health=2,therapy=2",
    "JOBS": "8",
}


class Made(NamedTuple):
    """A folder that the script has filled."""

    folder: Path
    said: str
    requests: int

    def records(self, name: str) -> list[dict[str, Any]]:
        return records((self.folder / "data" / name).read_bytes())


def start(folder: Path, stub: Stub, **settings: str) -> "subprocess.Popen[str]":
    """The script in a process group of its own."""
    (folder / "quotas.toml").write_text(QUOTAS)
    own = {"OPENAI_BASE_URL": stub.url, "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.Popen(
        ["bash", ROOT / "shell" / "dataset.sh", "openai:stub", "10"],
        cwd=folder,
        env=environment(folder, **own, **{**SETTINGS, **settings}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(child: "subprocess.Popen[str]", status: int = 0) -> str:
    said, _ = child.communicate(timeout=120)
    assert child.returncode == status and "Traceback" not in said, said
    return said


@pytest.fixture(scope="module")
def strict() -> Iterator[Stub]:
    with running(reply=ROOT / "tests" / "stub_strict.py") as stub:
        yield stub


@pytest.fixture(scope="module")
def made(strict: Stub, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One run without disturbance."""
    folder = tmp_path_factory.mktemp("dataset")
    said = ended(start(folder, strict))
    counts = strict.counts()
    assert counts["repeats"] == 0
    return Made(folder, said, counts["requests"])


def test_quotas_are_met_though_most_questions_fall(made: Made) -> None:
    kept = made.records("kept.jsonl")
    first = made.records("judged-0.jsonl")
    survivors = {qa["id"] for qa in kept} & {qa["id"] for qa in first}
    assert len(survivors) < 0.45 * len(first)
    assert "all 5 quotas are met" in made.said
    kinds = Counter(qa["preference"]["kind"] for qa in kept)
    cases = Counter(qa["case"] for qa in kept)
    assert len(kept) == 30
    assert [kinds["health"], kinds["therapy"], cases["other"], cases["sensitive"]] == [3, 3, 2, 3]
    assert len({about(qa) for qa in kept}) == 30  # one about each


def test_later_rounds_ask_only_about_what_was_owed(made: Made) -> None:
    rounds = sorted((made.folder / "data").glob("questions-*.jsonl"))
    assert len(rounds) >= 2
    for number in range(1, len(rounds)):
        owed = {one["id"] for one in made.records(f"owed-{number - 1}.jsonl")}
        asked = made.records(f"questions-{number}.jsonl")
        assert {about(qa) for qa in asked} == owed
    ids = [qa["id"] for number in range(len(rounds)) for qa in made.records(f"questions-{number}.jsonl")]
    assert len(ids) == len(set(ids))


def test_splits_hold_what_was_kept(made: Made) -> None:
    parts = {name: made.records(f"splits/{name}.jsonl") for name in ("bench", "train", "val")}
    assert sum(map(len, parts.values())) == 30
    people = [{qa["persona_id"] for qa in part} for part in parts.values()]
    assert sum(map(len, people)) == len(set.union(*people))
    assert all(qa["split"] == name for name, part in parts.items() for qa in part)


def test_once_more_calls_nobody_and_other_settings_are_refused(made: Made, strict: Stub) -> None:
    before = {path.name: path.read_bytes() for path in (made.folder / "data").iterdir() if path.is_file()}
    ended(start(made.folder, strict))
    assert strict.counts()["requests"] == made.requests
    assert {path.name: path.read_bytes() for path in (made.folder / "data").iterdir() if path.is_file()} == before
    assert "made with other settings" in ended(start(made.folder, strict, VOTES="3"), 1)


def about(qa: dict[str, Any]) -> str:
    """The id of the preference or secret that a question is about."""
    item: str = (qa["secret"] if qa["case"] == "sensitive" else qa["preference"])["id"]
    return item


def stored(folder: Path) -> int:
    """Replies that are committed in the cache."""
    files = list((folder / "cache").rglob("*.sqlite"))
    if not files:
        return 0
    with sqlite3.connect(files[0]) as cache:
        found: int = cache.execute("select count(*) from reply").fetchone()[0]
    return found


def killed(child: "subprocess.Popen[str]", stub: Stub, at: int) -> None:
    """Kill the script and all that it started once the server has had so many requests."""
    wait_for(lambda: stub.counts()["requests"] >= at or child.poll() is not None, 60)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def test_killed_at_any_moment_it_goes_on_without_a_second_call(made: Made, tmp_path: Path) -> None:
    """A call in flight may be repeated; what was committed is not: from then on each call adds a stored reply."""
    draw = Random()
    with running(reply=ROOT / "tests" / "stub_strict.py", latency=1) as stub:
        for at in sorted(draw.randrange(1, made.requests) for _ in range(2)):
            killed(start(tmp_path, stub), stub, at)
        asked, known = stub.counts()["requests"], stored(tmp_path)
        assert known > 0
        ended(start(tmp_path, stub))
        assert stub.counts()["requests"] - asked == stored(tmp_path) - known
    for file in ("kept.jsonl", "splits/bench.jsonl", "splits/train.jsonl", "dropped-questions.jsonl"):
        assert (tmp_path / "data" / file).read_bytes() == (made.folder / "data" / file).read_bytes()


FAILING = """
import hashlib
from tests import stub_strict
from tests.stub.replies import text_of, wanted

def reply(body):
    prompt = text_of(body["messages"][-1])
    if wanted(body)["title"] == "options" and hashlib.sha256(prompt.encode()).digest()[0] < 64:
        return "{}"
    return stub_strict.reply(body)
"""


def test_what_could_not_be_asked_is_asked_in_the_next_round(tmp_path: Path) -> None:
    """A model that never writes valid options to a quarter of the requests."""
    (tmp_path / "failing.py").write_text(FAILING)
    with running(reply=tmp_path / "failing.py") as stub:
        ended(start(tmp_path, stub, ATTEMPTS="2", QUOTAS="", PREFERENCES="neutral=3"))
    folder = tmp_path / "data"
    rejected = {i for e in records((folder / "rejected-questions-0.jsonl").read_bytes()) for i in e["items"]}
    owed = {one["id"] for one in records((folder / "owed-0.jsonl").read_bytes())}
    again = {about(qa) for qa in records((folder / "questions-1.jsonl").read_bytes())}
    failed = {i for e in records((folder / "rejected-questions-1.jsonl").read_bytes()) for i in e["items"]}
    assert rejected and not rejected & owed
    assert again | failed == rejected | owed and rejected & again
