"""A file of big records, looked up by id in constant memory: an index of offsets, which follows a growing file.

The file is checked once, while it is indexed. Messages are cut out of the line as raw bytes, never parsed.
"""

import asyncio
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from pmem import check
from pmem.errors import InputError, RecordError
from pmem.stream.source import BOM

PATIENCE = 3.0
"""Seconds to wait for a record that isn't in the file yet: `tee` writes to the pipe before it writes the file."""
POLL = 0.05


class Place(NamedTuple):
    """Where a record's line stands, in bytes; `messages` is where they begin in it (None: they must be parsed)."""

    start: int
    length: int
    messages: int | None


class Lookup:
    """Records of one type by id."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        self.kind = kind
        self._places: dict[str, Place] = {}
        self._file: IO[bytes] | None = None
        self._read_to = 0
        self._line = 0

    async def messages(self, own_id: str) -> bytes:
        """The record's messages as a JSON array's bytes; RecordError if there is no such record."""
        waited = 0.0
        while not self._indexed(own_id, to_the_end=waited >= PATIENCE):
            if waited >= PATIENCE:
                if self._file is None:
                    raise InputError(f"{self.path}: can't be read: no such file")
                raise RecordError(f"{self.path} holds no {self.kind} {own_id}", reason="schema")
            await asyncio.sleep(POLL)
            waited += POLL
        place = self._places[own_id]
        assert self._file
        self._file.seek(place.start)
        line = self._file.read(place.length)
        if place.messages is None:
            return orjson.dumps(orjson.loads(line)["messages"])
        return line[place.messages :].rstrip()[:-1]  # without the record's closing brace

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
            found = not line.isspace() and self._note(line) == own_id
            self._read_to += len(line)
            if found:
                return True
        return False

    def _opened(self) -> bool:
        """Whether the file is there; the program that writes it may not have begun."""
        if self.path.suffix in (".gz", ".zst") or (self.path.exists() and not self.path.is_file()):
            raise InputError(f"{self.path}: records can only be looked up in a plain file, not compressed, no pipe")
        try:
            self._file = self.path.open("rb")
        except FileNotFoundError:
            return False
        except OSError as fault:
            raise InputError(f"{self.path}: can't be read: {fault.strerror}") from None
        self._read_to = len(BOM) if self._file.read(len(BOM)) == BOM else 0
        return True

    def _note(self, line: bytes) -> str:
        """Check a line and put it into the index; the record's id."""
        place = f"{self.path}:{self._line}"
        try:
            record: Any = orjson.loads(line)
        except orjson.JSONDecodeError as fault:
            raise InputError(f"{place}: not JSON: {fault}") from None
        if not isinstance(record, dict) or record.get("type") != self.kind:
            raise InputError(f"{place}: {check.wrong_type((self.kind,), record)}")
        if not check.validator(self.kind)(record):
            raise InputError(f"{place}: {check.first_fault(check.schema(self.kind), record)}")
        # a quotation mark inside a JSON string is escaped, so this finds the key and nothing else
        begin = line.find(b'"messages":[') + len(b'"messages":')
        whole = list(record)[-1] == "messages" and line[begin:].rstrip()[:-1] == orjson.dumps(record["messages"])
        self._places.setdefault(record["id"], Place(self._read_to, len(line), begin if whole else None))
        return str(record["id"])


def _whole(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False
