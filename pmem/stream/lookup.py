"""A file of big records, looked up by id in constant memory: an index of offsets, which follows a growing file.

The file is checked once, while it is indexed; messages whose hash stands in the record are checked against that alone.
When looked up, they are cut out of the line as raw bytes.
"""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from pmem import check
from pmem.errors import InputError, RecordError
from pmem.stream.source import BOM

KEPT_BYTES = 4 << 20
"""Of the messages looked up last: questions on one history follow each other."""
READ_AHEAD = 1 << 20
PATIENCE = 3.0
"""Seconds to wait for a record that isn't in the file yet: `tee` writes to the pipe before it writes the file."""
POLL = 0.05


MESSAGES = b'"messages":['
ANY = b'[{"role":"user","content":"-"}]}'
"""Stands for messages that are known by their hash, when the rest of the record is checked."""


class Place(NamedTuple):
    """Where a record's line stands, in bytes; `messages` is where they begin in it (None: they must be parsed)."""

    start: int
    length: int
    messages: int | None


def by_id(record: dict[str, Any]) -> str:
    """The key under which most records are looked up."""
    return str(record["id"])


def finished(memory: dict[str, Any]) -> str | None:
    """The history of a memory that its last chunk has gone into; None for those before."""
    return str(memory["history_id"]) if memory["chunk"] == memory["chunks"] else None


class Lookup:
    """Records of one type by a key: what `key` makes of a record (None: not to be found). Of several, the first.

    named: what the key is, in messages.
    """

    def __init__(
        self, path: Path, kind: str, *, key: Callable[[dict[str, Any]], str | None] = by_id, named: str = ""
    ) -> None:
        self.path = path
        self.kind = kind
        self.named = named or kind
        self._key = key
        self._places: dict[str, Place] = {}
        self._file: IO[bytes] | None = None
        self._read_to = 0
        self._line = 0
        self._kept: dict[str, bytes] = {}  # the latest last
        self._kept_bytes = 0

    async def messages(self, own_id: str) -> bytes:
        """The record's messages as a JSON array's bytes; RecordError if there is no such record."""
        if (kept := self._kept.get(own_id)) is not None:
            return kept
        await self._until_indexed(own_id)
        if own_id not in self._kept:  # else it has just been indexed
            place = self._places[own_id]
            self._keep(own_id, self._read(place.start, place.length), place.messages)
        return self._kept[own_id]

    async def record(self, key: str) -> dict[str, Any]:
        """The record without its messages, parsed anew each time; RecordError if there is none."""
        await self._until_indexed(key)
        start, length, messages = self._places[key]
        line = self._read(start, length) if messages is None else self._read(start, messages) + b"[]}"
        record: dict[str, Any] = orjson.loads(line)
        record.pop("messages", None)
        return record

    async def _until_indexed(self, own_id: str) -> None:
        """Wait for a record that may be about to be written; RecordError if it doesn't come."""
        waited = 0.0
        while not self._indexed(own_id, to_the_end=waited >= PATIENCE):
            if waited >= PATIENCE:
                if self._file is None:
                    raise InputError(f"{self.path}: can't be read: no such file")
                raise RecordError(f"{self.path} holds no {self.named} {own_id}", reason="schema")
            await asyncio.sleep(POLL)
            waited += POLL

    def _read(self, start: int, length: int) -> bytes:
        assert self._file
        self._file.seek(start)
        return self._file.read(length)

    def _keep(self, own_id: str, line: bytes, begin: int | None) -> None:
        """Put a line's messages among those at hand; the earliest give way."""
        # where they can be cut out, they end before the record's closing brace
        messages = line[begin : line.rindex(b"}")] if begin else orjson.dumps(orjson.loads(line)["messages"])
        self._kept[own_id] = messages
        self._kept_bytes += len(messages)
        while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= len(self._kept.pop(next(iter(self._kept))))

    def report(self) -> str:
        """Nothing for the summary line."""
        return ""

    async def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()

    def _indexed(self, own_id: str, *, to_the_end: bool) -> bool:
        """Whether the record is in the index, which is read on to where it stands, or to the end of the file.

        to_the_end: a last line without a newline counts too, if it is whole.
        """
        if own_id in self._places:
            return True
        if self._file is None and not self._opened():
            return False
        assert self._file
        self._file.seek(self._read_to)
        while line := self._file.readline():
            if not line.endswith(b"\n") and not (to_the_end and _whole(line)):
                return False  # it is still being written
            self._line += 1
            noted = None if line.isspace() else self._note(line)
            self._read_to += len(line)
            if noted == own_id:
                if self.kind == "history":
                    self._keep(own_id, line, self._places[own_id].messages)
                return True
        return False

    def _opened(self) -> bool:
        """Whether the file is there; the program that writes it may not have begun."""
        if self.path.suffix in (".gz", ".zst") or (self.path.exists() and not self.path.is_file()):
            raise InputError(f"{self.path}: records can only be looked up in a plain file, not compressed, no pipe")
        try:
            self._file = self.path.open("rb", READ_AHEAD)
        except FileNotFoundError:
            return False
        except OSError as fault:
            raise InputError(f"{self.path}: can't be read: {fault.strerror}") from None
        self._read_to = len(BOM) if self._file.read(len(BOM)) == BOM else 0
        return True

    def _note(self, line: bytes) -> str | None:
        """Check a line and put it into the index; the record's key."""
        place = f"{self.path}:{self._line}"
        try:
            record, begin = _vouched(line) or _parsed(line)
        except orjson.JSONDecodeError as fault:
            raise InputError(f"{place}: not JSON: {fault}") from None
        if not isinstance(record, dict) or record.get("type") != self.kind:
            raise InputError(f"{place}: {check.wrong_type((self.kind,), record)}")
        if not check.validator(self.kind)(record):
            raise InputError(f"{place}: {check.first_fault(check.schema(self.kind), record)}")
        key = self._key(record)
        if key is not None:
            self._places.setdefault(key, Place(self._read_to, len(line), begin))
        return key


def _vouched(line: bytes) -> tuple[Any, int] | None:
    """The record but for its messages, and where these begin, if its own hash says that they are as they were written.

    They make up nearly all of a line, and parsing them nearly all of what a question on a new history costs.
    """
    begin = line.find(MESSAGES) + len(MESSAGES) - 1
    try:
        record = orjson.loads(line[:begin] + ANY)
    except orjson.JSONDecodeError:
        return None
    if (said := record.get("messages_sha256")) is None:
        return None
    messages = memoryview(line)[begin : line.rfind(b"}")]
    return (record, begin) if hashlib.sha256(messages).hexdigest() == said else None


def _parsed(line: bytes) -> tuple[Any, int | None]:
    """The whole record, and where the messages stand, if they end the line and can be cut out as they are.

    A quotation mark inside a JSON string is escaped, so that only the key itself is found; of two, one is not it.
    """
    record = orjson.loads(line)
    if not isinstance(record, dict) or list(record)[-1:] != ["messages"] or line.count(MESSAGES) != 1:
        return record, None
    return record, line.find(MESSAGES) + len(MESSAGES) - 1


def _whole(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False
