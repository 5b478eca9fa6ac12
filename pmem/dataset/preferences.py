"""A persona's preferences: candidates of each kind, what changes later, what conflicts, what is to be forgotten."""

from collections import Counter
from functools import cache
from typing import Any, NamedTuple

from pmem.backends.model import Model
from pmem.dataset.likeness import likeness
from pmem.draws import Draw
from pmem.prompts import Prompts, describe
from pmem.prompts.replies import TEXT, closed, listed, nested, user

KINDS = ("stereotypical", "anti_stereotypical", "neutral", "health", "therapy")
TOPIC_GROUPS = {"health": "physical_health", "therapy": "mental_wellbeing"}
OWNERS = {"self": 0.8, "other": 0.13, "hypothetical": 0.07}
RELATIONS = ("sister", "brother", "mother", "father", "partner", "best friend", "colleague", "neighbour", "boss",
             "cousin", "flatmate", "client", "grandmother", "teenage son", "teenage daughter")  # fmt: skip
SAME = 0.5
"""Share of content words in common (Jaccard) from which on two preferences count as one. Among the 3,003 pairs of a
published PersonaMem-v2 persona's 78 preferences the largest is 0.29, among the demo's 0.21."""
SPARE_TOPICS = 8
"""Topics on offer beyond the slots to fill, so that the model can choose what suits the person."""


class Setup(NamedTuple):
    """What a run makes personas with."""

    model: Model
    prompts: Prompts
    seed: int
    numbers: dict[str, int]
    updates: float
    forgets: float
    weights: dict[str, Any]


@cache
def _candidates_reply(count: int) -> dict[str, Any]:
    return listed("preferences", count, {"text": TEXT, "topic": TEXT})


@cache
def _updates_reply(numbers: tuple[int, ...]) -> dict[str, Any]:
    update = nested({"text": TEXT, "reason": TEXT})
    return closed("updates", {str(number): update for number in numbers})


@cache
def _check_reply(count: int) -> dict[str, Any]:
    labels = {"type": "string", "enum": ["keep", "conflict", "repetition", "harmful"]}
    verdict = nested({"verdict": labels, "with": {"type": ["integer", "null"]}, "reason": {"type": "string"}})
    return closed("verdicts", {str(number): verdict for number in range(1, count + 1)})


async def candidates(record: dict[str, Any], kind: str, setup: Setup) -> list[dict[str, Any]]:
    count = setup.numbers[kind]
    owners = [_owner(Draw(setup.seed, record["id"], f"owner {kind} {n}"), kind) for n in range(count)]
    prompt = setup.prompts.render(
        "personas/preferences",
        count=count,
        kind=kind.replace("_", "-"),
        kind_brief=setup.prompts.render(f"personas/kind_{kind}"),
        person=describe.person(record),
        slots="\n".join(f"{n}. {_slot(owner)}" for n, owner in enumerate(owners, 1)),
        topics=", ".join(_menu(Draw(setup.seed, record["id"], f"topics {kind}"), kind, count + SPARE_TOPICS)),
    )
    call = f"personas/{record['id']}/{kind}"
    reply = await setup.model.chat(user(prompt), call=call, schema=_candidates_reply(count))
    return [
        {
            "id": f"{record['id']}/{kind[0]}{n:02d}",
            "kind": kind,
            "text": item["text"],
            "topic": item["topic"],
            "owner": owner,
            "updates": None,
            "reason": None,
            "forget": False,
        }
        for n, (item, owner) in enumerate(zip(reply.parsed["preferences"], owners, strict=True), 1)
    ]


def _owner(draw: Draw, kind: str) -> dict[str, Any]:
    """Whose a preference is. Therapy is about the user alone."""
    who = "self" if kind == "therapy" else draw.weighted(OWNERS)
    if who == "hypothetical" and kind == "health":
        who = "other"  # an illness put on for a test is nothing that an assistant should learn to see through
    return {"who": who, "relation": draw.pick(RELATIONS) if who == "other" else None}


def _slot(owner: dict[str, Any]) -> str:
    if owner["who"] == "other":
        return f"the user's {owner['relation']}"
    return "hypothetical" if owner["who"] == "hypothetical" else "the user"


def _menu(draw: Draw, kind: str, size: int) -> list[str]:
    """Topics on offer: from the group that the kind belongs to, else from all other groups."""
    from pmem.lists import topics

    groups = topics()
    if own := TOPIC_GROUPS.get(kind):
        return draw.sample(groups[own], size)
    others = [topic for name, group in groups.items() if name not in TOPIC_GROUPS.values() for topic in group]
    return draw.sample(others, size)


def _numbered(preferences: list[dict[str, Any]]) -> str:
    place = {preference["id"]: number for number, preference in enumerate(preferences, 1)}
    lines = []
    for preference in preferences:
        notes = [f"owner: {_slot(preference['owner'])}"]
        if preference["updates"]:
            notes.append(f"replaces {place[preference['updates']]}")
        lines.append(f"{place[preference['id']]}. {preference['text']} ({'; '.join(notes)})")
    return "\n".join(lines)


async def updates(record: dict[str, Any], preferences: list[dict[str, Any]], setup: Setup) -> list[dict[str, Any]]:
    """New preferences that replace drawn ones of the user's own."""
    own = [preference for preference in preferences if preference["owner"]["who"] == "self"]
    count = min(len(own), share(setup.updates, len(own)))
    if not count:
        return []
    chosen = Draw(setup.seed, record["id"], "updates").sample(own, count)
    chosen.sort(key=preferences.index)
    numbers = tuple(preferences.index(preference) + 1 for preference in chosen)
    prompt = setup.prompts.render(
        "personas/updates",
        person=describe.person(record),
        preferences=_numbered(preferences),
        replace=", ".join(map(str, numbers)),
    )

    reply = await setup.model.chat(
        user(prompt), call=f"personas/{record['id']}/updates", schema=_updates_reply(numbers)
    )
    next_number = Counter(preference["kind"] for preference in preferences)
    made = []
    for old, number in zip(chosen, numbers, strict=True):
        item = reply.parsed[str(number)]
        next_number[old["kind"]] += 1
        own_id = f"{record['id']}/{old['kind'][0]}{next_number[old['kind']]:02d}"
        made.append({**old, "id": own_id, "text": item["text"], "updates": old["id"], "reason": item["reason"]})
    return made


def share(share: float, count: int) -> int:
    """A share of a number, rounded, but at least 1 of any four."""
    return max(round(share * count), 1 if share and count >= 4 else 0)


async def checked(
    record: dict[str, Any], preferences: list[dict[str, Any]], setup: Setup
) -> tuple[list[dict[str, Any]], list[tuple[dict[str, Any], str]]]:
    """(kept, dropped with reasons): by a model's verdicts, and by a rule for what repeats another nearly word for word.

    Fails closed: without a readable verdict on every one, the persona is rejected.
    """
    if not preferences:
        return [], []
    prompt = setup.prompts.render("personas/check", person=describe.person(record), preferences=_numbered(preferences))

    reply = await setup.model.chat(
        user(prompt), call=f"personas/{record['id']}/check", schema=_check_reply(len(preferences))
    )
    kept: list[dict[str, Any]] = []
    dropped = []
    for number, preference in enumerate(preferences, 1):
        item = reply.parsed[str(number)]
        if preference["updates"] and preference["updates"] not in {earlier["id"] for earlier in kept}:
            why = f"it replaces {preference['updates']}, which was dropped"
        elif item["verdict"] != "keep":
            why = _verdict_in_words(item, preferences)
        elif same := repeated(preference, kept):
            why = f"repetition with {same['id']}: nearly the same words"
        else:
            kept.append(preference)
            continue
        dropped.append(({"persona_id": record["id"], "preference": preference}, f"{preference['id']}: {why}"))
    return kept, dropped


def repeated(preference: dict[str, Any], earlier: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first earlier preference of the same owner that says the same in nearly the same words, or of anybody in the
    very same: what two people share can't tell whose taste a question is about. In other words, or turned round,
    somebody else's is a contrast.

    Not the one that it replaces: both are about one matter.
    """

    def same(one: dict[str, Any]) -> bool:
        if one["owner"] == preference["owner"]:
            return likeness(one["text"], preference["text"]) >= SAME
        return bool(one["text"].casefold() == preference["text"].casefold())

    return next((one for one in earlier if one["id"] != preference["updates"] and same(one)), None)


def _verdict_in_words(item: dict[str, Any], preferences: list[dict[str, Any]]) -> str:
    other = item["with"]
    named = f" with {preferences[other - 1]['id']}" if other and 0 < other <= len(preferences) else ""
    return f"{item['verdict']}{named}: {item['reason']}"


def choose_forgotten(own_id: str, kept: list[dict[str, Any]], setup: Setup) -> None:
    """Mark drawn preferences of the user's own, outside chains of updates, as to be forgotten."""
    chained = {preference["updates"] for preference in kept} | {p["id"] for p in kept if p["updates"]}
    free = [p for p in kept if p["owner"]["who"] == "self" and p["id"] not in chained]
    for preference in Draw(setup.seed, own_id, "forgets").sample(free, share(setup.forgets, len(free))):
        preference["forget"] = True
