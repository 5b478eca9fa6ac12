"""Conversations before they are written: what is drawn for each, so that shares hold and runs repeat."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pmem.draws import Draw
from pmem.images import Image

TURNS = {2: 50, 3: 25, 4: 15, 5: 6, 6: 4}
"""Weights of lengths in turns (a user message with its reply); 2 to 6 as in the paper, section 2.2."""


class Plan(NamedTuple):
    """A conversation before it is written: everything that is drawn, nothing that a model says."""

    item: str  # the part of the persona that it makes: a preference's id, or that id with "/forget"
    preference: dict[str, Any]
    event: str
    scenario: str
    turns: int
    languages: list[str]
    after: list[str]  # items that come earlier
    secrets: list[dict[str, Any]]
    image: Image | None = None


def plans(persona: dict[str, Any], seed: int, images: Sequence[Image] = ()) -> list[Plan]:
    """The conversations of a persona, in the order of its preferences. images: what photo queries may be about."""
    made = []
    for preference in persona["preferences"]:
        plan = _plan(preference, persona["language"], seed, images)
        made.append(plan)
        if preference["forget"]:
            forget = Plan(
                f"{plan.item}/forget", preference, "asks_to_forget", plan.scenario, 1, ["en"], [plan.item], []
            )
            made.append(forget)
    return _with_secrets(made, persona, seed)


def _plan(preference: dict[str, Any], native: str, seed: int, images: Sequence[Image]) -> Plan:
    """What shows a preference."""
    from pmem.lists import scenarios

    own_id = preference["id"]
    draw = Draw(seed, own_id, "conversation")
    scenario = _scenario(draw, preference)
    image = _image(preference, seed, images)
    if image:
        scenario = "photo_query"
    languages = _languages(draw, native) if scenario == "translation" else ["en"]
    turns = max(draw.weighted(TURNS), scenarios()[scenario].get("turns", 0))
    event, after = ("updates", [preference["updates"]]) if preference["updates"] else ("reveals", [])
    return Plan(own_id, preference, event, scenario, turns, languages, after, [], image)


def _fitting(preference: dict[str, Any], needs: str | None = None) -> dict[str, float]:
    """Weights of the scenarios that suit a preference: those which need nothing, or which need just this."""
    from pmem.lists import scenarios

    who, kind = preference["owner"]["who"], preference["kind"]
    return {
        name: entry["weight"]
        for name, entry in scenarios().items()
        if entry.get("needs") == needs and who in entry["owners"] and (who != "self" or kind in entry["suits"])
    }


def _scenario(draw: Draw, preference: dict[str, Any]) -> str:
    return draw.weighted(_fitting(preference))


def _image(preference: dict[str, Any], seed: int, images: Sequence[Image]) -> Image | None:
    """The image of a photo query about a preference; None where none is drawn.

    Drawn apart from the other scenarios, with the same shares as if it were together with them: so a run with images
    differs from one without in its photo queries only.
    """
    from pmem.lists import topics

    photo = sum(_fitting(preference, "images").values())
    about = {preference["topic"], *(group for group, ones in topics().items() if preference["topic"] in ones)}
    able = [image for image in images if about & set(image.topics)] or [image for image in images if not image.topics]
    draw = Draw(seed, preference["id"], "image")
    if not able or not draw.chance(photo / (photo + sum(_fitting(preference).values()))):
        return None
    return draw.pick(able)


def _languages(draw: Draw, native: str) -> list[str]:
    """[source, target] of a translation: into or from the persona's own language."""
    from pmem.lists import translation_languages

    native = "en" if native == "und" else native  # an imported persona's may not be known
    others = [code for code in translation_languages() if code != native]
    other = draw.pick(others) if native == "en" else "en"
    return draw.shuffled([native, other])


def _with_secrets(made: list[Plan], persona: dict[str, Any], seed: int) -> list[Plan]:
    """Each secret slips into a conversation of its own, of a scenario where such a thing would be pasted."""
    from pmem.lists import secrets

    anywhere = {scenario for scenarios in secrets().values() for scenario in scenarios}
    able = [n for n, plan in enumerate(made) if plan.event == "reveals" and plan.scenario in anywhere
            and plan.preference["owner"]["who"] == "self"]  # fmt: skip
    free = Draw(seed, persona["id"], "secret places").shuffled(able)
    for secret in persona["secrets"]:
        place = next((n for n in free if made[n].scenario in secrets()[secret["kind"]]), None)
        if place is not None:
            free.remove(place)
            made[place] = made[place]._replace(secrets=[secret])
    return made
