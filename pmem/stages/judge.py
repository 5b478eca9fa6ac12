"""`pmem judge`: votes on each question, for every check."""

from typing import Any

import click

from pmem.backends.model import Model
from pmem.dataset.votes import Setup, judged
from pmem.errors import RecordError
from pmem.models import model_options
from pmem.prompts import Prompts
from pmem.stream.options import seed_option, stream_options
from pmem.stream.pipe import Pipe


@click.command(epilog="Example: pmem judge questions.jsonl -m openai:gpt-5 --votes 5 | pmem filter")
@stream_options()
@model_options()
@seed_option
@click.option("--votes", type=click.IntRange(min=1), default=3, show_default=True, help="Votes for each check.")
def command(pipe: Pipe, model: Model, prompts: Prompts, seed: int, votes: int) -> None:
    """Vote on each question: does it pass every check?

    Six checks: blind (can it be answered without the history? asked four times, the right option once in each
    position), leak, gold, distractors (option by option), form, harm. Every vote is kept in the record with its
    reason; a reply that can't be read is the verdict `unclear`, which never counts as a pass. `pmem filter` decides.
    """
    setup = Setup(model, prompts, votes)

    async def make(qa: dict[str, Any], _items: list[str] | None) -> dict[str, Any]:
        if not qa["options"] or not qa["gold"] or not qa["case"]:
            raise RecordError(
                "a question without options and case can't be judged", reason="schema", pointer="/options"
            )
        return await judged(qa, setup)

    pipe.run(make, reads="qa", writes="qa")
