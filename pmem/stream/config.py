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
    known = _options(ctx.command)
    own = _names(tables.get(str(ctx.info_name), {}))
    for name in own:
        if name not in known:
            shown = ", ".join(sorted(option.replace("_", "-") for option in known))
            raise click.UsageError(f"{path}: [{ctx.info_name}] has no option '{name}'; there are: {shown}")
    defaults = _names(tables.get("defaults", {}))
    if parent := ctx.parent:
        _refuse_strangers(parent, path, tables, defaults.keys() - known)
    given = {**{name: value for name, value in defaults.items() if name in known}, **own}
    for name, one in given.items():
        if known[name].multiple and not isinstance(one, list):
            given[name] = [one]
    ctx.default_map = {**(ctx.default_map or {}), **given}
    return value


def _refuse_strangers(group: click.Context, path: str, tables: dict[str, Any], unknown: set[str]) -> None:
    """Usage error if a table is no command, or a name in [defaults] is no command's option."""
    assert isinstance(group.command, click.Group)
    commands = group.command.list_commands(group)
    for table in tables:
        if table != "defaults" and table not in commands:
            raise click.UsageError(f"{path}: [{table}] is no command of pmem")
    for name in commands:
        if unknown and (command := group.command.get_command(group, name)):
            unknown = unknown - _options(command).keys()
    if unknown:
        raise click.UsageError(f"{path}: [defaults]: no command has an option '{min(unknown)}'")


def _options(command: click.Command) -> dict[str, click.Option]:
    options = (param for param in command.params if isinstance(param, click.Option))
    return {str(option.name): option for option in options if option.name != "config"}


def _names(table: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in table.items()}
