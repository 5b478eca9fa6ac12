"""Student's t distribution, for any positive degrees of freedom: tails and quantiles, without a numeric library."""

import math

STEPS = 1000
"""Of the continued fraction, at most: some dozens are enough for any degrees of freedom that occur."""


def two_sided(t: float, freedom: float) -> float:
    """The probability of a value at least as far from 0 as t."""
    return 0.0 if math.isinf(t) else _beta_share(freedom / 2, 0.5, freedom / (freedom + t * t))


def quantile(share: float, freedom: float) -> float:
    """The value below which `share` of the distribution lies, for a share of at least one half."""
    tail = 2 * (1 - share)
    low, high = 0.0, 1.0
    while two_sided(high, freedom) > tail:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:  # until no number lies between
        low, high = (middle, high) if two_sided(middle, freedom) > tail else (low, middle)
    return high


def _beta_share(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side only
        return 1 - _beta_share(b, a, 1 - x)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(front) / (a * _fraction(a, b, x))


def _fraction(a: float, b: float, x: float) -> float:
    """1 + d1/(1 + d2/(1 + ...)), the continued fraction of I_x (Abramowitz and Stegun, 26.5.8), by Lentz's method."""
    value, above, below = 1.0, 1.0, 0.0
    for step in range(1, STEPS):
        m = step // 2
        if step % 2:
            part = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            part = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        below = 1 / (1 + part * below)
        above = 1 + part / above
        value *= above * below
        if abs(above * below - 1) < 1e-15:
            break
    return value
