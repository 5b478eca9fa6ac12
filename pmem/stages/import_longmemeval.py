"""`pmem import longmemeval`: questions with free answers, and the dated sessions that they are about."""

import click

from pmem.formats.items import items
from pmem.formats.longmemeval import Importer
from pmem.stream.config import OwnOption
from pmem.stream.options import OUTPUT, SOURCES, stream_options
from pmem.stream.pipe import Pipe


@click.command(
    epilog="Example: pmem import longmemeval longmemeval_s.json --histories histories.jsonl -o questions.jsonl"
)
@stream_options(files=SOURCES)
@click.option("--histories", cls=OwnOption, type=OUTPUT, help="Put the history records here.")
def command(pipe: Pipe, histories: str | None) -> None:
    """Questions and histories of LongMemEval.

    Every question has a history of its own. The date of a session stands before its first message, that of the
    question before the question: many can't be answered without. Questions that the history doesn't answer (`_abs`)
    are labelled `abstention: yes`, and judged by whether the reply says so.
    """
    importer = Importer(pipe.beside(histories, "history") if histories else None)
    pipe.notes.append(lambda: f"{importer.unplaced:,} without a history" if importer.unplaced else "")
    pipe.take(items(pipe.files), importer, writes="qa")
