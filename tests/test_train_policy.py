"""The policy's log-probabilities, gradients and samples, against straightforward ways to compute the same."""

import asyncio
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("transformers")
import torch

from pmem.backends import local_forward
from pmem.backends.local_model import load
from pmem.errors import InputError
from pmem.prompts import Prompts
from pmem.reward.rewards import Rewards, Said
from pmem.train import grpo
from pmem.train.batches import SHARED, Conversation, parts
from pmem.train.policy import Policy, Setup, share
from pmem.train.rollout import Prompt, Reply, Sampler
from tests.command import sample
from tests.tiny_models import one_thread, saved

pytestmark = pytest.mark.local


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("tiny"))


def policy(folder: Path, **more: object) -> Policy:
    return Policy(load(str(folder), "float32"), Setup(1e-3, 10, **more))  # type: ignore[arg-type]


def conversations(count: int, seed: int = 1) -> list[Conversation]:
    draw = Random(seed)

    def ids(least: int, most: int) -> list[int]:
        return [draw.randrange(256) for _ in range(draw.randint(least, most))]

    return [Conversation(ids(1, 30), ids(1, 12)) for _ in range(count)]


# ---- log-probabilities and gradients -----------------------------------------------------------------------------


def alone(model: "torch.nn.Module", one: Conversation) -> "torch.Tensor":
    """By transformers' own forward pass, without a batch."""
    ids = torch.tensor([one.prompt + one.reply])
    logits = model(input_ids=ids).logits[0, len(one.prompt) - 1 : -1].float()
    return logits.log_softmax(-1)[range(len(one.reply)), one.reply]


def test_a_padded_batch_has_the_log_probabilities_of_each_row_alone(folder: Path) -> None:
    ours, batch = policy(folder, tokens_at_once=120), conversations(20)
    assert len(ours.parts(batch)) > 3
    for one, found in zip(batch, ours.frozen(batch), strict=True):
        torch.testing.assert_close(found, alone(ours.model, one).detach(), atol=1e-4, rtol=1e-4)
    rows = ours.rows(batch)
    warm, _ = ours.logprobs(rows, temperature=0.5)
    assert not torch.allclose(warm * rows.mask, ours.logprobs(rows)[0] * rows.mask)


def gradients(ours: Policy) -> list["torch.Tensor"]:
    return [one.grad.clone() for one in ours.trained.values() if one.grad is not None]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_do_not_depend_on_the_parts(folder: Path, checkpointing: bool) -> None:
    batch = [grpo.Weighed(one, (-1.0) ** n) for n, one in enumerate(conversations(12))]
    found = []
    for tokens in (60, 10_000):
        ours = policy(folder, tokens_at_once=tokens, checkpointing=checkpointing and tokens == 60)
        ours.step = lambda *_: {}  # type: ignore[method-assign,assign]
        grpo._update(ours, batch, grpo.Settings(), 0, grpo.Sums())
        found.append(gradients(ours))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def groups() -> list[Conversation]:
    """Replies to two long prompts, to one that is alone, and to short ones."""
    draw = Random(5)
    long = [[draw.randrange(256) for _ in range(size)] for size in (SHARED + 40, SHARED, SHARED + 7)]
    replies = [Conversation(long[n % 2], [draw.randrange(256) for _ in range(1 + n)]) for n in range(6)]
    return [*replies, Conversation(long[2], [7, 8]), *conversations(3), Conversation(long[0], [9])]


@pytest.mark.parametrize("kind", ["llama", "gemma2", "qwen3"])
@pytest.mark.parametrize("lora", [0, 2])
def test_a_prompt_computed_once_for_its_replies_gives_the_same(tmp_path: Path, kind: str, lora: int) -> None:
    ours, batch, found = policy(saved(tmp_path, kind), lora=lora), groups(), []
    assert ours.shares == (kind != "gemma2")  # whose layers forget
    ours.step = lambda *_: {}  # type: ignore[method-assign,assign]
    for shares in (ours.shares, False):
        ours.shares = shares
        grpo._update(
            ours, [grpo.Weighed(one, (-1.0) ** n) for n, one in enumerate(batch)], grpo.Settings(), 0, grpo.Sums()
        )
        found.append([*gradients(ours), *ours.frozen(batch)])
        ours.optimiser.zero_grad()
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_prompts_computed_once_are_parts_of_their_own() -> None:
    batch = groups()
    found = parts(batch, 10_000, 10_000, share=True)
    assert sorted(map(sorted, found)) == [[0, 2, 4, 10], [1, 3, 5], [6, 7, 8, 9]]
    assert [part[0] for part in found] == [4, 6, 5]  # the longest prompt first, the longest reply first in it
    small = parts(batch, SHARED + 40 + 2 * 5, 10_000, share=True)
    assert [part for part in small if part[0] in (4, 0, 5)] == [[4, 2], [0, 10], [5, 3, 1]]
    assert parts(batch, 10_000, 10_000) == parts(batch, 10_000, 10_000, share=False) == [
        sorted(range(11), key=lambda i: (-len(batch[i].prompt), -batch[i].tokens))
    ]  # fmt: skip


def test_the_first_update_is_the_plain_policy_gradient(folder: Path) -> None:
    """With the policy's own log-probabilities, GRPO's gradient is that of the advantage-weighted log-likelihood."""
    batch = conversations(6)
    advantages = [1.0, -0.5, 0.25, 0.0, 2.0, -1.5]
    ours = policy(folder)
    ours.step = lambda *_: {}  # type: ignore[method-assign,assign]
    grpo._update(
        ours, [grpo.Weighed(*pair) for pair in zip(batch, advantages, strict=True)], grpo.Settings(), 0, grpo.Sums()
    )
    found = gradients(ours)
    ours.optimiser.zero_grad()
    tokens = sum(len(one.reply) for one in batch)
    loss = (
        -sum(advantage * alone(ours.model, one).sum() for one, advantage in zip(batch, advantages, strict=True))
        / tokens
    )
    loss.backward()
    for one, other in zip(found, gradients(ours), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_a_rollouts_advantage_goes_to_all_its_conversations() -> None:
    first, second, third, fourth = conversations(4)
    group = [grpo.Rollout((first, second), 1.0), grpo.Rollout((third,), 0.0), grpo.Rollout((fourth,), None)]
    weighed = grpo._weighed([group])
    assert [[one.advantage for one in rollout] for rollout in weighed] == [
        pytest.approx([2**-0.5] * 2, abs=1e-4), pytest.approx([-(2**-0.5)], abs=1e-4), [0.0],
    ]  # fmt: skip
    noted = grpo._noted(weighed, old=[torch.tensor([float(n)]) for n in range(4)])
    assert [[float(one.old) for one in rollout] for rollout in noted] == [[0.0, 1.0], [2.0], [3.0]]  # type: ignore[arg-type]


def test_parts_hold_everything_once_within_their_bounds() -> None:
    batch = conversations(200, seed=3)
    for tokens, logits in ((100, 10_000), (10_000, 30), (1, 1)):
        found = parts(batch, tokens, logits)
        assert sorted(i for part in found for i in part) == list(range(200))
        for part in found:
            before, after = (max(len(batch[i][side]) for i in part) for side in (0, 1))
            fits = len(part) * (before + after) <= tokens and len(part) * after <= logits
            assert fits or len(part) == 1


def test_the_learning_rate_rises_and_falls() -> None:
    cosine = [share(step, Setup(1.0, 100, warmup=0.1)) for step in range(100)]
    assert cosine[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert cosine[10] == 1.0 and cosine[55] == pytest.approx(0.5) and cosine[99] < 0.001
    assert all(a >= b for a, b in pairwise(cosine[10:]))
    assert share(50, Setup(1.0, 100, warmup=0.0, schedule="constant")) == share(0, Setup(1.0, 100, warmup=0.0)) == 1.0


def test_bfloat16_is_computed_in_and_weights_stay_float32(folder: Path) -> None:
    ours, batch = policy(folder, dtype="bfloat16"), conversations(4)
    exact = policy(folder).frozen(batch)
    ours.model.train()
    chosen, _ = ours.logprobs(ours.rows(batch))
    chosen.sum().backward()
    assert all(one.dtype == torch.float32 for one in ours.trained.values())
    near = [float((a - b).abs().max()) for a, b in zip(ours.frozen(batch), exact, strict=True)]
    assert 0 < max(near) < 0.5


# ---- samples -----------------------------------------------------------------------------------------------------


def sampled(ours: Sampler, prompts: list[Prompt]) -> dict[tuple[int, int], Reply]:
    found: dict[tuple[int, int], Reply] = {}
    ours.sample(prompts, lambda number, n, reply: found.__setitem__((number, n), reply))
    return found


def test_a_reply_depends_on_its_seed_not_on_its_neighbours(folder: Path) -> None:
    ours = Sampler(policy(folder), limit=6)
    prompts = [Prompt(f"q{n}", one.prompt, [10 * n + k for k in range(5)]) for n, one in enumerate(conversations(4))]
    together = sampled(ours, prompts)
    assert len(together) == 20 and len({tuple(one.conversation.reply) for one in together.values()}) > 10
    assert sampled(ours, prompts) == together
    only = sampled(ours, [prompts[2]._replace(seeds=[22])])
    assert only[0, 0] == together[2, 2]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_groups_on_long_prompts_reply_as_if_nothing_were_shared(
    folder: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    history = [Random(3).randrange(256) for _ in range(300)]  # longer than what is copied into each row
    prompts = [
        Prompt(f"q{n}", [*history, *tail], [10 * n + k for k in range(5)]) for n, tail in enumerate(([7, 8], [9]))
    ]
    prompts.append(Prompt("short", [4, 5, 6], [90, 91]))
    shared = sampled(Sampler(policy(folder, dtype=dtype), limit=6), prompts)
    monkeypatch.setattr(local_forward, "SHARED", 1 << 30)
    apart = sampled(Sampler(policy(folder, dtype=dtype), limit=6), prompts)
    assert apart == shared if dtype == "float32" else apart.keys() == shared.keys()  # bfloat16 rounds
    assert len({tuple(one.conversation.reply) for one in shared.values()}) > 6


def test_samples_follow_the_policys_distribution(folder: Path) -> None:
    """Of many one-token replies, as many are each token as the policy says; and the next step's differ."""
    ours = policy(folder)
    prompt = conversations(1)[0].prompt
    sampler = Sampler(ours, limit=1, temperature=2.0)
    found = sampled(sampler, [Prompt("q", prompt, list(range(4000)))])
    with torch.no_grad():
        expected = (ours.model(input_ids=torch.tensor([prompt])).logits[0, -1] / 2.0).softmax(-1)
    seen = torch.zeros_like(expected)
    for reply in found.values():
        seen[reply.conversation.reply[0]] += 1
    top = expected.topk(5).indices
    for token in top.tolist():
        share_of, spread = float(expected[token]), math.sqrt(float(expected[token]) / 4000)
        assert abs(float(seen[token]) / 4000 - share_of) < 5 * spread
    before = sampled(Sampler(ours, limit=4, temperature=0.0), [Prompt("q", prompt, [0])])[0, 0]
    with torch.no_grad():
        for weights in ours.trained.values():
            weights.mul_(-1.3) if weights.dim() > 1 else None
    fresh = Sampler(ours, limit=4, temperature=0.0)
    assert sampled(fresh, [Prompt("q", prompt, [0])])[0, 0] != before
    assert fresh._decoder is not None and not fresh._decoder._forward._kept._kept  # nothing of old weights is kept


def test_a_reply_that_ended_is_learnt_with_its_end(folder: Path) -> None:
    ours = policy(folder)
    ours.loaded = ours.loaded._replace(stop=frozenset(range(0, 258, 2)))
    found = sampled(Sampler(ours, limit=3), [Prompt("q", [5, 6], list(range(40)))])
    for reply in found.values():
        *rest, last = reply.conversation.reply
        assert reply.ended == (last % 2 == 0) and all(one % 2 for one in rest)
    assert {reply.ended for reply in found.values()} == {True, False}


def test_a_prompt_too_long_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match=r"question q-1: the prompt has 9,000 tokens and the reply may have 5"):
        Sampler(policy(folder), limit=5).check(Prompt("question q-1", [1] * 9000, [0]))


# ---- rewards -----------------------------------------------------------------------------------------------------


def test_rewards_of_choices_with_and_without_terms() -> None:
    def reward(text: str, tokens: int, **terms: float) -> float | None:
        scored = asyncio.run(Rewards((), Prompts(), **terms).choice(Said(text, tokens, 10), "B", 4))  # type: ignore[arg-type]
        return scored.reward

    assert [reward(text, 5) for text in ("Answer: B", "Answer: C", "who knows")] == [1.0, 0.0, 0.0]
    assert [reward(text, 5, form=0.1) for text in ("Answer: B", "Answer: C", "who knows")] == [1.1, 0.1, 0.0]
    assert reward("Answer: B", 5, length=0.5) == 0.75


def test_a_reply_that_tells_a_secret_is_not_put_before_judges() -> None:
    secret = {"id": "p-0/x01", "kind": "phone_number", "value": "+1 202 555 0143"}
    qa = {**sample("qa"), "case": "sensitive", "secret": secret}
    rewards = Rewards((), Prompts())
    told = asyncio.run(rewards.answer(Said("Call 1-202-555-0143!", 9, 10), qa, "train/q/x"))
    assert (told.reward, told.right) == (0.0, False)
    thought = asyncio.run(rewards.answer(Said("<think>Hm.</think>", 9, 10), qa, "train/q/x"))
    assert (thought.reward, thought.parsed) == (0.0, False)
