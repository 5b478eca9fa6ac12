"""Supervised fine-tuning: the cold start that teaches a model the form of replies, and what to look for.

Reads top to bottom: `train` is the whole run, `_step` one change of the weights.

The paper (section 4, appendix) fine-tunes for 300 steps of 64 on the training questions and tells no more. Deviations
and choices of ours:

* Learning rate 1e-5 with AdamW, a warm-up over 5% of the steps, then half a cosine down to 0; gradients clipped to 1.
* Only the reply's tokens count, each of the whole batch alike (token-mean), however the batch is cut into parts.
* Replies to learn are in the form that GRPO rewards later, thoughts included; the paper's code trains without thoughts.
* Options change places from epoch to epoch, so that letters can't be learnt by heart.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from pmem.train.batches import Conversation
from pmem.train.losses import cross_entropy
from pmem.train.policy import Policy
from pmem.train.run import Run

Batch = Callable[[int], Awaitable[list[Conversation]]]
"""The conversations of a step, from 0."""
Held = Callable[[], Awaitable[dict[str, float]]]
"""Measures the policy on held-out questions."""
Timed = Callable[[str], AbstractContextManager[object]]


async def train(
    policy: Policy, batch: Batch, run: Run, held_out: Held | None = None, timed: Timed = lambda _: nullcontext()
) -> None:
    """Take the run's steps and leave the model.

    timed: is entered around "prompts" and "update" of each step.
    Errors: PmemError on a loss that is no finite number; OutputError where a checkpoint can't be written.
    """
    done = run.begin(policy)
    if held_out and not done and run.measures(0):
        run.report(0, await held_out())
    for step in range(done, run.pace.steps):
        with timed("prompts"):
            conversations = await batch(step)
        with timed("update"):
            values = dict(_step(policy, conversations, step)._asdict())
        if held_out and run.measures(step + 1):
            values |= await held_out()
        run.report(step + 1, values)
        run.keep(step + 1, policy)
    run.finish(policy)


class Taught(NamedTuple):
    """loss: mean negative log-probability of a target token; tokens: targets of the step."""

    loss: float
    tokens: int
    learning_rate: float
    gradient_norm: float


def _step(policy: Policy, conversations: list[Conversation], step: int) -> Taught:
    """One step on a batch: gradients part by part, then the weights change."""
    policy.model.train()
    tokens = sum(len(one.reply) for one in conversations)
    loss = 0.0
    for part in policy.parts(conversations):
        rows = policy.rows([conversations[i] for i in part])
        chosen, _ = policy.logprobs(rows)
        share = cross_entropy(chosen, rows.mask, tokens)
        share.backward()
        loss += float(share.detach())
    return Taught(loss, tokens, **policy.step(step, loss))
