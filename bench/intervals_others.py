"""Other intervals of the same cluster-robust variance and degrees of freedom, beside the one that pmem gives.

    python -m bench.intervals_others [--runs 2000] [--seed 1]

The simulations of bench/intervals.py. Where all answers of a run are right, or all wrong, each method gives pmem's own
interval, since none of the others is defined there.
"""

import argparse
import math
import random
from collections.abc import Callable

from scipy.stats import beta

from bench.intervals import SCENES, accuracy, sizes
from pmem.report.clusters import Cluster, Spread, right, spread
from pmem.report.intervals import Interval, proportion
from pmem.report.student import quantile

INSIDE = 0.015
"""How far from 95% still counts as held."""


def error(found: Spread) -> float:
    """The standard error; never less than that of independent answers."""
    return max(found.variance, found.mean * (1 - found.mean) / found.answers) ** 0.5


def student(found: Spread, t: float) -> Interval:
    """Student's t: the mean and t standard errors to either side."""
    return Interval(found.mean - t * error(found), found.mean + t * error(found))


def logit(found: Spread, t: float) -> Interval:
    """The same on the scale of log odds (delta method)."""
    centre, reach = math.log(found.mean / (1 - found.mean)), t * error(found) / (found.mean * (1 - found.mean))
    low, high = (1 / (1 + math.exp(-max(-700.0, min(700.0, centre + sign * reach)))) for sign in (-1, 1))
    return Interval(low, high)


def arcsine(found: Spread, t: float) -> Interval:
    """The same on the scale of arcsin(sqrt(share)), which evens out the variance."""
    centre = math.asin(found.mean**0.5)
    reach = t * error(found) / (found.mean * (1 - found.mean)) ** 0.5 / 2
    low, high = (math.sin(max(0.0, min(math.pi / 2, centre + sign * reach))) ** 2 for sign in (-1, 1))
    return Interval(low, high)


def korn_graubard(found: Spread, t: float) -> Interval:
    """Clopper and Pearson's at the effective number of answers, less what t adds (E. L. Korn, B. I. Graubard, 1998)."""
    count = found.mean * (1 - found.mean) / error(found) ** 2 * (1.96 / t) ** 2
    hits = found.mean * count
    return Interval(float(beta.ppf(0.025, hits, count - hits + 1)), float(beta.ppf(0.975, hits + 1, count - hits)))


METHODS: dict[str, Callable[[Spread, float], Interval]] = {
    "Student's t": student,
    "logit": logit,
    "arcsine": arcsine,
    "Korn and Graubard": korn_graubard,
}


def interval(name: str, clusters: list[Cluster]) -> Interval:
    """By one of METHODS."""
    found = spread(clusters)
    if not 0 < found.mean < 1 or found.clusters < 2:
        return proportion(clusters)
    return METHODS[name](found, quantile(0.975, found.freedom))


def main() -> None:
    """Print the table: coverage by setting, and in how many it is as near to 95% as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    names = ["pmem", *METHODS]
    inside = dict.fromkeys(names, 0)
    print(f"| personas | accuracy | correlation | {' | '.join(names)} |\n|{'---|' * (3 + len(names))}")
    for scene in SCENES:
        draw = random.Random(f"{scene} {given.seed}")
        held = dict.fromkeys(names, 0)
        for _ in range(given.runs):
            clusters = []
            for size in sizes(draw, scene.personas):
                own = accuracy(draw, scene)
                clusters.append(right(size, sum(draw.random() < own for _ in range(size))))
            for name in names:
                found = proportion(clusters) if name == "pmem" else interval(name, clusters)
                held[name] += found.low <= scene.accuracy <= found.high
        for name, count in held.items():
            inside[name] += abs(count / given.runs - 0.95) <= INSIDE + 1e-9
        shares = " | ".join(f"{count / given.runs:.1%}" for count in held.values())
        print(f"| {scene.personas} | {scene.accuracy:.0%} | {scene.alike} | {shares} |", flush=True)
    print(f"| within 1.5 points of 95% | | | {' | '.join(f'{n} of {len(SCENES)}' for n in inside.values())} |")


if __name__ == "__main__":
    main()
