"""`pmem grpo`: reinforcement learning on rewarded replies."""

from typing import Any

import click

from pmem.backends.model import Model
from pmem.backends.opening import Judging
from pmem.engines import TO_MODEL, Engine, engine_options
from pmem.models import model_options
from pmem.prompts import Prompts
from pmem.reinforcement import reinforced, rollout_options, temperature_of
from pmem.stream.options import seed_option, stream_options
from pmem.stream.pipe import Pipe
from pmem.training import Training, training_options

Record = dict[str, Any]


@click.command(
    epilog="Example: pmem grpo train.jsonl --histories histories.jsonl -m local:started --judge-model openai:gpt-5 "
    "-o trained > metrics.jsonl"
)
@stream_options(to=TO_MODEL)
@engine_options
@model_options(judges=True, trained=True)
@seed_option
@rollout_options
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
    **given: Any,
) -> None:
    """Train a model by rewards: GRPO.

    Multiple choice is rewarded by the parser that eval uses, open-ended replies by the majority of judges' votes.
    Metric records go to stdout, the model to the folder -o, which `local:` loads. The same command goes on from its
    last checkpoint (FOLDER.part).
    """
    warmth = temperature_of(sampling, given, judges)
    told = {**given, "judges": [judge.name for judge in judges]}
    training = Training(pipe, model, prompts, seed, sampling, told)

    async def work(questions: list[Record]) -> None:
        await reinforced(training, questions, engine, judges, judging, warmth, lambda opened: opened.answers)

    pipe.gather(work, reads="qa")
