"""`pmem eval --summary`: its options, and the run over results."""

import click

from pmem.report.summary import Summary
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
        default="kind,scenario,owner",
        show_default=True,
        metavar="LABEL,...",
        help="Breakdown of --summary: by labels, distance, window, permutation, context ...",
    ),
    click.option(
        "--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="Of --summary."
    ),
)


def print_summary(pipe: Pipe, by: str, form: str) -> None:
    """Read all records, print what they come to."""
    counted = Summary(label.strip() for label in by.split(",") if label.strip())
    for record in pipe.records(reads="result error usage"):
        counted.count(record)
    pipe.print(rendered(counted.figures(), form))
