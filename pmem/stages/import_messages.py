"""`pmem import messages`: chats to histories."""

import click

from pmem.formats.items import items
from pmem.formats.logs import Log
from pmem.formats.messages import SOURCE, maker
from pmem.stream.options import stream_options, user_option
from pmem.stream.pipe import Pipe


@click.command(epilog="Example: pmem import messages chats.jsonl -o histories.jsonl")
@stream_options(drops=True)
@user_option()
def command(pipe: Pipe, user: str | None) -> None:
    """Chats to histories.

    Reads objects with `messages` (or `sessions` that have them) as chat APIs take them. System messages go to `system`,
    what tools are told and say is left out; other texts and numbers of the object become labels. A history for each
    object; with --user one history of all, in time order.
    """
    log = Log(SOURCE)
    pipe.take(items(pipe.files), maker(SOURCE, log, user), writes="history", gathered=log.histories)
