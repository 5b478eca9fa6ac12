"""`pmem split`: questions are divided into splits by persona."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click
import orjson

from pmem.dataset.splits import Division, Personas, Unreachable, by_shares, by_sizes, cell_of
from pmem.errors import PmemError, RecordError
from pmem.records import Split
from pmem.report.mix import mix
from pmem.stream.options import seed_option, stream_options
from pmem.stream.pipe import Pipe

SPLITS = get_args(Split)
NO_ROOM = "split: its persona is in no split, since the sizes are reached without it"
TOO_MANY = "split: its split has its size without it"


def _sizes(_ctx: click.Context, _param: click.Parameter, text: str) -> dict[str, int] | dict[str, float]:
    """NAME=NUMBER,...: all whole numbers, or all shares that add up to 1."""
    sizes: dict[str, str] = {}
    for part in text.split(","):
        split, _, size = (word.strip() for word in part.partition("="))
        if split not in SPLITS or split in sizes:
            raise click.BadParameter(f"'{part}': expected NAME=NUMBER, each NAME once, of {', '.join(SPLITS)}")
        sizes[split] = size
    if all(size.isdecimal() for size in sizes.values()):
        return {split: int(size) for split, size in sizes.items()}
    try:
        shares = {split: float(size) for split, size in sizes.items()}
    except ValueError:
        raise click.BadParameter(f"'{text}': expected numbers of questions, or shares such as 0.2") from None
    if not (all(0 <= share <= 1 for share in shares.values()) and abs(sum(shares.values()) - 1) < 1e-9):
        raise click.BadParameter(f"'{text}': shares must add up to 1")
    return shares


@click.command(epilog="Example: pmem split kept.jsonl --sizes bench=5000,train=18000,val=2000 --into data")
@stream_options(drops=True)
@click.option("--sizes", default="bench=0.2,train=0.72,val=0.08", show_default=True, callback=_sizes,
              metavar="NAME=N,...", help="Exact numbers of questions, or shares that add up to 1.")  # fmt: skip
@click.option("--into", type=click.Path(file_okay=False), metavar="DIR",
              help="Write a file for each split here (bench.jsonl, ...); then nothing goes to stdout.")  # fmt: skip
@seed_option
def command(pipe: Pipe, sizes: dict[str, int] | dict[str, float], into: str | None, seed: int) -> None:
    """Divide questions into splits by persona.

    No persona is in two splits. With numbers the sizes are exact: what doesn't fit goes to --dropped, whole personas
    first; where they can't be reached, nothing is written. With shares nothing is left out, and the sizes are as close
    as whole personas come. Each split has about the mix of kinds and cases of the whole: see the table on stderr. The
    order of the input stays; what goes where depends on the seed and the personas' ids, not on that order.
    """
    personas: Personas = {}
    counts = {split: Counter[str]() for split in sizes}
    members: dict[str, set[str]] = {split: set() for split in sizes}
    files = _files(pipe, into, list(sizes)) if into else {}

    def look(qa: dict[str, Any]) -> None:
        if not qa["persona_id"]:
            raise RecordError("a question without a persona can't be split by persona", reason="schema",
                              pointer="/persona_id")  # fmt: skip
        personas.setdefault(qa["persona_id"], Counter())[cell_of(qa)] += 1

    def decide() -> Callable[[dict[str, Any]], dict[str, Any] | str]:
        division = _division(personas, sizes, seed)

        def place(qa: dict[str, Any]) -> dict[str, Any] | str:
            split, cell = division.split_of.get(qa["persona_id"]), cell_of(qa)
            if split is None:
                return NO_ROOM
            if division.surplus[split, cell]:
                division.surplus[split, cell] -= 1
                return TOO_MANY
            counts[split][cell] += 1
            members[split].add(qa["persona_id"])
            made = {**qa, "split": split}
            if files:
                files[split].write(orjson.dumps(made, option=orjson.OPT_APPEND_NEWLINE))
            return made

        return place

    def table() -> str:
        placed = {split: len(ids) for split, ids in members.items()}
        return mix(personas.values(), counts, placed) if any(placed.values()) else ""

    pipe.closing = table
    pipe.run_twice(look, decide, reads="qa")


def _division(personas: Personas, sizes: dict[str, int] | dict[str, float], seed: int) -> Division:
    try:
        if any(isinstance(size, float) for size in sizes.values()):
            return by_shares(personas, sizes, seed)
        return by_sizes(personas, {split: int(size) for split, size in sizes.items()}, seed)
    except Unreachable as fault:
        raise PmemError(f"split: {fault}") from None


def _files(pipe: Pipe, into: str, splits: list[str]) -> dict[str, Any]:
    """A file for each split; without -o, what goes there doesn't go to stdout too."""
    folder = Path(into)
    paths = {split: folder / f"{split}.jsonl" for split in splits}
    others = {os.path.realpath(name) for name in (pipe.output, pipe.rejects, pipe.dropped) if name}
    if clash := next((path for path in paths.values() if os.path.realpath(path) in others), None):
        raise click.UsageError(f"{clash}: two outputs can't be one file")
    folder.mkdir(parents=True, exist_ok=True)
    pipe.output = pipe.output or os.devnull
    return {split: pipe.also(str(path)) for split, path in paths.items()}
