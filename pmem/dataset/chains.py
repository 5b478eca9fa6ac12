"""Conversations that belong together: which of them a window takes, and in what order they may stand.

A chain (a preference, its update, its forget request) is taken whole or left out whole.
"""

from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

from pmem.draws import Draw
from pmem.errors import RecordError

FULL = 0.97
"""A window with less of its budget used is filled anew, as far as conversations were left out."""


class Part(NamedTuple):
    """A conversation and its size."""

    record: dict[str, Any]
    tokens: int


class Chain(NamedTuple):
    """Conversations that belong together, each after what it depends on; `missing`: what the input lacks of it."""

    parts: list[Part]
    missing: list[str]

    @property
    def tokens(self) -> int:
        return sum(part.tokens for part in self.parts)


class Choice(NamedTuple):
    """The chains that a window takes, in drawn order, and those that it leaves out, each with the reason."""

    taken: list[Chain]
    left_out: list[tuple[Chain, str]]


def chains(parts: list[Part]) -> list[Chain]:
    """Connected conversations, in an order in which each stands after all that it names in `after`.

    RecordError if conversations wait for each other (it names the circle) or one stands twice in the input.
    """
    by_id = {part.record["id"]: part for part in parts}
    if len(by_id) < len(parts):
        raise RecordError("the same conversation stands twice in the input", reason="schema", pointer="/id")
    group = {own: own for own in by_id}

    def root(one: str) -> str:
        while group[one] != one:
            group[one] = one = group[group[one]]
        return one

    for part in parts:
        for earlier in part.record["after"]:
            if earlier in by_id:
                group[root(part.record["id"])] = root(earlier)
    members: dict[str, list[Part]] = {}
    for one in _sorted(parts):
        if one in by_id:
            members.setdefault(root(one), []).append(by_id[one])
    return [_chain(members[own], by_id) for part in parts if root(own := part.record["id"]) == own]


def _chain(parts: list[Part], known: Iterable[str]) -> Chain:
    return Chain(parts, [one for part in parts for one in part.record["after"] if one not in known])


def _sorted(parts: list[Part]) -> list[str]:
    """Ids in topological order."""
    try:
        return [*TopologicalSorter({part.record["id"]: part.record["after"] for part in parts}).static_order()]
    except CycleError as fault:
        circle = " -> ".join(reversed(fault.args[1]))
        raise RecordError(f"conversations wait for each other: {circle}", reason="schema", pointer="/after") from None


def chosen(drawn: Sequence[Chain], budget: int) -> Choice:
    """The chains that a budget takes, most of them in drawn order.

    Each is taken that still fits. If that leaves the budget less than FULL, the last one is given back, then the last
    2, 4 and so on, and the room goes to those that fill it best, until it is full or nothing is left to give back. So
    the budget gets full whenever any choice of chains makes it so.
    """
    fitting = [chain for chain in drawn if not chain.missing]
    taken = _greedy(fitting, budget)
    best = taken
    back = 1
    while _size(best) < min(FULL * budget, _size(fitting)) and back < 2 * len(taken):
        kept = taken[: max(0, len(taken) - back)]
        held = set(map(id, kept))
        rest = [chain for chain in fitting if id(chain) not in held]
        best = max(best, kept + _fullest(rest, budget - _size(kept)), key=_size)
        back *= 2
    wanted = set(map(id, best))
    room = budget - _size(best)
    left_out = [(chain, _why(chain, room)) for chain in drawn if id(chain) not in wanted]
    return Choice([chain for chain in drawn if id(chain) in wanted], left_out)


def _size(some: Iterable[Chain]) -> int:
    return sum(chain.tokens for chain in some)


def _why(chain: Chain, room: int) -> str:
    if chain.missing:
        return f"it needs {', '.join(chain.missing)}, which the input lacks"
    return f"its {chain.tokens} tokens (with what belongs to it) don't fit the {room} that are left"


def _greedy(some: Iterable[Chain], room: int) -> list[Chain]:
    taken = []
    for chain in some:
        if chain.tokens <= room:
            taken.append(chain)
            room -= chain.tokens
    return taken


def _fullest(some: Sequence[Chain], room: int) -> list[Chain]:
    """The chains that add up to the most tokens within the room: subset sums, as bits of an integer."""
    within = (1 << (room + 1)) - 1
    reached = [1]  # bit n: some of the first chains add up to n tokens
    for chain in some:
        reached.append(reached[-1] | (reached[-1] << chain.tokens) & within)
    total = reached[-1].bit_length() - 1
    taken = []
    for chain, without in zip(reversed(some), reversed(reached[:-1]), strict=True):
        if not without >> total & 1:
            taken.append(chain)
            total -= chain.tokens
    return taken


def ordered(taken: Sequence[Chain], draw: Draw) -> list[Part]:
    """A random order of all conversations; where a chain's members come to stand, they stand in the chain's order.

    Every place is equally likely for a chain's set of places, so that depth is spread evenly.
    """
    slots = draw.shuffled([number for number, chain in enumerate(taken) for _ in chain.parts])
    following = [iter(chain.parts) for chain in taken]
    return [next(following[number]) for number in slots]
