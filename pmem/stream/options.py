"""The options that every command on the pipe has, as one decorator that hands the command its Pipe."""

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from pmem.stream.config import OwnOption, apply
from pmem.stream.pipe import Pipe
from pmem.stream.source import stdin_is_terminal

F = TypeVar("F", bound=Callable[..., Any])
Command = Callable[..., None]

INPUT = click.Path(exists=True, dir_okay=False, allow_dash=True)
OUTPUT = click.Path(dir_okay=False)
FOLDER = click.Path(file_okay=False)


def bundle(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several click options as one decorator, shown in the given order."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


config_option = click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=apply,
    help="Defaults of options (else the nearest pmem.toml, upward from here).",
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No summary line and no notes on stderr.")
seed_option = click.option(
    "--seed", type=click.IntRange(-(2**63), 2**63 - 1), default=0, show_default=True, help="Seed of every random draw."
)
histories_option = click.option(
    "--histories", type=click.Path(), help="File of history records, looked up by id (may still be growing)."
)


def user_option(*, default: str | None = None) -> Callable[[F], F]:
    """`--user NAME`, of commands that read a person's log."""
    return click.option("--user", cls=OwnOption, metavar="NAME", default=default, show_default=bool(default),
                        help="Whose log it is: the user_id of the history and its memory.")  # fmt: skip


def images_option(text: str) -> Callable[[F], F]:
    """`--images DIR`, with its help."""
    return click.option("--images", type=click.Path(exists=True, file_okay=False), metavar="DIR", help=text)


def keep_apart(ctx: click.Context) -> None:
    """Usage error if two outputs are one file, or if one is to be written where an input stands.

    -o and --rejects may name the command's own FILE, and -o what --previous names: all of it has been read when they
    take its place.
    """
    given = ctx.params
    paths = {str(param.name): param for param in ctx.command.params if isinstance(param.type, click.Path)}
    outputs = {option: param.opts[-1] for option, param in paths.items() if param.type in (OUTPUT, FOLDER)}
    read = {
        os.path.realpath(name)
        for option in paths
        if option not in ("files", "before", *outputs)
        for name in _listed(given.get(option))
    }
    own = {os.path.realpath(name) for name in given["files"]}
    written: set[str] = set()
    for option in sorted(outputs, key="output".__ne__):  # stdout is an output too
        name = given.get(option) or ("-" if option == "output" else None)
        if name is None or (name != "-" and os.path.exists(name) and not os.path.isfile(name)):
            if (
                name
                and os.path.isdir(name)
                and any(one.startswith(os.path.realpath(name) + os.sep) for one in own | read)
            ):
                raise click.UsageError(f"{name}: holds what is read; write to another folder")
            continue  # a device, a pipe
        path = "-" if name == "-" else os.path.realpath(name)
        if path in written:
            raise click.UsageError(
                "two outputs can't both go to stdout" if path == "-" else f"{name}: two outputs can't be one file"
            )
        if path in read or (option not in ("output", "rejects") and path in own):
            raise click.UsageError(f"{name}: {outputs[option]} would write over what is read")
        if f"{path}.part" in own | read:
            raise click.UsageError(f"{path}.part is where {name} is written: rename that input")
        written.add(path)


def _listed(value: Any) -> list[str]:
    """The paths of an option, given once, several times or not at all."""
    return [str(one) for one in value] if isinstance(value, tuple) else [str(value)] if value else []


FILES = click.argument("files", nargs=-1, type=INPUT, metavar="[FILE]...")
SOURCES = click.argument("files", nargs=-1, required=True, type=click.Path(exists=True), metavar="FOLDER|FILE...")
"""Other people's files, beside which more of them may lie."""
EXPORTS = click.argument(
    "files", nargs=-1, type=click.Path(exists=True, allow_dash=True), metavar="[ZIP|FOLDER|FILE]..."
)
TO_FILE = click.option("-o", "--output", type=OUTPUT, help="Write here instead of stdout; complete or not at all.")
TO_FOLDER = click.option(
    "-o", "--output", type=FOLDER, required=True, help="The folder to make; complete or not at all."
)
_STREAM = (
    click.option("--rejects", type=OUTPUT, help="Put broken records here and go on (exit status 3)."),
    click.option("--limit", type=click.IntRange(min=0), help="Read only this many records."),
    config_option,
    click.option("--progress", is_flag=True, help="Show a progress bar, terminal or not."),
    quiet_option,
)
_DROPPED = click.option("--dropped", type=OUTPUT, help="Put what is left out on purpose here, with the reasons.")


def stream_options(
    *, drops: bool = False, files: Callable[[Any], Any] = FILES, to: Callable[[Any], Any] = TO_FILE
) -> Callable[[Command], Command]:
    """Give the command a `pipe`, made from [FILE]... -o --rejects --limit --progress -q (and --dropped).

    files: another argument in the place of [FILE]...; to: TO_FOLDER where the output is a folder (`pipe.output`).
    """

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def with_pipe(
            files: tuple[str, ...],
            output: str | None,
            rejects: str | None,
            limit: int | None,
            progress: bool,
            quiet: bool,
            dropped: str | None = None,
            **rest: Any,
        ) -> None:
            ctx = click.get_current_context()
            if not files and stdin_is_terminal():
                raise click.UsageError("no input: name a FILE, or pipe records in", ctx)
            keep_apart(ctx)
            pipe = (ctx.obj or Pipe)(  # a worker's command has a pipe of another kind
                stage=_title(ctx),
                files=files,
                output=output,
                rejects=rejects,
                dropped=dropped,
                limit=limit,
                quiet=quiet,
                progress=progress,
            )
            function(pipe=pipe, **rest)

        made: Command = bundle(files, to, _STREAM[0], *([_DROPPED] if drops else []), *_STREAM[1:])(with_pipe)
        return made

    return decorate


def _title(ctx: click.Context) -> str:
    """The command as users type it: "judge", "import personamem-v2"."""
    names = [str(ctx.info_name)]
    while ctx.parent and ctx.parent.parent:
        ctx = ctx.parent
        names.insert(0, str(ctx.info_name))
    return " ".join(names)
