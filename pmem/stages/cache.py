"""`pmem cache`: what the response cache holds; removing it, handing it on."""

import contextlib
import datetime
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pmem.errors import REJECTED, InputError, OutputError
from pmem.stream.config import OwnOption
from pmem.stream.options import INPUT, OUTPUT, bundle, config_option, quiet_option
from pmem.stream.sink import Sink
from pmem.stream.source import Chunks, stdin_is_terminal

if TYPE_CHECKING:
    import sqlite3

AGES = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class When(click.ParamType[int]):
    """A moment, as Unix seconds: a date or time (local where it names no zone), or an age such as 30d."""

    name = "WHEN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """What the user wrote, as Unix seconds."""
        if age := re.fullmatch(r"(\d{1,6})([mhdw])", str(value)):
            return int(time.time()) - int(age[1]) * AGES[age[2]]
        try:
            return int(datetime.datetime.fromisoformat(str(value)).timestamp())
        except (ValueError, OverflowError):
            self.fail(f"'{value}' is neither a date such as 2026-01-31 nor an age such as 30d, 12h", param, ctx)


cache_option = click.option(
    "--cache", type=click.Path(dir_okay=False), help="Response cache (default: in the user's cache)."
)
wanted_options = bundle(
    click.option("--model", cls=OwnOption, metavar="KIND:NAME", help="Of this model; * stands for anything."),
    click.option("--step", cls=OwnOption, metavar="STAGE/STEP", help="Of this step: judge/blind, 'judge/*'."),
    click.option("--since", cls=OwnOption, type=When(), help="Made then or later: a date, or an age such as 7d."),
    click.option("--before", "--older-than", "before", cls=OwnOption, type=When(), help="Made before then."),
    cache_option,
    config_option,
)


@contextlib.contextmanager
def _database(
    cache: str | None, *, writes: bool = False, new: bool = False
) -> "Iterator[tuple[Path, sqlite3.Connection]]":
    """The cache's file, open. new: make it if it isn't there."""
    import sqlite3

    from pmem.backends.cache import path_of
    from pmem.backends.cache_file import connect
    from pmem.backends.cache_mend import is_corrupt

    path = path_of(cache)
    if not new and not path.exists():
        raise InputError(f"no response cache at {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = connect(path, writes=writes)
    except OSError as fault:
        raise OutputError(f"response cache {path}: {fault}") from None
    except sqlite3.Error as fault:
        raise OutputError(_told(path, fault, is_corrupt(fault))) from None
    try:
        yield path, db
    except sqlite3.Error as fault:
        raise OutputError(_told(path, fault, is_corrupt(fault))) from None
    finally:
        db.close()


def _told(path: Path, fault: Exception, corrupt: bool) -> str:
    then = "; the next run that uses it sets it aside and keeps what can be read" if corrupt else ""
    return f"response cache {path}: {fault}{then}"


@click.group(epilog="Examples: pmem cache stats --since 7d | pmem cache prune --older-than 90d")
def command() -> None:
    """List, count, prune or share the stored replies.

    Runs keep every reply in a file, the response cache, so that a command which was broken off or is repeated asks for
    none of them again. All of these may be used while runs go on.
    """


@command.command(epilog="Examples: pmem cache ls --step 'judge/*' | pmem cache ls --latest 5")
@click.option("--latest", cls=OwnOption, type=click.IntRange(min=1), help="List so many single replies instead.")
@wanted_options
def ls(latest: int | None, cache: str | None, **which: Any) -> None:
    """List what is stored, by model and step."""
    from pmem.backends import replies
    from pmem.report import stored

    wanted = replies.Wanted(**which)
    with _database(cache) as (_, db):
        if latest:
            for row in replies.latest(db, wanted, latest):
                click.echo(stored.line(*row))
        else:
            click.echo(stored.table(replies.groups(db, wanted)))


@command.command(epilog="Example: pmem cache stats --since 2026-01-01")
@wanted_options
def stats(cache: str | None, **which: Any) -> None:
    """Count replies and tokens, by model.

    Tokens are as the servers told them. Cut off: ended by --max-tokens; refused: by the model.
    """
    from pmem.backends import replies
    from pmem.report import stored

    with _database(cache) as (path, db):
        tokens = replies.tokens(db, replies.Wanted(**which))
        count = sum(one.replies for one in tokens.values())
        click.echo(f"{path}: {stored.size(_on_disk(path))}, {stored.counted(count)}\n\n{stored.tokens(tokens)}")


@command.command(epilog="Example: pmem cache prune --older-than 90d --dry-run")
@click.option("--all", "everything", is_flag=True, help="Remove every reply.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed.")
@wanted_options
@quiet_option
def prune(everything: bool, dry_run: bool, cache: str | None, quiet: bool, **which: Any) -> None:
    """Remove replies for good; what they cost has to be paid again.

    The options say which: those that fit all of them.
    """
    from pmem.backends import replies
    from pmem.report import stored

    wanted = replies.Wanted(**which)
    if (wanted == replies.Wanted()) != everything:
        raise click.UsageError("say which replies (--older-than 90d, --model, --step), or --all")
    with _database(cache, writes=not dry_run) as (path, db):
        groups = replies.groups(db, wanted)
        size = stored.size(sum(group.size for group in groups))
        if dry_run:
            click.echo(stored.table(groups))
            said = f"would remove {stored.counted(sum(group.replies for group in groups))} of {size}"
        else:
            said = f"removed {stored.counted(replies.prune(db, wanted))} of {size}"
            replies.give_back(db)
            said += f"; the file has {stored.size(_on_disk(path))} now"
    if not quiet:
        click.echo(f"pmem cache prune: {said}", err=True)


@command.command(epilog="Example: pmem cache export --model 'openai:*' | jq -r .text")
@click.option("-o", "--output", type=OUTPUT, help="Write here instead of stdout; complete or not at all.")
@wanted_options
@quiet_option
def export(output: str | None, cache: str | None, quiet: bool, **which: Any) -> None:
    """Write stored replies as JSON lines.

    A line has the reply's key, model, step, when it was made, its text, usage and finish (or its likelihoods).
    """
    from pmem.backends import replies
    from pmem.report import stored

    unreadable = 0
    with _database(cache) as (_, db):
        sink = Sink(output)
        try:
            for row in replies.rows(db, replies.Wanted(**which)):
                try:
                    sink.write(replies.exported(row))
                except ValueError:
                    unreadable += 1
            sink.commit()
        except BaseException:
            sink.leave()
            raise
    if not quiet or unreadable:
        left = f"; left out, since unreadable: {unreadable:,}" if unreadable else ""
        click.echo(f"pmem cache export: {stored.counted(sink.count)}{left}", err=True)
    if unreadable:
        sys.exit(REJECTED)


@command.command("import", epilog="Example: pmem cache export | ssh elsewhere pmem cache import")
@click.argument("files", nargs=-1, type=INPUT, metavar="[FILE]...")
@cache_option
@config_option
@quiet_option
def import_(files: tuple[str, ...], cache: str | None, quiet: bool) -> None:
    """Store what `pmem cache export` wrote.

    A reply that is there already stays as it is.
    """
    from pmem.backends import replies
    from pmem.report import stored

    if not files and stdin_is_terminal():
        raise click.UsageError("no input: name a FILE, or pipe exported replies in")
    read = new = 0
    with _database(cache, writes=True, new=True) as (_, db):
        for file, number, lines in Chunks(files):
            rows = []
            for place, line in enumerate(lines, number):
                try:
                    rows += [replies.imported(line)] if line and not line.isspace() else []
                except ValueError as fault:
                    raise InputError(f"{file}:{place}: no line of `pmem cache export`: {fault}") from None
            read, new = read + len(rows), new + replies.add(db, rows)
    if not quiet:
        click.echo(f"pmem cache import: {stored.counted(read)}, {new:,} of them new", err=True)


def _on_disk(path: Path) -> int:
    """Bytes of the file and of its log."""
    return sum(file.stat().st_size for suffix in ("", "-wal") if (file := Path(f"{path}{suffix}")).exists())
