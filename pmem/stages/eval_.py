"""`pmem eval`: a model answers the questions; its answers are scored, and summed up."""

from functools import partial
from typing import Any

import click

from pmem.backends.model import Model
from pmem.cluster.options import spread_options
from pmem.evaluation.asking import Setup, results
from pmem.evaluation.mistakes import sorted_out
from pmem.evaluation.noticed import Noticed, noted
from pmem.evaluation.remembering import Remembering
from pmem.evaluation.takes import ALL, Plan, by_history, takes
from pmem.models import model_options
from pmem.prompts import Prompts
from pmem.report.summarised import print_summary, summary_options
from pmem.shown import CONTEXTS, open_scenes, reply_form_option, shown_options
from pmem.stream.made import Made
from pmem.stream.options import INPUT, seed_option, stream_options
from pmem.stream.pipe import Pipe
from pmem.stream.source import records


@click.command(
    epilog="Examples: pmem eval questions.jsonl --histories histories.jsonl -m openai:gpt-5 -o results.jsonl; "
    "pmem eval --summary results.jsonl"
)
@stream_options()
@summary_options
@click.option("--errors", is_flag=True, help="Read results instead, and have the judge say what kind of mistake each "
              "wrong answer makes (needs --questions).")  # fmt: skip
@click.option("--questions", type=INPUT, help="--errors: the questions that were asked.")
@spread_options
@model_options(judges=True, optional=True)
@seed_option
@click.option("--mode", type=click.Choice(["mcq", "open"]), default="mcq", show_default=True, help="Kind of question.")
@click.option("--context", "contexts", type=click.Choice(CONTEXTS), multiple=True, default=("full",),
              show_default=True, help="What the model sees before the question (repeatable).")  # fmt: skip
@click.option("--window", "windows", multiple=True, metavar="NAME",
              help="Which of a question's histories to show (repeatable, or all; default: the smallest).")  # fmt: skip
@shown_options
@reply_form_option
@click.option("--permutations", type=click.IntRange(1, 10), default=1, show_default=True,
              help="mcq: orders of the options to ask in, at most one for each option.")  # fmt: skip
@click.option("--scoring", type=click.Choice(["reply", "likelihood"]), default="reply", show_default=True,
              help="mcq: by the letter in the reply, or by the likelihood of each option's text.")  # fmt: skip
@click.option("--rank", type=click.Choice(["sum", "token", "relative"]), default="relative", show_default=True,
              help="likelihood: summed, per token, or per token relative to no context.")  # fmt: skip
@click.option("--votes", type=click.IntRange(min=1), default=3, show_default=True, help="open: votes of each judge.")
def command(
    pipe: Pipe,
    model: Model | None,
    judges: tuple[Model, ...],
    prompts: Prompts,
    seed: int,
    summary: bool,
    by: str | None,
    form: str,
    errors: bool,
    questions: str | None,
    mode: str,
    contexts: tuple[str, ...],
    reply_form: str,
    permutations: int,
    scoring: str,
    rank: str,
    votes: int,
    windows: tuple[str, ...],
    **shown: Any,
) -> None:
    """Ask a model the questions; score its answers.

    Multiple choice is scored by a strict parser of the reply's letter (what it can't read counts as wrong, and is
    shown apart), or by which option's text the model finds most likely; open-ended replies by the votes of one or
    several judging models. --summary prints accuracy with 95% intervals; --errors passes results on with the kinds of
    their mistakes.
    """
    if summary and errors:
        raise click.UsageError("--summary and --errors are two ways to read results: choose one")
    if summary:
        print_summary(pipe, by, form)
        return
    if errors:
        _sort_errors(pipe, judges, prompts, questions)
        return
    if model is None:
        raise click.UsageError("Missing option '-m' / '--model'.")
    contexts = tuple(dict.fromkeys(contexts))
    if mode == "open" and not judges:
        raise click.UsageError("--mode open needs --judge-model KIND:NAME")
    if permutations > 1 and (mode == "open" or scoring == "likelihood"):
        raise click.UsageError("--permutations is for replies to multiple choice: nothing else shows the options")
    remember = partial(Remembering, model, prompts, seed)
    length, reply = model.context_length, model.max_tokens
    scenes = open_scenes(pipe, prompts, contexts, context_length=length, reply=reply, remember=remember, **shown)
    plan = Plan(mode, contexts, tuple(dict.fromkeys(windows)), permutations)
    setup = Setup(model, judges, prompts, seed, plan, scoring, rank, votes, scenes, reply_form)
    noticed = Noticed()
    pipe.closing = noticed.order
    pipe.notes.append(noticed.disputes)
    pipe.noted = noticed.add

    async def make(qa: dict[str, Any], items: list[str] | None) -> Made:
        made = await results(qa, items, setup)
        return made._replace(noted=noted(takes(qa, items, plan), made.records))

    several = len(plan.windows) > 1 or ALL in plan.windows
    if several and pipe.shard:
        raise click.UsageError("--shard counts questions: with it, one --window at a time")
    pipe.run(make, reads="qa", writes="result", arrange=by_history(plan) if several else None)


def _sort_errors(pipe: Pipe, judges: tuple[Model, ...], prompts: Prompts, questions: str | None) -> None:
    if len(judges) != 1 or questions is None:
        raise click.UsageError("--errors needs one --judge-model KIND:NAME, and --questions FILE")
    asked = {qa["id"]: qa for qa in records((questions,), "qa")}

    async def make(result: dict[str, Any], _items: list[str] | None) -> dict[str, Any]:
        return await sorted_out(result, asked, judges[0], prompts)

    pipe.run(make, reads="result", writes="result")
