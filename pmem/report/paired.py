"""Two runs on the same questions: the difference of their accuracies, question by question, by persona."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from pmem.report.clusters import Cluster
from pmem.report.intervals import difference, mcnemar


class Pair(NamedTuple):
    """One question's share of right answers in each of two runs (0 or 1, if each asked once)."""

    persona: str
    first: float
    second: float


def compared(pairs: Iterable[Pair]) -> dict[str, Any]:
    """The difference second - first for JSON: with its 95% interval and p, by Student's t over personas.

    only_first, only_second: questions that one run alone answers rightly, and the p of McNemar's test, which takes
    questions as independent; null where a run asked a question several times.
    """
    clusters: dict[str, Cluster] = {}
    only = [0, 0]
    count = 0
    single = True
    for pair in pairs:
        gap = pair.second - pair.first
        held = clusters.get(pair.persona, Cluster(0, 0.0, 0.0))
        clusters[pair.persona] = Cluster(held.answers + 1, held.total + gap, held.squares + gap * gap)
        only[0] += gap < 0
        only[1] += gap > 0
        single = single and {pair.first, pair.second} <= {0.0, 1.0}
        count += 1
    found = {name: round(value, 6) for name, value in difference(clusters.values())._asdict().items()}
    told = {"only_first": only[0], "only_second": only[1], "mcnemar_p": round(mcnemar(*only), 6)}
    return {"questions": count, "personas": len(clusters), **found, **(told if single else dict.fromkeys(told))}
