"""Objects out of JSON files: a file is one object, a list of objects, or has one on each line."""

import codecs
import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import orjson

from pmem.errors import RecordError
from pmem.stream.source import BOM, CHUNK, Entry, Reader, Torn, batches, blocks

_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"
_NEAR = 16
"""Characters before the end of what has been read, in which a fault may be a token that goes on."""


def items(paths: tuple[str, ...]) -> Iterator[Entry | Torn]:
    """Every object with its file and its number there (in a file of lines: the line), counted from 1.

    "-" is stdin. An error record stands for the object that was rejected. After a torn object of a list nothing more
    of that file can be read; of a file of lines, the next lines can.
    """
    for path in paths or ("-",):
        yield from items_of(blocks(path), "<stdin>" if path == "-" else path)


def items_of(content: Iterable[bytes], name: str) -> Iterator[Entry | Torn]:
    """What a file holds, given as blocks of bytes. Of a list, or of lines, one object at a time is in memory; a single
    object is read as a whole."""
    content = iter(content)
    head, number = b"", 0
    while not head and (block := next(content, b"")):
        head = block.removeprefix(BOM).lstrip()
        number += block[: len(block) - len(head)].count(b"\n")
    if not head.startswith(b"{"):
        yield from _of_text(_Text(chain([head], content)), name)
        return
    content = chain([b"\n" * number + head], content)
    lines = ((name, place, line) for _, first, some in batches(name, content) for place, line in enumerate(some, first))
    filled = (one for one in lines if one[2] and not one[2].isspace())
    first = list(islice(filled, 2))
    if _by_line([line for _, _, line in first]):
        for _, number, line in chain(first, filled):
            yield _entry(line, name, number)
        return
    yield from _of_text(_Text(line + b"\n" for _, _, line in chain(first, filled)), name)


def _by_line(first: list[bytes]) -> bool:
    """Whether a file has an object on each line, and isn't one JSON value over several lines: by its first two."""
    try:
        orjson.loads(first[0])
    except orjson.JSONDecodeError:
        return len(first) > 1 and first[1].lstrip().startswith(b"{")
    return True


class _Text:
    """A file's text from where it is read: as much of it as is needed, a few values at most."""

    def __init__(self, content: Iterable[bytes]) -> None:
        self._content = iter(content)
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._text = ""
        self._place = 0
        self._ended = False

    def _more(self) -> bool:
        """Read as much again as there is; whether there was more."""
        rest = self._text[self._place :]
        wanted = max(CHUNK, len(rest))
        found = []
        while wanted > 0 and not self._ended:
            block = next(self._content, b"")
            self._ended = not block
            found.append(self._decode(block, final=self._ended))
            wanted -= len(found[-1])
        self._text, self._place = rest + "".join(found), 0
        return len(self._text) > len(rest)

    def next(self) -> str:
        """The next character that isn't space, "" at the end. It isn't taken."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in _SPACE:
                self._place += 1
            if self._place < len(self._text) or not self._more():
                return self._text[self._place : self._place + 1]

    def skip(self) -> None:
        """Take a character."""
        self._place += 1

    def begin(self) -> bytes:
        """How what comes begins."""
        return _bytes(self._text[self._place : self._place + 200])

    def value(self) -> bytes:
        """Take the JSON value that comes. JSONDecodeError or RecursionError if it is none."""
        while True:
            try:
                _, end = _DECODER.raw_decode(self._text, self._place)
            except json.JSONDecodeError as fault:
                cut = fault.msg.startswith("Unterminated string") or fault.pos > len(self._text) - _NEAR
                if not (cut and self._more()):
                    raise
                continue
            if end < len(self._text) or not self._more():  # a number at the end may go on
                break
        taken = self._text[self._place : end]
        self._place = end
        return _bytes(taken)


def _of_text(text: _Text, name: str) -> Iterator[Entry | Torn]:
    """The objects of a list, one at a time; or the one object."""
    listed = text.next() == "["
    if listed:
        text.skip()
    number = 0
    while (begin := text.next()) and not (listed and begin == "]"):
        number += 1
        try:
            value = text.value()
        except (json.JSONDecodeError, RecursionError) as fault:
            said = fault.msg if isinstance(fault, json.JSONDecodeError) else "too deep"
            yield _torn(text.begin(), name, number, f"not JSON: {said}")
            return
        yield _entry(value, name, number)
        if not listed:
            break
        behind = text.next()
        if behind == ",":
            text.skip()
        elif behind != "]":
            yield _torn(text.begin(), name, number + 1, "not JSON: the list isn't closed")
            return
    if listed and text.next() == "]":
        text.skip()
    if text.next():
        yield _torn(text.begin(), name, number + 1, "not JSON: something stands after the end")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _entry(item: bytes, name: str, number: int) -> Entry | Torn:
    try:
        value: Any = orjson.loads(item)
    except orjson.JSONDecodeError as fault:
        return _torn(item, name, number, f"not JSON: {fault}")
    if not isinstance(value, dict):
        return _torn(item, name, number, "expected a JSON object", "type")
    if value.get("type") == "error":
        return _rejected(item, name, number)
    return Entry(value, item, name, number)


def _rejected(item: bytes, name: str, number: int) -> Entry | Torn:
    """The object of an error record, at the place where it stood."""
    found = Reader(("error",)).entry(item, name, number)
    if isinstance(found, Torn):
        return found
    error = found.record
    own, line = error["file"] or name, error["line"] or number
    if error["record"] is not None:
        return Entry(error["record"], orjson.dumps(error["record"]), own, line)
    return _entry((error["raw"] or "").encode(), own, line)


def _torn(item: bytes, name: str, number: int, said: str, reason: str = "json") -> Torn:
    return Torn(Entry({}, item, name, number), RecordError(said, reason=reason))
