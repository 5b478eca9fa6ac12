"""`pmem import personamem-v1`: questions and histories of the first PersonaMem."""

import click

from pmem.formats.personamem_v1 import Importer, entries
from pmem.stream.config import OwnOption
from pmem.stream.options import OUTPUT, SOURCES, stream_options
from pmem.stream.pipe import Pipe


@click.command(
    epilog="Example: pmem import personamem-v1 questions_32k.csv --histories histories.jsonl -o questions.jsonl"
)
@stream_options(files=SOURCES)
@click.option("--histories", cls=OwnOption, type=OUTPUT, help="Put the history records here.")
def command(pipe: Pipe, histories: str | None) -> None:
    """Questions and histories of PersonaMem, version 1.

    Reads questions_SIZE.csv with shared_contexts_SIZE.jsonl beside it, or queries.json with documents.json; of a
    FOLDER, all that it holds. Options that stand in a query's text are taken out of it. System messages, which tell
    the persona, go to a history's field `system`.
    """
    importer = Importer(pipe.beside(histories, "history") if histories else None)
    pipe.notes.append(lambda: f"{importer.unplaced:,} without a history" if importer.unplaced else "")
    pipe.take(entries(pipe.files), importer, writes="qa")
