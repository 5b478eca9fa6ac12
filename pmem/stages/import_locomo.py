"""`pmem import locomo`: very long chats of two people, and questions with free answers about them."""

import click

from pmem.formats.locomo import Importer, entries
from pmem.stream.config import OwnOption
from pmem.stream.options import OUTPUT, SOURCES, stream_options
from pmem.stream.pipe import Pipe


@click.command(epilog="Example: pmem import locomo locomo10.json --histories histories.jsonl -o questions.jsonl")
@stream_options(files=SOURCES)
@click.option("--histories", cls=OwnOption, type=OUTPUT, help="Put the history records here.")
def command(pipe: Pipe, histories: str | None) -> None:
    """Questions and histories of LoCoMo.

    The first speaker's turns are the user's, the second's the assistant's; each begins with the speaker's name, and
    images stand there by their captions. Questions of category 5 without an answer of their own are labelled
    `abstention: yes`, and judged by whether the reply says that it isn't known.
    """
    importer = Importer(pipe.beside(histories, "history") if histories else None)
    pipe.take(entries(pipe.files), importer, writes="qa")
