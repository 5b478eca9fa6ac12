"""Memories of earlier runs to go on from: a file of records, or a folder of Markdown that people may have edited."""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from pmem import check
from pmem.errors import InputError
from pmem.memory.files import file_name, of_markdown


class Before(NamedTuple):
    """record: the memory as the last run left it, None if nobody knows; text: as it stands now."""

    record: dict[str, Any] | None
    text: str


class PreviousFile:
    """Memory records in a JSONL file, the last of each user's. In memory, only where each stands."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._places: dict[
            tuple[str, str], tuple[int, int]
        ] = {}  # (user, history) -> where the line starts, its number
        self._latest: dict[str, tuple[str, str]] = {}  # user -> key of the last memory
        self._written: set[str] = set()

    def of(self, user_id: str, history_id: str) -> Before | None:
        """The user's memory: the one of this history if there is one, else the last."""
        self._index()
        key = (user_id, history_id) if (user_id, history_id) in self._places else self._latest.get(user_id)
        record = self._read(*self._places[key]) if key else None
        return Before(record, record["text"]) if record else None

    def written(self, user_id: str) -> None:
        """The user's new memory is in the output."""
        self._written.add(user_id)

    def others(self) -> Iterator[dict[str, Any]]:
        """The memories of users who have no new one, in the file's order."""
        self._index()
        for (user_id, _), place in self._places.items():
            if user_id not in self._written:
                yield self._read(*place)

    def _index(self) -> None:
        if self._file:
            return
        try:
            self._file = self._path.open("rb")
        except OSError as fault:
            raise InputError(f"{self._path}: can't be read: {fault.strerror}") from None
        start = 0
        for number, line in enumerate(self._file, 1):
            if not line.isspace():
                record = self._checked(line, number)
                key = (record["user_id"], record["history_id"])
                self._places[key] = (start, number)
                self._latest[record["user_id"]] = key
            start += len(line)

    def _read(self, start: int, number: int) -> dict[str, Any]:
        assert self._file
        self._file.seek(start)
        return self._checked(self._file.readline(), number)

    def _checked(self, line: bytes, number: int) -> dict[str, Any]:
        return checked(line, f"{self._path}:{number}")

    def report(self) -> str:
        """Nothing for the summary line."""
        return ""

    async def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


class PreviousFolder:
    """USER.md and USER.json as `files.save` writes them. The Markdown is what counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, user_id: str, _history_id: str) -> Before | None:
        """The user's memory. A page that is gone is an empty memory; without a record, all of a page is new."""
        page = self._folder / f"{file_name(user_id)}.md"
        kept = page.with_suffix(".json")
        try:
            record = checked(kept.read_bytes(), str(kept)) if kept.exists() else None
            text, mark = of_markdown(page.read_text(encoding="utf-8")) if page.exists() else ("", None)
        except (OSError, UnicodeDecodeError) as fault:
            raise InputError(f"{page}: can't be read: {fault}") from None
        if record is None:
            return Before(None, text) if text else None
        stale = mark is not None and mark != record["id"]  # a run was killed between the two files
        return Before(record, record["text"] if stale else text)

    def written(self, user_id: str) -> None:
        """Nothing to note."""

    def others(self) -> Iterator[dict[str, Any]]:
        """None: their files stay where they are."""
        return iter(())

    def report(self) -> str:
        """Nothing for the summary line."""
        return ""

    async def close(self) -> None:
        """Nothing is open."""


Previous = PreviousFile | PreviousFolder


def previous(path: Path) -> Previous:
    """What is to be read at a path."""
    return PreviousFile(path) if path.is_file() else PreviousFolder(path)


def checked(line: bytes, place: str) -> dict[str, Any]:
    """A memory record from its JSON; InputError if it is none."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as fault:
        raise InputError(f"{place}: not JSON: {fault}") from None
    if not isinstance(record, dict) or record.get("type") != "memory":
        raise InputError(f"{place}: {check.wrong_type(('memory',), record)}")
    if not check.validator("memory")(record):
        raise InputError(f"{place}: {check.first_fault(check.schema('memory'), record)}")
    return dict(record)
