"""`filter --balance`: which questions of one half of the personas to drop, and where their right options should stand.

Every question gets a weight by raking (W. E. Deming and F. F. Stephan, 1940): by each cue in turn, those whose right
option has the same rank are scaled to their equal share, until all shares are equal. Questions are then kept in
proportion to their weights, so that whatever the cues have to do with each other stays as it is.
"""

from typing import NamedTuple

import numpy as np

from pmem.audit.audit import strata_of_sizes
from pmem.audit.corpus import Corpus, Flags, Floats, Ints
from pmem.audit.cues import cues, places, words
from pmem.choices import LETTERS
from pmem.draws import Draw

CUES = {"characters": "length", "overlap": "overlap", "likeness": "odd one out", "rarity": "generic"}
"""The cues that are balanced, and what they are called; position is balanced by shuffling."""
LEAST = 100
"""Questions of one case: none of fewer are dropped, since chance alone makes their ranks uneven."""
ROUNDS = 200
CAPS = (0.75, 1.0)
"""Without a cap the rarest combination of ranks would say how many of all others may stay: on 2,500 questions without
any bias 73% would, with a cap at the third quartile 89% do. The second one is for where the first comes to no end."""
EVEN = 0.005
"""How far the share of a rank may be from an equal one."""


class Plan(NamedTuple):
    """What becomes of the questions, by number. why: reasons of those that are dropped; letters: where the right
    option goes, of those that are kept; left: cases with too few to drop any, with their numbers."""

    why: dict[int, str]
    letters: dict[int, str]
    left: dict[str, int]


def planned(corpus: Corpus, seed: int) -> Plan:
    """Balance the collected questions, case by case (and number of options by number of options)."""
    layout = corpus.layout()
    plan = Plan({}, {}, {})
    if not len(layout.options):
        return plan
    values = cues(corpus, layout, words(corpus))
    for case, count, members in strata_of_sizes(layout):
        draw = Draw(seed, f"{case}/{count}", "balance")
        if len(members) < LEAST:
            plan.left[case] = plan.left.get(case, 0) + len(members)
        else:
            at = {name: _ranks(values[cue][members], layout.gold[members], draw) for cue, name in CUES.items()}
            keep = kept(raked(at, count), draw)
            fallen = {name: ranks[~keep] for name, ranks in at.items()}
            plan.why.update(_reasons(members[~keep], fallen, at, case, count))
            members = members[keep]
        order = draw.shuffled(members.tolist())
        first = draw.below(count)  # what is over after equal shares falls to other letters in every case
        plan.letters.update({number: LETTERS[(first + place) % count] for place, number in enumerate(order)})
    return plan


def _ranks(values: Floats, gold: Ints, draw: Draw) -> Ints:
    """The right option's rank by a cue, from 0; drawn where several options stand level."""
    less, equal = places(values, gold)
    return np.array([low + draw.below(level) for low, level in zip(less.tolist(), equal.tolist(), strict=True)])


def raked(at: dict[str, Ints], count: int) -> Floats:
    """A weight from 0 to 1 for each question: by every cue, all `count` ranks of the right option weigh the same.

    All weights are 0 where a rank never occurs: dropping can't make it.
    """
    number = len(next(iter(at.values())))
    weights = np.ones(number)
    if any(len(np.unique(ranks)) < count for ranks in at.values()):
        return np.zeros(number)
    for cap in CAPS:
        weights = _raked(at, count, cap)
        if max(_unevenness(ranks, weights, count) for ranks in at.values()) <= EVEN:
            break
    return weights


def _raked(at: dict[str, Ints], count: int, cap: float) -> Floats:
    """Weights after many rounds, with those over the quantile `cap` cut back to it in each."""
    weights = np.ones(len(next(iter(at.values()))))
    for _ in range(ROUNDS):
        for ranks in at.values():
            totals = np.bincount(ranks, weights=weights, minlength=count)
            weights *= (weights.sum() / count / totals)[ranks]
        weights = np.minimum(weights / np.quantile(weights, cap), 1)
    return weights


def _unevenness(ranks: Ints, weights: Floats, count: int) -> float:
    """How far the share of a rank is from an equal one, at most."""
    shares = np.bincount(ranks, weights=weights, minlength=count) / weights.sum()
    return float(np.abs(shares - 1 / count).max())


def kept(weights: Floats, draw: Draw) -> Flags:
    """A draw in proportion to weights. It is systematic: among questions of like weights, the right share stays."""
    mixed = np.array(draw.shuffled(range(len(weights))), np.int64)
    order = mixed[np.argsort(weights[mixed].round(9), kind="stable")]
    ends = np.floor(np.cumsum(weights[order]) + draw.below(1_000_000) / 1_000_000)
    chosen = np.zeros(len(weights), bool)
    chosen[order] = np.diff(ends, prepend=0) > 0
    return chosen


def _reasons(dropped: Ints, ranks: dict[str, Ints], at: dict[str, Ints], case: str, count: int) -> dict[int, str]:
    """Question -> the cue by which its right option has the most frequent rank, in words."""
    shares = {name: np.bincount(values, minlength=count) / len(values) for name, values in at.items()}
    found = {}
    for place, number in enumerate(dropped.tolist()):
        share, name, rank = max((shares[name][ranks[name][place]], name, ranks[name][place]) for name in CUES.values())
        found[number] = f"balance: {name}: the right option has rank {rank + 1} of {count} in {share:.0%} ({case})"
    return found
