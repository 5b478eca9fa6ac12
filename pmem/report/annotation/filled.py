"""Reading sheets that annotators filled in, as forms save them and as spreadsheets do."""

import csv
import io
import sys
from typing import NamedTuple

from pmem.check import plain
from pmem.errors import InputError
from pmem.report.annotation.dimensions import UNSURE, Dimension, dimensions
from pmem.stream.source import Chunks

SAME = {
    "y": "yes", "1": "yes", "true": "yes", "n": "no", "0": "no", "false": "no",
    "can't tell": UNSURE, "cant tell": UNSURE, "unsure": UNSURE,
}  # fmt: skip
"""Other ways to write an answer."""
DELIMITERS = ",;\t"

Answers = dict[str, str]
"""Name of a dimension -> answer; one that was left blank is absent."""


class Filled(NamedTuple):
    """A sheet as it came back: question id -> answers, in the sheet's order."""

    file: str
    answers: dict[str, Answers]


def filled(file: str) -> Filled:
    """Read a sheet. InputError names file, row (as spreadsheets number them) and column of what can't be read."""
    rows, start = _table(file)
    head = [name.strip().lower() for name in rows[start]]
    if missing := [one.name for one in dimensions() if one.name not in head]:
        raise InputError(f"{file}: row {start + 1}: no column {', '.join(missing)}")
    answers: dict[str, Answers] = {}
    for number, row in enumerate(rows[start + 1 :], start + 2):
        cells = dict(zip(head, (cell.strip() for cell in row), strict=False))
        if not any(cells.values()):
            continue
        own_id = cells.get("id", "")
        if not own_id:
            raise InputError(f"{file}: row {number}: column id is empty")
        if own_id in answers:
            raise InputError(f"{file}: row {number}: question {plain(own_id, 40)} stands in two rows")
        answers[own_id] = {}
        for one in dimensions():
            if given := cells.get(one.name):
                answers[own_id][one.name] = _answer(given, one, f"{file}: row {number}: column {one.name}")
    return Filled(file, answers)


def same_sample(sheets: list[Filled]) -> None:
    """InputError naming the ids that differ if not all sheets are about the same questions."""
    first = sheets[0]
    for sheet in sheets[1:]:
        lacks = [one for one in first.answers if one not in sheet.answers]
        more = [one for one in sheet.answers if one not in first.answers]
        if lacks or more:
            parts = [f"lacks {_some(lacks)}"] * bool(lacks) + [f"has {_some(more)} besides"] * bool(more)
            raise InputError(f"{sheet.file}: not the questions of {first.file}: {'; '.join(parts)}")


def _table(file: str) -> tuple[list[list[str]], int]:
    """The rows of a CSV file, and which of them names the columns."""
    text = _text(file)
    csv.field_size_limit(sys.maxsize)
    for delimiter in DELIMITERS:
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        except csv.Error as fault:
            raise InputError(f"{file}: not a CSV file: {fault}") from None
        for number, row in enumerate(rows):
            names = {name.strip().lower() for name in row}
            if "id" in names and any(one.name in names for one in dimensions()):
                return rows, number
    raise InputError(f"{file}: no row names the columns id, {', '.join(one.name for one in dimensions())}")


def _text(file: str) -> str:
    content = b"\n".join(line for _, _, lines in Chunks((file,)) for line in lines)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:  # a spreadsheet's "CSV" in an old encoding: what is read here is ASCII
        return content.decode("latin-1")


def _answer(given: str, dimension: Dimension, place: str) -> str:
    """An answer as the dimension calls it."""
    said = given.lower().replace("’", "'")
    if dimension.answers == "yes-no" or said not in ("y", "n"):
        said = SAME.get(said, said)
    for choice in dimension.choices():
        if said == choice.lower() or said.replace("-", "_").replace(" ", "_") == choice:
            return choice
    raise InputError(f"{place}: expected {dimension.choices_in_words()}, found {plain(given, 60)}")


def _some(ids: list[str]) -> str:
    more = f" and {len(ids) - 3:,} more" if len(ids) > 3 else ""
    return ", ".join(plain(one, 40) for one in ids[:3]) + more
