"""The response cache: SQLite in WAL mode, safe for several processes, one writer thread, one transaction per turn.

synchronous=NORMAL survives kill -9 of the process; a power cut may lose the last transactions (never the file). A
file that turns out corrupt, at once or during a run, is set aside; the run goes on with a new one that holds all
replies which could be read. A file that can't be written any more (disk full) stops the run.
"""

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from pmem.backends.cache_file import KEY, Row
from pmem.backends.cache_mend import ReplyFile, Unsound, refused, sound
from pmem.backends.replies import Decoded, add, decoded

SAMPLE = 1000
"""Replies that `earlier` looks at."""


def default_path() -> Path:
    """`pmem/replies.sqlite` in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "pmem" / "replies.sqlite"


def path_of(named: str | None) -> Path:
    """The file of a run's replies. named: by --cache."""
    return Path(named) if named else default_path()


class Batch(NamedTuple):
    """A batch at a provider whose replies haven't been fetched. `made`: Unix seconds; `keys`: of its calls."""

    id: str
    server: str
    model: str
    made: int
    keys: list[bytes]


class Cache:
    """Replies by key. `get` is immediate; `put` returns when the reply is committed. OutputError: it can't be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = ReplyFile(path)
        except (OSError, sqlite3.Error) as fault:
            raise refused(path, fault) from None
        self._replaced = False  # by the writer, or as the writer saw
        self._fault: Exception | None = None
        self._turn: list[tuple[Row, asyncio.Future[None]]] = []
        self._queue: queue.SimpleQueue[list[tuple[Row, asyncio.Future[None]]] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None

    def get(self, key: bytes) -> bytes | None:
        """The value stored under a key."""
        try:
            if self._replaced:
                self._replaced = False
                self._file.reopen()
            try:
                return self._stored(key)
            except sqlite3.DatabaseError as fault:
                self._file.mend(fault)
                return self._stored(key)
        except (OSError, sqlite3.Error) as fault:
            self._fault = self._fault or fault  # the first one tells why, those after it that the file is closed
            raise refused(self.path, self._fault) from None

    def _stored(self, key: bytes) -> bytes | None:
        row: tuple[bytes, int | None] | None
        row = self._file.db.execute("select value, crc from reply where key = ?", (key,)).fetchone()
        if row is None:
            return None
        if not sound(*row):
            raise Unsound
        return row[0]

    async def put(self, key: bytes, value: bytes, *, model: str, step: str) -> None:
        """Store a value; everything put in one turn of the event loop is one transaction.

        value: JSON, `[text, usage, finish]` or `[[logprob, tokens], ...]`; step: "stage/step", of which there are few.
        """
        loop = asyncio.get_running_loop()
        if self._writer is None:
            self._writer = threading.Thread(target=self._write, args=(loop,), daemon=True, name="cache")
            self._writer.start()
        committed = loop.create_future()
        if not self._turn:
            loop.call_soon(self._hand_over)
        self._turn.append(((key, model, step, int(time.time()), value), committed))
        await committed

    def earlier(self, model: str, step: str) -> list[Decoded]:
        """The latest replies of a model and step, at most SAMPLE."""
        latest = "select value from reply where model = ? and step = ? order by rowid desc limit ?"
        found = []
        for (value,) in self._rows(latest, model, step, SAMPLE):
            with contextlib.suppress(ValueError):  # a run that needs that reply will see to it
                found.append(decoded(value))
        return found

    # ---- batches ----------------------------------------------------------------------------------------------

    def batches(self, server: str, model: str) -> list[Batch]:
        """The batches that were sent to a server and haven't ended, oldest first."""
        rows = self._rows(
            "select id, server, model, made, keys from batches where server = ? and model = ? and done is null"
            " order by made, rowid",
            server,
            model,
        )
        return [
            Batch(id, server, model, made, [keys[n : n + KEY] for n in range(0, len(keys), KEY)])
            for id, server, model, made, keys in rows
        ]

    def add_batch(self, id: str, *, server: str, model: str, keys: list[bytes]) -> None:
        """Note a batch that was sent. server: its address without credentials."""
        row = (id, server, model, int(time.time()), b"".join(keys))
        self._change("insert or replace into batches(id, server, model, made, keys) values(?, ?, ?, ?, ?)", row)

    def end_batch(self, id: str) -> None:
        """Its replies are stored, or it came to nothing."""
        self._change("update batches set done = ? where id = ?", (int(time.time()), id))

    def _change(self, statement: str, values: tuple[object, ...]) -> None:
        try:
            if self._file.replaced():
                self._file.reopen()
            self._file.db.execute(statement, values)
        except (OSError, sqlite3.Error) as fault:
            raise refused(self.path, fault) from None

    def _rows(self, select: str, *values: object) -> list[Any]:
        try:
            return self._file.db.execute(select, values).fetchall()
        except sqlite3.Error as fault:
            raise refused(self.path, fault) from None

    # ---- the writer -------------------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        self._queue.put(self._turn)
        self._turn = []

    def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        file: ReplyFile | None = None
        ended = False
        while not ended and (batch := self._queue.get()) is not None:
            while not self._queue.empty():
                more = self._queue.get()
                ended = ended or more is None
                batch += more or []
            fault: Exception | None = None
            try:
                file = file or ReplyFile(self.path)
                self._commit(file, [row for row, _ in batch])
            except (OSError, sqlite3.Error) as caught:
                fault = refused(self.path, caught)
            waiting = [future for _, future in batch]
            try:
                loop.call_soon_threadsafe(_settle, waiting, fault)
            except RuntimeError:  # the loop has ended: nobody waits any more
                break
        if file:
            file.db.close()

    def _commit(self, file: ReplyFile, rows: list[Row]) -> None:
        if file.replaced():
            file.reopen()
        try:
            add(file.db, rows)
        except sqlite3.DatabaseError as fault:
            file.mend(fault)
            add(file.db, rows)
        if file.identity != self._file.identity:
            self._replaced = True

    def close(self) -> None:
        """Write what is waiting and close the file."""
        if self._writer:
            self._queue.put(None)
            self._writer.join()
            self._writer = None
        self._file.db.close()


def _settle(waiting: "list[asyncio.Future[None]]", fault: Exception | None) -> None:
    for future in waiting:
        if future.done():
            continue
        if fault:
            future.set_exception(fault)
        else:
            future.set_result(None)
