"""`pmem import prefeval`: preferences, told or shown, and questions whose usual answers go against them."""

import click

from pmem.formats.prefeval import Fillers, Importer, entries
from pmem.stream.config import OwnOption
from pmem.stream.options import INPUT, OUTPUT, SOURCES, seed_option, stream_options
from pmem.stream.pipe import Pipe
from pmem.stream.source import records


@click.command(
    epilog="Example: pmem import prefeval benchmark_dataset/ --filler filler.jsonl --turns 0 --turns 10"
    " --histories histories.jsonl -o questions.jsonl"
)
@stream_options(files=SOURCES)
@click.option("--histories", cls=OwnOption, type=OUTPUT, help="Put the history records here.")
@click.option("--filler", type=INPUT, help="Filler records: dialogues to put between preference and question.")
@click.option("--turns", type=click.IntRange(min=0), multiple=True, default=(0,), show_default=True,
              help="So many turns (user and assistant) of them; repeatable: a history for each.")  # fmt: skip
@seed_option
def command(pipe: Pipe, histories: str | None, filler: str | None, turns: tuple[int, ...], seed: int) -> None:
    """Questions and histories of PrefEval.

    Reads topic files of explicit_preference, implicit_preference/choice-based and /persona-driven, or the FOLDER that
    holds them. Options come from the topic's file in mcq_options; the first of four is the right one there, and they
    are put into a drawn order. A question without them can only be asked with `pmem eval --mode open`.
    """
    fillers = Fillers(list(records((filler,), "filler")) if filler else [])
    if max(turns) > fillers.turns:
        raise click.UsageError(f"--turns {max(turns)} needs --filler FILE with as many; there are {fillers.turns:,}")
    put = pipe.beside(histories, "history") if histories else None
    importer = Importer(tuple(dict.fromkeys(turns)), fillers, seed=seed, put_history=put)
    pipe.notes.append(lambda: f"{importer.without_options:,} without options" if importer.without_options else "")
    pipe.take(entries(pipe.files), importer, writes="qa")
