"""Sheets for annotators: CSV files for spreadsheets, and forms for browsers that need nothing else.

A sheet begins with the guidelines, a row each; then come a row with the names of the columns and a row for each
question. A form saves its answers as such a CSV file.
"""

import csv
import html
import io
from pathlib import Path
from typing import Any, NamedTuple

from pmem.choices import LETTERS
from pmem.draws import Draw, fingerprint
from pmem.report.annotation.dimensions import dimensions, guidelines
from pmem.report.cited import message_text
from pmem.report.standalone import standalone

Record = dict[str, Any]
Row = dict[str, str]
ABOUT = ("id", "person", "chat", "query", "query_topic", "preference", "preference_topic")
LONGEST = 30_000
"""Characters of a cell; a spreadsheet takes 32,767 and spreads what is longer over further rows."""
ACTIVE = "=+-@\t\r＝＋－＠"
"""What makes a spreadsheet take a cell for a formula when it stands first."""
BOM = "\ufeff"
"""Without it, Excel reads a CSV file in the encoding of the computer's language."""


class Sheet(NamedTuple):
    """One annotator's questions. columns: those of the CSV file; shown: the texts of each question in pieces."""

    name: str
    columns: list[str]
    rows: list[Row]
    shown: list[Record]


def sheet(questions: list[Record], people: dict[str, str], *, name: str, number: int, seed: int) -> Sheet:
    """A sheet of the questions in an order of its own. people: who somebody is, by the persona's id; number: of the
    annotator."""
    order = Draw(seed, str(number), "annotate").shuffled(questions)
    letters = LETTERS[: max((len(qa["options"]) for qa in questions), default=0)]
    columns = [*ABOUT, *letters, *(one.name for one in dimensions()), "comment"]
    return Sheet(name, columns, [_row(qa, people) for qa in order], [_shown(qa) for qa in order])


def as_csv(made: Sheet, delimiter: str) -> str:
    """The sheet as CSV: quoted throughout, with a byte order mark, formulas made harmless."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    for line in [*_head(), made.columns]:
        writer.writerow(line)
    for row in made.rows:
        writer.writerow([harmless(row.get(column, "")) for column in made.columns])
    return BOM + text.getvalue()


def as_form(made: Sheet, delimiter: str) -> str:
    """The sheet as one HTML page without anything from elsewhere. Texts reach it as data: no markup in them has an
    effect, and the page runs no script but its own."""
    data = {
        "name": made.name,
        "store": f"pmem-annotate-{fingerprint([made.name, [row['id'] for row in made.rows]])}",
        "delimiter": delimiter,
        "active": ACTIVE,
        "guidelines": guidelines(),
        "dimensions": [{**one._asdict(), "choices": one.choices()} for one in dimensions()],
        "head": [*_head(), made.columns],
        "rows": made.rows,
        "shown": made.shown,
    }
    return standalone(Path(__file__).parent, data, heading=html.escape(made.name))


def harmless(text: str) -> str:
    """Text that a spreadsheet takes for text: with an apostrophe where it would take it for a formula."""
    return "'" + text if text.startswith(tuple(ACTIVE)) else text


def _head() -> list[list[str]]:
    """The rows before the names of the columns."""
    asked = [f"{one.name}: {one.question} {one.hint} ({one.choices_in_words()})" for one in dimensions()]
    return [[line] for line in [*guidelines(), *asked]]


def _row(qa: Record, people: dict[str, str]) -> Row:
    preference = qa["preference"]
    about = {
        "id": qa["id"],
        "person": people.get(qa["persona_id"] or "", ""),
        "chat": "\n\n".join(f"{message['role'].capitalize()}: {message_text(message)}" for message in qa["snippet"]),
        "query": qa["query"],
        "query_topic": qa["query_topic"] or "",
        "preference": _preference(qa) if preference else "",
        "preference_topic": preference["topic"] if preference else "",
    }
    options = dict(zip(LETTERS, qa["options"], strict=False))
    return {name: _clean(text) for name, text in (about | options).items()}


def _shown(qa: Record) -> Record:
    messages = [{"role": message["role"], "text": _clean(message_text(message))} for message in qa["snippet"]]
    return {"messages": messages, "letters": list(LETTERS[: len(qa["options"])])}


def _preference(qa: Record) -> str:
    """The preference, whose it is if not the user's own, and what it replaced."""
    preference, previous = qa["preference"], qa["previous"]
    owner = preference["owner"]
    notes = {"self": "", "hypothetical": "only tried out on the assistant"}
    whose = notes.get(owner["who"], f"somebody else's: {owner['relation']}" if owner["relation"] else "somebody else's")
    note = [whose, f"before: {previous['text']}" if previous else ""]
    after = "; ".join(part for part in note if part)
    return f"{preference['text']} ({after})" if after else str(preference["text"])


def _clean(text: str) -> str:
    """Text without control characters, its line breaks all of one kind, cut to what a cell takes."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    plain = "".join(char if char in "\n\t" or char >= " " else "\ufffd" for char in lines)
    return plain if len(plain) <= LONGEST else plain[:LONGEST] + "… (cut)"
