"""`pmem export parquet`: results as a typed table."""

import importlib.util

import click

from pmem.errors import MissingExtra
from pmem.formats.result_table import Table
from pmem.stream.options import stream_options
from pmem.stream.pipe import Pipe


@click.command(epilog="Example: pmem export parquet results.jsonl -o results.parquet")
@stream_options()
def command(pipe: Pipe) -> None:
    """Results as a table in a parquet file.

    The columns are those of `pmem export csv`, with their types. Needs the extra `report` (pyarrow).
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtra("export parquet", "report", instead="; `pmem export csv` needs nothing")
    table = Table()
    for result in pipe.records(reads="result"):
        table.add(result)
    pipe.write(table.parquet())
