"""`pmem memtrain`: reinforcement learning on memories: what is written into them is rewarded by the answers."""

import functools
import math
from typing import Any

import click

from pmem import tokens
from pmem.backends.model import Model
from pmem.backends.opening import Judging
from pmem.engines import TO_MODEL, Elsewhere, Engine, Memories, engine_options
from pmem.memory.loop import MOST, Form
from pmem.memory.memories import CHUNK
from pmem.models import model_options
from pmem.prompts import Prompts
from pmem.stream.options import seed_option, stream_options
from pmem.stream.pipe import Pipe
from pmem.training import Training, rollout_options, training_options

Record = dict[str, Any]


@click.command(
    epilog="Example: pmem memtrain train.jsonl --histories histories.jsonl -m local:started --judge-model openai:gpt-5 "
    "--engine verl --preset paper-4b-8xh100 -o trained > metrics.jsonl"
)
@stream_options(to=TO_MODEL)
@engine_options
@model_options(judges=True, trained=True)
@seed_option
@rollout_options
@click.option("--chunk-tokens", type=click.IntRange(min=20), default=CHUNK, show_default=True,
              help="Most tokens of chats read at once.")  # fmt: skip
@click.option("--memory-tokens", type=click.IntRange(min=20), default=MOST, show_default=True,
              help="Most tokens of a memory, and of a reply that updates it.")  # fmt: skip
@click.option("--memory-style", type=click.Choice(["bullets", "prose"]), default="bullets", show_default=True,
              help="Which of the two prompts to use.")  # fmt: skip
@click.option("--evidence/--no-evidence", default=True, show_default=True,
              help="Ask which messages each statement rests on.")  # fmt: skip
@training_options(steps=None, batch=32, rate=1e-6, schedule="constant", mix="mcq=0.8,open=0.2")
def command(
    pipe: Pipe,
    model: str,
    judges: tuple[Model, ...],
    prompts: Prompts,
    sampling: Record,
    judging: Judging,
    seed: int,
    engine: Engine,
    chunk_tokens: int,
    memory_tokens: int,
    memory_style: str,
    evidence: bool,
    **given: Any,
) -> None:
    """Train a model to keep memories, by rewards.

    A rollout reads a history chunk by chunk, as `memdump` does, and then answers from the memory alone; the answer is
    rewarded as in `grpo`, and what it is worth is learnt by all of the rollout's replies. So far with --engine verl.
    """
    if not engine.elsewhere:
        raise click.UsageError("memtrain runs with --engine verl so far (or writes its files: --export DIR)")
    if not given["histories"]:
        raise click.UsageError("memtrain needs --histories FILE")
    if given["mix"].get("open") and not judges:
        raise click.UsageError("--mix with open-ended questions needs --judge-model KIND:NAME (or take --mix mcq=1)")
    own = {"chunk_tokens": chunk_tokens, "memory_tokens": memory_tokens, "memory_style": memory_style}
    given |= {**own, "evidence": evidence, "context": "none"}  # the memory is written anew each time
    training = Training(pipe, model, prompts, seed, sampling, given)
    warmth = 1.0 if sampling["temperature"] is None else sampling["temperature"]
    if not warmth:
        raise click.UsageError("--temperature 0 gives the same reply to a question each time: nothing to compare")
    count = functools.partial(tokens.count, name=given["tokenizer"])
    form = Form(prompts, count, memory_style, memory_tokens, evidence)

    async def work(questions: list[Record]) -> None:
        asked, size = training.questions(questions), given["batch_size"]
        steps = given["steps"] or math.ceil(len(asked) / size)
        asks = [ask for step in range(steps) for ask in asked.batch(step, size)]
        memories = Memories(form, chunk_tokens, memory_tokens, given["tokenizer"])
        await Elsewhere(engine, training, given, steps, asks, training.held_out(), warmth, judging, memories).run()

    pipe.gather(work, reads="qa")
