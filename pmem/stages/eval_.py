"""`pmem eval`: a model answers the questions; its answers are scored, and summed up."""

from pathlib import Path
from typing import Any

import click

from pmem.backends.model import Model
from pmem.cluster.options import spread_options
from pmem.evaluation.asking import Setup, results, window_of
from pmem.evaluation.mistakes import sorted_out
from pmem.evaluation.noticed import Noticed, noted
from pmem.evaluation.photos import Photos
from pmem.evaluation.scenes import OF_HISTORY, Scenes, View
from pmem.models import model_options
from pmem.prompts import Prompts
from pmem.report.summarised import print_summary, summary_options
from pmem.stream.lookup import Lookup, finished
from pmem.stream.made import Made
from pmem.stream.options import INPUT, bundle, histories_option, images_option, seed_option, stream_options
from pmem.stream.pipe import Pipe
from pmem.stream.source import records
from pmem.tokens import DEFAULT

CONTEXTS = ("full", "memory", "rag", "snippet", "none")
_SHOWN = bundle(
    click.option("--context", "contexts", type=click.Choice(CONTEXTS), multiple=True, default=("full",),
                 show_default=True, help="What the model sees before the question (repeatable)."),
    histories_option,
    click.option("--window", help="Which of a question's histories to show (default: the smallest)."),
    click.option("--memories", type=click.Path(), help="memory: file of memory records, looked up by history."),
    click.option("--top-k", type=click.IntRange(min=1), default=10, show_default=True,
                 help="rag: past turns to show, by BM25."),
    click.option("--with-system", is_flag=True,
                 help="full, memory, rag: first the system message that an imported history began with."),
    click.option("--truncate", type=click.Choice(["oldest", "middle"]),
                 help="full: leave out turns there, if --context-length demands it."),
    click.option("--tokenizer", default=DEFAULT, show_default=True, metavar="NAME",
                 help="Counts the tokens for --context-length."),
    images_option("Where images are whose paths stand in messages."),
    click.option("--images-as-text", is_flag=True, help="Show captions in place of images (for models that see none)."),
)  # fmt: skip


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
@_SHOWN
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
    by: str,
    form: str,
    errors: bool,
    questions: str | None,
    mode: str,
    contexts: tuple[str, ...],
    permutations: int,
    scoring: str,
    rank: str,
    votes: int,
    window: str | None,
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
    scenes = _scenes(pipe, model, prompts, contexts, **shown)
    setup = Setup(model, judges, prompts, seed, mode, contexts, scoring, rank, votes, window, permutations, scenes)
    noticed = Noticed()
    pipe.closing = noticed.order
    pipe.notes.append(noticed.disputes)
    pipe.noted = noticed.add

    async def make(qa: dict[str, Any], items: list[str] | None) -> Made:
        made = await results(qa, items, setup)
        history = qa["histories"][window_of(qa, window)]["id"] if "full" in contexts else None
        return made._replace(noted=noted(history, made.records))

    pipe.run(make, reads="qa", writes="result")


def _sort_errors(pipe: Pipe, judges: tuple[Model, ...], prompts: Prompts, questions: str | None) -> None:
    if len(judges) != 1 or questions is None:
        raise click.UsageError("--errors needs one --judge-model KIND:NAME, and --questions FILE")
    asked = {qa["id"]: qa for qa in records((questions,), "qa")}

    async def make(result: dict[str, Any], _items: list[str] | None) -> dict[str, Any]:
        return await sorted_out(result, asked, judges[0], prompts)

    pipe.run(make, reads="result", writes="result")


def _scenes(
    pipe: Pipe,
    model: Model,
    prompts: Prompts,
    contexts: tuple[str, ...],
    *,
    histories: str | None,
    memories: str | None,
    top_k: int,
    with_system: bool,
    truncate: str | None,
    tokenizer: str,
    images: str | None,
    images_as_text: bool,
) -> Scenes:
    """What is shown of the past, by the options; usage error if they don't go together."""
    for context in contexts:
        if context in ("full", "rag") and not histories:
            raise click.UsageError(f"--context {context} needs --histories FILE (or choose --context snippet or none)")
    if "memory" in contexts and not memories:
        raise click.UsageError("--context memory needs --memories FILE")
    if with_system and not (histories and any(context in OF_HISTORY for context in contexts)):
        raise click.UsageError(f"--with-system needs --histories FILE and a context of {', '.join(OF_HISTORY)}")
    if truncate and model.context_length is None:
        raise click.UsageError("--truncate needs --context-length N: the tokens that the model can take")
    if truncate and "full" not in contexts:
        raise click.UsageError("--truncate is for --context full")
    if "rag" in contexts:
        from pmem.evaluation.retrieval import require_extra

        require_extra()
    past = Lookup(Path(histories), "history") if histories else None
    kept = Lookup(Path(memories), "memory", key=finished, named="finished memory of") if memories else None
    pipe.attached += [one for one in (past, kept) if one]
    photos = Photos(Path(images) if images else None, as_text=images_as_text)
    view = View(top_k, with_system, model.context_length, truncate, tokenizer, photos)
    return Scenes(view, prompts, histories=past, memories=kept, reply=model.max_tokens)
