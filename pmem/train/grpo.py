"""GRPO: sample replies in groups, reward them, and make the better ones of each group likelier.

Reads top to bottom: `train` is the whole run, `_step` what is learnt from the rollouts of one step. Where rollouts
come from is not known here (`answers.py`: one reply to a question; a memory's updates and the answer; another engine):
a rollout is one or several conversations with one reward, and its advantage goes to the tokens of all of them.

The paper (section 4, appendix): 1 epoch, some 500 steps of 32 prompts, 8 rollouts each, thinking on, 80% multiple
choice and 20% open-ended. It names no learning rate, clip range, KL weight, temperature or aggregation. Ours, from the
authors' scripts and common practice: learning rate 1e-6, constant after a warm-up; clip 0.2; KL to the start model
0.001 by the k3 estimator, in the loss; temperature 1; mean over the tokens of a mini-batch. Deviations:

* Log-probabilities of sampled tokens are computed anew by the trainer before the first update, not taken from the
  sampler, whose rounding differs. With one update per step they are the policy's own: the ratio is 1, nothing is
  clipped, and what is left is the policy gradient.
* A rollout whose judges failed has no reward and leaves its group's mean and deviation; its tokens only count in the
  KL term. A lone rewarded rollout has nobody to be compared with: its advantage is 0 (verl: its reward).
* A negative advantage's loss is bounded (dual clip, 3), as in verl.
* Mini-batches are made of rollouts, never parts of one.
"""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from pmem.train.batches import Conversation
from pmem.train.losses import group_advantages, kl_k3, policy_loss, token_mean
from pmem.train.policy import Policy, entropy_sum
from pmem.train.run import Run


class Rollout(NamedTuple):
    """One attempt at a question: its conversations, the last one the answer; reward: None where there is none."""

    conversations: tuple[Conversation, ...]
    reward: float | None


class Collected(NamedTuple):
    """A step's rollouts, in groups that began alike; values: what else was measured while they were made."""

    groups: list[list[Rollout]]
    values: Mapping[str, float] = {}


class Settings(NamedTuple):
    """low, high: the clip range; kl: weight of the KL term, 0: none; passes: how often a step's rollouts are learnt
    from, each time in `mini_batches` updates; temperature: that of sampling."""

    low: float = 0.2
    high: float = 0.2
    kl: float = 0.001
    mini_batches: int = 1
    passes: int = 1
    temperature: float = 1.0


Collect = Callable[[int], Awaitable[Collected]]
"""Makes the rollouts of a step, from 0, with the policy as it stands."""
Reference = Callable[[list[Conversation]], list[Tensor]]
"""Log-probabilities of each reply's tokens under the model that the policy is to stay close to."""
Held = Callable[[], Awaitable[dict[str, float]]]
Timed = Callable[[str], AbstractContextManager[object]]


class Weighed(NamedTuple):
    """A conversation with its rollout's advantage, and log-probabilities of its reply before the step's updates
    (None: the first update follows at once) and under the reference (None: there is no KL term)."""

    conversation: Conversation
    advantage: float
    old: Tensor | None = None
    reference: Tensor | None = None


async def train(
    policy: Policy,
    collect: Collect,
    settings: Settings,
    run: Run,
    *,
    reference: Reference | None = None,
    held_out: Held | None = None,
    timed: Timed = lambda _: nullcontext(),
) -> None:
    """Take the run's steps and leave the model.

    reference: needed where settings.kl isn't 0; timed: is entered around "rollout" and "update" of each step.
    Errors: PmemError on a loss that is no finite number; OutputError where a checkpoint can't be written.
    """
    done = run.begin(policy)
    if held_out and not done and run.measures(0):
        run.report(0, await held_out())
    for step in range(done, run.pace.steps):
        with timed("rollout"):
            collected = await collect(step)
        with timed("update"):
            values = {**collected.values, **_rewards(collected.groups)}
            values |= _step(policy, collected.groups, settings, step, reference if settings.kl else None)
        if held_out and run.measures(step + 1):
            values |= await held_out()
        run.report(step + 1, values)
        run.keep(step + 1, policy)
    run.finish(policy)


def _step(
    policy: Policy, groups: list[list[Rollout]], settings: Settings, step: int, reference: Reference | None
) -> dict[str, float]:
    """Learn from a step's rollouts."""
    rollouts = _weighed(groups)
    everything = [one.conversation for rollout in rollouts for one in rollout]
    if settings.mini_batches * settings.passes > 1:
        rollouts = _noted(rollouts, old=policy.frozen(everything, settings.temperature))
    if reference:
        rollouts = _noted(rollouts, reference=reference(everything))
    sums = Sums()
    size = math.ceil(len(rollouts) / settings.mini_batches)
    for _ in range(settings.passes):
        for start in range(0, len(rollouts), size):
            batch = [one for rollout in rollouts[start : start + size] for one in rollout]
            moved = _update(policy, batch, settings, step, sums)
    return sums.means() | moved


def _weighed(groups: list[list[Rollout]]) -> list[list[Weighed]]:
    """Each rollout's conversations with its advantage."""
    found = []
    for group in groups:
        rewards = torch.tensor([[math.nan if one.reward is None else one.reward for one in group]])
        for one, advantage in zip(group, group_advantages(rewards)[0].tolist(), strict=True):
            found.append([Weighed(conversation, advantage) for conversation in one.conversations])
    return found


def _noted(rollouts: list[list[Weighed]], **noted: list[Tensor]) -> list[list[Weighed]]:
    """The same with log-probabilities, given for all conversations in their order."""
    ((name, values),) = noted.items()
    each = iter(values)
    return [[one._replace(**{name: next(each)}) for one in rollout] for rollout in rollouts]


class Sums:
    """What is measured over the tokens of all updates of a step."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._tokens = 0.0

    def add(self, tokens: float, values: Mapping[str, float]) -> None:
        """Sums over so many tokens."""
        self._tokens += tokens
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """Per token."""
        return {name: value / max(1.0, self._tokens) for name, value in self._sums.items()}


def _update(policy: Policy, batch: Sequence[Weighed], settings: Settings, step: int, sums: Sums) -> dict[str, float]:
    """One change of the weights: gradients part by part."""
    policy.model.train()
    conversations = [one.conversation for one in batch]
    tokens = sum(len(one.reply) for one in conversations)
    total = 0.0
    for part in policy.parts(conversations):
        some = [batch[i] for i in part]
        rows = policy.rows([one.conversation for one in some])
        new, logits = policy.logprobs(rows, settings.temperature)
        old = _padded([one.old for one in some], new)
        advantages = torch.tensor([[one.advantage] for one in some], device=new.device)
        objective = policy_loss(new, old, advantages, low=settings.low, high=settings.high)
        kl = kl_k3(new, _padded([one.reference for one in some], new))  # 0 without a reference
        loss = token_mean(objective.loss + settings.kl * kl, rows.mask, tokens)
        loss.backward()
        total += float(loss.detach())
        with torch.no_grad():
            measured = {
                "loss": float((objective.loss * rows.mask).sum()),
                "clip_fraction": float((objective.clipped * rows.mask).sum()),
                **({"kl/reference": float((kl * rows.mask).sum())} if some[0].reference is not None else {}),
                "kl/step": float((kl_k3(new, old) * rows.mask).sum()),
                "entropy": entropy_sum(logits, rows.mask),
            }
        sums.add(float(rows.mask.sum()), measured)
    return policy.step(step, total)


def _padded(values: list[Tensor | None], like: Tensor) -> Tensor:
    """Log-probabilities of replies as rows [rows, tokens]; where there are none, those given, as constants."""
    if any(one is None for one in values):
        return like.detach()
    found = torch.zeros_like(like)
    for row, one in zip(found, values, strict=True):
        assert one is not None
        row[: len(one)] = one.to(like.device)
    return found


def _rewards(groups: list[list[Rollout]]) -> dict[str, float]:
    """What the rewards of a step were, and how long its replies."""
    known = [[one.reward for one in group if one.reward is not None] for group in groups]
    every = torch.tensor([reward for group in known for reward in group], dtype=torch.float64)
    replies = [len(one.reply) for group in groups for rollout in group for one in rollout.conversations]
    flat = [max(group) == min(group) for group in known if group]
    missing = sum(one.reward is None for group in groups for one in group)
    return {
        "reward/mean": float(every.mean()),
        "reward/std": float(every.std()) if len(every) > 1 else math.nan,
        "reward/flat_groups": sum(flat) / len(flat) if flat else math.nan,
        "reward/missing": float(missing),
        "reply_tokens/mean": sum(replies) / len(replies),
        "reply_tokens/max": float(max(replies)),
    }
