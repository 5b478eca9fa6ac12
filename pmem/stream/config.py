"""pmem.toml: defaults of options, found upward from the working directory.

[defaults]            # every command that has the option
model = "openai:gpt-5"
[judge]               # one command
votes = 5
[cache.prune]         # one command of a group
before = "90d"
"""

import os
from typing import Any

import click

NAME = "pmem.toml"


class OwnOption(click.Option):
    """An option that [defaults] leaves alone: under the name of other commands' option, it means something else."""


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
    title, own = _own_table(ctx, path, tables)
    for name in own:
        if name not in known:
            shown = ", ".join(sorted(option.replace("_", "-") for option in known))
            raise click.UsageError(f"{path}: [{title}] has no option '{name}'; there are: {shown}")
    shared = {name for name, option in known.items() if not isinstance(option, OwnOption)}
    defaults = _names(tables.get("defaults", {}))
    if ctx.parent:
        _refuse_strangers(ctx.find_root(), path, tables, defaults.keys() - shared)
    given = {**{name: value for name, value in defaults.items() if name in shared}, **own}
    values = {name: _value(known[name], one, f"{path}: {name.replace('_', '-')}") for name, one in given.items()}
    ctx.default_map = {**(ctx.default_map or {}), **values}
    return value


def _value(option: click.Option, given: Any, place: str) -> Any:
    """A value as it would stand on the command line, so that it is checked like one there."""
    if option.is_flag:
        if not isinstance(given, bool):
            raise click.UsageError(f"{place}: expected true or false, found {given!r}")
        return given
    several = given if isinstance(given, list) else [given]
    if any(isinstance(one, bool | list | dict) for one in several) or (given is several and not option.multiple):
        raise click.UsageError(
            f"{place}: expected {'text or a list of texts' if option.multiple else 'a number or text'}, found {given!r}"
        )
    return [str(one) for one in several] if option.multiple else str(given)


def _own_table(ctx: click.Context, path: str, tables: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A command's title and table: [judge]; [cache.ls] in a group, whose table holds nothing but such tables."""
    name, group = str(ctx.info_name), ctx.parent
    if group is None or group.parent is None:
        return name, _names(tables.get(name, {}))
    assert isinstance(group.command, click.Group)
    title = str(group.info_name)
    inner = tables.get(title, {})
    known = group.command.list_commands(group)
    for one, table in inner.items():
        if one not in known or not isinstance(table, dict):
            shown = ", ".join(known)
            raise click.UsageError(f"{path}: [{title}] has no command '{one}'; there are: {shown}")
    return f"{title}.{name}", _names(inner.get(name, {}))


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
