"""`pmem eval`: a model answers the questions; its answers are scored, and summed up."""

from pathlib import Path
from typing import Any

import click

from pmem.backends.model import Model
from pmem.evaluation.asking import Setup, results
from pmem.evaluation.photos import Photos
from pmem.models import model_options
from pmem.prompts import Prompts
from pmem.report.summary import Summary
from pmem.stream.lookup import Lookup
from pmem.stream.made import Made
from pmem.stream.options import histories_option, images_option, seed_option, stream_options
from pmem.stream.pipe import Pipe


@click.command(
    epilog="Examples: pmem eval questions.jsonl --histories histories.jsonl -m openai:gpt-5 -o results.jsonl; "
    "pmem eval --summary results.jsonl"
)
@stream_options()
@click.option("--summary", is_flag=True, help="Read results instead, ask nothing, and print the table.")
@click.option(
    "--by", default="kind,scenario,owner", show_default=True, metavar="LABEL,...", help="Breakdown of --summary."
)
@model_options(judge=True, optional=True)
@seed_option
@click.option("--mode", type=click.Choice(["mcq", "open"]), default="mcq", show_default=True, help="Kind of question.")
@click.option("--context", "contexts", type=click.Choice(["full", "snippet", "none"]), multiple=True, default=("full",),
              show_default=True, help="What the model sees before the question (repeatable).")  # fmt: skip
@histories_option
@click.option("--window", help="Which of a question's histories to show (default: the smallest).")
@images_option("Where images are whose paths stand in messages.")
@click.option("--images-as-text", is_flag=True, help="Show captions in place of images (for models that see none).")
@click.option("--scoring", type=click.Choice(["reply", "likelihood"]), default="reply", show_default=True,
              help="mcq: by the letter in the reply, or by the likelihood of each option's text.")  # fmt: skip
@click.option("--rank", type=click.Choice(["sum", "token", "relative"]), default="relative", show_default=True,
              help="likelihood: summed, per token, or per token relative to no context.")  # fmt: skip
@click.option("--votes", type=click.IntRange(min=1), default=3, show_default=True, help="open: votes on each reply.")
def command(
    pipe: Pipe,
    model: Model | None,
    judge: Model | None,
    prompts: Prompts,
    seed: int,
    summary: bool,
    by: str,
    mode: str,
    contexts: tuple[str, ...],
    histories: str | None,
    window: str | None,
    images: str | None,
    images_as_text: bool,
    scoring: str,
    rank: str,
    votes: int,
) -> None:
    """Ask a model the questions; score its answers.

    Multiple choice is scored by a strict parser of the reply's letter (what it can't read counts as wrong, and is
    shown apart), or by which option's text the model finds most likely; open-ended replies by the votes of a judging
    model. --summary prints accuracy with 95% intervals.
    """
    if summary:
        _print_summary(pipe, by)
        return
    if model is None:
        raise click.UsageError("Missing option '-m' / '--model'.")
    if "full" in contexts and not histories:
        raise click.UsageError("--context full needs --histories FILE (or choose --context snippet or none)")
    if mode == "open" and judge is None:
        raise click.UsageError("--mode open needs --judge-model KIND:NAME")
    lookup = Lookup(Path(histories), "history") if histories else None
    pipe.attached += [lookup] if lookup else []
    photos = Photos(Path(images) if images else None, as_text=images_as_text)
    setup = Setup(model, judge, prompts, seed, mode, contexts, scoring, rank, votes, window, lookup, photos)

    async def make(qa: dict[str, Any], items: list[str] | None) -> Made:
        return await results(qa, items, setup)

    pipe.run(make, reads="qa", writes="result")


def _print_summary(pipe: Pipe, by: str) -> None:
    counted = Summary([label.strip() for label in by.split(",") if label.strip()])
    for result in pipe.records(reads="result"):
        counted.count(result)
    pipe.print(counted.text())
