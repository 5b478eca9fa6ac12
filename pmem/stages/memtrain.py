"""`pmem memtrain`: reinforcement learning on memories: what is written into them is rewarded by the answers."""

from typing import TYPE_CHECKING, Any

import click

from pmem.backends.model import Model
from pmem.backends.opening import Judging
from pmem.elsewhere import Written
from pmem.engines import TO_MODEL, Engine, engine_options
from pmem.memory.loop import form_of
from pmem.models import Finite, model_options
from pmem.prompts import Prompts
from pmem.reinforcement import reinforced, rollout_options, temperature_of
from pmem.shown import written_options
from pmem.stream.options import seed_option, stream_options
from pmem.stream.pipe import Pipe
from pmem.training import Opened, Training, training_options

if TYPE_CHECKING:
    from pmem.train.memories import Memories

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
@written_options
@click.option("--trim-penalty", type=Finite(min=0), default=0.0, show_default=True,
              help="Taken off a reward where all updates had to be cut to size; its share where some had.")  # fmt: skip
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
    trim_penalty: float,
    **given: Any,
) -> None:
    """Train a model to keep memories, by rewards.

    A rollout reads a history chunk by chunk, as `memdump` does, and then answers from the memory alone; the answer is
    rewarded as in `grpo`, and what it is worth is learnt by all of the rollout's replies. Metric records go to stdout,
    the model to the folder -o. The same command goes on from its last checkpoint (FOLDER.part).
    """
    if not given["histories"]:
        raise click.UsageError("memtrain needs --histories FILE")
    if engine.elsewhere and trim_penalty:
        raise click.UsageError("--trim-penalty is for --engine local")
    warmth = temperature_of(sampling, given, judges)
    own = {"chunk_tokens": chunk_tokens, "memory_tokens": memory_tokens, "memory_style": memory_style}
    given |= {**own, "evidence": evidence, "trim_penalty": trim_penalty}
    given["context"] = "none"  # the memory is written anew each time
    told = {**given, "judges": [judge.name for judge in judges]}
    training = Training(pipe, model, prompts, seed, sampling, told)
    form = form_of(prompts, given["tokenizer"], memory_style, memory_tokens, evidence)

    written = Written(form, chunk_tokens, memory_tokens, given["tokenizer"])

    def rollouts(opened: Opened) -> "Memories":
        from pmem.train.memories import Memories
        from pmem.train.reading import Reading

        reading = Reading(training.asking, form, chunk_tokens)
        return Memories(opened.sampler(memory_tokens), opened.answers, reading, penalty=trim_penalty)

    async def work(questions: list[Record]) -> None:
        await reinforced(training, questions, engine, judges, judging, warmth, rollouts, written)

    pipe.gather(work, reads="qa")
