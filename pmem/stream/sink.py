"""Writing: whole lines to stdout, or to FILE.part, which becomes FILE when all is done."""

import errno
import os
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from pmem.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path


BUFFER = 1 << 18


class Sink:
    """Where lines go. Nothing but whole lines is ever written."""

    def __init__(self, path: str | None) -> None:
        self.path: Path | None = None  # the file that comes to be; None: stdout, a device, a pipe
        self.count = 0
        self._name = "standard output" if path is None or path == "-" else path
        try:
            self._raw: Any = self._target(path)
        except OSError as fault:
            raise OutputError(f"{self._name}: can't be written: {fault.strerror}") from None
        self._open: Any = self._compressed() if self.path else self._raw

    def _target(self, path: str | None) -> IO[bytes]:
        if path is None or path == "-":
            return os.fdopen(1, "wb", BUFFER, closefd=False)
        if os.path.exists(path) and not os.path.isfile(path):
            return open(path, "wb", BUFFER)  # renaming over /dev/null would take it away
        import pathlib

        self.path = pathlib.Path(os.path.realpath(path) if os.path.islink(path) else path)
        return _alone(self.part)

    @property
    def part(self) -> "Path":
        """The file that grows until the run is done."""
        assert self.path
        return self.path.with_name(self.path.name + ".part")

    def _compressed(self) -> IO[bytes]:
        if self.part.name.endswith(".gz.part"):
            import gzip

            # no name and no time in the header: equal content gives equal bytes
            return gzip.GzipFile(filename="", mode="wb", fileobj=self._raw, mtime=0)  # type: ignore[return-value]
        if self.part.name.endswith(".zst.part"):
            import zstandard

            compressed: IO[bytes] = zstandard.ZstdCompressor().stream_writer(self._raw, closefd=False)
            return compressed
        return self._raw  # type: ignore[no-any-return]

    def write(self, lines: bytes, count: int = 1) -> None:
        """Write `count` whole lines."""
        try:
            self._open.write(lines)
        except OSError as fault:
            raise self._refused(fault) from None
        self.count += count

    def flush(self) -> None:
        """Let the next program in the pipe see what was written."""
        if self.path is None:
            try:
                self._open.flush()
            except OSError as fault:
                raise self._refused(fault) from None

    def commit(self) -> None:
        """All is done: FILE.part becomes FILE."""
        self.flush()
        if self.path is None:
            return
        try:
            if self._open is not self._raw:
                self._open.close()
            self._raw.flush()
            os.fsync(self._raw.fileno())
            self.part.replace(self.path)
            self._raw.close()  # only now: until then nobody else may write FILE.part
        except OSError as fault:
            raise self._refused(fault) from None

    def leave(self) -> None:
        """The run stopped: what was written stays in FILE.part, or has gone to stdout."""
        try:
            if self.path is None:
                self._open.flush()
            else:
                self._open.close()
        except (OSError, ValueError):
            self._open = None  # the disk or the pipe is what stopped the run: nothing more to save

    def _refused(self, fault: OSError) -> Exception:
        if fault.errno == errno.EPIPE:
            return fault
        where = str(self.part) if self.path else self._name
        return OutputError(f"{where}: can't be written: {fault.strerror}")


def hold(handle: int) -> None:
    """Let no other run hold the same file or folder until this process closes it or ends. OSError: another one does."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:  # any other one: a file system without locks
        if isinstance(fault, BlockingIOError):
            raise OSError(errno.EBUSY, "another run is writing it") from None


def _alone(path: "Path") -> IO[bytes]:
    """The file, emptied, for this process alone. OSError: another run is writing it."""
    while True:
        file = path.open("ab", BUFFER)
        try:
            hold(file.fileno())
        except OSError:
            file.close()
            raise
        if _is(path, file):
            file.truncate(0)
            return file
        file.close()  # its writer has just renamed it


def _is(path: "Path", file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


class Spool:
    """Lines put aside in a file without a name, to be read again."""

    def __init__(self) -> None:
        import tempfile

        self._file = tempfile.TemporaryFile()  # noqa: SIM115

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, lines: bytes, _count: int = 1) -> None:
        """Put whole lines aside."""
        try:
            self._file.write(lines)
        except OSError as fault:
            raise OutputError(f"the folder for temporary files can't be written: {fault.strerror}") from None

    def __iter__(self) -> Iterator[bytes]:
        """The lines from the first, without their newline."""
        self._file.seek(0)
        for line in self._file:
            yield line.removesuffix(b"\n")


class Unwritten(Sink):
    """In the place of a sink where nothing is to be written: it only counts."""

    def __init__(self) -> None:
        self.path = None
        self.count = 0

    def write(self, lines: bytes, count: int = 1) -> None:
        """Count them."""
        self.count += count

    def flush(self) -> None:
        """Nothing to show."""

    def commit(self) -> None:
        """Nothing to keep."""

    def leave(self) -> None:
        """Nothing to leave."""
