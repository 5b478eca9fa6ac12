"""A persona's conversations: one preference each, shown between the lines of something else that the user wants."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pmem import images
from pmem.backends.model import Invalid, Model
from pmem.dataset.implicitness import Judging, check_stated, votes_on, why_not
from pmem.dataset.plans import Plan, plans
from pmem.dataset.privacy import check_private
from pmem.draws import make_id
from pmem.errors import ModelError
from pmem.prompts import Prompts, describe
from pmem.prompts.replies import TEXT, closed, nested, user
from pmem.stream.made import Made, gathered

WORDS = (100, 150)
"""The most words of a conversation: a start, and so many for each turn."""


class Album(NamedTuple):
    """The images of photo queries. form: what stands in a message: the file's "path", a data: "url", or "words"."""

    folder: Path
    images: Sequence[images.Image]
    form: str


class Setup(NamedTuple):
    """What a run makes conversations with. attempts: how often one is written anew that judges find unfit."""

    model: Model
    prompts: Prompts
    seed: int
    judging: Judging
    attempts: int = 3
    album: Album | None = None


async def conversations(persona: dict[str, Any], items: list[str] | None, setup: Setup) -> Made:
    """All conversations of a persona (or those named), and the parts for which the model failed."""
    drawn = plans(persona, setup.seed, setup.album.images if setup.album else ())
    wanted = [plan for plan in drawn if items is None or plan.item in items]
    return await gathered({plan.item: _conversation(persona, plan, setup) for plan in wanted})


async def _conversation(persona: dict[str, Any], plan: Plan, setup: Setup) -> dict[str, Any]:
    """One conversation: written, and if judges are asked, written anew until they find it implicit."""
    short = plan.item.removeprefix(f"{persona['id']}/").replace("/", "-")
    call = f"converse/{persona['id']}/{short}"
    if not _is_judged(plan, setup):
        return await _written(persona, plan, setup, call, 0)
    why: str | None = ""
    for attempt in range(setup.attempts):
        record = await _written(persona, plan, setup, call, attempt)
        votes = await votes_on(record, setup.judging, call=f"{call}-implicit-{attempt}")
        if (why := why_not(votes)) is None:
            messages = record.pop("messages")
            return {**record, "votes": votes, "messages": messages}
    raise ModelError(f"no implicit conversation in {setup.attempts} attempts: {why}", call=f"{call}/{attempt}")


def _is_judged(plan: Plan, setup: Setup) -> bool:
    """Whether judges vote on it. A request to forget names the matter."""
    return setup.judging.votes > 0 and plan.event != "asks_to_forget"


@cache
def _reply(turns: int) -> dict[str, Any]:
    turn = nested({"user": TEXT, "assistant": TEXT})
    return closed("conversation", {"turns": {"type": "array", "items": turn, "minItems": turns, "maxItems": turns}})


async def _written(persona: dict[str, Any], plan: Plan, setup: Setup, call: str, attempt: int) -> dict[str, Any]:
    prompt, names = _prompt(persona, plan, setup.prompts)
    reply = await setup.model.chat(
        user(prompt),
        call=call,
        n=attempt,
        step=names[0].removeprefix("converse/"),
        schema=_reply(plan.turns),
        accept=lambda reply: _check(reply["turns"], plan),
    )
    used = [*names, "judge/implicit"] if _is_judged(plan, setup) else names
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
        **({"image": {"file": plan.image.file, "caption": plan.image.caption}} if plan.image else {}),
        "persona": {key: persona[key] for key in ("id", "name", "language", "summary")},
        **({"labels": persona["labels"]} if "labels" in persona else {}),
        "provenance": setup.prompts.provenance("converse", setup.model.name, setup.seed, used),
        "messages": _messages(reply.parsed["turns"], plan, setup.album),
    }


def _check(turns: list[dict[str, str]], plan: Plan) -> None:
    """Invalid if a planted secret is missing or taken up, another private detail is there, or the taste is stated."""
    said, answered = ([turn[role] for turn in turns] for role in ("user", "assistant"))
    for secret in plan.secrets:
        if not any(secret["value"] in text for text in said):
            raise Invalid(f"the user's messages don't contain the {describe.kind(secret)} word for word")
        if any(secret["value"] in text for text in answered):
            raise Invalid(f"the assistant repeats the {describe.kind(secret)}")
    check_private([*said, *answered], [secret["value"] for secret in plan.secrets])
    if plan.event != "asks_to_forget":
        check_stated(plan.preference, said)


def _messages(turns: list[dict[str, str]], plan: Plan, album: Album | None) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for turn in turns:
        messages.append({"role": "user", "content": turn["user"]})
        messages.append({"role": "assistant", "content": turn["assistant"]})
    if plan.image and album:
        messages[0]["content"] = _with_image(turns[0]["user"], plan.image, album)
    return messages


def _with_image(text: str, image: images.Image, album: Album) -> str | list[dict[str, Any]]:
    if album.form == "words":
        return f"{images.in_words(image.caption)}\n\n{text}"
    return images.content(text, images.data_url(album.folder, image.file) if album.form == "url" else image.file)


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
    brief = scenario["brief"].strip()
    prompt = prompts.render(
        names[0],
        whose="the user" if preference["owner"]["who"] == "self" else "somebody's taste",
        person=person,
        preference=preference["text"],
        owner_brief=prompts.render(names[1], relation=preference["owner"]["relation"] or "acquaintance"),
        event_brief=prompts.render(names[2], previous=previous, reason=preference["reason"] or ""),
        scenario=scenario["title"],
        scenario_brief=f"{brief}\n\nThe photo shows: {plan.image.caption}" if plan.image else brief,
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
