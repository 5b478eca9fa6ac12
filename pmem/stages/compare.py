"""`pmem compare`: several runs on the same questions, side by side."""

import time
from pathlib import Path
from typing import Any

import click

from pmem.report.comparison import Comparison
from pmem.report.comparison_text import paper, rendered
from pmem.report.groups import USUAL, asked
from pmem.report.summary import strangers
from pmem.report.summary_text import FORMATS
from pmem.stream.options import INPUT, OUTPUT, config_option, quiet_option
from pmem.stream.progress import seconds
from pmem.stream.sink import Sink
from pmem.stream.source import records, stdin_is_terminal


@click.command(
    epilog="Examples: pmem compare full.jsonl memory.jsonl none.jsonl | "
    "pmem compare results.jsonl --by case,kind --paper --format markdown"
)
@click.argument("files", nargs=-1, type=INPUT, metavar="[FILE]...")
@click.option("-o", "--output", type=OUTPUT, help="Write here instead of stdout; complete or not at all.")
@click.option(
    "--by",
    metavar="LABEL,...",
    help="Breakdown: by labels, distance, window, permutation ...  [default: kind, scenario, owner; where these don't "
    "differ, each label with 2 to 20 values]",
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="Of the tables.")
@click.option("--paper", "beside", is_flag=True, help="Put the PersonaMem-v2 paper's figures beside them.")
@click.option(
    "--usage",
    "usages",
    type=INPUT,
    multiple=True,
    help="What `eval --usage` wrote, for the cost: as often as there are FILEs, in their order.",
)
@config_option
@quiet_option
def command(
    files: tuple[str, ...],
    output: str | None,
    by: str | None,
    form: str,
    beside: bool,
    usages: tuple[str, ...],
    quiet: bool,
) -> None:
    """Compare runs on the same questions.

    A run is a model in a mode and a context. Each is compared with the first one, on the questions that all have
    answers to: paired differences with intervals and tests that respect personas, by label; accuracy, tokens and cost
    side by side. FILEs hold results, and may hold the rejects of their run.
    """
    began = time.perf_counter()
    if not files and stdin_is_terminal():
        raise click.UsageError("no input: name FILEs, or pipe results in")
    if usages and len(usages) != len(files):
        raise click.UsageError(
            f"--usage has to be given for each FILE, in their order: {len(files)} times or not at all"
        )
    if output and any(Path(output).resolve() == Path(name).resolve() for name in (*files, *usages)):
        raise click.UsageError(f"{output}: -o would write over what is read")
    labels = asked(by)
    wanted = paper() if beside else None
    if wanted:
        labels = list(
            dict.fromkeys([*(USUAL if labels is None else labels), *(one["label"] for one in wanted["groups"])])
        )
    found = Comparison(labels)
    count = _read(found, files or ("-",), usages)
    told: dict[str, Any] = found.figures() if count else {"runs": [], "questions": 0}
    sink = Sink(output)
    sink.write(rendered(told, form, beside=wanted).encode() + b"\n" if count else b"")  # nothing comes of nothing
    sink.commit()
    if not quiet:
        counts = f"{count:,} results, {len(told['runs'])} runs, {told['questions']:,} questions in all of them"
        unknown = strangers(found.columns.values(), found.by)
        counts += f"; {unknown}" if unknown and not beside else ""
        click.echo(f"pmem compare: {counts}; {seconds(began)}", err=True)


def _read(found: Comparison, files: tuple[str, ...], usages: tuple[str, ...]) -> int:
    """Put everything into the comparison; the number of results."""
    count = 0
    for number, file in enumerate(files):
        name = "standard input" if file == "-" else file
        for record in records((file,), "result", "error", "usage"):
            count += record["type"] == "result"
            found.add(name, record)
        for record in records((usages[number],), "usage") if usages else ():
            found.add(name, record)
    return count
