"""pmem.toml: defaults of options, found upward from the working directory.

[defaults]            # every command that has the option
model = "openai:gpt-5"
[judge]               # one command
votes = 5
"""

import os
from typing import Any

import click

NAME = "pmem.toml"


def find(start: str) -> str | None:
    """The nearest pmem.toml in the folder `start` or above it."""
    folder = start
    while not os.path.isfile(path := os.path.join(folder, NAME)):
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above
    return path


def read(path: str) -> dict[str, Any]:
    """The file's tables; click.UsageError where it is no valid TOML of tables."""
    import tomllib

    try:
        with open(path, "rb") as file:
            loaded = tomllib.load(file)
    except (OSError, ValueError) as fault:
        raise click.UsageError(f"{path}: {fault}") from None
    for name, table in loaded.items():
        if not isinstance(table, dict):
            raise click.UsageError(f"{path}: '{name}' stands outside a table; begin with [defaults] or [COMMAND]")
    return loaded


def apply(ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Callback of the eager option --config: the file's values become the command's defaults."""
    path = value or find(os.getcwd())
    if path is None or ctx.resilient_parsing:
        return value
    tables = read(path)
    known = {param.name for param in ctx.command.params if isinstance(param, click.Option) and param.name != "config"}
    own = _names(tables.get(str(ctx.info_name), {}))
    for name in own:
        if name not in known:
            shown = ", ".join(sorted(str(option).replace("_", "-") for option in known))
            raise click.UsageError(f"{path}: [{ctx.info_name}] has no option '{name}'; there are: {shown}")
    shared = {name: given for name, given in _names(tables.get("defaults", {})).items() if name in known}
    if parent := ctx.parent:
        commands = parent.command.list_commands(parent) if isinstance(parent.command, click.Group) else []
        for table in tables:
            if table != "defaults" and table not in commands:
                raise click.UsageError(f"{path}: [{table}] is no command of pmem")
    ctx.default_map = {**(ctx.default_map or {}), **shared, **own}
    return value


def _names(table: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in table.items()}
