"""The mathematics of training against verl's own functions: advantages, policy loss, KL, aggregation.

Where verl and pmem mean to differ, a test says so: rollouts without a reward, a lone rollout, a batch without a token.
"""

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tests.verl_quietly")
import numpy as np  # noqa: E402

from pmem.train import losses  # noqa: E402

pytestmark = [pytest.mark.verl, pytest.mark.filterwarnings("ignore")]

SEEDS = range(20)
CLOSE = {"atol": 1e-6, "rtol": 1e-6}


@pytest.fixture(scope="module")
def core() -> Any:
    from verl.trainer.ppo import core_algos

    return core_algos


def drawn(seed: int, *shape: int, spread: float = 1.0) -> "torch.Tensor":
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask(seed: int, rows: int, tokens: int) -> "torch.Tensor":
    """Replies of one token, of all tokens, and between; one that is empty."""
    lengths = torch.randint(1, tokens + 1, (rows,), generator=torch.Generator().manual_seed(seed))
    lengths[0], lengths[1], lengths[2] = 1, tokens, 0
    return (torch.arange(tokens) < lengths[:, None]).double()


# ---- advantages --------------------------------------------------------------------------------------------------


def theirs(core: Any, rewards: "torch.Tensor") -> "torch.Tensor":
    """verl's advantages [groups, n] of rewards [groups, n]; those that are NaN aren't there."""
    rows = [
        (group, n) for group in range(len(rewards)) for n in range(rewards.shape[1]) if not rewards[group, n].isnan()
    ]
    tokens = torch.zeros(len(rows), 3, dtype=rewards.dtype)
    tokens[:, 0] = torch.stack([rewards[row] for row in rows])
    found, _ = core.compute_grpo_outcome_advantage(
        tokens, torch.ones_like(tokens), np.array([str(group) for group, _ in rows], dtype=object)
    )
    placed = torch.zeros_like(rewards)
    for row, advantage in zip(rows, found[:, 0], strict=True):
        placed[row] = advantage
    return placed


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [2, 3, 8])
def test_advantages(core: Any, seed: int, n: int) -> None:
    rewards = drawn(seed, 6, n)
    rewards[1] = (rewards[1] > 0).double()  # right and wrong
    torch.testing.assert_close(losses.group_advantages(rewards), theirs(core, rewards), **CLOSE)


@pytest.mark.parametrize("reward", [0.0, 1.0, -0.5])
def test_advantages_of_equal_rewards(core: Any, reward: float) -> None:
    rewards = torch.full((2, 8), reward, dtype=torch.float64)
    assert (losses.group_advantages(rewards) == 0).all()
    torch.testing.assert_close(losses.group_advantages(rewards), theirs(core, rewards), **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rollout_without_a_reward_is_one_that_verl_never_sees(core: Any, seed: int) -> None:
    rewards = drawn(seed, 4, 6)
    rewards[0, 2] = rewards[1, :4] = rewards[2, 5] = math.nan
    torch.testing.assert_close(losses.group_advantages(rewards), theirs(core, rewards), **CLOSE)


def test_where_they_differ_a_lone_rollout_has_nobody_to_be_compared_with(core: Any) -> None:
    alone = torch.tensor([[1.0]])
    assert losses.group_advantages(alone).item() == 0
    assert theirs(core, alone).item() == pytest.approx(1)


# ---- objective ---------------------------------------------------------------------------------------------------


def actor(**settings: Any) -> Any:
    from verl.workers.config import FSDPActorConfig

    return FSDPActorConfig(strategy="fsdp2", rollout_n=1, ppo_micro_batch_size_per_gpu=1, **settings)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("low", "high", "dual"), [(0.2, 0.2, 3.0), (0.2, 0.28, 3.0), (0.1, 0.5, 1.5)])
def test_policy_loss_its_gradient_and_the_share_clipped(
    core: Any, seed: int, low: float, high: float, dual: float
) -> None:
    old, advantages, there = drawn(seed, 7, 11), drawn(seed + 2, 7, 1).expand(7, 11), mask(seed, 7, 11)
    new = (old + drawn(seed + 1, 7, 11, spread=0.5)).requires_grad_()
    new.data[3, 0] += 40  # beyond any ratio that is computed
    new.data[4, 0] -= 40
    ours = losses.policy_loss(new, old, advantages, low=low, high=high, dual=dual)
    loss = losses.token_mean(ours.loss, there)
    (gradient,) = torch.autograd.grad(loss, new)
    their, measured = core.get_policy_loss_fn("vanilla")(
        old_log_prob=old,
        log_prob=new,
        advantages=advantages,
        response_mask=there,
        loss_agg_mode="token-mean",
        config=actor(clip_ratio_low=low, clip_ratio_high=high, clip_ratio_c=dual),
    )
    (their_gradient,) = torch.autograd.grad(their, new)
    torch.testing.assert_close(loss, their, **CLOSE)
    torch.testing.assert_close(gradient, their_gradient, **CLOSE)
    clipped = losses.token_mean(ours.clipped, there).item()
    assert clipped == pytest.approx(measured["actor/pg_clipfrac"], abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_kl_by_the_k3_estimator_and_its_gradient(core: Any, seed: int) -> None:
    new, reference = drawn(seed, 5, 9).requires_grad_(), drawn(seed + 1, 5, 9)
    new.data[0, 0], new.data[0, 1] = 60, -60
    ours, their = losses.kl_k3(new, reference), core.kl_penalty_forward(new, reference, "low_var_kl")
    torch.testing.assert_close(ours, their, **CLOSE)
    torch.testing.assert_close(*(torch.autograd.grad(one.sum(), new)[0] for one in (ours, their)), **CLOSE)


# ---- aggregation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mean_over_tokens_and_its_parts(core: Any, seed: int) -> None:
    values, there = drawn(seed, 6, 8), mask(seed, 6, 8)
    their = core.agg_loss(loss_mat=values, loss_mask=there, loss_agg_mode="token-mean")
    torch.testing.assert_close(losses.token_mean(values, there), their, **CLOSE)
    tokens = there.sum().item()
    parts = [losses.token_mean(values[rows], there[rows], tokens) for rows in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(sum(parts), their, **CLOSE)
    part = core.agg_loss(
        loss_mat=values[:2], loss_mask=there[:2], loss_agg_mode="token-mean", batch_num_tokens=int(tokens)
    )
    torch.testing.assert_close(parts[0], part, **CLOSE)


def test_where_they_differ_a_batch_without_a_token_costs_nothing(core: Any) -> None:
    values, nothing = drawn(1, 2, 3), torch.zeros(2, 3, dtype=torch.float64)
    assert losses.token_mean(values, nothing).item() == 0
    assert core.agg_loss(loss_mat=values, loss_mask=nothing, loss_agg_mode="token-mean").isnan()


@pytest.mark.parametrize("seed", SEEDS)
def test_sft_loss(seed: int) -> None:
    from tensordict import TensorDict
    from verl.utils import tensordict_utils as tu
    from verl.utils.dataset.dataset_utils import DatasetPadMode
    from verl.workers.utils.losses import sft_loss

    chosen, there = drawn(seed, 5, 7), mask(seed, 5, 7)
    data = TensorDict({"response_mask": there}, batch_size=5)
    tu.assign_non_tensor(data, pad_mode=DatasetPadMode.RIGHT, dp_size=1, batch_num_tokens=int(there.sum()))
    their, _ = sft_loss(None, {"log_probs": chosen}, data)
    torch.testing.assert_close(losses.cross_entropy(chosen, there), their, **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_log_probabilities_and_entropy_of_logits(seed: int) -> None:
    from verl.utils.torch_functional import entropy_from_logits, logprobs_from_logits_naive

    logits = drawn(seed, 4, 6, 31, spread=3).float()
    ids = torch.randint(0, 31, (4, 6), generator=torch.Generator().manual_seed(seed))
    close = {"atol": 2e-6, "rtol": 1e-5}  # float32
    torch.testing.assert_close(losses.chosen_logprobs(logits, ids), logprobs_from_logits_naive(logits, ids), **close)
    torch.testing.assert_close(losses.entropy(logits), entropy_from_logits(logits), **close)
