"""Where training runs, by its options: in this process, or elsewhere (`elsewhere.py`)."""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from pmem.stream.folder import Folder
from pmem.stream.options import FOLDER, Command, bundle
from pmem.stream.pipe import Pipe

if TYPE_CHECKING:
    from pmem.train.verl.presets import Preset

TO_MODEL = click.option(
    "-o", "--output", type=FOLDER, help="The folder to make, with the trained model; complete or not at all."
)


def _apply(ctx: click.Context, _param: click.Parameter, name: str | None) -> "Preset | None":
    """Callback of the eager option --preset: its options become the command's defaults."""
    if name is None or ctx.resilient_parsing:
        return None
    from pmem.train.verl.presets import preset

    found = preset(name, str(ctx.info_name))
    params = {long.lstrip("-"): str(param.name) for param in ctx.command.params for long in param.opts}
    given = {params[option]: value for option, value in found.options.items()}
    ctx.default_map = {**(ctx.default_map or {}), **given}
    return found


_OPTIONS = (
    click.option("--engine", type=click.Choice(["local", "verl"]), default="local", show_default=True,
                 help="Train in this process, or with verl on a ray cluster (extra 'verl'; docs/verl.md)."),
    click.option("--preset", is_eager=True, callback=_apply, metavar="NAME",
                 help="verl: options and settings that belong together: paper-4b-8xh100, cpu."),
    click.option("--set", "keys", multiple=True, metavar="KEY=VALUE",
                 help="verl: a setting of its own (repeatable)."),
    click.option("--dry-run", is_flag=True, help="verl: only print its whole configuration and an estimate."),
    click.option("--export", type=FOLDER, metavar="DIR", help="Write verl's parquet files there instead of training."),
)  # fmt: skip


class Engine(NamedTuple):
    """The choice of a run, by its options. stage: the command's name."""

    stage: str
    name: str
    preset: "Preset | None"
    keys: tuple[str, ...]
    dry_run: bool
    export: str | None

    @property
    def elsewhere(self) -> bool:
        """Whether training isn't to run in this process."""
        return self.name != "local" or bool(self.export)


def engine_options(function: Command) -> Command:
    """Give the command an `engine`. Goes below `stream_options`."""

    @functools.wraps(function)
    def with_engine(pipe: Pipe, **given: Any) -> None:
        names = ("engine", "preset", "keys", "dry_run", "export")
        engine = Engine(pipe.stage, *(given.pop(name) for name in names))
        _check(engine, pipe)
        if engine.export:
            pipe.folder = Folder(engine.export)
        function(pipe=pipe, engine=engine, **given)

    made: Command = bundle(*_OPTIONS)(with_engine)
    return made


def _check(engine: Engine, pipe: Pipe) -> None:
    if engine.name == "local":
        for option, value in (("--set", engine.keys), ("--dry-run", engine.dry_run), ("--preset", engine.preset)):
            if value:
                raise click.UsageError(f"{option} is for --engine verl")
    if engine.export and (pipe.output or engine.dry_run):
        other = "-o" if pipe.output else "--dry-run"
        raise click.UsageError(f"--export writes files to train on, and trains nothing: not with {other}")
    if not (pipe.output or engine.export or engine.dry_run):
        raise click.UsageError("Missing option '-o' / '--output'.")
