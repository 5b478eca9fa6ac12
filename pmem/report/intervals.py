"""Confidence intervals and tests of proportions and of paired differences, where answers come in clusters.

`bench/intervals.py` measures how often they hold.
"""

from collections.abc import Iterable
from statistics import NormalDist
from typing import NamedTuple

from pmem.report.clusters import Cluster, spread
from pmem.report.student import quantile, two_sided

LEVEL = 0.95
NOTHING = 1e-15
"""A variance below it is none: sums of fractions leave dust."""


class Interval(NamedTuple):
    """The bounds of an estimate."""

    low: float
    high: float


class Difference(NamedTuple):
    """A paired difference with its interval; p: how probable one as great is where there is none in truth."""

    mean: float
    low: float
    high: float
    p: float


def proportion(clusters: Iterable[Cluster], level: float = LEVEL) -> Interval:
    """The interval of a share of right answers.

    Wilson's interval with Student's t, at the number of independent answers that would have the same variance; at most
    as many as there are answers. Where all answers are right, or all are wrong, nothing tells how alike those about one
    persona are: each persona then counts as one answer. One persona alone says nothing of others: 0 to 1.
    """
    found = spread(clusters)
    if found.clusters < 2:
        return Interval(0.0, 1.0)
    within = found.mean * (1 - found.mean)
    if within <= 0:
        return _wilson(found.mean, found.clusters, _normal(level))
    count = min(within / max(found.variance, NOTHING), found.answers)
    return _wilson(found.mean, count, quantile(0.5 + level / 2, found.freedom))


def wilson(correct: int, answers: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval (E. B. Wilson, 1927) of a share of independent answers."""
    return _wilson(correct / answers, answers, _normal(level)) if answers else Interval(0.0, 1.0)


def difference(clusters: Iterable[Cluster], level: float = LEVEL) -> Difference:
    """The mean of differences between -1 and 1, by Student's t.

    Where the mean is the same for every persona there is no variance to go by: then each persona counts as one answer,
    and only its sign is used, as in the sign test. One persona alone says nothing of others: -1 to 1.
    """
    found = spread(clusters)
    if found.clusters < 2:
        return Difference(found.mean, -1.0, 1.0, 1.0)
    if found.variance < NOTHING:
        return _uniform(found.mean, found.clusters, level)
    error = found.variance**0.5
    reach = quantile(0.5 + level / 2, found.freedom) * error
    return _difference(found.mean, reach, two_sided(found.mean / error, found.freedom))


def _uniform(mean: float, personas: int, level: float) -> Difference:
    """The difference, if it is the same for every persona."""
    if abs(mean) < NOTHING:
        return _difference(0.0, wilson(0, personas, level).high, 1.0)
    share = ((1 - level) / 2) ** (1 / personas)  # at least so many of all personas lean to this side
    return _difference(mean, 2 * (1 - share) * abs(mean), min(1.0, 2 / 2**personas))


def _difference(mean: float, reach: float, p: float) -> Difference:
    return Difference(mean, max(-1.0, mean - reach), min(1.0, mean + reach), p)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p of McNemar's test. It takes questions as independent.

    only_first, only_second: how many questions one of two runs answers rightly and the other doesn't.
    """
    from math import comb

    count = only_first + only_second
    tail = sum(comb(count, number) for number in range(min(only_first, only_second) + 1))
    return min(1.0, float(2 * tail / 2**count))


def _normal(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def _wilson(share: float, count: float, z: float) -> Interval:
    """The shares from which the one observed is less than z of their own standard errors away."""
    centre = share + z * z / (2 * count)
    reach = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    scale = 1 + z * z / count
    return Interval(max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale))
