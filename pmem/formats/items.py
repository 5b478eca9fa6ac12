"""Objects out of JSON files: a file is one object, a list of objects, or has one on each line."""

import json
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import orjson

from pmem.errors import RecordError
from pmem.stream.source import Chunks, Entry, Reader, Torn

_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"


def items(paths: tuple[str, ...]) -> Iterator[Entry | Torn]:
    """Every object with its file and its number there (in a file of lines: the line), counted from 1.

    "-" is stdin. An error record stands for the object that was rejected. After a torn object of a list nothing more
    of that file can be read; of a file of lines, the next lines can.
    """
    for path in paths or ("-",):
        yield from _of_file(path)


def _of_file(path: str) -> Iterator[Entry | Torn]:
    """What a file holds; one with an object on each line is read line by line, any other as a whole."""
    lines = ((name, number, line) for name, first, some in Chunks((path,)) for number, line in enumerate(some, first))
    filled = (one for one in lines if one[2] and not one[2].isspace())
    first = list(islice(filled, 2))
    if not first:
        return
    if _by_line([line for _, _, line in first]):
        for name, number, line in chain(first, filled):
            yield _entry(line, name, number)
        return
    whole = b"\n".join(line for _, _, line in chain(first, filled))
    yield from _of_text(whole.decode("utf-8", "surrogateescape"), first[0][0])


def _by_line(first: list[bytes]) -> bool:
    """Whether a file has an object on each line, and isn't one JSON value over several lines: by its first two."""
    begins = [line.lstrip()[:1] for line in first]
    if begins[0] != b"{":
        return False
    try:
        orjson.loads(first[0])
    except orjson.JSONDecodeError:
        return len(begins) > 1 and begins[1] == b"{"
    return True


def _of_text(text: str, name: str) -> Iterator[Entry | Torn]:
    """The objects of a list, one at a time; or the one object."""
    place = _after_space(text, 0)
    listed = text[place : place + 1] == "["
    place = _after_space(text, place + 1) if listed else place
    number = 0
    while place < len(text) and not (listed and text[place] == "]"):
        number += 1
        try:
            _, end = _DECODER.raw_decode(text, place)
        except (json.JSONDecodeError, RecursionError) as fault:
            said = fault.msg if isinstance(fault, json.JSONDecodeError) else "too deep"
            yield _torn(_bytes(text[place : place + 200]), name, number, f"not JSON: {said}")
            return
        yield _entry(_bytes(text[place:end]), name, number)
        place = _after_space(text, end)
        if not listed:
            break
        if text[place : place + 1] == ",":
            place = _after_space(text, place + 1)
        elif text[place : place + 1] != "]":
            yield _torn(_bytes(text[place : place + 200]), name, number + 1, "not JSON: the list isn't closed")
            return
    rest = _after_space(text, place + 1 if listed else place)
    if rest < len(text):
        yield _torn(_bytes(text[rest : rest + 200]), name, number + 1, "not JSON: something stands after the end")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _after_space(text: str, place: int) -> int:
    while place < len(text) and text[place] in _SPACE:
        place += 1
    return place


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
