"""The response cache under stress: crashes, several processes, broken files, full disks; and what stands around it."""

import asyncio
import contextlib
import os
import random
import re
import resource
import signal
import sqlite3
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pmem.backends.base import Completion, Likelihood, Request
from pmem.backends.cache import Batch, Cache, default_path
from pmem.backends.cache_mend import ReplyFile
from pmem.backends.calls import Limits
from pmem.backends.model import Model, Reply
from pmem.errors import ModelError, OutputError
from tests.command import KEY, PMEM, bash, ended, people, pmem, start
from tests.stub import Stub

CALLS = 8
"""Calls that `pmem personas` makes for one person."""


def personas(stub: Stub, *options: str) -> list[str]:
    return ["personas", "people", "-m", "openai:stub", "--base-url", stub.url, "--cache", "cache", *options]


def committed(path: Path) -> int:
    """Replies in a cache, which must be a sound database."""
    db = sqlite3.connect(path)
    try:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        return int(db.execute("select count(*) from reply").fetchone()[0])
    except sqlite3.OperationalError:  # not even the table
        return 0
    finally:
        db.close()


# ---- as a user sees it -------------------------------------------------------------------------------------------


def test_kill_9_loses_nothing_that_was_paid_for_but_what_was_in_flight(tmp_path: Path, stub: Stub) -> None:
    jobs = 16
    (tmp_path / "people").write_bytes(people(60))
    began = time.monotonic()
    wanted = pmem(*personas(stub, "--cache", "other", "-j", str(jobs)), folder=tmp_path).out
    start_up = 0.3 * (time.monotonic() - began)
    stub.restart(latency=15, jitter=10)
    held = lost = kills = 0
    moments: list[float] = []
    while kills < 5:
        asked = stub.counts()["requests"]
        child = start(
            *PMEM, *personas(stub, "-j", str(jobs), "-o", "out.jsonl"), folder=tmp_path, stdin=subprocess.DEVNULL
        )
        moments.append(start_up + random.uniform(0, 0.25))
        time.sleep(moments[-1])
        child.send_signal(signal.SIGKILL)
        child.communicate()
        kills += 1
        if (tmp_path / "out.jsonl").exists():  # it was done before
            break
        now = committed(tmp_path / "cache")
        time.sleep(0.1)
        asked = stub.counts()["requests"] - asked
        assert now >= held, moments
        assert 0 <= asked - (now - held) <= jobs, moments  # nothing is lost but what was in flight
        held, lost = now, lost + asked - (now - held)
    before = stub.counts()["requests"]
    ran = pmem(*personas(stub, "-j", str(jobs), "-o", "out.jsonl"), folder=tmp_path)
    assert ran.status == 0
    assert (tmp_path / "out.jsonl").read_bytes() == wanted
    assert stub.counts()["requests"] - before == 60 * CALLS - held, moments  # no committed reply is asked for again
    assert stub.counts()["repeats"] == lost, moments
    # and once more, with nothing left to ask
    assert pmem(*personas(stub), folder=tmp_path).out == wanted
    assert stub.counts()["requests"] - before == 60 * CALLS - held


def test_processes_share_a_cache(tmp_path: Path, stub: Stub) -> None:
    (tmp_path / "people").write_bytes(people(25))
    (tmp_path / "rest").write_bytes(people(50)[len(people(25)) :])
    stub.restart(latency=5, jitter=10)
    children = [start(*PMEM, *personas(stub), folder=tmp_path, stdin=subprocess.DEVNULL) for _ in range(4)]
    runs = [ended(child) for child in children]
    assert {run.status for run in runs} == {0}
    assert len({run.out for run in runs}) == 1 and len(runs[0].records) == 25
    assert committed(tmp_path / "cache") == 25 * CALLS
    asked = stub.counts()["requests"]
    again = pmem(*personas(stub), folder=tmp_path)
    assert again.out == runs[0].out and stub.counts()["requests"] == asked
    assert "0 calls to openai:stub, 200 from cache" in again.err


def test_processes_begin_a_cache_at_the_same_moment(tmp_path: Path) -> None:
    code = "import sys\nfrom pathlib import Path\nfrom pmem.backends.cache import Cache\nsys.stdin.read()\nCache(Path('c')).close()"
    (tmp_path / "code.py").write_text(code)
    for _ in range(3):
        children = [start(PMEM[0], "code.py", folder=tmp_path) for _ in range(8)]
        time.sleep(0.5)
        for child in children:
            assert child.stdin
            child.stdin.close()
            child.stdin = None
        assert [ended(child)[::2] for child in children] == [(0, "")] * 8
        for file in tmp_path.glob("c*"):
            if file.name != "code.py":
                file.unlink()


def test_the_usual_place_is_the_users_cache(tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "people").write_bytes(people(1))
    run = ["personas", "people", "-m", "openai:stub", "--base-url", stub.url]
    assert pmem(*run, folder=tmp_path).status == 0
    assert committed(tmp_path / ".cache" / "pmem" / "replies.sqlite") == CALLS
    assert pmem(*run, folder=tmp_path, env={"XDG_CACHE_HOME": str(tmp_path / "xdg")}).status == 0
    assert committed(tmp_path / "xdg" / "pmem" / "replies.sqlite") == CALLS
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_path() == Path("/somewhere/pmem/replies.sqlite")


def test_without_a_cache_every_call_is_made_anew_and_that_is_said(tmp_path: Path, stub: Stub) -> None:
    (tmp_path / "people").write_bytes(people(2))
    run = ["personas", "people", "-m", "openai:stub", "--base-url", stub.url, "--no-cache"]
    for count in (1, 2):
        ran = pmem(*run, folder=tmp_path)
        assert "--no-cache: if this run breaks off, its calls are lost" in ran.err
        assert stub.counts()["requests"] == count * 2 * CALLS
    assert [path.name for path in tmp_path.iterdir()] == ["people"]
    assert pmem(*run, "-q", folder=tmp_path).err == ""


def test_replies_of_other_settings_are_other_replies(tmp_path: Path, stub: Stub) -> None:
    (tmp_path / "people").write_bytes(people(1))
    asked = 0
    for options in ([], ["--seed", "1"], ["--temperature", "0.5"], ["--max-tokens", "500"], ["-m", "openai:other"]):
        assert pmem(*personas(stub, *options), folder=tmp_path).status == 0
        assert stub.counts()["requests"] == asked + CALLS, options
        asked += CALLS
    # neither the server's address nor the jobs nor the key belong to the request
    assert pmem(*personas(stub, "-j", "1"), folder=tmp_path, env={"OPENAI_API_KEY": "sk-another-key"}).status == 0
    elsewhere = ["--base-url", stub.url.replace("127.0.0.1", "localhost")]
    assert pmem(*personas(stub, *elsewhere), folder=tmp_path).status == 0
    assert stub.counts()["requests"] == asked


def test_the_key_is_in_no_file(tmp_path: Path, stub: Stub) -> None:
    (tmp_path / "people").write_bytes(people(2) + b"\xff\n")
    stub.restart(fault="badschema=0.3")
    outputs = ["-o", "out", "--rejects", "rejects", "--dropped", "dropped"]
    assert pmem(*personas(stub, *outputs), folder=tmp_path).status in (0, 3)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 5
    assert all(KEY.encode() not in path.read_bytes() for path in files)


def old_cache(path: Path, replies: int) -> None:
    """A cache as it was before there were steps."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("create table reply(key blob primary key, model text, made integer, value blob)")
        rows = [(bytes([n]) * 32, "openai:old", 1_700_000_000 + n, b'["old",[1,0,2,0],"stop"]') for n in range(replies)]
        db.executemany("insert into reply values(?, ?, ?, ?)", rows)


def test_an_older_cache_is_brought_up_to_date_by_whoever_comes_first(tmp_path: Path, stub: Stub) -> None:
    (tmp_path / "people").write_bytes(people(5))
    old_cache(tmp_path / "cache", 9)
    children = [start(*PMEM, *personas(stub), folder=tmp_path, stdin=subprocess.DEVNULL) for _ in range(4)]
    assert [run.status for run in map(ended, children)] == [0] * 4
    assert committed(tmp_path / "cache") == 9 + 5 * CALLS
    with contextlib.closing(sqlite3.connect(tmp_path / "cache")) as db:
        steps = dict(db.execute("select step, count(*) from reply group by step"))
        assert steps.pop("") == 9 and sum(steps.values()) == 5 * CALLS
        assert {step.split("/")[0] for step in steps} == {"personas"}
    cache = Cache(tmp_path / "cache")
    assert cache.get(bytes([3]) * 32) == b'["old",[1,0,2,0],"stop"]'
    cache.close()


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit of file sizes here")
def test_a_full_disk_stops_the_run_and_the_same_command_carries_on(tmp_path: Path, stub: Stub) -> None:
    (tmp_path / "people").write_bytes(people(60))
    wanted = pmem(*personas(stub, "--cache", "other"), folder=tmp_path).out
    stub.restart()
    line = f"ulimit -f 300; exec {PMEM[0]} -m pmem {' '.join(personas(stub))} -o out.jsonl"  # of 1,024 bytes each
    ran = bash(line, folder=tmp_path)
    assert ran.status == 1 and not (tmp_path / "out.jsonl").exists()
    assert re.fullmatch(r"pmem: response cache cache: .* \(--cache FILE or --no-cache\)", ran.err.splitlines()[-1])
    stored = committed(tmp_path / "cache")
    assert stored > 20
    before = stub.counts()["requests"]
    assert pmem(*personas(stub, "-o", "out.jsonl"), folder=tmp_path).status == 0
    assert (tmp_path / "out.jsonl").read_bytes() == wanted
    assert stub.counts()["requests"] - before == 60 * CALLS - stored


@pytest.mark.parametrize("where", ["file/cache", "folder", "/proc/none/cache", "/dev/null/cache", "/dev/null"])
def test_a_cache_that_cannot_be_is_one_clear_line(tmp_path: Path, stub: Stub, where: str) -> None:
    (tmp_path / "people").write_bytes(people(1))
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    ran = pmem(*personas(stub, "--cache", where), folder=tmp_path)
    if where == "folder":
        assert ran.status == 2 and "is a directory" in ran.err
    else:
        assert ran.status == 1 and ran.err.startswith(f"pmem: response cache {where}: ")
        assert ran.err.endswith("(--cache FILE or --no-cache)\n") and len(ran.err.splitlines()) == 1
    assert stub.counts()["requests"] == 0  # nothing is paid for that can't be kept


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/usr/bin/setpriv").exists(), reason="root may write everywhere")
@pytest.mark.parametrize(
    "what, why", [("folder", "unable to open database file"), ("file", "no permission to write it")]
)
def test_a_cache_that_may_not_be_written(tmp_path: Path, stub: Stub, what: str, why: str) -> None:
    """Nothing is paid for that can't be kept."""
    (tmp_path / "people").write_bytes(people(1))
    (tmp_path / "locked").mkdir()
    if what == "file":
        Cache(tmp_path / "locked" / "cache").close()
        (tmp_path / "locked" / "cache").chmod(0o444)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    (tmp_path / "locked").chmod(0o555 if what == "folder" else 0o777)
    without = "setpriv --reuid=65534 --clear-groups --inh-caps=-all " if os.geteuid() == 0 else ""
    line = " ".join(personas(stub, "--cache", "locked/cache"))
    ran = bash(f"{without}{PMEM[0]} -m pmem {line}", folder=tmp_path)
    if "setpriv" in ran.err or "No module named" in ran.err or "Permission denied:" in ran.err:
        pytest.skip(f"this machine's Python is not for everybody: {ran.err.splitlines()[-1]}")
    assert ran.status == 1
    assert ran.err == f"pmem: response cache locked/cache: {why} (--cache FILE or --no-cache)\n"
    assert stub.counts()["requests"] == 0


# ---- inside ------------------------------------------------------------------------------------------------------


class Slow:
    """A backend that counts, and answers after a moment."""

    cacheable = True

    def __init__(self, answer: Callable[[Request], Any] = lambda request: request.messages[0]["content"]) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.now = self.most = 0

    def identify(self) -> dict[str, Any]:
        return {"kind": "slow"}

    async def complete(self, request: Request) -> Completion:
        self.asked.append(request.call)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.01)
        finally:
            self.now -= 1
        return Completion(self.answer(request))

    async def likelihood(self, request: Request, texts: list[str]) -> list[Likelihood]:
        raise AssertionError("nobody asks for likelihoods here")

    async def close(self) -> None:
        pass


def run(work: Callable[[Model], Awaitable[Any]], backend: Slow, cache: Path | None = None, jobs: int = 4) -> Any:
    async def inside() -> Any:
        model = Model("slow", backend, limits=Limits(jobs=jobs), cache=Cache(cache) if cache else None)
        try:
            return await work(model)
        finally:
            await model.close()

    return asyncio.run(inside())


def say(model: Model, text: str, call: str = "test/r/say") -> Awaitable[Reply]:
    return model.chat([{"role": "user", "content": text}], call=call)


def test_what_a_call_waits_for_does_not_count_its_followers(tmp_path: Path) -> None:
    """Identical calls are one, and take one place of those in flight."""
    backend = Slow()
    texts = ["same"] * 50 + [str(n) for n in range(20)]
    replies = run(lambda model: asyncio.gather(*(say(model, text) for text in texts)), backend, tmp_path / "c")
    assert [reply.text for reply in replies] == texts
    assert len(backend.asked) == 21 and backend.most == 4
    assert committed(tmp_path / "c") == 21


def test_a_call_given_up_by_one_is_taken_up_by_those_who_wait() -> None:
    backend = Slow()

    async def work(model: Model) -> list[str]:
        first, *others = [asyncio.ensure_future(say(model, "same", f"test/{n}/say")) for n in range(4)]
        await asyncio.sleep(0.002)
        first.cancel()
        return [(await one).text for one in others]

    assert run(work, backend) == ["same"] * 3
    assert backend.asked == ["test/0/say/0", "test/1/say/0"]


def test_a_fault_that_several_wait_for_names_the_call_of_each() -> None:
    def fail(request: Request) -> str:
        raise ModelError("no", call=request.call, reason="limit")

    async def work(model: Model) -> list[Any]:
        calls = (say(model, "same", f"test/{n}/say") for n in range(3))
        return await asyncio.gather(*calls, return_exceptions=True)

    backend = Slow(fail)
    faults = run(work, backend)
    assert [(fault.call, fault.message, fault.reason) for fault in faults] == [
        (f"test/{n}/say/0", "no", "limit") for n in range(3)
    ]
    assert len(backend.asked) == 1


def test_a_reply_counts_when_it_is_committed(tmp_path: Path) -> None:
    backend = Slow()

    async def work(model: Model) -> None:
        for number in range(30):
            await asyncio.gather(*(say(model, f"{number}/{n}") for n in range(3)))
            assert committed(tmp_path / "c") == 3 * (number + 1)

    run(work, backend, tmp_path / "c")


def test_a_cache_that_cannot_be_written_any_more_says_so(tmp_path: Path) -> None:
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:

        async def work(model: Model) -> None:
            await say(model, "fits")
            resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, usual[1]))
            with pytest.raises(OutputError, match=r"response cache .*--cache FILE or --no-cache"):
                await asyncio.gather(*(say(model, f"{n} " + "x" * 5000) for n in range(40)))

        run(work, Slow(), tmp_path / "c", jobs=64)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert committed(tmp_path / "c") >= 1


def test_a_writer_that_cannot_begin_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "c")

    def refuse(self: ReplyFile, path: Path) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    async def work() -> None:
        monkeypatch.setattr(ReplyFile, "__init__", refuse)
        try:
            with pytest.raises(OutputError, match="unable to open database file"):
                await asyncio.wait_for(cache.put(b"key", b"value", model="m", step="s/t"), 5)
        finally:
            cache.close()

    asyncio.run(work())


def with_cache(path: Path, work: Callable[[Cache], Awaitable[Any]]) -> Any:
    async def inside() -> Any:
        cache = Cache(path)
        try:
            return await work(cache)
        finally:
            cache.close()

    return asyncio.run(inside())


def test_the_first_of_two_values_for_a_key_stays(tmp_path: Path) -> None:
    async def work(cache: Cache) -> bytes | None:
        assert cache.get(b"key") is None
        await cache.put(b"key", b"one", model="m", step="s/t")
        await cache.put(b"key", b"two", model="m", step="s/t")
        return cache.get(b"key")

    assert with_cache(tmp_path / "c", work) == b"one"


def test_batches_are_remembered_till_they_end(tmp_path: Path) -> None:
    keys = [b"a" * 32, b"b" * 32]
    cache = Cache(tmp_path / "c")
    cache.add_batch("one", server="http://s", model="m", keys=keys)
    cache.add_batch("two", server="http://s", model="m", keys=[])
    cache.add_batch("three", server="http://other", model="m", keys=keys)
    cache.close()
    cache = Cache(tmp_path / "c")
    open_ = cache.batches("http://s", "m")
    assert [(batch.id, batch.keys) for batch in open_] == [("one", keys), ("two", [])]
    assert isinstance(open_[0], Batch) and abs(open_[0].made - time.time()) < 60
    cache.end_batch("one")
    assert [batch.id for batch in cache.batches("http://s", "m")] == ["two"]
    assert cache.batches("http://s", "n") == []
    cache.close()
