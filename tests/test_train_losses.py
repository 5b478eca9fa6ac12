"""The mathematics of training, against calculations by hand and straightforward loops."""

import math
import random
import statistics

import pytest

torch = pytest.importorskip("torch")

from pmem.train import losses  # noqa: E402

pytestmark = pytest.mark.local


def rows(seed: int, *shape: int) -> "torch.Tensor":
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- advantages --------------------------------------------------------------------------------------------------


def test_advantages_by_hand() -> None:
    # mean 1/4, deviations 3/4 and -1/4 three times, std with n - 1: sqrt((9/16 + 3/16) / 3) = 1/2
    found = losses.group_advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), eps=0.0)
    assert found.tolist() == [[1.5, -0.5, -0.5, -0.5]]


def test_advantages_are_those_of_a_plain_loop() -> None:
    draw = random.Random(1)
    for _ in range(50):
        groups = [[draw.uniform(-1, 1) for _ in range(draw.choice([5]))] for _ in range(4)]
        expected = [[(r - statistics.mean(g)) / (statistics.stdev(g) + 1e-6) for r in g] for g in groups]
        found = losses.group_advantages(torch.tensor(groups, dtype=torch.float64))
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)


def test_equal_rewards_teach_nothing() -> None:
    found = losses.group_advantages(torch.tensor([[1.0] * 8, [0.0] * 8, [0.3] * 8]))
    assert (found == 0).all()


def test_a_rollout_without_a_reward_leaves_the_statistics() -> None:
    nan = math.nan
    found = losses.group_advantages(torch.tensor([[1.0, nan, 0.0, nan, 0.0], [nan] * 5, [nan, nan, 1.0, nan, nan]]))
    expected = losses.group_advantages(torch.tensor([[1.0, 0.0, 0.0]]))[0]
    assert found[0].tolist() == [expected[0], 0, expected[1], 0, expected[2]]
    assert (found[1:] == 0).all()


# ---- objective ---------------------------------------------------------------------------------------------------


def by_hand(new: float, old: float, advantage: float, low: float, high: float, dual: float | None) -> float:
    ratio = math.exp(new - old)
    objective = min(ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage)
    if advantage < 0 and dual is not None:
        objective = max(objective, dual * advantage)
    return -objective


@pytest.mark.parametrize(("low", "high", "dual"), [(0.2, 0.2, 3.0), (0.2, 0.28, None), (0.1, 0.5, 2.0)])
def test_the_clipped_objective_token_by_token(low: float, high: float, dual: float | None) -> None:
    new, old, advantages = rows(1, 6, 9), rows(2, 6, 9), rows(3, 6, 1)
    found = losses.policy_loss(new, old, advantages, low=low, high=high, dual=dual)
    for i in range(6):
        for j in range(9):
            expected = by_hand(float(new[i, j]), float(old[i, j]), float(advantages[i, 0]), low, high, dual)
            assert float(found.loss[i, j]) == pytest.approx(expected, abs=1e-12)


def test_the_gradient_on_policy_is_that_of_the_weighted_log_likelihood() -> None:
    new = rows(1, 3, 4).requires_grad_()
    losses.policy_loss(new, new.detach(), torch.tensor([[1.0], [-2.0], [0.5]])).loss.sum().backward()
    torch.testing.assert_close(new.grad, torch.tensor([[-1.0], [2.0], [-0.5]], dtype=torch.float64).expand(3, 4))


def test_beyond_the_clip_nothing_is_learnt() -> None:
    new = torch.tensor([[0.5, -0.5]], requires_grad=True)  # ratios 1.65 and 0.61
    up = losses.policy_loss(new, torch.zeros(1, 2), torch.tensor([[1.0]]))
    up.loss.sum().backward()
    assert new.grad.tolist()[0][0] == 0 and new.grad.tolist()[0][1] < 0
    assert up.clipped.tolist() == [[1.0, 0.0]]


# ---- KL, aggregation ---------------------------------------------------------------------------------------------


def test_k3_is_unbiased_and_never_negative() -> None:
    policy, reference = ((0.3 * rows(seed, 50)).log_softmax(-1) for seed in (1, 2))
    each = losses.kl_k3(policy, reference)
    assert (each >= 0).all() and losses.kl_k3(policy, policy).abs().max() == 0
    exact = (policy.exp() * (policy - reference)).sum()
    assert float((policy.exp() * each).sum()) == pytest.approx(float(exact), rel=1e-9)


def test_far_off_values_stay_finite() -> None:
    far = torch.tensor([[-1e4, 0.0]], requires_grad=True)
    loss = losses.policy_loss(far, torch.tensor([[0.0, -1e4]]), torch.tensor([[-1.0]])).loss
    total = (loss + losses.kl_k3(far, torch.tensor([[0.0, -1e4]]))).sum()
    total.backward()
    assert total.isfinite() and far.grad.isfinite().all()


def test_the_token_mean_counts_tokens_not_replies() -> None:
    values, mask = torch.tensor([[1.0, 2.0, 3.0], [10.0, 99.0, 99.0]]), torch.tensor([[1.0, 1, 1], [1, 0, 0]])
    assert float(losses.token_mean(values, mask)) == 4.0
    parts = [losses.token_mean(values[i : i + 1], mask[i : i + 1], tokens=4) for i in range(2)]
    assert float(sum(parts)) == 4.0
    assert float(losses.token_mean(values, torch.zeros(2, 3))) == 0.0


def test_cross_entropy_is_torchs() -> None:
    logits, ids = rows(1, 3, 5, 11), torch.randint(0, 11, (3, 5), generator=torch.Generator().manual_seed(2))
    mask = torch.tensor([[1.0] * 5, [1, 1, 0, 0, 0], [0] * 5])
    found = losses.cross_entropy(losses.chosen_logprobs(logits, ids), mask)
    aimed = torch.where(mask > 0, ids, -100)
    expected = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), aimed.flatten())
    torch.testing.assert_close(found.float(), expected)


def test_entropy_is_torchs() -> None:
    logits = rows(1, 4, 7, 13)
    expected = torch.distributions.Categorical(logits=logits.float()).entropy()
    torch.testing.assert_close(losses.entropy(logits), expected)
