"""`pmem assemble`: a persona's conversations become histories of a size in tokens."""

import click

from pmem import tokens
from pmem.dataset.filler import Pool
from pmem.dataset.histories import Setup, Window, histories, window
from pmem.report.depths import Depths
from pmem.stream.made import Group, Made
from pmem.stream.options import INPUT, seed_option, stream_options
from pmem.stream.pipe import Pipe
from pmem.stream.progress import counted
from pmem.stream.source import records


def _window(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[Window]:
    made = []
    for value in values:
        try:
            made.append(window(value))
        except ValueError:
            raise click.BadParameter(f"'{value}' is no size such as 32k, 128k or 6000") from None
    if len({one.budget for one in made}) < len(made):
        raise click.BadParameter("two windows are of the same size")
    return sorted(made, key=lambda one: one.budget)


@click.command(epilog="Example: pmem assemble conversations.jsonl --window 32k --window 128k --filler filler.jsonl")
@stream_options()
@click.option("--window", "windows", multiple=True, default=("32k",), show_default=True, callback=_window,
              metavar="32k|128k|N", help="Size in tokens; repeatable, each makes a history of its own.")  # fmt: skip
@click.option("--filler", multiple=True, type=INPUT, help="Filler records that complete the windows (repeatable).")
@click.option("--tokenizer", default=tokens.DEFAULT, show_default=True, help="Counts tokens (or a Hugging Face one).")
@click.option("--histogram", is_flag=True, help="Show how deep in the windows the conversations stand.")
@seed_option
def command(
    pipe: Pipe, windows: list[Window], filler: tuple[str, ...], tokenizer: str, histogram: bool, seed: int
) -> None:
    """Conversations to histories of a size in tokens.

    Conversations of a persona must follow each other in the input. They are put into a drawn order in which each
    comes after what it depends on, whole, never over the budget; filler stands between them, until no dialogue of it
    fits any more. Every window holds the same conversations, on the same days. A chain of updates and forget requests
    that doesn't fit is left out whole, and said in `dropped`.
    """
    if "-" in filler and "-" in (pipe.files or ("-",)):
        raise click.UsageError("--filler -: standard input is where the conversations come from")
    tokens.tokenizer(tokenizer)
    pool = Pool(records(filler, "filler") if filler else (), tokenizer)
    setup = Setup(windows, pool, tokenizer, seed)
    seen: set[str] = set()
    depths = Depths()
    chains = conversations = 0

    async def make(group: Group) -> Made:
        nonlocal chains, conversations
        persona_id = group.records[0]["persona_id"]
        made = histories(group.records, setup, again=persona_id in seen)
        seen.add(persona_id)
        for history in made.histories:
            depths.count(history)
        chains += made.chains
        conversations += made.conversations
        return Made(made.histories)

    def note() -> str:
        full = f"windows {shown} full" if (shown := depths.filled()) else ""
        out = f"{counted(conversations, 'conversation')} in {counted(chains, 'chain')} left out whole"
        twice = f"{counted(pool.repeated, 'filler record')} came twice" if pool.repeated else ""
        return ", ".join(part for part in (full, out if chains else "", twice) if part)

    pipe.notes.append(note)
    if histogram:
        pipe.closing = depths.histogram
    pipe.run_groups(make, key="persona_id", reads="conversation", writes="history")
