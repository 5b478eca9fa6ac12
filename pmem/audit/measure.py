"""How much better than chance a strategy is, with bounds that respect personas, and what that says (docs/audit.md)."""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from pmem.audit.corpus import Floats, Ints

LEVEL = 0.05
"""Of each bound, and of the whole audit's false alarms."""


class Gain(NamedTuple):
    """Accuracy beyond chance, as shares.

    low, high: one-sided 95% bounds; p: of the hypothesis that there is no gain, against one above 0.
    """

    mean: float
    low: float
    high: float
    p: float


def gain(excess: Floats, persona: Ints) -> Gain:
    """The mean of `excess` over questions; questions of one persona may depend on each other in any way.

    The standard error is the cluster-robust one of a mean, with the factor g/(g-1) for g personas; Student's t with
    g-1 degrees of freedom.
    """
    mean = float(excess.mean())
    sums = np.bincount(persona, weights=excess - mean)
    clusters = distinct(persona)
    if clusters < 2:
        return Gain(mean, -1.0, 1.0, 1.0)
    error = float(np.sqrt(clusters / (clusters - 1) * np.sum(sums**2))) / len(excess)
    if error < 1e-12:  # every persona alike, to the last bit
        return Gain(mean, mean, mean, 0.0 if mean > 1e-12 else 1.0)
    reach = float(stdtrit(clusters - 1, 1 - LEVEL)) * error
    return Gain(mean, mean - reach, mean + reach, float(stdtr(clusters - 1, -mean / error)))


def distinct(persona: Ints) -> int:
    """How many different personas there are."""
    return int(np.count_nonzero(np.bincount(persona)))


def adjusted(ps: list[float]) -> list[float]:
    """p-values by Holm's method: all that stay under LEVEL together hold a false one with at most that probability.

    statsmodels' multipletests gives the same, but collects garbage at each call: 0.25 s, too long for simulations.
    """
    order = np.argsort(ps, kind="stable")
    scaled = np.array(ps)[order] * (len(ps) - np.arange(len(ps)))
    result = np.empty(len(ps))
    result[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return [float(p) for p in result]


def verdict(found: Gain, p: float, margin: float) -> str:
    """What a measurement says, `p` adjusted for all that were made.

    pass: it is shown that the gain is under the margin; fail: it is not, and that there is one is shown;
    inconclusive: neither is.
    """
    if found.high < margin:
        return "pass"
    return "fail" if p < LEVEL else "inconclusive"


def overall(verdicts: list[str]) -> str:
    """One verdict fails all, one inconclusive lets none pass, and none at all is inconclusive."""
    for one in ("fail", "inconclusive", "pass"):
        if one in verdicts:
            return one
    return "inconclusive"
