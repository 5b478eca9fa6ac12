"""Strategies that learn: logistic regression scores each option by itself, the highest one is taken."""

from typing import Any

import numpy as np
from scipy.sparse import csr_array, hstack, vstack
from sklearn.linear_model import LogisticRegression

from pmem.audit.corpus import Flags, Floats, Layout
from pmem.audit.cues import BLOCK, Words, ranks

BAG = "bag of words"
CROSSED = "bag of words x query"
CUES = "all cues"
RARE = 3
"""A word that fewer of the options in training hold tells nothing about others."""


def features(weighed: Words, cues: dict[str, Floats], layout: Layout) -> dict[str, Any]:
    """Strategy -> a row of features for each option, question after question."""
    return {
        BAG: weighed.options,
        CROSSED: hstack([weighed.options, _shared(weighed, layout)], format="csr"),
        CUES: _cue_features(cues, layout),
    }


def _shared(weighed: Words, layout: Layout) -> csr_array:
    """Products of the weights of words that stand in an option and in its query."""
    ends = np.cumsum(layout.options)
    parts = []
    for first in range(0, len(ends), BLOCK):
        count = layout.options[first : first + BLOCK]
        own = np.repeat(np.arange(first, first + len(count)), count)
        options = weighed.options[ends[first] - count[0] : ends[first + len(count) - 1]]
        parts.append(options.multiply(weighed.queries[own]).tocsr())
    return vstack(parts, format="csr")


def _cue_features(cues: dict[str, Floats], layout: Layout) -> Floats:
    """Ranks by every cue, how far they are from the middle, and the letter: what a cheater could weigh together."""
    offered = layout.offered
    columns = []
    for values in cues.values():
        rank = ranks(values)[offered] - 0.5
        columns += [rank, rank**2]
    letter = np.broadcast_to(np.arange(offered.shape[1]), offered.shape)[offered]
    return np.column_stack([*columns, *(letter == place for place in range(offered.shape[1]))]).astype(float)


def right(rows: Any, layout: Layout, tuning: Flags, measured: Flags) -> Floats:
    """Train on the options of some questions; per question of others, the probability that the choice is right.

    It is 1 or 0, or a share where the highest score is that of several. NaN for questions that aren't measured.
    """
    scores = _scores(rows, layout, np.repeat(tuning, layout.options), np.repeat(measured, layout.options))
    table = layout.padded(scores)[measured]
    gold = layout.gold[measured]
    best = np.nanmax(table, axis=1, keepdims=True)
    chosen = table == best
    result = np.full(len(layout.options), np.nan)
    result[measured] = chosen[np.arange(len(gold)), gold] / chosen.sum(axis=1)
    return result


def _scores(rows: Any, layout: Layout, train: Flags, test: Flags) -> Floats:
    """Scores of the options in `test`; NaN for all others."""
    starts = np.cumsum(layout.options) - layout.options
    gold = np.zeros(len(train), bool)
    gold[starts + layout.gold] = True
    known, asked = rows[np.flatnonzero(train)], rows[np.flatnonzero(test)]
    if isinstance(rows, csr_array):
        common = np.flatnonzero(np.bincount(known.indices, minlength=known.shape[1]) >= RARE)
        known, asked = known[:, common], asked[:, common]
    scores = np.full(len(train), np.nan)
    if not known.shape[1]:
        scores[test] = 0.0
        return scores
    model = LogisticRegression(solver="liblinear", random_state=0).fit(known, gold[train])
    scores[test] = model.decision_function(asked).round(9)
    return scores
