"""The folder: a file of rows for each split, for each window of the histories, for the personas, and the card."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import orjson

from pmem.errors import InputError
from pmem.formats.hugging_face.card import Counts, Files, card
from pmem.formats.hugging_face.columns import row
from pmem.stream.folder import Folder

UNSPLIT = "unsplit"
Record = dict[str, Any]


class Writer:
    """Writes questions into a folder; then the histories and personas that they name; then the card."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._files: Files = {"questions": {}}
        self._counts = Counts()
        self._histories: Counter[str] = Counter()  # questions that name each
        self._personas: set[str | None] = set()

    def question(self, qa: Record) -> None:
        """Write a question."""
        split = qa["split"] or UNSPLIT
        self._add("questions", split, f"data/{split}.jsonl", "qa", qa)
        self._counts.question(qa, split)
        self._personas.add(qa["persona_id"])
        self._histories.update(place["id"] for place in qa["histories"].values())

    def histories(self, records: Iterable[Record], name: str) -> None:
        """Write the histories that questions name; InputError if one is missing. name: the file they come from."""
        for record in records:
            if self._histories.pop(record["id"], 0):
                window = re.sub(r"\W", "_", record["window"])
                self._add("histories", window, f"histories/{window}.jsonl", "history", record)
                self._counts.history(record)
        for own_id, count in self._histories.items():
            raise InputError(
                f"{name}: holds no history {own_id}, which {count:,} question{'s name' if count > 1 else ' names'}"
            )

    def personas(self, records: Iterable[Record]) -> None:
        """Write the personas that questions name."""
        for record in records:
            if record["id"] in self._personas:
                self._add("personas", "personas", "personas.jsonl", "persona", record)
                self._counts.persona(record)

    def card(self, title: str, audit: Record | None) -> None:
        """Write the dataset card."""
        self._folder.file("README.md", card(title, self._files, self._counts, audit))

    def _add(self, config: str, split: str, path: str, kind: str, record: Record) -> None:
        self._files.setdefault(config, {})[split] = path
        self._folder.append(path, orjson.dumps(row(kind, record), option=orjson.OPT_APPEND_NEWLINE))
