"""The response cache: SQLite in WAL mode, safe for several processes, one writer thread, one transaction per turn.

synchronous=NORMAL survives kill -9 of the process; a power cut may lose the last transactions (never the file).
"""

import asyncio
import os
import queue
import sqlite3
import threading
import time
from pathlib import Path

import click

from pmem.errors import OutputError

Row = tuple[bytes, str, int, bytes]  # key, model, when it was made (Unix seconds), value

PATIENCE = 60.0
"""Seconds to wait for other processes that write to the file."""
TABLE = "create table if not exists reply(key blob primary key, model text, made integer, value blob)"


def default_path() -> Path:
    """`pmem/replies.sqlite` in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "pmem" / "replies.sqlite"


class Cache:
    """Replies by key. `get` is immediate; `put` returns when the reply is committed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = self._opened()
        except (OSError, sqlite3.Error) as fault:
            raise self._refused(fault) from None
        self._turn: list[tuple[Row, asyncio.Future[None]]] = []
        self._queue: queue.SimpleQueue[list[tuple[Row, asyncio.Future[None]]] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None

    def _opened(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as fault:
            if isinstance(fault, sqlite3.OperationalError):
                raise
            aside = self.path.with_name(self.path.name + ".corrupt")
            self.path.replace(aside)
            click.echo(f"pmem: {self.path} is no readable cache; set aside as {aside.name}, a new one begun", err=True)
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=PATIENCE)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                db.execute("pragma journal_mode=wal")
                break
            except sqlite3.OperationalError as fault:
                # a change of mode doesn't wait for the other commands of a pipeline that begin the file just now
                if fault.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.01)
        db.execute("pragma synchronous=normal")
        db.execute(TABLE)
        return db

    def _refused(self, fault: Exception) -> OutputError:
        return OutputError(f"response cache {self.path}: {fault} (--cache FILE or --no-cache)")

    def get(self, key: bytes) -> bytes | None:
        """The value stored under a key."""
        try:
            row = self._db.execute("select value from reply where key = ?", (key,)).fetchone()
        except sqlite3.Error as fault:
            raise self._refused(fault) from None
        return row[0] if row else None

    async def put(self, key: bytes, value: bytes, *, model: str, step: str) -> None:
        """Store a value; everything put in one turn of the event loop is one transaction."""
        loop = asyncio.get_running_loop()
        if self._writer is None:
            self._writer = threading.Thread(target=self._write, args=(loop,), daemon=True, name="cache")
            self._writer.start()
        committed = loop.create_future()
        if not self._turn:
            loop.call_soon(self._hand_over)
        self._turn.append(((key, model, int(time.time()), value), committed))
        await committed

    def _hand_over(self) -> None:
        self._queue.put(self._turn)
        self._turn = []

    def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        db: sqlite3.Connection | None = None
        ended = False
        while not ended and (batch := self._queue.get()) is not None:
            while not self._queue.empty():
                more = self._queue.get()
                ended = ended or more is None
                batch += more or []
            fault: Exception | None = None
            try:
                db = db or self._connect()
                db.execute("begin immediate")
                db.executemany("insert or ignore into reply values(?, ?, ?, ?)", [row for row, _ in batch])
                db.execute("commit")
            except sqlite3.Error as caught:
                fault = self._refused(caught)
                if db and db.in_transaction:
                    db.execute("rollback")
            waiting = [future for _, future in batch]
            try:
                loop.call_soon_threadsafe(_settle, waiting, fault)
            except RuntimeError:  # the loop has ended: nobody waits any more
                break
        if db:
            db.close()

    def close(self) -> None:
        """Write what is waiting and close the file."""
        if self._writer:
            self._queue.put(None)
            self._writer.join()
            self._writer = None
        self._db.close()


def _settle(waiting: "list[asyncio.Future[None]]", fault: Exception | None) -> None:
    for future in waiting:
        if future.done():
            continue
        if fault:
            future.set_exception(fault)
        else:
            future.set_result(None)
