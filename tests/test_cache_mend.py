"""A response cache that is corrupt, moved away or somebody else's: at opening, during a run, for several at once."""

import contextlib
import os
import re
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from pmem.backends import cache_mend
from pmem.backends.cache import Cache
from pmem.backends.cache_file import MARK
from pmem.errors import OutputError
from tests.command import PMEM, Ran, ended, people, pmem, start, wait_for
from tests.stub import Stub
from tests.test_cache import CALLS, committed, personas, with_cache

CORRUPT = "pmem: response cache cache is corrupt:"


@pytest.mark.parametrize("content", [b"no database\0" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_broken_cache_is_set_aside(tmp_path: Path, stub: Stub, content: bytes) -> None:
    (tmp_path / "people").write_bytes(people(1))
    (tmp_path / "cache").write_bytes(content)
    ran = pmem(*personas(stub), folder=tmp_path)
    assert ran.status == 0 and len(ran.records) == 1
    assert ran.err.splitlines()[0] == f"{CORRUPT} set aside as cache.corrupt; no reply could be read"
    assert (tmp_path / "cache.corrupt").read_bytes() == content
    assert committed(tmp_path / "cache") == CALLS


def kept(ran: Ran) -> int:
    """How many replies of a corrupt cache the one that had to say so could read."""
    (said,) = [line for line in ran.err.splitlines() if line.startswith(CORRUPT)]
    if said.endswith("; no reply could be read"):
        return 0
    found = re.fullmatch(r"the new one holds the ([\d,]+) replies that could be read", said.split("; ")[1])
    assert found
    return int(found[1].replace(",", ""))


DAMAGE: dict[str, Callable[[BinaryIO, int], Any]] = {
    "cut off in the middle": lambda file, size: file.truncate(size // 2),
    "cut off within its first page": lambda file, _: file.truncate(100),
    "nothing left but the first pages": lambda file, size: (file.seek(8192), file.write(os.urandom(size - 8192))),
    "zeros in the middle": lambda file, size: (file.seek(size // 2), file.write(bytes(30_000))),
    "other things in the middle": lambda file, size: (file.seek(size // 3), file.write(os.urandom(30_000))),
    "a beginning of zeros": lambda file, _: file.write(bytes(4096)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_set_aside_and_what_can_be_read_of_it_kept(tmp_path: Path, stub: Stub, damage: str) -> None:
    """At once or in the middle of the run: it is said, and no reply is paid twice that is still there."""
    count = 60 * CALLS
    (tmp_path / "people").write_bytes(people(60))
    wanted = pmem(*personas(stub), folder=tmp_path).out
    with (tmp_path / "cache").open("r+b") as file:
        DAMAGE[damage](file, (tmp_path / "cache").stat().st_size)
    before = stub.counts()["requests"]
    ran = pmem(*personas(stub), folder=tmp_path)
    assert ran.status == 0 and ran.out == wanted
    assert (tmp_path / "cache.corrupt").exists()
    lost = count - kept(ran)
    assert lost <= stub.counts()["requests"] - before <= lost + 16  # some may have been stored before it was noticed
    assert committed(tmp_path / "cache") == count
    if "middle" in damage:
        assert count / 4 < kept(ran) < count
    again = pmem(*personas(stub), folder=tmp_path)
    assert again.out == wanted and f"0 calls to openai:stub, {count} from cache" in again.err


def test_an_empty_file_becomes_a_cache(tmp_path: Path, stub: Stub) -> None:
    (tmp_path / "people").write_bytes(people(1))
    (tmp_path / "cache").touch()
    ran = pmem(*personas(stub), folder=tmp_path)
    assert ran.status == 0 and len(ran.err.splitlines()) == 1
    assert committed(tmp_path / "cache") == CALLS


def test_what_was_set_aside_before_stays(tmp_path: Path, stub: Stub) -> None:
    (tmp_path / "people").write_bytes(people(1))
    for number, name in enumerate(("cache.corrupt", "cache.corrupt-2", "cache.corrupt-3")):
        (tmp_path / "cache").write_bytes(b"not a database\0%d" % number * 100)
        for log in ("cache-wal", "cache-shm"):
            (tmp_path / log).unlink(missing_ok=True)
        assert f"set aside as {name};" in pmem(*personas(stub), folder=tmp_path).err
    for number, name in enumerate(("cache.corrupt", "cache.corrupt-2", "cache.corrupt-3")):
        assert (tmp_path / name).read_bytes() == b"not a database\0%d" % number * 100


def test_processes_find_a_cache_corrupt_at_the_same_moment(tmp_path: Path, stub: Stub) -> None:
    """One sets it aside; nobody sets aside what that one began."""
    (tmp_path / "people").write_bytes(people(25))
    wanted = pmem(*personas(stub), folder=tmp_path).out
    for damage in ("a beginning of zeros", "other things in the middle"):
        with (tmp_path / "cache").open("r+b") as file:
            DAMAGE[damage](file, (tmp_path / "cache").stat().st_size)
        children = [start(*PMEM, *personas(stub), folder=tmp_path, stdin=subprocess.DEVNULL) for _ in range(3)]
        runs = [ended(child) for child in children]
        assert [(run.status, run.out == wanted) for run in runs] == [(0, True)] * 3, [run.err for run in runs]
        assert sum(run.err.count(CORRUPT) for run in runs) == 1
        assert committed(tmp_path / "cache") == 25 * CALLS
    names = [path.name for path in tmp_path.glob("*corrupt*") if path.name[-4:] not in ("-wal", "-shm")]
    assert sorted(names) == ["cache.corrupt", "cache.corrupt-2"]


OPENING = """
import asyncio, sys
from pathlib import Path
from pmem.backends import cache_mend
from pmem.backends.cache import Cache

async def use():
    cache = Cache(Path("cache"))
    for n in range(200):
        if cache.get(key := b"%032d" % n) is None:
            await cache.put(key, b'["%s",[1,0,2,0],"stop"]' % (b"x" * 900), model="m", step="s/t")
    cache.close()

for line in sys.stdin:
    asyncio.run(use())
    print(flush=True)
"""


def test_opening_a_cache_that_others_set_aside_at_the_same_moment(tmp_path: Path) -> None:
    """Neither an old file with a new log nor the other way round is ever opened."""
    children = [start(PMEM[0], "-c", OPENING, folder=tmp_path) for _ in range(4)]

    def turn(children: list[subprocess.Popen[bytes]]) -> None:
        for child in children:
            assert child.stdin
            child.stdin.write(b"\n")
        for child in children:
            assert child.stdout and child.stdout.read(1) == b"\n"

    turn(children[:1])
    for number in range(20):
        with (tmp_path / "cache").open("r+b") as file:
            list(DAMAGE.values())[number % 6](file, (tmp_path / "cache").stat().st_size)
        turn(children)
        assert committed(tmp_path / "cache") == 200
    runs = [ended(child) for child in children]
    assert [run.status for run in runs] == [0] * 4
    assert sum(run.err.count(CORRUPT) for run in runs) == 20
    assert not (tmp_path / "cache.corrupt-21").exists()


def test_a_link_to_a_corrupt_cache_stays_a_link(tmp_path: Path, stub: Stub) -> None:
    (tmp_path / "people").write_bytes(people(1))
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "replies").write_bytes(b"not a database\0" * 100)
    (tmp_path / "cache").symlink_to("disk/replies")
    assert "set aside as replies.corrupt;" in pmem(*personas(stub), folder=tmp_path).err
    assert (tmp_path / "cache").is_symlink() and committed(tmp_path / "disk" / "replies") == CALLS


def test_a_cache_that_is_moved_away_during_the_run_is_begun_again(tmp_path: Path, stub: Stub) -> None:
    (tmp_path / "people").write_bytes(people(40))
    stub.restart(latency=20)
    child = start(*PMEM, *personas(stub, "-j", "4"), folder=tmp_path, stdin=subprocess.DEVNULL)
    wait_for(lambda: (tmp_path / "cache").exists() and committed(tmp_path / "cache") > 20)
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    ran = ended(child)
    assert ran.status == 0 and len(ran.records) == 40
    with contextlib.closing(sqlite3.connect(tmp_path / "cache")) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        assert db.execute("select count(*) from reply").fetchone()[0] > 40 * CALLS / 2


FOREIGN = {
    "another program's": ("create table bookmarks(url text)", "a database of something else"),
    "a newer pmem's": (f"pragma application_id={MARK[0]}; pragma user_version=99", "a newer pmem made it"),
}


@pytest.mark.parametrize("whose", FOREIGN)
def test_a_database_that_is_no_cache_is_left_alone(tmp_path: Path, stub: Stub, whose: str) -> None:
    statements, why = FOREIGN[whose]
    (tmp_path / "people").write_bytes(people(1))
    with contextlib.closing(sqlite3.connect(tmp_path / "cache")) as db:
        db.executescript(f"{statements}; create table other(a)")
    ran = pmem(*personas(stub), folder=tmp_path)
    assert (ran.status, ran.err) == (1, f"pmem: response cache cache: {why} (--cache FILE or --no-cache)\n")
    with contextlib.closing(sqlite3.connect(tmp_path / "cache")) as db:
        assert not db.execute("select 1 from sqlite_master where name = 'reply'").fetchone()


def test_a_file_that_turns_corrupt_again_ends_the_run(tmp_path: Path) -> None:
    """A disk that spoils every file is no place for a cache."""

    async def work(cache: Cache) -> None:
        fault = sqlite3.DatabaseError("database disk image is malformed")
        fault.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        await cache.put(b"k" * 32, b'["one",[1,0,2,0],"stop"]', model="m", step="s/t")
        cache._file.mend(fault)
        assert cache.get(b"k" * 32) == b'["one",[1,0,2,0],"stop"]'
        with pytest.raises(sqlite3.DatabaseError):
            cache._file.mend(fault)

    with_cache(tmp_path / "c", work)
    assert (tmp_path / "c.corrupt").exists() and not (tmp_path / "c.corrupt-2").exists()


def test_a_disk_too_full_for_the_new_file_leaves_the_corrupt_one_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c").write_bytes(b"not a database\0" * 100)

    def full(aside: Path, db: sqlite3.Connection) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("pmem.backends.cache_mend._copy", full)
    with pytest.raises(OutputError, match="database or disk is full"):
        Cache(tmp_path / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert (tmp_path / "c").read_bytes() == b"not a database\0" * 100


def test_reading_a_damaged_cache_comes_to_an_end_wherever_the_damage_is(tmp_path: Path, stub: Stub) -> None:
    """Each stretch of 30,000 bytes is zeroed in turn: what then leads to what depends on the order of the replies."""
    (tmp_path / "people").write_bytes(people(60))
    pmem(*personas(stub), folder=tmp_path)
    whole = (tmp_path / "cache").read_bytes()
    for begin in range(4096, len(whole) - 30_000, 1357):
        damaged = tmp_path / "damaged"
        damaged.write_bytes(whole[:begin] + bytes(30_000) + whole[begin + 30_000 :])
        old = sqlite3.connect(f"{damaged.as_uri()}?mode=ro", uri=True, isolation_level=None)
        found = list(cache_mend._readable(old))
        old.close()
        assert len({row[0] for row in found}) == len(found) < 60 * CALLS
