"""`pmem cache`, beside its golden cases: while runs go on, for big files, and where its settings come from."""

import contextlib
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.command import PMEM, bash, ended, lines, people, pmem, start, wait_for
from tests.stub import Stub
from tests.test_cache import CALLS, committed, old_cache, personas


def exported(count: int, size: int = 900) -> bytes:
    """Lines of `pmem cache export`: replies of a model and a step, a minute apart."""
    usage = {"prompt": 9, "cached": 0, "completion": 5, "reasoning": 0}
    return lines(
        {
            "key": f"{n:064x}",
            "model": "openai:m",
            "step": "judge/blind",
            "made": f"2026-01-{n // 1440 % 30 + 1:02}T{n // 60 % 24:02}:{n % 60:02}:00Z",
            "text": f"{n} ".ljust(size, "x"),
            "usage": usage,
            "finish": "stop",
        }
        for n in range(count)
    )


def test_a_run_goes_on_while_its_cache_is_pruned_and_read(tmp_path: Path, stub: Stub) -> None:
    (tmp_path / "people").write_bytes(people(80))
    wanted = pmem(*personas(stub, "--cache", "other"), folder=tmp_path).out
    assert pmem("cache", "import", "--cache", "cache", folder=tmp_path, input=exported(5000)).status == 0
    stub.restart(latency=15)
    child = start(*PMEM, *personas(stub), folder=tmp_path, stdin=subprocess.DEVNULL)
    wait_for(lambda: committed(tmp_path / "cache") > 5100)
    assert pmem("cache", "stats", "--cache", "cache", folder=tmp_path).status == 0
    pruned = pmem("cache", "prune", "--model", "openai:m", "--cache", "cache", folder=tmp_path)
    assert (pruned.status, child.poll()) == (0, None)
    assert pruned.err.startswith("pmem cache prune: removed 5,000 replies of ")
    ran = ended(child)
    assert (ran.status, ran.out) == (0, wanted)
    assert committed(tmp_path / "cache") == 80 * CALLS
    assert f"0 calls to openai:stub, {80 * CALLS} from cache" in pmem(*personas(stub), folder=tmp_path).err


def test_pruning_gives_room_back(tmp_path: Path) -> None:
    assert pmem("cache", "import", "--cache", "cache", folder=tmp_path, input=exported(9000)).status == 0
    before = (tmp_path / "cache").stat().st_size
    ran = pmem("cache", "prune", "--since", "2026-01-03", "--cache", "cache", folder=tmp_path, env={"TZ": "UTC"})
    assert ran.err.startswith("pmem cache prune: removed 6,120 replies of 5.")  # the first two days are 2,880
    assert committed(tmp_path / "cache") == 2880
    assert (tmp_path / "cache").stat().st_size < 0.4 * before
    assert not (tmp_path / "cache-wal").exists()


def test_export_ends_quietly_with_its_reader(tmp_path: Path) -> None:
    assert pmem("cache", "import", "--cache", "cache", folder=tmp_path, input=exported(3000)).status == 0
    ran = bash('pmem cache export --cache cache | head -n 1; echo "${PIPESTATUS[@]}"', folder=tmp_path)
    assert ran.err == "" and ran.out == exported(1) + b"0 0\n"
    written = pmem("cache", "export", "--cache", "cache", "-o", "out.jsonl.gz", folder=tmp_path)
    assert (written.out, written.err) == (b"", "pmem cache export: 3,000 replies\n")
    assert bash("zcat out.jsonl.gz", folder=tmp_path).out == exported(3000)


def test_a_reply_that_is_no_json_is_left_out_and_that_is_said(tmp_path: Path) -> None:
    assert pmem("cache", "import", "--cache", "cache", folder=tmp_path, input=exported(3)).status == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "cache")) as db, db:
        db.execute("update reply set value = x'5b00' where rowid = 2")
    ran = pmem("cache", "export", "-q", "--cache", "cache", folder=tmp_path)
    assert (ran.status, len(ran.records)) == (3, 2)
    assert ran.err == "pmem cache export: 2 replies; left out, since unreadable: 1\n"
    assert b"openai:m        3         18" in pmem("cache", "stats", "--cache", "cache", folder=tmp_path).out
    assert b"(unreadable)" in pmem("cache", "ls", "--latest", "3", "--cache", "cache", folder=tmp_path).out


@pytest.mark.parametrize(
    "change, why",
    [
        ({"key": "00"}, "its key has not 32 bytes"),
        ({"key": "x"}, "non-hexadecimal"),
        ({"text": None}, "None is no text"),
        ({"usage": {"tokens": 5}}, "unexpected keyword argument 'tokens'"),
        ({"made": "long ago"}, "Invalid isoformat string"),
        ({"likelihoods": 5}, "not iterable"),
        ({"step": 1}, "1 is no text"),
    ],
    ids=str,
)
def test_a_line_that_is_no_export_stops_the_import(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    good, other = exported(2).splitlines(keepends=True)
    ran = pmem(
        "cache", "import", "--cache", "c", folder=tmp_path, input=good + lines([{**orjson.loads(other), **change}])
    )
    assert ran.status == 1 and ran.err.startswith("pmem: <stdin>:2: no line of `pmem cache export`: ")
    assert why in ran.err and len(ran.err.splitlines()) == 1


def test_imported_replies_are_those_of_runs(tmp_path: Path, stub: Stub) -> None:
    """What a colleague paid for needn't be paid again."""
    (tmp_path / "people").write_bytes(people(3))
    wanted = pmem(*personas(stub), folder=tmp_path).out
    ran = bash("pmem cache export --cache cache | pmem cache import --cache other", folder=tmp_path)
    assert ran.status == 0 and f"import: {3 * CALLS} replies, {3 * CALLS} of them new" in ran.err
    asked = stub.counts()["requests"]
    assert pmem(*personas(stub, "--cache", "other"), folder=tmp_path).out == wanted
    assert stub.counts()["requests"] == asked
    assert (tmp_path / "other").exists() and committed(tmp_path / "other") == 3 * CALLS


def test_the_cache_is_named_as_for_other_commands(tmp_path: Path) -> None:
    ran = pmem("cache", "ls", folder=tmp_path)
    assert (ran.status, ran.err) == (1, f"pmem: no response cache at {tmp_path}/.cache/pmem/replies.sqlite\n")
    assert not (tmp_path / ".cache").exists()
    assert pmem("cache", "import", folder=tmp_path, input=exported(2)).status == 0  # in the user's cache
    assert b" 2 " in pmem("cache", "ls", folder=tmp_path).out
    assert pmem("cache", "import", folder=tmp_path, input=exported(7), env={"PMEM_CACHE_IMPORT_CACHE": "c"}).status == 0
    (tmp_path / "pmem.toml").write_text('[defaults]\ncache = "c"\n')
    assert b" 7 " in pmem("cache", "ls", folder=tmp_path).out
    assert b" 2 " in pmem("cache", "ls", "--cache", ".cache/pmem/replies.sqlite", folder=tmp_path).out


def test_an_older_cache_can_be_listed(tmp_path: Path) -> None:
    old_cache(tmp_path / "cache", 9)
    out = pmem("cache", "ls", "--cache", "cache", folder=tmp_path, env={"TZ": "UTC"}).out.decode().splitlines()
    assert out[1].split() == ["openai:old", "-", "9", "2023-11-14", "2023-11-14", "216", "bytes"]
    assert len(pmem("cache", "export", "--cache", "cache", folder=tmp_path).records) == 9
