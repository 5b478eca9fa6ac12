"""Means over answers in clusters, with variances that respect the clusters.

Answers about one persona are alike: all rest on the same history. Formulas that take answers as independent then give
intervals that are far too narrow. Here the persona is what counts as independent. The variance is cluster-robust in
the form CR2 (R. M. Bell and D. F. McCaffrey, 2002), which corrects for the pull of large clusters on the mean. Its
degrees of freedom are those of G. W. Imbens and M. Kolesár (2016): they follow from the sizes of the clusters and from
how alike the answers within them are. For a mean all of it has closed forms.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Cluster(NamedTuple):
    """The answers about one persona: how many; the sum of what is averaged; the sum of its squares.

    What is averaged is 1 for a right answer and 0 for a wrong one, or a paired difference.
    """

    answers: int
    total: float
    squares: float


class Spread(NamedTuple):
    """A mean over all answers, its variance, and the degrees of freedom of that (0 for a single cluster)."""

    mean: float
    variance: float
    freedom: float
    answers: int
    clusters: int


def right(answers: int, correct: int) -> Cluster:
    """The cluster of so many answers, so many of them correct."""
    return Cluster(answers, correct, correct)


def spread(clusters: Iterable[Cluster]) -> Spread:
    """The mean and its spread. There has to be an answer."""
    held = list(clusters)
    count = sum(one.answers for one in held)
    mean = sum(one.total for one in held) / count
    if len(held) < 2:
        return Spread(mean, 0.0, 0.0, count, len(held))
    weights = [1 / (1 - one.answers / count) / count**2 for one in held]
    residuals = [(one.total - one.answers * mean) ** 2 for one in held]
    variance = sum(weight * residual for weight, residual in zip(weights, residuals, strict=True))
    alike = _correlation(held, count, mean, sum(residuals))
    return Spread(mean, variance, _freedom(weights, [one.answers for one in held], alike), count, len(held))


def _correlation(clusters: list[Cluster], count: int, mean: float, residuals: float) -> float:
    """The intraclass correlation, from products of residuals within a cluster against their squares; from 0 to 1."""
    squares = sum(one.squares for one in clusters) - count * mean * mean
    pairs = sum(one.answers * (one.answers - 1) for one in clusters)
    if squares <= 0 or not pairs:
        return 0.0
    return min(1.0, max(0.0, (residuals - squares) / pairs / (squares / count)))


def _freedom(weights: list[float], sizes: list[int], alike: float) -> float:
    """Twice the variance estimate's squared mean over its variance, if the correlation within clusters is `alike`.

    The estimate is a sum of weight * (a cluster's sum of residuals)^2. With v = size * (1 + (size - 1) * alike), x =
    size / count and S the sum of all v, these sums of residuals covary as (v if it is the same cluster) - v * other x
    - x * other v + S * x * other x. The squares of all that, weighted, come out as products of a few sums.
    """
    count = sum(sizes)
    shares = [size / count for size in sizes]
    own = [size * (1 + (size - 1) * alike) for size in sizes]
    whole = sum(own)

    def weighed(values: Iterable[float]) -> float:
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    xx = weighed(x * x for x in shares)
    vx = weighed(v * x for v, x in zip(own, shares, strict=True))
    vv = weighed(v * v for v in own)
    pairs = 2 * vv * xx + 2 * vx * vx + (whole * xx) ** 2 - 4 * whole * vx * xx
    rest = [whole * x * x - 2 * v * x for v, x in zip(own, shares, strict=True)]  # without the first term
    same = [weight * (v + part) for weight, v, part in zip(weights, own, rest, strict=True)]
    squares = pairs + sum(one * one for one in same) - sum((w * r) ** 2 for w, r in zip(weights, rest, strict=True))
    return float(sum(same) ** 2 / squares)
