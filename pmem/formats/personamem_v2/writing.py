"""A data set in the layout of PersonaMem-v2: tables, histories, raw personas."""

import contextlib
import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from pmem.errors import InputError, RecordError
from pmem.formats.personamem_v2 import cells, histories, layout, personas
from pmem.formats.personamem_v2.labels import Labels
from pmem.formats.personamem_v2.layout import COLUMNS, KEPT, SPLITS, WINDOWS, Row
from pmem.stream.folder import Folder

TABLES = {split: name for name, split in SPLITS.items()} | {None: "unsplit"}
Record = dict[str, Any]


class Writer:
    """Writes questions as rows into a folder, after the personas and histories that they name.

    left_out: windows that the layout has no columns for, with the number of their questions.
    """

    def __init__(self, folder: Folder, labels: Labels) -> None:
        self._folder, self._labels = folder, labels
        self._personas: dict[str, Row] | None = None
        self._histories: dict[str, str] | None = None
        self._used: set[str] = set()
        self.left_out: Counter[str] = Counter()

    def personas(self, records: Iterable[Record], name: str) -> None:
        """Write raw persona files. name: the file that the records come from."""
        self._personas = {}
        for record in records:
            with _named(name, record):
                columns = personas.cells(record)
                content = personas.content(record, self._labels)
                self._folder.file(layout.inside(columns["raw_persona_file"]), content)
            self._personas[record["id"]] = columns

    def histories(self, records: Iterable[Record], name: str) -> None:
        """Write histories of the two windows that the layout has."""
        self._histories = {}
        for record in records:
            if record["window"] not in WINDOWS:
                continue
            known = (self._personas or {}).get(record["persona_id"])
            with _named(name, record):
                link = histories.link_of(record)
                self._folder.file(link, histories.file(record, known["raw_persona_file"] if known else ""))
            self._histories[record["id"]] = link

    def question(self, qa: Record) -> None:
        """Write a question as a row; RecordError where the layout can't hold it."""
        row = self._row(qa)
        self._used |= {row["raw_persona_file"], *(row[f"chat_history_{window}_link"] for window in WINDOWS)}
        name = f"benchmark/{cells.folder(qa)}/{TABLES[qa['split']]}.csv"
        self._folder.append(name, _line(row, header=name not in self._folder))

    def end(self) -> None:
        """Take back the files that no question named."""
        for name in {*(self._histories or {}).values(), *_files(self._personas)} - self._used:
            self._folder.remove(name)

    def _row(self, qa: Record) -> Row:
        own = cells.cells(qa, self._labels)
        own |= self._persona(qa)
        kept = qa.get("labels", {})
        own = cells.restored(own, qa, self._labels)
        links = self._links(qa)
        for window in WINDOWS:
            column = f"chat_history_{window}_link"
            own[column] = links.get(window) or kept.get(KEPT + column, "")
        return own

    def _persona(self, qa: Record) -> Row:
        if self._personas is None:
            return {}
        if qa["persona_id"] not in self._personas:
            raise RecordError(
                f"the file of personas holds no {qa['persona_id']}", reason="schema", pointer="/persona_id"
            )
        return self._personas[qa["persona_id"]]

    def _links(self, qa: Record) -> dict[str, str]:
        """Paths of the question's histories by window."""
        given = qa["histories"]
        fitting = {window: given[window]["id"] for window in WINDOWS if window in given}
        if given and not fitting:
            raise RecordError(
                f"its histories are of {', '.join(given)}; the layout has columns for {' and '.join(WINDOWS)} only",
                reason="schema",
                pointer="/histories",
            )
        if self._histories is None:
            return {}
        for window, own_id in fitting.items():
            if own_id not in self._histories:
                pointer = f"/histories/{window}/id"
                raise RecordError(f"the file of histories holds no {own_id}", reason="schema", pointer=pointer)
        self.left_out.update(window for window in given if window not in WINDOWS)
        return {window: self._histories[own_id] for window, own_id in fitting.items()}


@contextlib.contextmanager
def _named(name: str, record: Record) -> Iterator[None]:
    """A fault of a record that isn't in the pipe ends the run, with its place."""
    try:
        yield
    except (RecordError, orjson.JSONDecodeError) as fault:
        raise InputError(f"{name}: {record['id']}: {fault}") from None


def _files(found: dict[str, Row] | None) -> set[str]:
    return {columns["raw_persona_file"] for columns in (found or {}).values()}


def _line(row: Row, *, header: bool) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    if header:
        writer.writeheader()
    writer.writerow(row)
    return text.getvalue().encode()
