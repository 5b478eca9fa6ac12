"""Exports of chat services: a zip file, the folder that it was unpacked to, or the JSON files in it."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from pmem.errors import InputError
from pmem.formats.items import items, items_of
from pmem.stream.source import CHUNK, Entry, Torn, blocks

CONVERSATIONS = re.compile(r"(?:.*/)?conversations(?:[-_]\d+)?\.json\Z")
"""Services name the file conversations.json; large exports have conversations-000.json and so on."""
ZIP = b"PK\x03\x04"
"""How a zip file begins."""


def conversations(paths: tuple[str, ...]) -> Iterator[Entry | Torn]:
    """Every conversation of the exports, with its file and number there. "-" or nothing: a JSON file on stdin.

    InputError if a zip file or a folder holds no conversations, or can't be read.
    """
    for path in paths or ("-",):
        if path != "-" and Path(path).is_dir():
            inside = [str(one.relative_to(path)) for one in Path(path).rglob("*.json")]
            yield from items(tuple(str(Path(path) / name) for name in _chosen(inside, path)))
        elif path != "-" and zipfile.is_zipfile(path):
            yield from _zipped(path)
        elif path == "-":
            yield from _piped()
        else:
            yield from items((path,))


def _chosen(names: list[str], where: str) -> list[str]:
    """The files of conversations among those of an export."""
    found = sorted(name for name in names if CONVERSATIONS.match(name.replace("\\", "/")) and "__MACOSX" not in name)
    if not found:
        others = ", ".join(sorted(names)[:5]) or "nothing"
        raise InputError(f"{where}: holds no conversations.json; found {others}")
    return found


def _piped() -> Iterator[Entry | Torn]:
    content = blocks("-")
    first = next(content, b"")
    if first.startswith(ZIP):
        raise InputError("<stdin>: a zip file can't be read from a pipe: name the file")
    yield from items_of(chain([first], content), "<stdin>")


def _zipped(path: str) -> Iterator[Entry | Torn]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in _chosen(archive.namelist(), path):
                with archive.open(name) as stream:
                    yield from items_of(iter(partial(stream.read, CHUNK), b""), f"{path}/{name}")
    except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as fault:
        # RuntimeError: it wants a password; NotImplementedError: a way of compression that Python doesn't know
        raise InputError(f"{path}: can't be read: {fault}") from None
