"""A command of several commands, each imported when it is called."""

import importlib
from typing import NamedTuple

import click


class Member(NamedTuple):
    """A command of a group: the module that holds it as `command`, and its one line of help."""

    module: str
    help: str


class LazyGroup(click.Group):
    """A group over a table of its members: name -> module and help."""

    def __init__(self, *args: object, members: dict[str, Member], **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self.members = members

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.members)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.members:
            return None
        command: click.Command = importlib.import_module(self.members[cmd_name].module).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, member.help) for name, member in self.members.items()])
