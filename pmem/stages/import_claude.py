"""`pmem import claude`: the chats of Claude's data export to histories."""

import click

from pmem.errors import PmemError
from pmem.formats.claude import SOURCE, account, chat
from pmem.formats.exports import conversations
from pmem.formats.logs import Log
from pmem.stream.made import Made
from pmem.stream.options import EXPORTS, stream_options, user_option
from pmem.stream.pipe import Pipe
from pmem.stream.source import Entry


@click.command(epilog="Example: pmem import claude export.zip --user ana | pmem memdump -m openai:gpt-5 --format md")
@stream_options(files=EXPORTS, drops=True)
@user_option()
def command(pipe: Pipe, user: str | None) -> None:
    """The chats of Claude's data export to histories.

    Reads the zip file that Claude sends, its folder, or conversations.json. One history of all chats in time order; an
    organisation's export makes one for each account. Without --user, users are called by their account's id. Chats in
    which nobody says anything go to --dropped.
    """
    log = Log(SOURCE)
    accounts: set[str] = set()

    def make(entry: Entry) -> Made:
        found, whose = chat(entry.record), account(entry.record)
        accounts.update([whose] if whose else [])
        if user and len(accounts) > 1:
            raise PmemError(f"not all chats are {user}'s: without --user, each of the accounts gets its own history")
        return log.add(user or whose or "me", found, entry.record)

    pipe.take(conversations(pipe.files), make, writes="history", gathered=log.histories)
