"""`pmem grpo`: reinforcement learning on rewarded replies."""

import math
from typing import Any

import click

from pmem.backends.model import Model
from pmem.backends.opening import Judging
from pmem.engines import TO_MODEL, Elsewhere, Engine, engine_options
from pmem.models import model_options
from pmem.prompts import Prompts
from pmem.reward.rewards import Rewards
from pmem.stream.options import seed_option, stream_options
from pmem.stream.pipe import Pipe
from pmem.training import Training, rollout_options, size_of, training_options

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
    if given["mix"].get("open") and not judges:
        raise click.UsageError("--mix with open-ended questions needs --judge-model KIND:NAME (or take --mix mcq=1)")
    told = {**given, "judges": [judge.name for judge in judges]}
    training = Training(pipe, model, prompts, seed, sampling, told)
    warmth = 1.0 if sampling["temperature"] is None else sampling["temperature"]
    if not warmth:
        raise click.UsageError("--temperature 0 gives the same reply to a question each time: nothing to compare")
    rewards = Rewards(
        judges, prompts, votes=given["votes"], length=given["length_penalty"], form=given["format_reward"]
    )

    async def work(questions: list[Record]) -> None:
        asked, size = training.questions(questions), given["batch_size"]
        steps = given["steps"] or math.ceil(len(asked) / size)
        if engine.elsewhere:
            asks = [ask for step in range(steps) for ask in asked.batch(step, size)]
            await Elsewhere(engine, training, given, steps, asks, training.held_out(), warmth, judging).run()
            return
        opened = training.open(questions, steps, rewards, n=given["group"], temperature=warmth)
        from pmem.train import grpo

        settings = grpo.Settings(
            low=given["clip"],
            high=given["clip_high"] or given["clip"],
            kl=given["kl"],
            mini_batches=given["mini_batches"],
            passes=given["passes"],
            temperature=warmth,
        )

        async def collect(step: int) -> grpo.Collected:
            return await opened.answers.collect(asked.batch(step, size), step)

        await opened.answers.check(max(asked.epoch(0), key=size_of))
        reference = opened.reference(warmth) if given["kl"] else None
        await grpo.train(
            opened.policy, collect, settings, opened.run,
            reference=reference, held_out=opened.held_out, timed=opened.clock,
        )  # fmt: skip

    pipe.gather(work, reads="qa")
