"""`pmem eval --summary`: its options, and the run over results."""

import click

from pmem.report.groups import asked
from pmem.report.summary import Summary, strangers
from pmem.report.summary_text import FORMATS, rendered
from pmem.stream.options import bundle
from pmem.stream.pipe import Pipe

summary_options = bundle(
    click.option(
        "--summary",
        is_flag=True,
        help="Read results instead (and, if given, rejects and --usage records of their run), ask nothing, and print "
        "the table.",
    ),
    click.option(
        "--by",
        metavar="LABEL,...",
        help="Breakdown of --summary: by labels, distance, window, permutation, context ...  [default: kind, scenario, "
        "owner; where these don't differ, each label with 2 to 20 values]",
    ),
    click.option(
        "--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="Of --summary."
    ),
)


def print_summary(pipe: Pipe, by: str | None, form: str) -> None:
    """Read all records, print what they come to."""
    counted = Summary(asked(by))
    for record in pipe.records(reads="result error usage"):
        counted.count(record)
    pipe.notes.append(lambda: strangers(counted.columns.values(), counted.by))
    pipe.print(rendered(counted.figures(), form))
