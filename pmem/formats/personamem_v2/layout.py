"""The files of PersonaMem-v2: where they are, what they are called, and rows read from CSV tables."""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from pmem import check
from pmem.errors import InputError, RecordError
from pmem.stream.source import Chunks, Entry, Reader, Torn

COLUMNS = (
    "persona_id", "chat_history_32k_link", "chat_history_128k_link", "raw_persona_file", "short_persona",
    "expanded_persona", "user_query", "correct_answer", "incorrect_answers", "topic_query", "preference",
    "topic_preference", "conversation_scenario", "pref_type", "related_conversation_snippet", "who", "updated",
    "prev_pref", "sensitive_info", "total_tokens_in_chat_history_32k", "total_tokens_in_chat_history_128k",
    "distance_from_related_snippet_to_query_32k", "distance_from_related_snippet_to_query_128k",
    "num_persona_relevant_tokens_32k", "num_persona_irrelevant_tokens_32k", "num_persona_relevant_tokens_128k",
    "num_persona_irrelevant_tokens_128k",
)  # fmt: skip
WINDOWS = ("32k", "128k")
SPLITS = {"benchmark": "bench", "train": "train", "val": "val"}
"""Name of a table's file -> split."""
FOLDERS = ("text", "multimodal")
SOURCE = "personamem-v2"
KEPT = "personamem_v2."
"""Before the name of a column (or of a file's key): the label that keeps what stood there."""

Row = dict[str, str]


def tables(paths: tuple[str, ...]) -> list[Path]:
    """The CSV tables that are named, and those in named folders: benchmark first, then training and validation."""
    found: list[Path] = []
    for path in map(Path, paths):
        inside = [path]
        if path.is_dir():
            inside = [
                one for folder in FOLDERS for one in sorted((path / "benchmark" / folder).glob("*.csv"), key=_rank)
            ]
        if not inside:
            raise InputError(f"{path}: holds no benchmark/text/*.csv or benchmark/multimodal/*.csv; name CSV files")
        found += inside
    return found


def _rank(path: Path) -> tuple[int, str]:
    return (list(SPLITS).index(path.stem) if path.stem in SPLITS else len(SPLITS), path.name)


def rows(paths: tuple[str, ...]) -> Iterator[Entry | Torn]:
    """Every row as column -> text, with the line it begins on; a .jsonl file holds rows that were rejected before."""
    for path in tables(paths):
        try:
            yield from _rejected(path) if ".jsonl" in path.suffixes else _table(path)
        except OSError as fault:
            raise InputError(f"{path}: can't be read: {fault.strerror}") from None
        except UnicodeDecodeError as fault:
            raise InputError(f"{path}: not UTF-8: {fault.reason}") from None


def _table(path: Path) -> Iterator[Entry | Torn]:
    csv.field_size_limit(sys.maxsize)  # a snippet may be longer than csv's 128 KiB
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header: list[str] = []
        begins = 1
        try:
            for cells in reader:
                if not header:
                    header = _header(path, cells)
                elif cells:
                    yield _entry(path, begins, header, cells)
                begins = reader.line_num + 1
        except csv.Error as fault:
            raise InputError(f"{path}:{begins}: not CSV: {fault}") from None
        if not header:
            raise InputError(f"{path}: empty; expected the {len(COLUMNS)} columns of PersonaMem-v2")


def _header(path: Path, cells: list[str]) -> list[str]:
    missing = [name for name in COLUMNS if name not in cells]
    strange = [name for name in cells if name not in COLUMNS]
    if missing or strange or len(cells) > len(COLUMNS):
        said = [f"lacks {', '.join(missing[:3])}{' …' * (len(missing) > 3)}"] if missing else []
        said += (
            [f"has {', '.join(check.plain(name, 40) or repr(name) for name in strange[:3])} besides"] if strange else []
        )
        raise InputError(
            f"{path}:1: expected the {len(COLUMNS)} columns of PersonaMem-v2; the table"
            f" {' and '.join(said) or 'has a column twice'}"
        )
    return cells


def _entry(path: Path, line: int, header: list[str], cells: list[str]) -> Entry | Torn:
    row = dict(zip(header, cells, strict=False))
    entry = Entry(row, orjson.dumps(cells), str(path), line)
    if len(cells) != len(header):
        return Torn(entry, RecordError(f"expected {len(header)} cells, found {len(cells)}", reason="schema"))
    return entry


def _rejected(path: Path) -> Iterator[Entry | Torn]:
    for name, number, lines in Chunks((str(path),)):
        for found in Reader(("error",)).entries(name, number, lines):
            if isinstance(found, Torn):
                yield found
                continue
            error = found.record
            place = Entry(error["record"] or {}, found.line, error["file"] or name, error["line"] or found.number)
            if set(place.record) == set(COLUMNS):
                yield place
            else:
                yield Torn(place, RecordError("an error record that holds no row of PersonaMem-v2", reason="schema"))


def place(file: str) -> tuple[str | None, str]:
    """Split and folder of a table by its path; a table of another name has no split, of another folder is text."""
    path = Path(file)
    return SPLITS.get(path.stem), path.parent.name if path.parent.name in FOLDERS else FOLDERS[0]


def linked(link: str, table: str) -> Path | None:
    """The file that a row links to: under the data set's root, three folders up at most, or beside the table."""
    inside(link)
    above = list(Path(table).absolute().parents)[:3]
    for path in (*(folder / link for folder in above), above[0] / PurePosixPath(link).name):
        if path.is_file():
            return path
    return None


def inside(link: str) -> str:
    """The link itself; RecordError if it leads out of the data set."""
    path = PurePosixPath(link)
    if path.is_absolute() or ".." in path.parts or "\0" in link or not path.name:
        raise RecordError(f"'{check.plain(link, 80)}' leads out of the data set", reason="schema")
    return link


def json_object(path: Path) -> dict[str, Any]:
    """A file that holds a JSON object; RecordError otherwise."""
    try:
        value = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as fault:
        raise RecordError(f"{path}: can't be read as JSON: {fault}", reason="json") from None
    if not isinstance(value, dict):
        raise RecordError(f"{path}: expected a JSON object", reason="schema")
    return value


def sound(kind: str, record: dict[str, Any]) -> dict[str, Any]:
    """The record itself; RecordError if what was read makes none that its schema allows."""
    if check.validator(kind)(record):
        return record
    fault = check.first_fault(check.schema(kind), record)
    raise RecordError(f"makes no {kind}: {fault.message}", reason="schema", pointer=fault.pointer)
