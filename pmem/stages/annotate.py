"""`pmem annotate`: people judge questions: sheets for them, and how far they agree."""

import os
import time
from pathlib import Path
from typing import Any

import click
import orjson

from pmem.errors import InputError, OutputError
from pmem.report.annotation.agreement import Key, agreements, as_json, text
from pmem.report.annotation.filled import Filled, filled, same_sample
from pmem.report.annotation.sampling import Sample
from pmem.report.annotation.sheets import as_csv, as_form, sheet
from pmem.stream.options import INPUT, seed_option, stream_options
from pmem.stream.pipe import Pipe
from pmem.stream.progress import counted, seconds
from pmem.stream.sink import Sink
from pmem.stream.source import records

Record = dict[str, Any]


@click.command(
    epilog="Examples: pmem annotate questions.jsonl --sheet sheets --sample 100 --annotators 3; "
    "pmem annotate --agreement sheets/*.csv --questions questions.jsonl"
)
@stream_options()
@click.option("--sheet", "target", type=click.Path(), metavar="DIR|FILE",
              help="Write a CSV file and a form per annotator into DIR, or only FILE.csv or FILE.html.")  # fmt: skip
@click.option("--sample", type=click.IntRange(min=1), default=100, show_default=True, help="Questions on a sheet.")
@click.option("--annotators", type=click.IntRange(1, 100), default=3, show_default=True, help="Number of sheets.")
@seed_option
@click.option("--personas", multiple=True, type=INPUT,
              help="Personas, conversations or histories: sheets then say who the person is (repeatable).")  # fmt: skip
@click.option("--delimiter", type=click.Choice([",", ";"]), default=",", show_default=True,
              help="Between the cells of a CSV file; spreadsheets in many languages want ;.")  # fmt: skip
@click.option("--agreement", is_flag=True, help="Read filled-in sheets instead, and print how far they agree.")
@click.option("--questions", type=INPUT, help="agreement: the questions, to count right answers and kinds as yes.")
@click.option("--json", "as_data", is_flag=True, help="agreement: print JSON.")
def command(
    pipe: Pipe,
    target: str | None,
    sample: int,
    annotators: int,
    seed: int,
    personas: tuple[str, ...],
    delimiter: str,
    agreement: bool,
    questions: str | None,
    as_data: bool,
) -> None:
    """Sheets for people to judge questions; their agreement.

    --sheet draws questions, with the shares of kinds and cases as in the input, and asks seven things about each:
    the same questions in another order on every sheet. A sheet comes as a CSV file for a spreadsheet and as a form, an
    HTML file that keeps what was answered and saves it as such a CSV file. The names of the files go to stdout.

    --agreement reads the CSV files that come back: rates of yes, percent agreement, Cohen's and Fleiss' kappa.
    """
    if agreement:
        if target:
            raise click.UsageError("--sheet writes sheets, --agreement reads them: one at a time")
        _agree(pipe, questions, as_data=as_data)
        return
    if questions or as_data:
        raise click.UsageError("--questions and --json go with --agreement")
    if not target:
        raise click.UsageError("say --sheet DIR to write sheets, or --agreement to read filled ones")
    drawn = Sample(sample, seed)
    without = 0
    for qa in pipe.records(reads="qa"):
        if qa["options"]:
            drawn.add(qa)
        else:
            without += 1
    chosen = drawn.drawn()
    people = _people(personas, {qa["persona_id"] for qa in chosen})
    files: dict[Path, str] = {}
    for number in range(1, annotators + 1) if chosen else ():
        for path in _files(target, number, annotators):
            made = sheet(chosen, people, name=path.stem, number=number, seed=seed)
            files[path] = (as_form if path.suffix.lower() == ".html" else as_csv)(made, delimiter)
    _write(files)
    pipe.notes.append(lambda: f"{counted(len(chosen), 'question')} for {counted(annotators, 'annotator')}")
    pipe.notes.append(lambda: f"{without:,} without options left out" if without else "")
    pipe.print("\n".join(map(str, files)))


def _people(files: tuple[str, ...], wanted: set[str | None]) -> dict[str, str]:
    """Who personas are, in a line."""
    found = {}
    for record in records(files, "persona", "conversation", "history") if files else ():
        card = record if record["type"] == "persona" else record["persona"]
        if card and card["id"] in wanted:
            found[card["id"]] = card["summary"]
    return found


def _files(target: str, number: int, annotators: int) -> list[Path]:
    """Where an annotator's sheet goes."""
    path = Path(target)
    if path.suffix.lower() in (".csv", ".html"):
        return [path.with_stem(f"{path.stem}-{number}") if annotators > 1 else path]
    return [path / f"annotator-{number}{suffix}" for suffix in (".csv", ".html")]


def _write(files: dict[Path, str]) -> None:
    """Write what isn't there yet. A file that holds anything else may be filled in: then nothing is written."""
    for path, content in files.items():
        try:
            if path.exists() and path.read_bytes() != content.encode():
                raise OutputError(f"{path}: there already, maybe filled in; move it away, or name another --sheet")
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise OutputError(f"{path}: can't be written: {fault.strerror}") from None
    for path, content in files.items():
        sink = Sink(str(path))
        sink.write(content.encode())
        sink.commit()


def _agree(pipe: Pipe, questions: str | None, *, as_data: bool) -> None:
    """Print how far the sheets agree."""
    began = time.perf_counter()
    paths = [os.path.realpath(file) for file in pipe.files]
    if len(set(paths)) < len(paths):
        raise click.UsageError("a sheet is named twice: it would agree with itself")
    if pipe.output and os.path.realpath(pipe.output) in paths:
        raise click.UsageError(f"{pipe.output}: --output would write over what is read")
    sheets = [filled(file) for file in pipe.files or ("-",)]
    same_sample(sheets)
    found = agreements(sheets, _key(questions, sheets[0]) if questions else None)
    shown = (
        orjson.dumps(as_json(sheets, found), option=orjson.OPT_INDENT_2).decode() if as_data else text(sheets, found)
    )
    out = Sink(pipe.output)
    out.write(shown.encode() + b"\n")
    out.commit()
    if not pipe.quiet:
        click.echo(f"pmem annotate: {counted(len(sheets), 'sheet')} in; {seconds(began)}", err=True)


def _key(questions: str, sheet: Filled) -> Key:
    """What the records say about the questions of a sheet."""
    key: Key = {}
    for qa in records((questions,), "qa"):
        if qa["id"] in sheet.answers and qa["gold"]:
            kind = {"kind": qa["preference"]["kind"]} if qa["preference"] else {}
            key[qa["id"]] = {"personalised": qa["gold"], **kind}
    if lacking := [own_id for own_id in sheet.answers if own_id not in key]:
        raise InputError(
            f"{questions}: lacks {lacking[0]} of {sheet.file}" + f" and {len(lacking) - 1:,} more" * (len(lacking) > 1)
        )
    return key
