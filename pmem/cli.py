"""The command group, in the order of the data's way. A stage is imported when it is called."""

import contextlib
import errno
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import click

import pmem
from pmem import errors

COMMANDS = {
    "personas": "Lines of text to personas with preferences and secrets.",
    "converse": "Personas to conversations that show one preference each.",
    "assemble": "Conversations to histories of a size in tokens.",
    "qa": "Histories to questions with four options.",
    "judge": "Vote on each question: does it pass every check?",
    "filter": "Keep the questions that pass every check.",
    "eval": "Ask a model the questions; score its answers.",
    "sft": "Fine-tune a model on right replies.",
    "grpo": "Train a model by rewards: GRPO.",
    "memtrain": "Train a model to keep memories, by rewards.",
    "memdump": "Histories to memories: what chats reveal about a user.",
    "split": "Divide questions into splits by persona.",
    "show": "Render records for reading.",
    "schema": "Print the JSON Schema of a record type.",
    "validate": "Check any stream; report every fault.",
    "stats": "Count what is in any stream: kinds, topics, tokens.",
    "audit": "Find what a cheater who never saw the history could exploit.",
    "annotate": "Sheets for people to judge questions; their agreement.",
    "import": "Read other people's data as records.",
    "export": "Write records in other people's layouts.",
    "compare": "Compare runs on the same questions.",
    "report": "Results, or memories, as one page to look through in a browser.",
    "memlog": "The history of a memory: what came, changed, went.",
    "chat": "Answer one message with a memory in view.",
    "cache": "List, count, prune or share the stored replies.",
}
"""Command -> its one line of help: a table, since importing every stage would make `--help` slow. A test holds that
each line is the first one of the command's own help."""

MODULES = {"filter": "filter_", "eval": "eval_", "import": "import_"}
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Commands(click.Group):
    """Imports a command when it is called; ends quietly when a reader goes away or a user interrupts."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"pmem.stages.{MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f"did you mean '{close[0]}'?" if close else "see `pmem --help`"
            raise click.UsageError(f"no command '{args[0]}'; {hint}", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def make_context(self, *args: Any, **more: Any) -> click.Context:  # this prints `pmem --help`
        with _ending_well():
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        with _ending_well():
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
            return result


@contextlib.contextmanager
def _ending_well() -> Iterator[None]:
    """One line and the right status where output can't be written; none where the reader (`head`, say) has enough."""
    try:
        yield
    except OSError as fault:
        if fault.errno not in (errno.EPIPE, *UNWRITABLE):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # let nothing that is still buffered raise at exit
        if fault.errno == errno.EPIPE:
            raise SystemExit(0) from None
        raise errors.OutputError(f"standard output: can't be written: {fault.strerror}") from None
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what remains to be done takes no time
        raise SystemExit(errors.INTERRUPTED) from None


@click.command(
    cls=Commands,
    context_settings={"auto_envvar_prefix": "PMEM", "help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every option can be set in pmem.toml or as PMEM_<COMMAND>_<OPTION>. "
    "Exit status: 0 done, 1 stopped by an error, 2 wrong usage, 3 done but some records were rejected, "
    "4 not done since some are left for later, 5 an audit isn't passed, 130 interrupted.",
)
@click.version_option(pmem.__version__, prog_name="pmem", message="%(prog)s %(version)s")
def main() -> None:
    """LLM personalisation from JSONL streams: make data, measure models, read what chats reveal.

    Commands read records from FILEs or stdin, write records to stdout, and compose with pipes:

    \b
      pmem personas lines.jsonl | pmem converse | pmem assemble | tee histories.jsonl \\
        | pmem qa | pmem judge | pmem filter | pmem eval --histories histories.jsonl
    """
