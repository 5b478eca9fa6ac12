"""`pmem import sharegpt`: ShareGPT's conversations to histories."""

import click

from pmem.formats.items import items
from pmem.formats.logs import Log
from pmem.formats.messages import SHAREGPT, maker
from pmem.stream.options import stream_options, user_option
from pmem.stream.pipe import Pipe


@click.command(epilog="Example: pmem import sharegpt sharegpt.json -o histories.jsonl")
@stream_options(drops=True)
@user_option()
def command(pipe: Pipe, user: str | None) -> None:
    """ShareGPT's conversations to histories.

    Reads objects with `conversations` of `from` and `value`, as a list or one on each line. What tools are told and say
    is left out. A history for each object; with --user one history of all.
    """
    log = Log(SHAREGPT)
    pipe.take(items(pipe.files), maker(SHAREGPT, log, user), writes="history", gathered=log.histories)
