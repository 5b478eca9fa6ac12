"""Conversations of one persona, and filler, in an order that respects what must come first, up to a size in tokens.

The same relevant conversations stand in every window: they are chosen once, by the smallest budget. A chain (a
preference, its update, its forget request) is taken whole or left out whole.
"""

import datetime
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

import pmem
from pmem.draws import Draw, make_id
from pmem.errors import RecordError
from pmem.tokens import count_messages

FIRST_DAY = datetime.date(2024, 1, 1)
MONTHS = (3, 9)
"""Between how many months a history spreads."""
LOOKAHEAD = 400
"""Filler dialogues tried for a gap that the next one doesn't fit."""


class Window(NamedTuple):
    """A size of history: its name ("32k") and its budget in tokens."""

    name: str
    budget: int


class Part(NamedTuple):
    """A dialogue that may stand in a history, and its size."""

    record: dict[str, Any]
    tokens: int


class Setup(NamedTuple):
    """What a run makes histories with. Windows rise in size."""

    windows: list[Window]
    filler: Sequence[Part]
    tokenizer: str
    seed: int


def window(text: str) -> Window:
    """`32k`, `128k` or a number of tokens; ValueError otherwise."""
    number, thousands = text.removesuffix("k"), text.endswith("k")
    budget = int(number) * (1000 if thousands else 1)
    if budget < 1:
        raise ValueError(text)
    return Window(text, budget)


def histories(conversations: list[dict[str, Any]], setup: Setup, *, again: bool = False) -> list[dict[str, Any]]:
    """The persona's history in each window. again: conversations of this persona came before, further up."""
    persona_id = conversations[0]["persona_id"]
    if again:
        raise RecordError(
            f"conversations of {persona_id} stand in two places of the input; put them next to each other (sort by"
            " persona_id)",
            reason="schema",
            pointer="/persona_id",
        )
    parts = [Part(record, count_messages(record["messages"], setup.tokenizer)) for record in conversations]
    draw = Draw(setup.seed, persona_id, "order")
    chosen, left_out = _chosen(draw.shuffled(_chains(parts)), setup.windows[0].budget)
    if not chosen:
        raise RecordError(f"no conversation of {persona_id} fits the window {setup.windows[0].name}", reason="limit")
    ordered = _ordered(chosen, draw)
    return [_history(ordered, left_out, one, setup) for one in setup.windows]


class _Chain(NamedTuple):
    """Conversations that belong together, each after what it depends on; `missing`: what the input lacks of it."""

    parts: list[Part]
    missing: list[str]

    @property
    def tokens(self) -> int:
        return sum(part.tokens for part in self.parts)


def _chains(parts: list[Part]) -> list[_Chain]:
    """Connected conversations, in an order in which each stands after all that it names in `after`."""
    by_id = {part.record["id"]: part for part in parts}
    if len(by_id) < len(parts):
        raise RecordError("the same conversation stands twice in the input", reason="schema", pointer="/id")
    group = {own: own for own in by_id}

    def root(one: str) -> str:
        while group[one] != one:
            one = group[one]
        return one

    for part in parts:
        for earlier in part.record["after"]:
            if earlier in by_id:
                group[root(part.record["id"])] = root(earlier)
    try:
        order = TopologicalSorter({part.record["id"]: part.record["after"] for part in parts}).static_order()
        sequence = [one for one in order if one in by_id]
    except CycleError as fault:
        circle = " -> ".join(reversed(fault.args[1]))
        raise RecordError(f"conversations wait for each other: {circle}", reason="schema", pointer="/after") from None
    members: dict[str, list[Part]] = {}
    for one in sequence:
        members.setdefault(root(one), []).append(by_id[one])
    return [
        _Chain(
            members[root(part.record["id"])],
            [one for each in members[root(part.record["id"])] for one in each.record["after"] if one not in by_id],
        )
        for part in parts
        if root(part.record["id"]) == part.record["id"]
    ]


def _chosen(chains: list[_Chain], budget: int) -> tuple[list[_Chain], list[dict[str, str]]]:
    """The chains that fit the budget, taken in the given order, and what was left out with the reason."""
    chosen: list[_Chain] = []
    left_out = []
    room = budget
    for chain in chains:
        if chain.missing:
            why = f"it needs {', '.join(chain.missing)}, which the input lacks"
        elif chain.tokens > room:
            why = f"its {chain.tokens} tokens (with what belongs to it) don't fit the {room} that are left"
        else:
            chosen.append(chain)
            room -= chain.tokens
            continue
        left_out += [{"id": part.record["id"], "why": why} for part in chain.parts]
    return chosen, left_out


def _ordered(chains: list[_Chain], draw: Draw) -> list[Part]:
    """A random order of all conversations; where a chain's members come to stand, they stand in the chain's order.

    Every place is equally likely for a chain's set of places, so that depth is spread evenly.
    """
    slots = draw.shuffled([number for number, chain in enumerate(chains) for _ in chain.parts])
    following = [iter(chain.parts) for chain in chains]
    return [next(following[number]) for number in slots]


def _fill(room: int, filler: Sequence[Part], draw: Draw) -> list[Part]:
    """Filler dialogues up to the room that is left: in drawn order, smaller ones into the last gap."""
    taken: list[Part] = []
    misses = 0
    for part in draw.shuffled(filler):
        if part.tokens <= room:
            taken.append(part)
            room -= part.tokens
        else:
            misses += 1
            if misses > LOOKAHEAD:
                break
    return taken


def _mixed(relevant: list[Part], filler: list[Part], draw: Draw) -> list[Part]:
    """Filler between the conversations, every arrangement equally likely; both keep their own order."""
    slots = draw.shuffled([True] * len(relevant) + [False] * len(filler))
    ours, other = iter(relevant), iter(filler)
    return [next(ours) if slot else next(other) for slot in slots]


def _history(relevant: list[Part], left_out: list[dict[str, str]], one: Window, setup: Setup) -> dict[str, Any]:
    first = relevant[0].record
    relevant_tokens = sum(part.tokens for part in relevant)
    draw = Draw(setup.seed, first["persona_id"], f"filler {one.budget}")
    filler = _fill(one.budget - relevant_tokens, setup.filler, draw)
    parts = _mixed(relevant, filler, draw)
    dates = _dates(len(parts), Draw(setup.seed, first["persona_id"], "dates"))
    sessions: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = []
    tokens = 0
    for part, date in zip(parts, dates, strict=True):
        sessions.append(_session(part, len(messages), tokens, date))
        messages += part.record["messages"]
        tokens += part.tokens
    ids = [part.record["id"] for part in parts]
    return {
        "type": "history",
        "id": make_id("h", first["persona_id"], one.budget, setup.tokenizer, setup.seed, ids),
        "persona_id": first["persona_id"],
        "user_id": first["persona_id"],
        "window": one.name,
        "budget": one.budget,
        "tokenizer": setup.tokenizer,
        "tokens": tokens,
        "relevant_tokens": relevant_tokens,
        "filler_tokens": tokens - relevant_tokens,
        "persona": first["persona"],
        "system": None,
        "sessions": sessions,
        "dropped": left_out,
        **({"labels": first["labels"]} if "labels" in first else {}),
        "provenance": {"stage": "assemble", "pmem": pmem.__version__, "seed": setup.seed},
        "messages": messages,
    }


def _session(part: Part, start: int, token_start: int, date: datetime.date) -> dict[str, Any]:
    record = part.record
    told = record["type"] == "conversation"
    session = {
        "id": record["id"],
        "what": record["type"],
        "start": start,
        "end": start + len(record["messages"]),
        "token_start": token_start,
        "tokens": part.tokens,
        "date": date.isoformat(),
        "event": record["event"] if told else None,
        "preference": record["preference"] if told else None,
        "scenario": record["scenario"] if told else None,
        "topic": record["topic"] if told else None,
    }
    if told and record["secrets"]:
        session["secrets"] = record["secrets"]
    return {**session, "image": record["image"]} if "image" in record else session


def _dates(count: int, draw: Draw) -> list[datetime.date]:
    """Rising dates over some months (several sessions may share a day)."""
    begin = draw.below(365)
    days = draw.between(*MONTHS) * 30
    return [FIRST_DAY + datetime.timedelta(begin + day) for day in sorted(draw.below(days) for _ in range(count))]
