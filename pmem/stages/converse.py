"""`pmem converse`: a persona's preferences become conversations."""

from typing import Any

import click

from pmem.backends.model import Model
from pmem.dataset.conversations import Setup, conversations
from pmem.models import model_options
from pmem.prompts import Prompts
from pmem.stream.made import Made
from pmem.stream.options import seed_option, stream_options
from pmem.stream.pipe import Pipe


@click.command(epilog="Example: pmem converse personas.jsonl -m openai:gpt-5 -o conversations.jsonl")
@stream_options()
@model_options()
@seed_option
def command(pipe: Pipe, model: Model, prompts: Prompts, seed: int) -> None:
    """Personas to conversations that show one preference each.

    In every conversation the user wants something else done (an email polished, a text translated, a question
    answered), and the preference shows only between the lines. Scenario, length, languages and the place of a secret
    are drawn; updates and forget requests are conversations of their own, which name what must come before them.
    """
    setup = Setup(model, prompts, seed)

    async def make(persona: dict[str, Any], items: list[str] | None) -> Made:
        return await conversations(persona, items, setup)

    pipe.run(make, reads="persona", writes="conversation")
