"""How often 95% intervals hold, and how often `pmem compare` finds a difference where there is none.

    python -m bench.intervals [--runs 2000] [--seed 1]

Simulated results: each persona has an accuracy of its own, drawn from a beta distribution whose spread makes an
intraclass correlation of 0.2; numbers of questions per persona are unequal (log-normal, 2 to 80, mean 13). The naive
interval (Wilson) and the naive test (McNemar) take all answers as independent. For the comparison two models are
equally good on average; half the personas are equally hard for both, the others each in a model's own way.
"""

import argparse
import random
from typing import NamedTuple

from pmem.report.clusters import Cluster, right
from pmem.report.intervals import difference, mcnemar, proportion, wilson

ALIKE = 0.2
"""The intraclass correlation."""


class Scene(NamedTuple):
    """What is simulated: the number of personas, and the accuracy over all of them."""

    personas: int
    accuracy: float
    alike: float = ALIKE


SCENES = (
    Scene(50, 0.4),
    Scene(200, 0.4),
    Scene(50, 0.4, 0.0),
    Scene(20, 0.4),
    Scene(10, 0.4),
    Scene(5, 0.4),
    Scene(50, 0.1),
    Scene(50, 0.9),
    Scene(10, 0.1),
    Scene(10, 0.9),
    Scene(50, 0.03),
)


class Held(NamedTuple):
    """Shares of runs: where the truth lay within the interval, pmem's and the naive one, and their mean widths."""

    clustered: float
    naive: float
    width: float
    naive_width: float


class Found(NamedTuple):
    """Shares of runs in which equal models came out as different (p < 0.05), and in which the interval held 0."""

    clustered: float
    naive: float
    held: float


def sizes(draw: random.Random, personas: int) -> list[int]:
    """Numbers of questions per persona."""
    return [min(80, max(2, round(draw.lognormvariate(2.3, 0.8)))) for _ in range(personas)]


def accuracy(draw: random.Random, scene: Scene) -> float:
    """One persona's own accuracy."""
    if not scene.alike:
        return scene.accuracy
    scale = 1 / scene.alike - 1
    return draw.betavariate(scene.accuracy * scale, (1 - scene.accuracy) * scale)


def intervals(scene: Scene, runs: int, seed: int) -> Held:
    """Coverage over some runs."""
    draw = random.Random(f"{scene} {seed}")
    held = [0, 0]
    widths = [0.0, 0.0]
    for _ in range(runs):
        clusters = []
        for size in sizes(draw, scene.personas):
            own = accuracy(draw, scene)
            clusters.append(right(size, sum(draw.random() < own for _ in range(size))))
        correct, count = int(sum(one.total for one in clusters)), sum(one.answers for one in clusters)
        for number, found in enumerate((proportion(clusters), wilson(correct, count))):
            held[number] += found.low <= scene.accuracy <= found.high
            widths[number] += found.high - found.low
    return Held(held[0] / runs, held[1] / runs, widths[0] / runs, widths[1] / runs)


def comparisons(scene: Scene, runs: int, seed: int) -> Found:
    """False findings over some runs."""
    draw = random.Random(f"compare {scene} {seed}")
    wrong, naive, held = 0, 0, 0
    for _ in range(runs):
        clusters = []
        only = [0, 0]
        for size in sizes(draw, scene.personas):
            first = accuracy(draw, scene)
            second = first if draw.random() < 0.5 else accuracy(draw, scene)
            pairs = [(draw.random() < first, draw.random() < second) for _ in range(size)]
            clusters.append(Cluster(size, sum(a - b for a, b in pairs), sum(a != b for a, b in pairs)))
            only[0] += sum(a > b for a, b in pairs)
            only[1] += sum(a < b for a, b in pairs)
        found = difference(clusters)
        wrong += found.p < 0.05
        naive += mcnemar(*only) < 0.05
        held += found.low <= 0 <= found.high
    return Found(wrong / runs, naive / runs, held / runs)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print("| personas | accuracy | correlation | intervals hold | mean width | Wilson hold | mean width |")
    print("|---|---|---|---|---|---|---|")
    for scene in SCENES:
        held = intervals(scene, given.runs, given.seed)
        print(
            f"| {scene.personas} | {scene.accuracy:.0%} | {scene.alike} | {held.clustered:.1%} | {held.width:.3f}"
            f" | {held.naive:.1%} | {held.naive_width:.3f} |"
        )
    print("\n| personas | accuracy | correlation | equal models differ (p < 0.05) | McNemar's | interval holds 0 |")
    print("|---|---|---|---|---|---|")
    for scene in SCENES:
        found = comparisons(scene, given.runs, given.seed)
        print(
            f"| {scene.personas} | {scene.accuracy:.0%} | {scene.alike} | {found.clustered:.1%} | {found.naive:.1%}"
            f" | {found.held:.1%} |"
        )


if __name__ == "__main__":
    main()
