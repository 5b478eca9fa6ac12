"""`pmem show`: records, rendered for reading."""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from pmem.check import TYPES
from pmem.errors import InputError
from pmem.stream.options import INPUT, config_option
from pmem.stream.source import records, stdin_is_terminal

ID = re.compile(r"[a-z]-[0-9a-f]+\Z")


@click.command(epilog="Examples: pmem show questions.jsonl q-5e1f | pmem show conversations.jsonl --limit 3")
@click.argument("file", required=False, metavar="[FILE]")
@click.argument("own_id", required=False, metavar="[ID]")
@click.option("--limit", type=click.IntRange(min=0), help="Show only this many records.")
@click.option("--histories", type=INPUT, multiple=True,
              help="The chats that memories were made from: below each statement stands what it rests on.")  # fmt: skip
@config_option
def command(file: str | None, own_id: str | None, limit: int | None, histories: tuple[str, ...]) -> None:
    """Render records for reading.

    All records of FILE (or stdin), or those whose id begins with ID: a conversation as a conversation, a question
    with its options and votes, a memory with what each statement rests on. On a terminal, in a pager.
    """
    if file and not own_id and ID.match(file) and not Path(file).exists() and not stdin_is_terminal():
        file, own_id = None, file
    if file is None and stdin_is_terminal():
        raise click.UsageError("no input: name a FILE, or pipe records in")
    if file and file != "-" and (not Path(file).exists() or Path(file).is_dir()):
        raise click.UsageError(f"no file '{file}'")
    pages = _pages((file,) if file else (), own_id, limit, histories)
    if sys.stdout and sys.stdout.isatty():
        click.echo_via_pager(pages)
        return
    for page in pages:
        click.echo(click.unstyle(page))


def _pages(files: tuple[str, ...], own_id: str | None, limit: int | None, histories: tuple[str, ...]) -> Iterator[str]:
    from pmem.report import cited
    from pmem.report.reading import rendered

    found: Iterable[dict[str, Any]] = _chosen(files, own_id, limit)
    words = None
    if histories:
        found = list(found)  # what they cite has to be known before the histories are read
        words = cited.words(histories, cited.places(one for one in found if one["type"] == "memory"))
    for record in found:
        yield rendered(record, words) + "\n"


def _chosen(files: tuple[str, ...], own_id: str | None, limit: int | None) -> Iterator[dict[str, Any]]:
    shown = 0
    for record in records(files, *TYPES) if limit != 0 else ():
        if own_id is None or str(record.get("id", "")).startswith(own_id):
            shown += 1
            yield record
            if shown == limit:
                return
    if own_id and not shown and limit != 0:
        raise InputError(f"no record's id begins with {own_id}")
