"""`pmem export csv`: results as a table for a spreadsheet."""

import click

from pmem.formats.result_table import Table
from pmem.stream.options import stream_options
from pmem.stream.pipe import Pipe


@click.command(epilog="Example: pmem export csv results.jsonl -o results.csv")
@stream_options()
def command(pipe: Pipe) -> None:
    """Results as a table of comma-separated values.

    A column for each field, one for each label (label_kind, ...), how judges voted, the options as a JSON list, and the
    reply. Texts are as they are: a spreadsheet may take one that begins with "=" for a formula.
    """
    table = Table()
    for result in pipe.records(reads="result"):
        table.add(result)
    pipe.write(table.csv().encode())
