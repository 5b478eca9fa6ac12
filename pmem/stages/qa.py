"""`pmem qa`: what a history shows becomes questions with four options."""

import click

from pmem.backends.model import Model
from pmem.cluster.options import spread_options
from pmem.dataset.questions import Setup, questions
from pmem.models import model_options
from pmem.prompts import Prompts
from pmem.stream.made import Group, Made
from pmem.stream.options import INPUT, seed_option, stream_options
from pmem.stream.pipe import Pipe
from pmem.stream.source import records


@click.command(epilog="Example: pmem qa histories.jsonl -m openai:gpt-5 -o questions.jsonl")
@stream_options()
@spread_options
@model_options()
@seed_option
@click.option("--attempt", type=click.IntRange(min=0), default=0, show_default=True,
              help="Number of the question about each preference: another number, another question.")  # fmt: skip
@click.option("--attempts", type=click.IntRange(min=1), default=1, show_default=True,
              help="So many questions about each, with the numbers from --attempt on.")  # fmt: skip
@click.option("--only", type=INPUT, help="Ask only about what this file names: `pmem filter --owed` writes it.")
def command(
    pipe: Pipe, model: Model, prompts: Prompts, seed: int, attempt: int, attempts: int, only: str | None
) -> None:
    """Histories to questions with four options.

    Asks about every preference, update, forget request and secret in a persona's histories: a request that doesn't
    give it away, the answer that is right for this user, and three wrong ones of different make, shuffled by the
    seed. Histories of one persona (its windows) must follow each other; the question names its place in each.

    Where questions fall at a check, others can be asked: `--attempts 3` makes three at once; `--only owed.jsonl
    --attempt 1` makes one more about what still lacks one. What was rejected and is fed in again is asked about
    whether the file of --only names it or not.
    """
    if only and not attempt:
        raise click.UsageError("--only asks again: say with --attempt which number its questions have (1, then 2, ...)")
    named = frozenset(record["id"] for record in records((only,), "owed")) if only else None
    setup = Setup(model, prompts, seed, range(attempt, attempt + attempts), named)

    async def make(group: Group) -> Made:
        return await questions(group, setup)

    pipe.run_groups(make, key="persona_id", reads="history", writes="qa")
