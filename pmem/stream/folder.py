"""Writing a folder: FOLDER.part, which becomes FOLDER when all is done."""

import os
import shutil
from pathlib import Path
from typing import IO

from pmem.errors import OutputError
from pmem.stream.sink import Sink, hold


def held(folder: Path) -> int:
    """A handle of a folder that no other run writes as long as it is open. OSError: another run writes it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        hold(handle)
    except OSError:
        os.close(handle)
        raise
    return handle


class Folder(Sink):
    """A folder of files that comes to be as a whole. `count` is that of the records in it.

    force: a folder that is already there, with something in it, is set aside as FOLDER.old (-2 and so on).
    """

    def __init__(self, path: str, *, force: bool = False) -> None:
        self.count = 0
        self.name = path
        self.target = Path(os.path.realpath(path))
        self.force = force
        self._open: dict[str, IO[bytes]] = {}
        if self.target.exists() and not self.target.is_dir():
            raise OutputError(f"{path}: is a file, not a folder")
        if self._filled() and not force:
            raise OutputError(f"{path}: holds something already; --force sets it aside as {self._aside().name}")
        try:
            if self.part.exists():
                os.close(held(self.part))
                shutil.rmtree(self.part)  # left by a run that was stopped
            self.part.mkdir(parents=True)
            self._held: int | None = held(self.part)
        except OSError as fault:
            raise self._refused(fault) from None

    @property
    def part(self) -> Path:
        """The folder that fills until the run is done."""
        return self.target.with_name(self.target.name + ".part")

    def __contains__(self, name: str) -> bool:
        """Whether a file is being written."""
        return name in self._open

    def append(self, name: str, content: bytes) -> None:
        """Write more to a file of the folder, which stays open."""
        try:
            if name not in self._open:
                path = self.part / name
                path.parent.mkdir(parents=True, exist_ok=True)
                self._open[name] = path.open("xb")
            self._open[name].write(content)
        except FileExistsError:
            raise OutputError(f"{self.name}: two things are to be written to {name}") from None
        except OSError as fault:
            raise self._refused(fault) from None

    def file(self, name: str, content: bytes) -> None:
        """Write a whole file."""
        self.append(name, content)
        self._open.pop(name).close()

    def remove(self, name: str) -> None:
        """Take back a whole file."""
        (self.part / name).unlink()

    def flush(self) -> None:
        """Nobody reads it yet."""

    def commit(self) -> None:
        """All is done: FOLDER.part becomes FOLDER."""
        try:
            for file in self._open.values():
                file.close()
            if self._filled():
                self.target.rename(self._aside())
            self.part.replace(self.target)
            self._release()
        except OSError as fault:
            raise self._refused(fault) from None

    def leave(self) -> None:
        """The run stopped: what was written stays in FOLDER.part."""
        for file in self._open.values():
            file.close()
        self._release()

    def _release(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _filled(self) -> bool:
        return self.target.is_dir() and any(self.target.iterdir())

    def _aside(self) -> Path:
        number, path = 1, self.target.with_name(self.target.name + ".old")
        while path.exists():
            number += 1
            path = self.target.with_name(f"{self.target.name}.old-{number}")
        return path

    def _refused(self, fault: OSError) -> Exception:
        return OutputError(f"{self.name}.part: can't be written: {fault.strerror}")
