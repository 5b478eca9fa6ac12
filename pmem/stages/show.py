"""`pmem show`: records, rendered for reading."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from pmem.check import TYPES
from pmem.errors import InputError
from pmem.stream.options import config_option
from pmem.stream.source import records, stdin_is_terminal

ID = re.compile(r"[a-z]-[0-9a-f]+\Z")


@click.command(epilog="Examples: pmem show questions.jsonl q-5e1f | pmem show conversations.jsonl --limit 3")
@click.argument("file", required=False, metavar="[FILE]")
@click.argument("own_id", required=False, metavar="[ID]")
@click.option("--limit", type=click.IntRange(min=0), help="Show only this many records.")
@config_option
def command(file: str | None, own_id: str | None, limit: int | None) -> None:
    """Render records for reading.

    All records of FILE (or stdin), or those whose id begins with ID: a conversation as a conversation, a question
    with its options and votes. On a terminal, in a pager.
    """
    if file and not own_id and ID.match(file) and not Path(file).exists() and not stdin_is_terminal():
        file, own_id = None, file
    if file is None and stdin_is_terminal():
        raise click.UsageError("no input: name a FILE, or pipe records in")
    if file and file != "-" and (not Path(file).exists() or Path(file).is_dir()):
        raise click.UsageError(f"no file '{file}'")
    pages = _pages((file,) if file else (), own_id, limit)
    if sys.stdout and sys.stdout.isatty():
        click.echo_via_pager(pages)
        return
    for page in pages:
        click.echo(click.unstyle(page))


def _pages(files: tuple[str, ...], own_id: str | None, limit: int | None) -> Iterator[str]:
    from pmem.report.reading import rendered

    shown = 0
    for record in records(files, *TYPES) if limit != 0 else ():
        if own_id is None or str(record.get("id", "")).startswith(own_id):
            shown += 1
            yield rendered(record) + "\n"
            if shown == limit:
                return
    if own_id and not shown and limit != 0:
        raise InputError(f"no record's id begins with {own_id}")
