"""A file of big records, looked up by id in constant memory: an index of offsets, which follows a growing file.

The file is checked once, while it is indexed. Messages are cut out of the line as raw bytes, never parsed.
"""

import asyncio
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from pmem import check
from pmem.errors import InputError, RecordError

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
        while not self._indexed(own_id):
            if waited >= PATIENCE:
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

    def _indexed(self, own_id: str) -> bool:
        """Whether the record is in the index, which is read on to where it stands, or to the end of the file."""
        if own_id in self._places:
            return True
        if self._file is None:
            try:
                self._file = self.path.open("rb")
            except FileNotFoundError:
                return False  # the program that writes it may not have begun
            except OSError as fault:
                raise InputError(f"{self.path}: can't be read: {fault.strerror}") from None
        self._file.seek(self._read_to)
        while (line := self._file.readline()).endswith(b"\n"):
            self._line += 1
            if not line.isspace() and self._note(line) == own_id:
                self._read_to += len(line)
                return True
            self._read_to += len(line)
        return False

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
            wrong = check.first_fault(check.schema(self.kind), record)
            raise InputError(f"{place}: {wrong.pointer}: {wrong.message}")
        # a quotation mark inside a JSON string is escaped, so this finds the key and nothing else
        begin = line.find(b'"messages":[') + len(b'"messages":')
        whole = list(record)[-1] == "messages" and line[begin:].rstrip()[:-1] == orjson.dumps(record["messages"])
        self._places[record["id"]] = Place(self._read_to, len(line), begin if whole else None)
        return str(record["id"])
