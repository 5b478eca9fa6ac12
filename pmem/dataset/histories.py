"""Conversations of one persona, and filler, in an order that respects what must come first, up to a size in tokens.

The same relevant conversations, on the same days, stand in every window: they are chosen once, by the smallest budget.
"""

import datetime
import hashlib
import re
from typing import Any, NamedTuple

import orjson

import pmem
from pmem.dataset.chains import Part, chains, chosen, ordered
from pmem.dataset.depth import filler_before
from pmem.dataset.filler import Dialogue, Pool
from pmem.draws import Draw, make_id
from pmem.errors import RecordError
from pmem.tokens import count_messages

FIRST_DAY = datetime.date(2024, 1, 1)
MONTHS = (3, 9)
"""Between how many months a history spreads."""


class Window(NamedTuple):
    """A size of history: its name ("32k") and its budget in tokens."""

    name: str
    budget: int


class Setup(NamedTuple):
    """What a run makes histories with. Windows rise in size."""

    windows: list[Window]
    filler: Pool
    tokenizer: str
    seed: int


class Relevant(NamedTuple):
    """What every window of a persona holds: its conversations in order, each with its day, and what is left out.

    The days are between `first` and `last`.
    """

    parts: list[Part]
    days: list[datetime.date]
    first: datetime.date
    last: datetime.date
    left_out: list[dict[str, str]]


class Made(NamedTuple):
    """A persona's history in each window, and how many chains, of how many conversations, they all leave out."""

    histories: list[dict[str, Any]]
    chains: int
    conversations: int


def window(text: str) -> Window:
    """`32k`, `128k` or a number of tokens; ValueError otherwise."""
    given = re.fullmatch("([0-9]{1,9})(k?)", text)
    budget = int(given[1]) * (1000 if given[2] else 1) if given else 0
    if budget < 1:
        raise ValueError(text)
    return Window(text, budget)


def histories(conversations: list[dict[str, Any]], setup: Setup, *, again: bool = False) -> Made:
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
    smallest = setup.windows[0]
    choice = chosen(draw.shuffled(chains(parts)), smallest.budget)
    if not choice.taken:
        raise RecordError(f"no conversation of {persona_id} fits the window {smallest.name}", reason="limit")
    in_order = ordered(choice.taken, draw)
    left_out = [{"id": part.record["id"], "why": why} for chain, why in choice.left_out for part in chain.parts]
    dates = Draw(setup.seed, persona_id, "dates")
    first = FIRST_DAY + datetime.timedelta(dates.below(365))
    span = dates.between(*MONTHS) * 30
    days = [first + datetime.timedelta(day) for day in sorted(dates.below(span) for _ in in_order)]
    relevant = Relevant(in_order, days, first, first + datetime.timedelta(span - 1), left_out)
    made = [_history(relevant, one, setup) for one in setup.windows]
    return Made(made, len(choice.left_out), len(left_out))


def _mixed(relevant: Relevant, filler: list[Dialogue], draw: Draw) -> list[tuple[Part | Dialogue, datetime.date]]:
    """The conversations with filler between them, spread evenly over the window; both keep their own order.

    A conversation has its own day, filler a drawn one between those of the conversations around it.
    """
    sizes = [part.tokens for part in relevant.parts]
    wanted = filler_before(sizes, sum(sizes) + sum(one.tokens for one in filler), draw)
    mixed: list[tuple[Part | Dialogue, datetime.date]] = []
    begin = end = tokens = 0  # the filler that stands before the next conversation, and the tokens of all so far
    earlier = relevant.first
    for part, day, target in zip(relevant.parts, relevant.days, wanted, strict=True):
        while end < len(filler) and tokens + filler[end].tokens / 2 <= target:
            tokens += filler[end].tokens
            end += 1
        mixed += [*zip(filler[begin:end], _days(end - begin, earlier, day, draw), strict=True), (part, day)]
        begin, earlier = end, day
    rest = filler[begin:]
    return [*mixed, *zip(rest, _days(len(rest), earlier, relevant.last, draw), strict=True)]


def _days(count: int, first: datetime.date, last: datetime.date, draw: Draw) -> list[datetime.date]:
    """Rising days from first to last (several dialogues may share one)."""
    within = (last - first).days
    return [first + datetime.timedelta(day) for day in sorted(draw.between(0, within) for _ in range(count))]


def _history(relevant: Relevant, one: Window, setup: Setup) -> dict[str, Any]:
    first = relevant.parts[0].record
    relevant_tokens = sum(part.tokens for part in relevant.parts)
    draw = Draw(setup.seed, first["persona_id"], f"filler {one.budget}")
    filler = setup.filler.fill(one.budget - relevant_tokens, draw)
    sessions: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = []
    tokens = 0
    for part, date in _mixed(relevant, filler, draw):
        said = part.messages() if isinstance(part, Dialogue) else part.record["messages"]
        place = {
            "start": len(messages),
            "end": len(messages) + len(said),
            "token_start": tokens,
            "tokens": part.tokens,
            "date": date.isoformat(),
        }
        sessions.append(_session(part, place))
        messages += said
        tokens += part.tokens
    ids = [session["id"] for session in sessions]
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
        "dropped": relevant.left_out,
        **({"labels": first["labels"]} if "labels" in first else {}),
        "provenance": {"stage": "assemble", "pmem": pmem.__version__, "seed": setup.seed},
        "messages_sha256": hashlib.sha256(orjson.dumps(messages)).hexdigest(),
        "messages": messages,
    }


def _session(part: Part | Dialogue, place: dict[str, Any]) -> dict[str, Any]:
    if isinstance(part, Dialogue):
        about = dict.fromkeys(("event", "preference", "scenario", "topic"))
        return {"id": part.id, "what": "filler", **place, **about}
    record = part.record
    about = {name: record[name] for name in ("event", "preference", "scenario", "topic")}
    secrets = {"secrets": record["secrets"]} if record["secrets"] else {}
    image = {"image": record["image"]} if "image" in record else {}
    return {"id": record["id"], "what": "conversation", **place, **about, **secrets, **image}
