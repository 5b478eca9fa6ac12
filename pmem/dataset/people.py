"""A line of text becomes a person: drawn demographics, a profile, preferences, secrets."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson

from pmem.backends.model import Invalid
from pmem.check import plain
from pmem.dataset import preferences as taste
from pmem.dataset.preferences import Setup
from pmem.draws import Draw, make_id
from pmem.errors import RecordError
from pmem.prompts.replies import TEXT, closed, listed, user
from pmem.stream.made import Made, together

SECRET_SHARE = 0.1
"""Secrets per preference: about a tenth of conversations carry one (SYSTEM: sensitive information)."""

PROFILE = closed(
    "profile",
    {
        "name": TEXT,
        "summary": TEXT,
        **listed("attributes", None, {"area": TEXT, "name": TEXT, "value": TEXT})["properties"],
    },
)


def seed_lines() -> Callable[[bytes], dict[str, Any]]:
    """A parser of input lines to {"persona": text, "occurrence": how many equal lines came before}."""
    seen: Counter[str] = Counter()

    def parse(line: bytes) -> dict[str, Any]:
        text, occurrence = _seed_of(line)
        if occurrence is None:
            occurrence = seen[text]
            seen[text] += 1
        return {"persona": text, "occurrence": occurrence}

    return parse


def _seed_of(line: bytes) -> tuple[str, int | None]:
    try:
        text = line.decode().strip()
    except UnicodeDecodeError as fault:
        raise RecordError(f"not UTF-8 text: {fault}", reason="json") from None
    if not text:
        raise RecordError("expected a line of text, found only spaces", reason="json")
    if text[0] not in '{["':
        return text, None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as fault:
        if text[0] == '"':
            return text, None  # a sentence that begins with a quotation
        raise RecordError(f"not JSON: {fault}", reason="json") from None
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            found = plain(value["type"], 40)
            raise RecordError(f"expected a line that describes a person, found a {found} record", reason="type")
        occurrence = value.get("occurrence")
        value = value.get("persona", value.get("input persona"))
    else:
        occurrence = None
    if not isinstance(value, str) or not value.strip():
        raise RecordError('expected {"persona": "..."} or a line of text', reason="schema", pointer="/persona")
    return value.strip(), occurrence if isinstance(occurrence, int) else None


async def persona(line: dict[str, Any], setup: Setup) -> Made:
    """One persona record, and the preferences that were left out."""
    from pmem.demographics import draw_demographics

    own_id = make_id("p", line["persona"], line["occurrence"], setup.seed)
    draws = draw_demographics(Draw(setup.seed, own_id, "demographics"), setup.weights)
    record = await _profile(line["persona"], own_id, draws, setup)
    wanted = [kind for kind in taste.KINDS if setup.numbers[kind]]
    candidates = await together(taste.candidates(record, kind, setup) for kind in wanted)
    preferences = [preference for of_kind in candidates for preference in of_kind]
    preferences += await taste.updates(record, preferences, setup)
    kept, dropped = await taste.checked(record, preferences, setup)
    taste.choose_forgotten(own_id, kept, setup)
    names = ["personas/profile", "personas/preferences", "personas/updates", "personas/check"]
    made = {
        **record,
        "preferences": kept,
        "secrets": _secrets(record, len(kept), setup.seed),
        "provenance": setup.prompts.provenance(
            "personas", setup.model.name, setup.seed, names + [f"personas/kind_{kind}" for kind in wanted]
        ),
    }
    return Made([made], dropped=dropped)


async def _profile(text: str, own_id: str, draws: dict[str, Any], setup: Setup) -> dict[str, Any]:
    from pmem.lists import languages

    shown = {**draws, "language": languages()[draws["language"]]}
    prompt = setup.prompts.render("personas/profile", seed=text, **shown)
    reply = await setup.model.chat(user(prompt), call=f"personas/{own_id}/profile", schema=PROFILE, accept=_enough)
    profile: dict[str, dict[str, str]] = {}
    for attribute in reply.parsed["attributes"]:
        profile.setdefault(attribute["area"], {})[attribute["name"]] = attribute["value"]
    return {
        "type": "persona",
        "id": own_id,
        "seed": text,
        "name": reply.parsed["name"],
        "language": draws["language"],
        "summary": reply.parsed["summary"],
        "profile": profile,
        "draws": draws,
    }


def _enough(reply: dict[str, Any]) -> None:
    if not reply["attributes"]:
        raise Invalid("a profile without attributes")


def _secrets(record: dict[str, Any], preferences: int, seed: int) -> list[dict[str, str]]:
    from pmem.fakes import KINDS as SECRET_KINDS
    from pmem.fakes import fake

    draw = Draw(seed, record["id"], "secrets")
    kinds = draw.sample(SECRET_KINDS, taste.share(SECRET_SHARE, preferences))
    age = record["draws"]["age"]
    return [
        {
            "id": f"{record['id']}/x{n:02d}",
            "kind": kind,
            "value": fake(kind, Draw(seed, record["id"], f"secret {kind}"), name=record["name"], age=age),
        }
        for n, kind in enumerate(kinds, 1)
    ]
