"""`pmem assemble`: a persona's conversations become histories of a size in tokens."""

import click

from pmem import tokens
from pmem.dataset.histories import Part, Setup, Window, histories, window
from pmem.stream.made import Group, Made
from pmem.stream.options import INPUT, seed_option, stream_options
from pmem.stream.pipe import Pipe
from pmem.stream.source import records


def _window(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[Window]:
    made = []
    for value in values:
        try:
            made.append(window(value))
        except ValueError:
            raise click.BadParameter(f"'{value}' is no size such as 32k, 128k or 6000") from None
    return sorted(made, key=lambda one: one.budget)


@click.command(epilog="Example: pmem assemble conversations.jsonl --window 32k --window 128k --filler filler.jsonl")
@stream_options()
@click.option("--window", "windows", multiple=True, default=("32k",), show_default=True, callback=_window,
              metavar="32k|128k|N", help="Size in tokens; repeatable, each makes a history of its own.")  # fmt: skip
@click.option("--filler", multiple=True, type=INPUT, help="Filler records that complete the windows (repeatable).")
@click.option("--tokenizer", default=tokens.DEFAULT, show_default=True, help="Counts tokens (or a Hugging Face one).")
@seed_option
def command(pipe: Pipe, windows: list[Window], filler: tuple[str, ...], tokenizer: str, seed: int) -> None:
    """Conversations to histories of a size in tokens.

    Conversations of a persona must follow each other in the input. They are put into a drawn order in which each
    comes after what it depends on, whole, never over the budget; filler stands between them. Every window holds the
    same conversations. A chain of updates and forget requests that doesn't fit is left out whole, and said in
    `dropped`.
    """
    tokens.tokenizer(tokenizer)
    given = records(filler, "filler") if filler else ()
    parts = [Part(record, tokens.count_messages(record["messages"], tokenizer)) for record in given]
    setup = Setup(windows, parts, tokenizer, seed)
    seen: set[str] = set()
    fill: list[float] = []
    left_out = 0

    async def make(group: Group) -> Made:
        nonlocal left_out
        persona_id = group.records[0]["persona_id"]
        made = histories(group.records, setup, again=persona_id in seen)
        seen.add(persona_id)
        fill.extend(history["tokens"] / history["budget"] for history in made)
        left_out += len(made[0]["dropped"])
        return Made(made)

    def note() -> str:
        said = (
            sorted({f"{share:.0%}" for share in (min(fill), max(fill))}, key=lambda one: int(one[:-1])) if fill else []
        )
        left = f"{left_out:,} conversation{'s' if left_out > 1 else ''} left out" if left_out else ""
        return ", ".join(part for part in (f"windows {' to '.join(said)} full" if said else "", left) if part)

    pipe.notes.append(note)
    pipe.run_groups(make, key="persona_id", reads="conversation", writes="history")
