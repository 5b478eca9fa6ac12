"""A persona's conversations: one preference each, shown between the lines of something else that the user wants."""

from functools import cache
from typing import Any, NamedTuple

from pmem.backends.model import Invalid, Model
from pmem.draws import Draw, make_id
from pmem.prompts import Prompts, describe
from pmem.prompts.replies import TEXT, closed, nested, user
from pmem.stream.made import Made, gathered

TURNS = {2: 50, 3: 25, 4: 15, 5: 6, 6: 4}
"""Weights of lengths in turns (a user message with its reply); 2 to 6 as in the paper, section 2.2."""
WORDS = (100, 150)
"""The most words of a conversation: a start, and so many for each turn."""
NO_SECRETS = {
    "knowledge_query",
    "creative_writing",
    "social_media_post",
    "therapy_consultation",
    "medical_consultation",
}
"""Scenarios in which nobody would paste an address or a card number."""


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


class Setup(NamedTuple):
    """What a run makes conversations with."""

    model: Model
    prompts: Prompts
    seed: int


def plans(persona: dict[str, Any], seed: int) -> list[Plan]:
    """The conversations of a persona, in the order of its preferences."""
    made = []
    for preference in persona["preferences"]:
        own_id = preference["id"]
        draw = Draw(seed, own_id, "conversation")
        scenario = _scenario(draw, preference)
        event = "updates" if preference["updates"] else "reveals"
        after = [preference["updates"]] if preference["updates"] else []
        languages = _languages(draw, persona["language"]) if scenario == "translation" else ["en"]
        turns = draw.weighted(TURNS)
        made.append(Plan(own_id, preference, event, scenario, turns, languages, after, []))
        if preference["forget"]:
            forget = Plan(f"{own_id}/forget", preference, "asks_to_forget", scenario, 1, ["en"], [own_id], [])
            made.append(forget)
    return _with_secrets(made, persona, seed)


def _scenario(draw: Draw, preference: dict[str, Any]) -> str:
    from pmem.lists import scenarios

    who, kind = preference["owner"]["who"], preference["kind"]
    fitting = {
        name: entry["weight"]
        for name, entry in scenarios().items()
        if "needs" not in entry and who in entry["owners"] and (who != "self" or kind in entry["suits"])
    }
    return draw.weighted(fitting)


def _languages(draw: Draw, native: str) -> list[str]:
    """[source, target] of a translation: into or from the persona's own language."""
    from pmem.lists import translation_languages

    native = "en" if native == "und" else native  # an imported persona's may not be known
    others = [code for code in translation_languages() if code != native]
    other = draw.pick(others) if native == "en" else "en"
    return draw.shuffled([native, other])


def _with_secrets(made: list[Plan], persona: dict[str, Any], seed: int) -> list[Plan]:
    """Each secret slips into a conversation of its own, where such a thing would be pasted."""
    able = [n for n, plan in enumerate(made) if plan.event == "reveals" and plan.scenario not in NO_SECRETS
            and plan.preference["owner"]["who"] == "self"]  # fmt: skip
    places = Draw(seed, persona["id"], "secret places").sample(able, len(persona["secrets"]))
    for place, secret in zip(places, persona["secrets"], strict=False):
        made[place] = made[place]._replace(secrets=[secret])
    return made


async def conversations(persona: dict[str, Any], items: list[str] | None, setup: Setup) -> Made:
    """All conversations of a persona (or those named), and the parts for which the model failed."""
    wanted = [plan for plan in plans(persona, setup.seed) if items is None or plan.item in items]
    return await gathered({plan.item: _conversation(persona, plan, setup) for plan in wanted})


@cache
def _reply(turns: int) -> dict[str, Any]:
    turn = nested({"user": TEXT, "assistant": TEXT})
    return closed("conversation", {"turns": {"type": "array", "items": turn, "minItems": turns, "maxItems": turns}})


async def _conversation(persona: dict[str, Any], plan: Plan, setup: Setup) -> dict[str, Any]:
    prompt, names = _prompt(persona, plan, setup.prompts)

    def says_enough(reply: dict[str, Any]) -> None:
        said = " ".join(turn["user"] for turn in reply["turns"])
        for secret in plan.secrets:
            if secret["value"] not in said:
                raise Invalid(f"the user's messages don't contain the {describe.kind(secret)} word for word")
        if plan.event != "asks_to_forget" and plan.preference["text"].rstrip(".").lower() in said.lower():
            raise Invalid("the user states the preference in its very words")

    short = plan.item.removeprefix(f"{persona['id']}/").replace("/", "-")
    reply = await setup.model.chat(
        user(prompt),
        call=f"converse/{persona['id']}/{short}",
        step=names[0].removeprefix("converse/"),
        schema=_reply(plan.turns),
        accept=says_enough,
    )
    messages = []
    for turn in reply.parsed["turns"]:
        messages.append({"role": "user", "content": turn["user"]})
        messages.append({"role": "assistant", "content": turn["assistant"]})
    return {
        "type": "conversation",
        "id": _conversation_id(plan.item, setup.seed),
        "persona_id": persona["id"],
        "preference": plan.preference,
        "event": plan.event,
        "after": [_conversation_id(item, setup.seed) for item in plan.after],
        "scenario": plan.scenario,
        "topic": plan.preference["topic"],
        "languages": plan.languages,
        "secrets": plan.secrets,
        "persona": {key: persona[key] for key in ("id", "name", "language", "summary")},
        **({"labels": persona["labels"]} if "labels" in persona else {}),
        "provenance": setup.prompts.provenance("converse", setup.model.name, setup.seed, names),
        "messages": messages,
    }


def _conversation_id(item: str, seed: int) -> str:
    return make_id("c", item, seed)


def _prompt(persona: dict[str, Any], plan: Plan, prompts: Prompts) -> tuple[str, list[str]]:
    """The prompt of a planned conversation, and the names of the files it was made from."""
    from pmem.lists import scenarios

    preference, person = plan.preference, describe.person(persona)
    if plan.event == "asks_to_forget":
        shown = {"person": person, "topic": preference["topic"], "preference": preference["text"]}
        return prompts.render("converse/forget", **shown), ["converse/forget"]
    names = ["converse/conversation", f"converse/owner_{preference['owner']['who']}", f"converse/event_{plan.event}"]
    previous = next((p["text"] for p in persona["preferences"] if p["id"] == preference["updates"]), "")
    scenario = scenarios()[plan.scenario]
    prompt = prompts.render(
        names[0],
        whose="the user" if preference["owner"]["who"] == "self" else "somebody's taste",
        person=person,
        preference=preference["text"],
        owner_brief=prompts.render(names[1], relation=preference["owner"]["relation"] or "acquaintance"),
        event_brief=prompts.render(names[2], previous=previous, reason=preference["reason"] or ""),
        scenario=scenario["title"],
        scenario_brief=scenario["brief"].strip(),
        topic=preference["topic"],
        languages=_languages_in_words(plan),
        secret=_secret_in_words(plan),
        turns=plan.turns,
        words=WORDS[0] + WORDS[1] * plan.turns,
    )
    return prompt, names


def _languages_in_words(plan: Plan) -> str:
    from pmem.lists import languages

    if plan.scenario != "translation":
        return "Language: English"
    source, target = (languages()[code] for code in plan.languages)
    return f"Languages: the text to translate is in {source}, the translation in {target}; the user writes English."


def _secret_in_words(plan: Plan) -> str:
    if not plan.secrets:
        return "Private details: none; no phone numbers, addresses, passwords or the like."
    shown = "; ".join(f"{describe.kind(secret)}: {secret['value']}" for secret in plan.secrets)
    return (
        f"Private details: this one slips in unnoticed, word for word, inside something that the user pastes ({shown})."
        " The assistant doesn't use, repeat or remark on it: where its text needs one, it has a neutral word."
    )
