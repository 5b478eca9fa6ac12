"""Training by rewards: what `grpo` and `memtrain` have in common, whatever a rollout is."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import click

from pmem.backends.model import Model
from pmem.backends.opening import Judging
from pmem.elsewhere import Elsewhere, Written
from pmem.engines import Engine
from pmem.models import POSITIVE, Finite
from pmem.reward.rewards import Rewards
from pmem.stream.options import bundle
from pmem.train.questions import Ask
from pmem.training import COUNT, Opened, Training, size_of

if TYPE_CHECKING:
    from pmem.train.grpo import Collected

Record = dict[str, Any]

rollout_options = bundle(
    click.option("--group", type=click.IntRange(min=2), default=8, show_default=True, help="Replies to each question."),
    click.option("--clip", type=POSITIVE, default=0.2, show_default=True, help="How far a token's ratio counts."),
    click.option("--clip-high", type=POSITIVE, help="The same upwards (default: --clip)."),
    click.option("--rollouts", type=click.Choice(["local", "vllm"]), default="local", show_default=True,
                 help="Replies are made by the decoder of local: models, or by vLLM (extra 'vllm')."),
    click.option("--kl", type=Finite(min=0), default=0.001, show_default=True,
                 help="Weight of the distance to the model at the start (0: none; saves its memory)."),
    click.option("--mini-batches", type=COUNT, default=1, show_default=True, help="Updates in a step."),
    click.option("--passes", type=COUNT, default=1, show_default=True,
                 help="How often the replies of a step are learnt from."),
    click.option("--votes", type=COUNT, default=3, show_default=True,
                 help="open: votes of each judge; the majority decides."),
    click.option("--length-penalty", type=Finite(min=0), default=0.0, show_default=True,
                 help="Taken off a reward for a reply of --max-tokens, in proportion for a shorter one."),
    click.option("--format-reward", type=Finite(min=0), default=0.0, show_default=True,
                 help="Added to the reward of a reply that can be read."),
)  # fmt: skip


class Rollouts(Protocol):
    """Makes a kind of rollouts: `Answers` or `Memories`."""

    async def collect(self, asks: Sequence[Ask], step: int) -> "Collected":
        """A group of rollouts for each ask."""

    async def held_out(self, asks: Sequence[Ask]) -> dict[str, float]:
        """What the policy can by now."""

    async def check(self, ask: Ask) -> None:
        """InputError if the question can't be asked."""


def temperature_of(sampling: Record, given: Record, judges: Sequence[Model]) -> float:
    """That of rollouts; usage error for options by which nothing could be learnt."""
    if given["mix"].get("open") and not judges:
        raise click.UsageError("--mix with open-ended questions needs --judge-model KIND:NAME (or take --mix mcq=1)")
    warmth = 1.0 if sampling["temperature"] is None else float(sampling["temperature"])
    if not warmth:
        raise click.UsageError("--temperature 0 gives the same reply to a question each time: nothing to compare")
    return warmth


async def reinforced(
    training: Training,
    questions: list[Record],
    engine: Engine,
    judges: tuple[Model, ...],
    judging: Judging,
    warmth: float,
    rollouts: Callable[[Opened], Rollouts],
    memories: Written | None = None,
) -> None:
    """Train on the questions where the engine says.

    warmth: the temperature of rollouts; rollouts: makes those of a run in this process; memories: how they are written
    in one elsewhere.
    """
    asked, given, size = training.questions(questions), training.given, training.given["batch_size"]
    steps = int(given["steps"] or math.ceil(len(asked) / size))  # or those of one epoch
    if engine.elsewhere:
        asks = [ask for step in range(steps) for ask in asked.batch(step, size)]
        await Elsewhere(engine, training, steps, asks, training.held_out(), warmth, judging, memories).run()
        return
    rewards = Rewards(
        judges, training.prompts, votes=given["votes"], length=given["length_penalty"], form=given["format_reward"]
    )
    opened = training.open(questions, steps, rewards, n=given["group"], temperature=warmth)
    made = rollouts(opened)
    await made.check(max(asked.epoch(0), key=size_of))

    async def collect(step: int) -> "Collected":
        return await made.collect(asked.batch(step, size), step)

    from pmem.train import grpo

    settings = grpo.Settings(
        low=given["clip"],
        high=given["clip_high"] or given["clip"],
        kl=given["kl"],
        mini_batches=given["mini_batches"],
        passes=given["passes"],
        temperature=warmth,
    )
    reference = opened.reference(warmth) if given["kl"] else None
    held_out = training.measuring(made.held_out, opened.clock)
    await grpo.train(
        opened.policy, collect, settings, opened.run, reference=reference, held_out=held_out, timed=opened.clock
    )
