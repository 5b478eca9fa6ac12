"""The response cache's file: opened, made or brought up to date by whichever process comes first."""

import contextlib
import fcntl
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

PATIENCE = 60.0
"""Seconds to wait for other processes that write to the file."""
KEY = 32
"""Bytes of a key."""
MARK = (0x706D656D, 1)
"""SQLite's `application_id` ("pmem") and `user_version`. An unmarked file has no steps, checksums and batches yet."""
TABLES = (
    "create table if not exists reply(key blob primary key, model text, step text not null default '', made integer,"
    " crc integer, value blob)",  # the value last: SQLite reads through all that stands before a column
    "create index if not exists reply_step on reply(model, step)",
    "create table if not exists batches(id text primary key, server text, model text, made integer, keys blob,"
    " done integer)",
)
COLUMNS = {"key", "model", "made", "value"}  # of an unmarked file
Row = tuple[bytes, str, str, int, bytes]  # key, model, step, when it was made (Unix seconds), value


@contextlib.contextmanager
def locked(path: Path, *, alone: bool = False) -> Iterator[None]:
    """Hold the folder of a file, so that its database isn't renamed file by file while somebody opens it.

    alone: for renaming it. The folder, since SQLite's locks on a file are lost when anything else closes that file.
    """
    handle = -1
    try:
        with contextlib.suppress(OSError):  # one that may not be read, or a network file system that locks no folders
            handle = os.open(os.path.dirname(os.path.realpath(path)), os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        if handle >= 0:
            os.close(handle)


def connect(path: Path, *, writes: bool = True) -> sqlite3.Connection:
    """A connection to a file that is up to date, made if it isn't there. OSError, sqlite3.Error.

    writes: find out now, not after the first paid reply, whether the file can be written.
    """
    with locked(path):
        return connect_locked(path, writes=writes)


def connect_locked(
    path: Path, *, writes: bool = True, fill: Callable[[sqlite3.Connection], None] | None = None
) -> sqlite3.Connection:
    """The same, for one who holds the folder. fill: puts content into it before other processes see it."""
    if path.exists() and not path.is_file():
        raise OSError("not a regular file")
    if writes and path.exists() and not os.access(path, os.W_OK):  # SQLite would begin, and say so at the first reply
        raise OSError("no permission to write it")
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=PATIENCE)
    try:
        if path.stat().st_size == 0:
            db.execute("pragma auto_vacuum=incremental")  # `prune` gives room back bit by bit
        _begin_wal(db)
        db.execute("pragma synchronous=normal")
        if writes or fill or _mark(db) != MARK:
            with transaction(db):
                _bring_up_to_date(db)
                if fill:
                    fill(db)
    except BaseException:
        db.close()
        raise
    return db


def _begin_wal(db: sqlite3.Connection) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            db.execute("pragma journal_mode=wal")
            return
        except sqlite3.OperationalError as fault:
            # a change of mode doesn't wait for the other commands of a pipeline that begin the file just now
            if fault.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, after other processes' writing."""
    db.execute("begin immediate")
    try:
        yield
        db.execute("commit")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # on a full disk SQLite may have rolled back already
            db.execute("rollback")
        raise


def _mark(db: sqlite3.Connection) -> tuple[int, int]:
    return db.execute("pragma application_id").fetchone()[0], db.execute("pragma user_version").fetchone()[0]


def _bring_up_to_date(db: sqlite3.Connection) -> None:
    """Make the tables of a new file, add what an older one lacks; within a transaction."""
    application, version = _mark(db)
    if (application, version) == MARK:
        return
    found = columns(db)
    if application == MARK[0] and version > MARK[1]:
        raise OSError("a newer pmem made it")
    if COLUMNS - found and db.execute("select count(*) from sqlite_master").fetchone()[0]:
        raise OSError("a database of something else")
    if found and "step" not in found:
        db.execute("alter table reply add column step text not null default ''")
        db.execute("alter table reply add column crc integer")
    for table in TABLES:
        db.execute(table)
    db.execute(f"pragma application_id={MARK[0]}")
    db.execute(f"pragma user_version={MARK[1]}")


def insert(db: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Store replies with their checksums, except where one with the same key is there."""
    db.executemany(
        "insert or ignore into reply(key, model, step, made, value, crc) values(?, ?, ?, ?, ?, ?)",
        ((*row, zlib.crc32(row[4])) for row in rows),
    )


def columns(db: sqlite3.Connection) -> set[str]:
    """The columns of the table of replies; none where there is none."""
    return {row[1] for row in db.execute("pragma table_info(reply)")}
