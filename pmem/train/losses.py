"""The mathematics of training, as pure functions of tensors. No model, no state.

Shapes: rollouts come in `groups` of `n` to one prompt; `rows` are conversations, each padded to `tokens` reply tokens;
a mask is 1 where a reply has a token and 0 at its padding. Log-probabilities are natural logarithms.
"""

from typing import NamedTuple

import torch
from torch import Tensor

LARGEST = 20.0
"""Log ratios beyond it are cut: exp(20) says "far off" as well as exp(200), and stays finite."""
LARGEST_KL = 10.0


def group_advantages(rewards: Tensor, eps: float = 1e-6) -> Tensor:
    """GRPO's advantages (DeepSeekMath, section 4.1): (r - mean) / (std + eps) within a group.

    rewards: [groups, n], NaN where a rollout has none (its judges failed); std: with n - 1, as torch's. Returns
    [groups, n]; 0 for rollouts without a reward, and for a rollout that has nobody to be compared with.
    """
    there = ~rewards.isnan()
    count = there.sum(-1, keepdim=True)
    known = rewards.double().nan_to_num(0.0)  # in float32, eps would blow rounding errors among equal rewards up
    mean = known.sum(-1, keepdim=True) / count.clamp(min=1)
    away = (known - mean) * there
    std = (away.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    return (away / (std + eps)).to(rewards.dtype)


class PolicyLoss(NamedTuple):
    """loss: [rows, tokens], to be minimised; clipped: [rows, tokens], 1 where the clip took the gradient away."""

    loss: Tensor
    clipped: Tensor


def policy_loss(
    logprobs: Tensor,
    old: Tensor,
    advantages: Tensor,
    *,
    low: float = 0.2,
    high: float = 0.2,
    dual: float | None = 3.0,
) -> PolicyLoss:
    """PPO's clipped objective (Schulman et al. 2017, equation 7), negated, per token.

    logprobs, old: [rows, tokens] under the policy and under the one that sampled; advantages: [rows, 1] or
    [rows, tokens]. The ratio is clipped to [1 - low, 1 + high] (low != high: DAPO's asymmetric clip). dual: where the
    advantage is negative, the loss is at most -dual times it (dual-clip PPO, Ye et al. 2020, equation 5); None: no
    such limit.
    """
    ratio = (logprobs - old).clamp(-LARGEST, LARGEST).exp()
    plain = -advantages * ratio
    cut = -advantages * ratio.clamp(1 - low, 1 + high)
    loss = torch.maximum(plain, cut)
    if dual is not None:
        loss = torch.where(advantages < 0, torch.minimum(-advantages * dual, loss), loss)
    return PolicyLoss(loss, (cut > plain).to(loss.dtype))


def kl_k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Estimate of KL(policy || reference) per token, from tokens that the policy sampled: r - 1 - log r with
    r = reference / policy (Schulman's k3: unbiased, never negative). All [rows, tokens]."""
    log_ratio = (reference - logprobs).clamp(-LARGEST, LARGEST)
    return (log_ratio.exp() - log_ratio - 1).clamp(-LARGEST_KL, LARGEST_KL)


def token_mean(values: Tensor, mask: Tensor, tokens: float | None = None) -> Tensor:
    """The mean over a batch's reply tokens, long replies counting more: a scalar; 0 if there is no token.

    values, mask: [rows, tokens]. tokens: how many the whole batch has, where these rows are a part of it, so that the
    parts' means add up to the whole's.
    """
    whole = mask.sum() if tokens is None else torch.as_tensor(tokens, dtype=values.dtype, device=values.device)
    return (values * mask).sum() / whole.clamp(min=1)


def cross_entropy(logprobs: Tensor, mask: Tensor, tokens: float | None = None) -> Tensor:
    """SFT's loss: the mean negative log-probability of the target tokens. Shapes as of `token_mean`."""
    return token_mean(-logprobs, mask, tokens)


def chosen_logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-probability of each id under its logits, in float32. logits: [..., vocabulary]; ids: [...]; returns [...]."""
    logits = logits.float()
    return logits.gather(-1, ids[..., None])[..., 0] - logits.logsumexp(-1)


def entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of the distribution that logits stand for. [..., vocabulary] to [...]."""
    logits = logits.float()
    log_sum = logits.logsumexp(-1)
    return log_sum - (logits.softmax(-1) * logits).sum(-1)
