"""Strategies without a model: the cheater takes the option of a fixed rank by a cue, and tunes cue and rank."""

from typing import NamedTuple

import numpy as np

from pmem.audit.corpus import Flags, Floats, Ints, Layout
from pmem.audit.cues import Places
from pmem.choices import LETTERS

STRATEGIES = {
    "position": ("position",),
    "length": ("characters", "words"),
    "overlap": ("overlap",),
    "odd one out": ("likeness",),
    "generic": ("rarity",),
}
"""Strategy -> the cues that it may go by."""
RANKS = {"least": 0, "second least": 1, "second most": -2, "most": -1}


class Rule(NamedTuple):
    """A rule: the rank by a cue that it takes, in words, and how often it is right.

    right: per question the probability that it is, where it draws one of those which stand level.
    """

    cue: str
    rank: str
    right: Floats


def rules(cue: str, at: Places, layout: Layout) -> list[Rule]:
    """Every rule that goes by a cue."""
    if cue == "position":
        most = int(layout.options.max(initial=0))
        return [Rule(cue, LETTERS[place], (layout.gold == place).astype(float)) for place in range(most)]
    wanted = {name: rank if rank >= 0 else layout.options + rank for name, rank in RANKS.items()}
    return [Rule(cue, name, _right(at, rank)) for name, rank in wanted.items()]


def _right(at: Places, rank: int | Ints) -> Floats:
    hit: Flags = (at.less <= rank) & (rank < at.less + at.equal)
    return hit / at.equal


def tuned(strategy: str, at: dict[str, Places], layout: Layout, on: Flags) -> Rule:
    """The rule of a strategy that is right most often beyond chance on some questions (the first of equal ones)."""
    found = [rule for cue in STRATEGIES[strategy] for rule in rules(cue, at[cue], layout)]
    gains = [float(np.mean(rule.right[on] - 1 / layout.options[on])) for rule in found]
    return found[int(np.argmax(np.round(gains, 12)))]


def placed(values: dict[str, Places], layout: Layout) -> dict[str, Places]:
    """Places by every cue, position among them."""
    return {**values, "position": Places(layout.gold, np.ones_like(layout.gold))}
