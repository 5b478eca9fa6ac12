"""Which questions people judge: a stratified sample that depends on the questions and the seed, not on their order."""

import heapq
from collections import Counter
from typing import Any

from pmem.draws import seed_for

Record = dict[str, Any]
Stratum = tuple[str, str]  # kind, case


class Sample:
    """Draws `size` questions from a stream in one pass. It keeps at most `size` questions of each stratum."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.read: Counter[Stratum] = Counter()
        self._kept: dict[Stratum, list[tuple[int, str, Record]]] = {}  # heaps; the largest draw (negated) first
        self._ids: set[str] = set()

    def add(self, qa: Record) -> None:
        """Note a question. One that stands in the stream again is the same question."""
        if qa["id"] in self._ids:
            return
        stratum = _stratum(qa)
        self.read[stratum] += 1
        kept = self._kept.setdefault(stratum, [])
        entry = (-seed_for(self.seed, qa["id"], "annotate"), qa["id"], qa)
        self._ids.add(qa["id"])
        if len(kept) < self.size:
            heapq.heappush(kept, entry)
        else:
            self._ids.discard(heapq.heappushpop(kept, entry)[1])

    def drawn(self) -> list[Record]:
        """The sample, in the order of its draw. Strata have shares as in the stream, but at least one question each
        where the sample is large enough."""
        shares = allotted(self.read, self.size)
        drawn = [
            entry for stratum, kept in self._kept.items() for entry in sorted(kept, reverse=True)[: shares[stratum]]
        ]
        return [qa for _, _, qa in sorted(drawn, reverse=True)]


def allotted(counts: Counter[Stratum], size: int) -> dict[Stratum, int]:
    """How many of `size` each stratum gets: each place to the one that is furthest behind its share, as by largest
    remainders (Hamilton's method), but one at least for each while there is enough for all."""
    total = sum(counts.values())
    if size >= total:
        return dict(counts)
    exact = {stratum: size * count / total for stratum, count in sorted(counts.items())}
    shares = dict.fromkeys(exact, int(size >= len(counts)))
    for _ in range(size - sum(shares.values())):
        open_ones = [stratum for stratum in exact if shares[stratum] < counts[stratum]]
        shares[max(open_ones, key=lambda stratum: exact[stratum] - shares[stratum])] += 1
    return shares


def _stratum(qa: Record) -> Stratum:
    return (qa["preference"]["kind"] if qa["preference"] else "", qa["case"] or "")
