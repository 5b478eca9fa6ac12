"""`pmem import`: data of other makers become records. A format is imported when it is asked for."""

import importlib

import click

FORMATS = {
    "filler": "Problems, programs and chats to filler dialogues.",
}
"""Format -> its one line of help, the first of the command's own; it stands in `import_FORMAT.py`, as `command`."""


class Formats(click.Group):
    """The formats as subcommands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(FORMATS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in FORMATS:
            return None
        module = importlib.import_module(f"pmem.stages.import_{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Formats"):
            formatter.write_dl(list(FORMATS.items()))


@click.command(
    cls=Formats,
    subcommand_metavar="FORMAT [OPTIONS] [FILE]...",
    epilog="Example: pmem import filler gsm8k.jsonl humaneval.jsonl -o filler.jsonl",
)
def command() -> None:
    """Data of other makers to records.

    `pmem import FORMAT --help` says what each reads.
    """
