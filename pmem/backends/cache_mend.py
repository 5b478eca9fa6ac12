"""A corrupt response cache, at opening or during a run: set aside, and all that can be read of it kept in a new file.

Each reply was paid for. One process does it, under a lock on the folder; the others find another file in its place
and open that. A process that still holds the old file notices before it writes (`ReplyFile.replaced`).
"""

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import orjson

from pmem.backends.cache_file import Row, columns, connect, connect_locked, insert, locked
from pmem.errors import OutputError

Identity = tuple[int, int]  # device and inode
SUFFIXES = ("-wal", "-shm", "")
"""Of the files that make up a database."""
MISSES = 1000
"""Unreadable rows to try one after the other."""


class Opened(NamedTuple):
    """A connection, and which file it is to."""

    db: sqlite3.Connection
    identity: Identity | None


class Unsound(sqlite3.DatabaseError):
    """A value is not the one that was stored."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT

    def __init__(self) -> None:
        super().__init__("a stored reply has changed")


def refused(path: Path, fault: Exception) -> OutputError:
    """What a run that can't use the cache stops with."""
    return OutputError(f"response cache {path}: {fault} (--cache FILE or --no-cache)")


def is_corrupt(fault: Exception) -> bool:
    """Whether the file's content is at fault."""
    code = getattr(fault, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF  # the primary one of an extended code
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def sound(value: bytes, crc: int | None) -> bool:
    """Whether a value is the one that was stored, for all its checksum says; SQLite's pages bear none."""
    return crc is None or zlib.crc32(value) == crc


def identity(path: Path) -> Identity | None:
    """Which file stands there now; None: none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def opened(path: Path, corrupt: Identity | None = None) -> Opened:
    """A connection for a run. corrupt: the file that was found to be so, to be replaced first."""
    if corrupt is None:
        seen = identity(path)  # before it is opened: what is set aside below must be no newer file than that
        try:
            db = connect(path)
            return Opened(db, seen or identity(path))
        except sqlite3.DatabaseError as fault:
            if not is_corrupt(fault) or seen is None:
                raise
            corrupt = seen
    replace(path, corrupt)
    seen = identity(path)
    return Opened(connect(path), seen)


def replace(path: Path, corrupt: Identity) -> None:
    """Set the file aside, unless another process did so already, and begin a new one with what can be read of it."""
    real = Path(os.path.realpath(path))  # a link stays
    with locked(real, alone=True):
        if identity(real) != corrupt:
            return
        if _is_text(real):
            raise OutputError(f"{path} is a text, no response cache; it was left as it is (--cache FILE)")
        aside = _free_name(real)
        _move(real, aside)
        kept = 0

        def fill(db: sqlite3.Connection) -> None:
            nonlocal kept
            kept = _copy(aside, db)

        try:
            connect_locked(real, fill=fill).close()
        except BaseException:  # the disk is full, say: all as it was, for a next time
            for suffix in SUFFIXES:
                Path(f"{real}{suffix}").unlink(missing_ok=True)
            _move(aside, real)
            raise
    saved = f"the new one holds the {kept:,} replies that could be read" if kept else "no reply could be read"
    click.echo(f"pmem: response cache {path} is corrupt: set aside as {aside.name}; {saved}", err=True)


def _is_text(path: Path) -> bool:
    """Whether it is somebody's text, records perhaps, that was never a database: these begin with a NUL in line one."""
    with path.open("rb") as file:
        head = file.read(1024)
    try:
        return b"\0" not in head and bool(head.decode("utf-8", "strict").strip())
    except UnicodeDecodeError as fault:
        return b"\0" not in head and fault.start > len(head) - 4  # a character cut in two


def _move(path: Path, to: Path) -> None:
    """Rename a database. Its log goes first, since it holds replies too; until the file itself went, nothing did."""
    for suffix in SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{to}{suffix}")


def _free_name(path: Path) -> Path:
    """FILE.corrupt, or FILE.corrupt-2 and so on."""
    aside = path.with_name(f"{path.name}.corrupt")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.corrupt-{number}")
    return aside


def _copy(aside: Path, db: sqlite3.Connection) -> int:
    """Copy what can be read of a corrupt file; how many replies that were."""
    try:
        old = sqlite3.connect(f"{aside.as_uri()}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error:
        return 0
    try:
        before = db.total_changes
        insert(db, _readable(old))
        count = db.total_changes - before
        batches = []
        with contextlib.suppress(sqlite3.Error):
            batches = old.execute("select id, server, model, made, keys, done from batches").fetchall()
        db.executemany("insert or ignore into batches values(?, ?, ?, ?, ?, ?)", batches)
        return count
    finally:
        old.close()


def _readable(old: sqlite3.Connection) -> Iterator[Row]:
    """The replies of a corrupt file in the order of its table, without the rows that can't be read."""
    after = misses = 0
    try:
        old.execute("pragma writable_schema=on")  # reads a file that was cut off, as far as it goes
        step, crc = ("step", "crc") if "crc" in columns(old) else ("''", "null")
    except sqlite3.Error:
        return
    select = f"select rowid, key, model, {step}, made, value, {crc} from reply where rowid > ? order by rowid limit ?"
    singly = False  # since Python reads a row ahead, and keeps back the last sound one when that fails
    while after < 1 << 62:
        before = after
        try:
            for rowid, *row, stored in old.execute(select, (after, 1 if singly else -1)):
                if rowid <= after:  # a page that is not what it was leads back, and would do so for ever
                    raise sqlite3.DatabaseError("rows out of order")
                after, misses = rowid, 0
                if _plausible(row) and sound(row[-1], stored):
                    yield tuple(row)
            if not singly or after == before:
                return
            singly = False
        except sqlite3.Error:
            if singly:
                misses += 1
                after += 1 << max(0, misses - MISSES)  # row by row, then by leaps, till there can be none
            singly = True


def _plausible(row: list[Any]) -> bool:
    """Whether it is what a run stores."""
    if [type(column) for column in row] != [bytes, str, str, int, bytes]:
        return False
    try:
        return isinstance(orjson.loads(row[4]), list)
    except orjson.JSONDecodeError:
        return False


class ReplyFile:
    """A connection that outlives its file: one that was replaced, moved or removed, or is corrupt, is opened anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mended = False
        self.db, self.identity = opened(path)

    def replaced(self) -> bool:
        """Whether another file, or none, stands where this one stood."""
        return identity(self.path) != self.identity

    def reopen(self) -> None:
        """Open the file that stands there now."""
        self.db.close()
        self.db, self.identity = opened(self.path)

    def mend(self, fault: Exception) -> None:
        """Replace a file that was found corrupt; raise `fault` if it isn't that, or if it is for the second time."""
        if not is_corrupt(fault) or self._mended:
            raise fault
        self._mended = True
        self.db.close()
        self.db, self.identity = opened(self.path, corrupt=self.identity)
