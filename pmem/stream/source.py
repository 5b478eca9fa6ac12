"""Reading: files and pipes, compressed or not, as lines and as checked records with their place."""

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NamedTuple

import orjson

from pmem import check
from pmem.errors import InputError, RecordError

CHUNK = 1 << 18
BOM = b"\xef\xbb\xbf"
Record = dict[str, Any]


class Entry(NamedTuple):
    """One record of input and where it stood. `items`: the parts to make, where a rejected record came in again."""

    record: Record
    line: bytes
    file: str
    number: int
    items: list[str] | None = None


class Torn(NamedTuple):
    """A line that is no record, with the reason."""

    entry: Entry
    fault: RecordError


def open_input(name: str) -> IO[bytes]:
    """A file for reading bytes; .gz and .zst are decompressed; "-" is standard input."""
    if name == "-":
        return os.fdopen(0, "rb", 0, closefd=False)
    if name.endswith(".gz"):
        import gzip

        return gzip.open(name, "rb")  # type: ignore[return-value, unused-ignore]
    file = open(name, "rb", 0)  # noqa: SIM115
    return _Zstandard(file) if name.endswith(".zst") else file  # type: ignore[return-value]


class _Zstandard:
    """A .zst file's content. zstandard's own reader takes a file that was cut off for a shorter one."""

    def __init__(self, file: IO[bytes]) -> None:
        import zstandard

        self._file = file
        self._new_frame = zstandard.ZstdDecompressor().decompressobj
        self._frame: Any = None
        self._rest = b""

    def __enter__(self) -> "_Zstandard":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """What the next piece of the file holds, of whatever size; b"" at its end; EOFError if it was cut off."""
        while data := self._rest or self._file.read(size // 4):
            self._frame = self._frame or self._new_frame()
            content: bytes = self._frame.decompress(data)
            self._rest = b""
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
            if content:
                return content
        if self._frame:
            raise EOFError("the file ends within a compressed frame")
        return b""


def stdin_is_terminal() -> bool:
    """Whether nobody feeds standard input."""
    return sys.stdin is None or sys.stdin.isatty()


def may_block(name: str) -> bool:
    """Whether a read of this input may wait for another program."""
    try:
        mode = (os.fstat(0) if name == "-" else os.stat(name)).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode)


def blocks(name: str) -> Iterator[bytes]:
    """The bytes of a file (see open_input) as they come; InputError if they can't be read."""
    shown = "<stdin>" if name == "-" else name
    try:
        with open_input(name) as stream:
            while block := stream.read(CHUNK):
                yield block
    except (OSError, EOFError) as fault:
        if isinstance(fault, BrokenPipeError):
            raise
        raise InputError(f"{shown}: can't be read: {_reason(fault)}") from None
    except Exception as fault:  # a decompressor's own exception classes
        if type(fault).__module__.split(".")[0] not in ("zstandard", "zstd", "zlib"):
            raise
        raise InputError(f"{shown}: can't be decompressed: {fault}") from None


def batches(name: str, content: Iterable[bytes]) -> Iterator[tuple[str, int, list[bytes]]]:
    """Bytes as batches of whole lines: name, number of the first line, lines without their newline."""
    number = 1
    held: list[bytes] = []  # the parts of a line whose end hasn't come yet
    for block in content:
        end = block.rfind(b"\n")
        if end < 0:
            held.append(block)
            continue
        lines = (b"".join(held) + block[:end]).split(b"\n")
        held = [block[end + 1 :]] if end + 1 < len(block) else []
        if number == 1:
            lines[0] = lines[0].removeprefix(BOM)
        yield name, number, lines
        number += len(lines)
    if held:
        last = b"".join(held)
        yield name, number, [last.removeprefix(BOM) if number == 1 else last]


class Chunks:
    """The input as batches of whole lines, file after file."""

    def __init__(self, files: tuple[str, ...]) -> None:
        self.files = files or ("-",)
        self.blocking = any(may_block(name) for name in self.files)

    def __iter__(self) -> Iterator[tuple[str, int, list[bytes]]]:
        """Batches (file name, number of the first line, lines without their newline)."""
        for name in self.files:
            yield from batches("<stdin>" if name == "-" else name, blocks(name))


class Reader:
    """Lines to checked records.

    reads: the record types that the stage takes; or parse: what makes a record of a line that holds no pmem record.
    """

    def __init__(self, reads: tuple[str, ...], parse: Callable[[bytes], Record] | None = None) -> None:
        self.reads = reads
        self.parse = parse

    def entries(self, file: str, number: int, lines: list[bytes]) -> Iterator[Entry | Torn]:
        """What stands on lines that begin at `number`; nothing for blank ones."""
        for place, line in enumerate(lines, number):
            if line and not line.isspace():
                yield self.entry(line, file, place)

    def entry(self, line: bytes, file: str, number: int) -> Entry | Torn:
        """The record on a line, or what is wrong with it."""
        items: list[str] | None = None
        record: Any = None
        try:
            record = self._value(line)
            if isinstance(record, dict) and record.get("type") == "error" and "error" not in self.reads:
                record, items = self._unwrapped(record), record["items"]
            self._check(record)
        except RecordError as fault:
            return Torn(Entry(record if isinstance(record, dict) else {}, line, file, number), fault)
        return Entry(record, line, file, number, items)

    def _value(self, line: bytes) -> Any:
        if self.parse and not line.lstrip().startswith(b'{"type":"error"'):
            return self.parse(line)
        try:
            return orjson.loads(line)
        except orjson.JSONDecodeError as fault:
            raise RecordError(f"not JSON: {fault}; the line begins {_begin(line)}", reason="json") from None

    def _unwrapped(self, error: Record) -> Any:
        if not check.validator("error")(error):
            fault = check.first_fault(check.schema("error"), error)
            raise RecordError(fault.message, reason="schema", pointer=fault.pointer)
        if error["record"] is not None:
            return self.parse(orjson.dumps(error["record"])) if self.parse else error["record"]
        if error["raw"] is None:
            raise RecordError("an error record that holds no input", reason="schema", pointer="/record")
        return self._value(error["raw"].encode())

    def _check(self, record: Any) -> None:
        if self.parse:
            return
        kind = record.get("type") if isinstance(record, dict) else None
        if kind not in self.reads:
            raise RecordError(check.wrong_type(self.reads, record), reason="type", pointer="/type")
        if not check.validator(kind)(record):
            fault = check.first_fault(check.schema(kind), record)
            raise RecordError(fault.message, reason="schema", pointer=fault.pointer)


def _begin(line: bytes) -> str:
    text = line[:40].decode("utf-8", "backslashreplace")
    return repr(text) + ("…" if len(line) > 40 else "")


def _reason(fault: BaseException) -> str:
    return getattr(fault, "strerror", None) or str(fault)


def records(files: tuple[str, ...], *reads: str) -> Iterator[Record]:
    """The checked records of files (none: of stdin), for a command that needs them all sound: InputError at a fault."""
    reader = Reader(reads)
    for name, number, lines in Chunks(files):
        for entry in reader.entries(name, number, lines):
            if isinstance(entry, Torn):
                raise InputError(f"{name}:{entry.entry.number}: {entry.fault}")
            yield entry.record
