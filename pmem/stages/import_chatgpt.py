"""`pmem import chatgpt`: the chats of ChatGPT's data export to a history."""

import click

from pmem.formats.chatgpt import SOURCE, chat
from pmem.formats.exports import conversations
from pmem.formats.logs import Log
from pmem.stream.made import Made
from pmem.stream.options import EXPORTS, stream_options, user_option
from pmem.stream.pipe import Pipe
from pmem.stream.source import Entry


@click.command(epilog="Example: pmem import chatgpt export.zip --user ana | pmem memdump -m openai:gpt-5 --format md")
@stream_options(files=EXPORTS, drops=True)
@user_option(default="me")
def command(pipe: Pipe, user: str) -> None:
    """The chats of ChatGPT's data export to a history.

    Reads the zip file that ChatGPT sends, its folder, or conversations.json (also -000.json and so on). One history of
    all chats in time order; of each chat the branch that its user saw last. What they asked not to be remembered, and
    chats in which nobody says anything, go to --dropped.
    """
    log = Log(SOURCE)

    def make(entry: Entry) -> Made:
        item = entry.record
        if item.get("is_do_not_remember") is True:
            return Made([], dropped=[(item, "its user asked for it not to be remembered")])
        return log.add(user, chat(item), item)

    pipe.take(conversations(pipe.files), make, writes="history", gathered=log.histories)
