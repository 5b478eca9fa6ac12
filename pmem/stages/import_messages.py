"""`pmem import messages`: chats to histories."""

import click

from pmem.formats.items import items
from pmem.formats.messages import importer
from pmem.stream.options import stream_options
from pmem.stream.pipe import Pipe


@click.command(epilog="Example: pmem import messages chats.jsonl -o histories.jsonl")
@stream_options()
def command(pipe: Pipe) -> None:
    """Chats to histories.

    Reads objects with `messages` (or `sessions` that have them) as chat APIs take them. A system message that a chat
    begins with goes to `system`; other texts and numbers of the object become labels.
    """
    pipe.take(items(pipe.files), importer, writes="history")
