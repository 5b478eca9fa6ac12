"""`pmem qa`: what a history shows becomes questions with four options."""

import click

from pmem.backends.model import Model
from pmem.dataset.questions import Setup, questions
from pmem.models import model_options
from pmem.prompts import Prompts
from pmem.stream.made import Group, Made
from pmem.stream.options import seed_option, stream_options
from pmem.stream.pipe import Pipe


@click.command(epilog="Example: pmem qa histories.jsonl -m openai:gpt-5 -o questions.jsonl")
@stream_options()
@model_options()
@seed_option
@click.option("--attempt", type=click.IntRange(min=0), default=0, show_default=True,
              help="Which question about each preference: another number asks for another question.")  # fmt: skip
def command(pipe: Pipe, model: Model, prompts: Prompts, seed: int, attempt: int) -> None:
    """Histories to questions with four options.

    Asks about every preference, update, forget request and secret in a persona's histories: a request that doesn't
    give it away, the answer that is right for this user, and three wrong ones of different make, shuffled by the
    seed. Histories of one persona (its windows) must follow each other; the question names its place in each.
    """
    setup = Setup(model, prompts, seed, attempt)

    async def make(group: Group) -> Made:
        return await questions(group, setup)

    pipe.run_groups(make, key="persona_id", reads="history", writes="qa")
