"""Dividing questions among splits by whole personas, each split with about the mix of kinds and cases of the whole.

Exact sizes are reached in two steps: most personas go where the mix lacks them most, and the last ones of each split
are chosen for their sizes (an exact subset sum), so that hardly a question is left out.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pmem.draws import Draw

RESERVES = (4, 12, 100, 1000)
"""About so many personas of each split are chosen for their sizes; more if fewer don't do."""

Personas = dict[str, Counter[str]]
"""Persona -> its questions by cell (case and kind)."""


class Unreachable(ValueError):
    """No division into the wanted sizes was found; the message says what there is."""


class Division(NamedTuple):
    """The split of each persona (none: left out), and how many questions of a cell a split has too many."""

    split_of: dict[str, str]
    surplus: Counter[tuple[str, str]]


def cell_of(qa: dict[str, Any]) -> str:
    """A question's case and kind in words."""
    kind = qa["preference"]["kind"] if qa["preference"] else None
    return " ".join(part for part in (qa["case"], kind) if part) or "unknown"


def by_shares(personas: Personas, shares: Mapping[str, float], seed: int) -> Division:
    """Every persona to a split, so that the splits come close to their shares of all questions (adding up to 1)."""
    total = sum(map(Counter.total, personas.values()))
    filling = _Filling(personas, {split: share * total for split, share in shares.items()})
    for persona in _shuffled(personas, seed):
        filling.assign(persona, filling.fullest_use(persona, list(shares)))
    return Division(filling.split_of, Counter())


def by_sizes(personas: Personas, sizes: Mapping[str, int], seed: int) -> Division:
    """Splits of exactly these sizes, the rest left out. Unreachable where they can't be made of whole personas."""
    total, wanted = sum(map(Counter.total, personas.values())), sum(sizes.values())
    if wanted > total:
        raise Unreachable(f"{wanted:,} questions are wanted ({_listed(sizes)}); there are {total:,}")
    order = _shuffled(personas, seed)
    mean = total / len(personas) if personas else 0
    fullest: Mapping[str, int] = {}
    for reserve in RESERVES:
        filling = _Filling(personas, sizes)
        pool = []
        for persona in order:
            room = personas[persona].total() + reserve * mean
            open_splits = [split for split in sizes if filling.room[split] >= room]
            if open_splits:
                filling.assign(persona, filling.fullest_use(persona, open_splits))
            else:
                pool.append(persona)
        if _completed(filling, pool):
            return Division(filling.split_of, filling.surplus())
        fullest = {split: round(sizes[split] - max(room, 0)) for split, room in filling.room.items()}
    found = ", ".join(f"{split} {fullest[split]:,} of {size:,}" for split, size in sizes.items())
    raise Unreachable(
        f"no way found to fill all splits with whole personas: {total:,} questions of {len(personas):,} personas, of"
        f" which {wanted:,} are wanted; at best {found}. Smaller sizes, or shares (bench=0.2,...), leave more room"
    )


class _Filling:
    """Splits while they are filled."""

    def __init__(self, personas: Personas, sizes: Mapping[str, float]) -> None:
        self.personas = personas
        self.room = dict(sizes)
        self.split_of: dict[str, str] = {}
        whole: Counter[str] = Counter()
        for counts in personas.values():
            whole.update(counts)
        total = max(whole.total(), 1)
        self._wanted = {(split, cell): size * n / total for split, size in sizes.items() for cell, n in whole.items()}
        self._lacking = dict(self._wanted)

    def fullest_use(self, persona: str, splits: Sequence[str]) -> str:
        """The split that lacks most, relative to what it wants, of what the persona's questions are."""
        counts = self.personas[persona]

        def gain(split: str) -> float:
            shares = (n * self._lacking[split, cell] / (self._wanted[split, cell] or 1) for cell, n in counts.items())
            return sum(shares)

        return max(splits, key=gain)

    def assign(self, persona: str, split: str) -> None:
        self.split_of[persona] = split
        for cell, n in self.personas[persona].items():
            self.room[split] -= n
            self._lacking[split, cell] -= n

    def surplus(self) -> Counter[tuple[str, str]]:
        """What to leave out where a split is over its size: of the cells that it has most too many of."""
        left_out: Counter[tuple[str, str]] = Counter()
        have = Counter({key: self._wanted[key] - lacking for key, lacking in self._lacking.items()})
        for split, room in self.room.items():
            for _ in range(round(-room)):
                cells = [key for key in have if key[0] == split and have[key] >= 1]
                worst = max(cells, key=lambda key: have[key] - self._wanted[key])
                have[worst] -= 1
                left_out[worst] += 1
        return left_out


def _completed(filling: _Filling, pool: list[str]) -> bool:
    """Fill what each split lacks from the pool, the least first; False where the pool doesn't do."""
    for split in sorted(filling.room, key=lambda one: filling.room[one]):
        lacks = round(filling.room[split])
        chosen = smallest_sum([filling.personas[persona].total() for persona in pool], lacks)
        if chosen is None:
            for persona in pool:  # so that it shows what is missing
                filling.assign(persona, split)
            return False
        for persona in [pool[place] for place in chosen]:
            filling.assign(persona, split)
        taken = set(chosen)
        pool = [persona for place, persona in enumerate(pool) if place not in taken]
    return True


def smallest_sum(sizes: Sequence[int], wanted: int) -> list[int] | None:
    """Places of those sizes whose sum is the smallest that is at least `wanted`; None if all together are less.

    Bit n of `reachable[k]` says whether some of the first k sizes add up to n.
    """
    if wanted <= 0:
        return []
    mask = (1 << (wanted + max(sizes, default=0))) - 1  # a smallest sum is less than one size over
    reachable = [1]
    for size in sizes:
        reachable.append(reachable[-1] | reachable[-1] << size & mask)
    enough = reachable[-1] >> wanted
    if not enough:
        return None
    rest = wanted + (enough & -enough).bit_length() - 1
    chosen = []
    for place in range(len(sizes) - 1, -1, -1):
        if not reachable[place] >> rest & 1:
            chosen.append(place)
            rest -= sizes[place]
    return chosen[::-1]


def _shuffled(personas: Personas, seed: int) -> list[str]:
    return Draw(seed, "split", "order of personas").shuffled(sorted(personas))


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{split} {size:,}" for split, size in sizes.items())
