"""The audit's error rates: how often it fails data without a bias, passes data with one, and finds what was planted.

python bench/audit.py [--sets N] [--planted N] [--json FILE]

False alarms: N random data sets (1,000) without any bias, of several sizes, with and without questions of a persona
that depend on each other, through the strategies that go by a rank (as numbers, no texts). `any p < 5%` is the share
of sets in which Holm's method shows a gain somewhere: at most 5% is what the level promises. `fails` is the share of
sets that the audit fails: less, since what is shown to be under the margin passes. `naive` is the first figure with a
standard error that takes questions as independent; `swapped` is the share of p < 5% where one strategy is tuned
and measured on both halves in turn and both are counted together.

False passes: the gain of one strategy is at the margin, so that at most 5% of sets (3 N of them) should pass it.

Planted: questions of random words with one bias, through the whole audit, N sets (10) of each; strength in points.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from pmem.audit import measure, rules
from pmem.audit.audit import Terms, audited, conclusion, judged, ruled
from pmem.audit.corpus import Corpus
from tests.planted import BIASES, drawn, questions

CUES = ("characters", "words", "overlap", "likeness", "rarity")
SIZES = ((1_000, 50, 0.0), (1_000, 50, 0.5), (5_000, 250, 0.0), (5_000, 250, 0.5), (25_000, 1_000, 0.2))
"""Questions, personas, habit."""


def false_alarms(sets: int) -> list[dict[str, Any]]:
    """Shares of random data sets, by size."""
    rows = []
    for number, personas, habit in SIZES:
        counts = dict.fromkeys(("any", "fails", "passes", "naive", "swapped"), 0)
        for seed in range(sets):
            layout, at = drawn(number, personas, habit=habit, cues=CUES, seed=seed)
            found = judged(list(ruled(layout, at, Terms())), Terms())
            verdict = conclusion(found)
            counts["any"] += any(one.p is not None and one.p < measure.LEVEL for one in found)
            counts["fails"] += verdict == "fail"
            counts["passes"] += verdict == "pass"
            alone = layout._replace(persona=np.arange(number))
            counts["naive"] += any(
                one.p is not None and one.p < measure.LEVEL for one in judged(list(ruled(alone, at, Terms())), Terms())
            )
            counts["swapped"] += swapped(layout, at) < measure.LEVEL
        rows.append({"questions": number, "personas": personas, "habit": habit, **_shares(counts, sets)})
        print(rows[-1], flush=True)
    return rows


def swapped(layout: Any, at: Any) -> float:
    """p of the rule by likeness, tuned on each half and measured on the other, both counted together."""
    excess = np.zeros(len(layout.options))
    for half in (layout.measured, ~layout.measured):
        rule = rules.tuned("odd one out", at, layout, ~half)
        excess[half] = rule.right[half] - 0.25
    return measure.gain(excess, layout.persona).p


def false_passes(sets: int, margin: float = 0.05) -> list[dict[str, Any]]:
    """How often one measurement passes whose true gain is the margin, where personas differ (sd 0.1)."""
    rows = []
    for personas, number in ((25, 500), (50, 500), (100, 1_000), (250, 2_000)):
        passes = 0
        for seed in range(sets):
            rng = np.random.default_rng(seed)
            persona = rng.integers(personas, size=number)
            chance = 0.25 + margin + rng.normal(0, 0.1, personas)
            found = measure.gain((rng.random(number) < chance[persona]) - 0.25, persona)
            passes += measure.verdict(found, 1.0, margin) == "pass"
        rows.append({"questions": number, "personas": personas, "passes": passes / sets})
        print(rows[-1], flush=True)
    return rows


def planted(sets: int, number: int, personas: int, points: float) -> list[dict[str, Any]]:
    """Verdicts on questions with one bias (or none), and how often the strategy meant for it is among what fails."""
    rows = []
    for bias in (None, *BIASES):
        verdicts: list[str] = []
        named = 0
        for seed in range(sets):
            corpus = Corpus(seed)
            for qa in questions(number, personas, bias=bias, points=points, seed=seed):
                corpus.add(qa)
            found = audited(corpus, Terms())
            verdicts.append(conclusion(found))
            named += any(one.verdict == "fail" and one.strategy == (bias or "").replace("words", "bag of words")
                         for one in found)  # fmt: skip
        shares = {one: verdicts.count(one) / sets for one in ("fail", "inconclusive", "pass")}
        rows.append({"bias": bias or "none", "points": points if bias else 0, "questions": number, **shares,
                     "strategy_fails": named / sets})  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def _shares(counts: dict[str, int], sets: int) -> dict[str, float]:
    return {name: count / sets for name, count in counts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=1_000)
    parser.add_argument("--planted", type=int, default=10)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    began = time.perf_counter()
    results = {
        "sets": given.sets,
        "false_alarms": false_alarms(given.sets),
        "false_passes": false_passes(3 * given.sets),
    }
    results["planted"] = [
        row
        for number, personas, points in ((2_500, 150, 10), (2_500, 150, 5), (25_000, 1_000, 10))
        for row in planted(given.planted if number < 25_000 else max(1, given.planted // 4), number, personas, points)
    ]
    print(f"{time.perf_counter() - began:.0f} s")
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
