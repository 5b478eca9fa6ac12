"""`pmem memlog`: the history of a memory, like the log and the blame of a file."""

import sys
from typing import Any

import click

from pmem.errors import InputError
from pmem.stream.options import config_option
from pmem.stream.source import records, stdin_is_terminal


@click.command(
    epilog="Examples: pmem memlog ana --memories trace.jsonl | pmem memlog ana --memories trace.jsonl --blame"
)
@click.argument("user_id", metavar="USER")
@click.option("--memories", multiple=True, metavar="FILE",
              help="Records of `pmem memdump --trace`; repeat it for one night after the other.")  # fmt: skip
@click.option("--blame", is_flag=True, help="Entry by entry: since which chunk, last changed, by which messages.")
@click.option("--history", "history_id", metavar="ID", help="Only memories of this history, where a user has several.")
@config_option
def command(user_id: str, memories: tuple[str, ...], blame: bool, history_id: str | None) -> None:
    """The history of a memory: what came, changed, went.

    For each memory of USER (or of the only user whose id begins so) what is new, what is said differently
    ([-before-] {+after+}) and what is gone, with the messages that it rests on.
    """
    from pmem.report import memory_log

    if not memories and stdin_is_terminal():
        raise click.UsageError("no input: name a file with --memories, or pipe records in")
    found = _of_user(user_id, memories, history_id)
    text = memory_log.blame(found[-1]) if blame else memory_log.log(found)
    shown = sys.stdout is not None and sys.stdout.isatty()
    click.echo(text if shown else click.unstyle(text))


def _of_user(user_id: str, files: tuple[str, ...], history_id: str | None) -> list[dict[str, Any]]:
    """The user's memories, in order; a memory that stands in several files counts once."""
    kept: dict[str, dict[str, dict[str, Any]]] = {}
    for record in records(files, "memory"):
        if record["user_id"].startswith(user_id) and history_id in (None, record["history_id"]):
            kept.setdefault(record["user_id"], {})[record["id"]] = record
    if user_id not in kept and len(kept) > 1:
        raise InputError(f"several users' ids begin with {user_id}: {', '.join([*kept][:5])}")
    if not kept:
        raise InputError(f"no memory of {user_id}" + (f" and history {history_id}" if history_id else ""))
    return list((kept.get(user_id) or next(iter(kept.values()))).values())
