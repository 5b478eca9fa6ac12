"""PersonaMem, version 1: multiple-choice questions on histories of several sessions.

Published as `questions_32k.csv` with `shared_contexts_32k.jsonl` beside it; also as `queries.json` with
`documents.json`, where a query's text ends with its options and documents mark who speaks.
"""

import ast
import csv
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from pmem.choices import LETTERS
from pmem.errors import InputError, RecordError
from pmem.formats.imported import Histories, Record, Session, Told, choices, keys, question, said, text
from pmem.formats.items import items
from pmem.stream.made import Made
from pmem.stream.source import Entry, Torn

SOURCE = "personamem-v1"
QUESTIONS = ("questions*.csv", "queries*.json", "queries*.json.gz")
COLUMNS = ("persona_id", "user_question_or_message", "correct_answer", "all_options", "shared_context_id")
_SIZE = re.compile(r"(?<![A-Za-z0-9])(\d+[kM])(?![A-Za-z0-9])")
_SPEAKER = re.compile(r"(?:\A|\n\n)\[(SYSTEM|USER|ASSISTANT)\] ?")
_OPTION = re.compile(r"\n\(([a-j])\) ")
_LETTER = re.compile(r"\(?([a-j])\)?(?:\s|\Z)")


def entries(paths: tuple[str, ...]) -> Iterator[Entry | Torn]:
    """Every question of tables and JSON files, and of those in folders."""
    for path in map(Path, paths):
        found = [one for pattern in QUESTIONS for one in sorted(path.glob(pattern))] if path.is_dir() else [path]
        if not found:
            raise InputError(f"{path}: holds none of {', '.join(QUESTIONS)}")
        for file in found:
            yield from _table(file) if file.suffix == ".csv" else items((str(file),))


def _table(path: Path) -> Iterator[Entry | Torn]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        try:
            if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
                raise InputError(f"{path}:1: expected the columns of PersonaMem, found none named {missing[0]}")
            for row in rows:
                named = {name: cell for name, cell in row.items() if isinstance(name, str)}
                yield Entry(named, orjson.dumps(named), str(path), rows.line_num)
        except csv.Error as fault:
            raise InputError(f"{path}:{rows.line_num}: not CSV: {fault}") from None
        except UnicodeDecodeError as fault:
            raise InputError(f"{path}: not UTF-8: {fault.reason}") from None


class Importer:
    """Makes the question of an entry.

    put_history: where histories go (None: nowhere); unplaced: questions whose history isn't there.
    """

    def __init__(self, put_history: Callable[[Record], None] | None = None) -> None:
        self._histories = Histories(SOURCE, put_history)
        self._files: dict[Path, dict[str, Any]] = {}
        self.unplaced = 0

    def __call__(self, entry: Entry) -> Made:
        """The question."""
        item, file = entry.record, Path(entry.file)
        if {"query", "gold_answers"} <= item.keys():
            return Made([self._of_query(item, file)])
        if set(COLUMNS) <= item.keys():
            return Made([self._of_row(item, file)])
        raise RecordError(f"no question: expected query and gold_answers, or a row of PersonaMem; found {keys(item)}",
                          reason="type")  # fmt: skip

    def _of_query(self, item: Record, file: Path) -> Record:
        meta = item["meta"] if isinstance(item.get("meta"), dict) else {}
        whole = text(item["query"], "/query")
        query, *marked = _OPTION.split(whole)
        _in_order(marked[::2], "/query")
        right = item["gold_answers"][-1] if isinstance(item["gold_answers"], list) and item["gold_answers"] else None
        user = text(meta.get("persona_id") or item.get("user_id"), "/meta/persona_id")
        told = self._of_documents(item, file, user)
        return _question(item.get("id") or whole, user, query, marked[1::2], right, meta, told)

    def _of_row(self, row: Record, file: Path) -> Record:
        try:
            options = ast.literal_eval(row["all_options"])
            marks = [_LETTER.match(one)[1] for one in options]  # type: ignore[index]
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise RecordError("expected a list of options (a) ...", reason="schema", pointer="/all_options") from None
        _in_order(marks, "/all_options")
        texts = [one.partition(")")[2] for one in options]
        told = self._of_context(row, file)
        key = row.get("question_id") or [row["shared_context_id"], row["user_question_or_message"]]
        query, right = row["user_question_or_message"], row["correct_answer"]
        made = _question(key, str(row["persona_id"]), query, texts, right, row, told)
        distance = str(row.get("distance_to_ref_in_tokens") or "")
        for reference in made["histories"].values():
            reference["distance_tokens"] = int(distance) if distance.isdecimal() else None
        return made

    def _of_documents(self, item: Record, file: Path, user: str) -> Told | None:
        names = item.get("gold_ids")
        known = self._beside(file, file.name.replace("queries", "documents"), _documents)
        if not isinstance(names, list) or not names or not all(isinstance(one, str) and one in known for one in names):
            self.unplaced += 1
            return None

        def make() -> tuple[str | None, list[Session]]:
            parted = [_parted(known[name]) for name in names]
            systems = dict.fromkeys(system for system, _ in parted if system)
            sessions = [Session(name, messages) for name, (_, messages) in zip(names, parted, strict=True)]
            return "\n\n".join(systems) or None, sessions

        return self._histories.told(tuple(names), _window(file), user, make)

    def _of_context(self, row: Record, file: Path) -> Told | None:
        name, end = row["shared_context_id"], str(row.get("end_index_in_shared_context") or "")
        known = self._beside(file, file.with_suffix(".jsonl").name.replace("questions", "shared_contexts"), _contexts)
        if name not in known:
            self.unplaced += 1
            return None
        cut = int(end) if end.isdecimal() else None
        return self._histories.told(
            (name, cut), _window(file), str(row["persona_id"]), lambda: _sessions(name, known[name][:cut])
        )

    def _beside(self, file: Path, name: str, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """What another file of the same folder holds, by name; nothing if it isn't there."""
        path = file.with_name(name)
        if path not in self._files:
            self._files[path] = read(path) if path.is_file() and path != file else {}
        return self._files[path]


def _question(
    key: Any, user: str, query: str, options: list[str], right: Any, meta: Record, told: Told | None
) -> Record:
    letter = _LETTER.match(right) if isinstance(right, str) else None
    place = LETTERS.lower().index(letter[1]) if letter else len(options)
    if place >= len(options):
        raise RecordError("the right answer is none of the options", reason="schema")
    labels = {name: str(meta[name]) for name in ("question_type", "topic") if meta.get(name)}
    return question(
        SOURCE,
        key,
        user=user,
        query=text(query, "/query"),
        answer=text(options[place], "/options"),
        labels=dict(labels),
        histories=told.reference() if told else {},
        topic=labels.get("topic"),
        **choices(options, place),
    )


def _in_order(marks: list[str], pointer: str) -> None:
    if len(marks) < 2 or marks != list(LETTERS.lower()[: len(marks)]):
        found = ", ".join(f"({mark})" for mark in marks) or "none"
        raise RecordError(f"expected options (a), (b) and so on, found {found}", reason="schema", pointer=pointer)


def _parted(document: str) -> tuple[str | None, list[dict[str, Any]]]:
    """The system message and the others of a document that marks who speaks."""
    before, *marked = _SPEAKER.split(document)
    if before.strip() or not marked:
        raise RecordError(
            "a document of its history begins with none of [SYSTEM], [USER], [ASSISTANT]", reason="schema"
        )
    spoken = [(mark, content.strip()) for mark, content in zip(marked[::2], marked[1::2], strict=True)]
    system = "\n\n".join(content for mark, content in spoken if mark == "SYSTEM") or None
    return system, [{"role": mark.lower(), "content": content} for mark, content in spoken if mark != "SYSTEM"]


def _sessions(name: str, messages: list[dict[str, Any]]) -> tuple[str | None, list[Session]]:
    """A context's messages, a session from each system message on."""
    if not all(isinstance(one, dict) for one in messages):
        raise RecordError("its context holds something that is no message", reason="schema")
    starts = [n for n, one in enumerate(messages) if n == 0 or one.get("role") == "system"]
    systems: dict[str, None] = {}
    sessions = []
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(messages)], strict=True)):
        own = messages[start:end]
        if own[0].get("role") == "system":
            systems[text(own[0].get("content"), "/shared_context_id")] = None
            own = own[1:]
        if own:
            sessions.append(Session(f"{name}_{number}", said(own, "/shared_context_id")))
    return "\n\n".join(systems) or None, sessions


def _documents(path: Path) -> dict[str, Any]:
    found = [(one.get("id"), one.get("content")) for one in _sound(path)]
    return {name: content for name, content in found if isinstance(name, str) and isinstance(content, str)}


def _contexts(path: Path) -> dict[str, Any]:
    return {name: messages for one in _sound(path) for name, messages in one.items() if isinstance(messages, list)}


def _sound(path: Path) -> Iterator[Record]:
    """The objects of a file that questions need; InputError at one that is torn."""
    for found in items((str(path),)):
        if isinstance(found, Torn):
            raise InputError(f"{path}: object {found.entry.number}: {found.fault}")
        yield found.record


def _window(file: Path) -> str:
    """The size that a file's name or its folder's tells, such as 32k."""
    named = _SIZE.search(file.name) or _SIZE.search(file.parent.name)
    return named[1] if named else "whole"
