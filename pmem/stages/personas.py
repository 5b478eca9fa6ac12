"""`pmem personas`: a line of text becomes a person with preferences and secrets."""

from pathlib import Path
from typing import Any

import click

from pmem.backends.model import Model
from pmem.cluster.options import spread_options
from pmem.dataset.people import persona, seed_lines
from pmem.dataset.preferences import KINDS, Setup
from pmem.errors import PmemError
from pmem.models import model_options
from pmem.prompts import Prompts
from pmem.stream.made import Made
from pmem.stream.options import seed_option, stream_options
from pmem.stream.pipe import Pipe


@click.command(epilog="Example: pmem personas persona.jsonl --limit 10 -m openai:gpt-5 -o personas.jsonl")
@stream_options(drops=True)
@spread_options
@model_options()
@seed_option
@click.option(
    "--preferences",
    default="stereotypical=4,anti_stereotypical=4,neutral=4,health=2,therapy=2",
    show_default=True,
    metavar="KIND=N,...",
    help="Candidates of each kind (the paper's authors: 30,30,30 and health=10,therapy=20).",
)
@click.option(
    "--updates", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Share that changes later."
)
@click.option("--forgets", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Share to be forgotten.")
@click.option("--demographics", type=click.Path(exists=True, dir_okay=False), help="Your own sampling weights (TOML).")
def command(
    pipe: Pipe,
    model: Model,
    prompts: Prompts,
    seed: int,
    preferences: str,
    updates: float,
    forgets: float,
    demographics: str | None,
) -> None:
    """Lines of text to personas with preferences and secrets.

    Reads PersonaHub lines ({"persona": "..."}) or any lines of text. Each becomes a persona: drawn demographics,
    open-ended attributes, preferences of five kinds (checked against each other; what conflicts or repeats goes to
    --dropped), some of which change later or are to be forgotten, and a few made-up secrets.
    """
    from pmem.lists import demographics as load_demographics

    try:
        weights = load_demographics(Path(demographics) if demographics else None)
    except ValueError as fault:
        raise PmemError(str(fault)) from None
    setup = Setup(model, prompts, seed, numbers_of(preferences), updates, forgets, weights)

    async def make(line: dict[str, Any], _items: list[str] | None) -> Made:
        return await persona(line, setup)

    pipe.run(make, reads="persona", writes="persona", parse=seed_lines())


def numbers_of(text: str) -> dict[str, int]:
    """`kind=n,...` as a mapping; what isn't named is 0."""
    numbers = dict.fromkeys(KINDS, 0)
    for part in text.split(","):
        kind, _, number = part.partition("=")
        if kind.strip() not in numbers or not number.strip().isdigit():
            raise click.UsageError(f"--preferences: '{part}': expected KIND=N with KIND one of {', '.join(KINDS)}")
        numbers[kind.strip()] = int(number)
    return numbers
