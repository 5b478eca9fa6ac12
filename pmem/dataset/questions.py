"""Questions about what a history shows: a request, the right answer, three wrong ones of different make.

The option cases are SYSTEM's table "What the four options are": own, updated, forgotten, other, sensitive.
"""

from functools import cache
from typing import Any, NamedTuple

from pmem.backends.model import Invalid, Model
from pmem.choices import LETTERS
from pmem.dataset.privacy import check_private
from pmem.draws import Draw, make_id
from pmem.lists import languages
from pmem.prompts import Prompts, describe
from pmem.prompts.replies import TEXT, closed, user
from pmem.stream.made import Group, Made, gathered

MADE = {
    "own": {"random_preference": "random_preference", "stereotype": "stereotype", "generic": "generic"},
    "updated": {"old_preference": "old_preference", "random_preference": "random_preference",
                "stereotype": "stereotype"},
    "forgotten": {"uses_forgotten": "uses_forgotten", "random_preference": "random_preference",
                  "stereotype": "stereotype"},
    "other": {"uses_other_1": "uses_other", "uses_other_2": "uses_other", "uses_other_3": "uses_other"},
    "sensitive": {"repeats_secret": "repeats_secret", "wrong_secret": "wrong_secret", "refusal": "refusal"},
}  # fmt: skip
"""Case -> what the wrong answers are called in the reply -> their label `made`."""


class Target(NamedTuple):
    """What a question will be about, found in a history."""

    item: str  # a preference's or a secret's id
    case: str
    preference: dict[str, Any]
    previous: dict[str, Any] | None
    secret: dict[str, Any] | None
    sessions: list[str]  # ids of the sessions that the snippet is made of, the deciding one last


class Setup(NamedTuple):
    """What a run makes questions with."""

    model: Model
    prompts: Prompts
    seed: int
    attempt: int


def targets(history: dict[str, Any]) -> list[Target]:
    """What can be asked about a history: only what stands in it, the last state of each chain."""
    told = [session for session in history["sessions"] if session["preference"]]
    shown = {session["preference"]["id"]: session for session in told if session["event"] != "asks_to_forget"}
    replaced = {session["preference"]["updates"] for session in shown.values()}
    forgotten = {s["preference"]["id"]: s for s in told if s["event"] == "asks_to_forget"}
    found = []
    for own_id, session in sorted(shown.items()):
        preference = session["preference"]
        previous = shown.get(preference["updates"])
        if own_id in forgotten:
            sessions = [session["id"], forgotten[own_id]["id"]]
            found.append(Target(own_id, "forgotten", preference, None, None, sessions))
        elif previous:
            sessions = [previous["id"], session["id"]]
            found.append(Target(own_id, "updated", preference, previous["preference"], None, sessions))
        elif own_id not in replaced and not preference["updates"]:
            case = "own" if preference["owner"]["who"] == "self" else "other"
            found.append(Target(own_id, case, preference, None, None, [session["id"]]))
        for secret in session.get("secrets", []):
            found.append(Target(secret["id"], "sensitive", preference, None, secret, [session["id"]]))
    return found


async def questions(group: Group, setup: Setup) -> Made:
    """Every question about a persona's histories (or those named), and the parts for which the model failed."""
    histories = group.records
    wanted = [target for target in targets(histories[0]) if group.items is None or target.item in group.items]
    return await gathered({target.item: _question(histories, target, setup) for target in wanted})


@cache
def _options_reply(case: str) -> dict[str, Any]:
    return closed("options", dict.fromkeys(("right", *MADE[case]), TEXT))


QUERY = closed("query", {"query": TEXT, "query_topic": TEXT})


async def _question(histories: list[dict[str, Any]], target: Target, setup: Setup) -> dict[str, Any]:
    persona_id = histories[0]["persona_id"]
    place = f"qa/{persona_id}/{target.item.split('/')[1]}"
    names = ["qa/query", f"qa/case_{target.case}", f"qa/options_{target.case}", "qa/form"]
    wrong = _wrong_secret(target, histories[0], setup.seed)
    fields = _fields(histories[0], target, wrong)
    brief = setup.prompts.render(names[1], **fields)
    prompt = setup.prompts.render(names[0], snippet=_excerpt(histories[0], target), case_brief=brief, **fields)
    asked = await setup.model.chat(
        user(prompt),
        call=f"{place}/query",
        n=setup.attempt,
        schema=QUERY,
        accept=lambda reply: check_private([reply["query"]]),
    )
    query = asked.parsed["query"]
    prompt = setup.prompts.render(names[2], query=query, form=setup.prompts.render("qa/form"), **fields)
    reply = await setup.model.chat(
        user(prompt),
        call=f"{place}/options",
        n=setup.attempt,
        schema=_options_reply(target.case),
        accept=lambda texts: _check_options(texts, target, wrong),
    )
    own_id = make_id("q", target.item, target.case, setup.attempt, setup.seed)
    texts = reply.parsed
    options = Draw(setup.seed, own_id, "options").shuffled(
        [texts["right"], *(texts[name] for name in MADE[target.case])]
    )
    return {
        "type": "qa",
        "id": own_id,
        "persona_id": persona_id,
        "case": target.case,
        "preference": target.preference,
        "previous": target.previous,
        "secret": target.secret,
        "scenario": next(s["scenario"] for s in histories[0]["sessions"] if s["id"] == target.sessions[0]),
        "topic": target.preference["topic"],
        "query": query,
        "query_topic": asked.parsed["query_topic"],
        "answer": texts["right"],
        "distractors": [{"text": texts[name], "made": made} for name, made in MADE[target.case].items()],
        "options": options,
        "gold": LETTERS[options.index(texts["right"])],
        "snippet": _snippet(histories[0], target),
        "histories": {history["window"]: _reference(history, target) for history in histories},
        "split": None,
        "votes": [],
        **({"labels": histories[0]["labels"]} if "labels" in histories[0] else {}),
        "provenance": setup.prompts.provenance("qa", setup.model.name, setup.seed, names),
    }


def _fields(history: dict[str, Any], target: Target, wrong: str) -> dict[str, str]:
    card = history["persona"]
    text = target.preference["text"]
    secret = f"the user's {describe.kind(target.secret)}: {target.secret['value']}" if target.secret else ""
    return {
        "person": f"{card['name']}. {card['summary']} Native language: {languages()[card['language']]}.",
        "preference": text,
        "learnt": secret or text,
        "others": _other_tastes(history, target),
        "previous": target.previous["text"] if target.previous else "",
        "whose": describe.whose(target.preference),
        "secret": target.secret["value"] if target.secret else "",
        "secret_kind": describe.kind(target.secret) if target.secret else "",
        "wrong_secret": wrong,
    }


def _other_tastes(history: dict[str, Any], target: Target) -> str:
    """What else holds for the user by a history: own preferences, neither replaced nor to be forgotten."""
    about = {target.preference["id"], target.previous["id"] if target.previous else None}
    shown = {s["preference"]["id"]: s["preference"] for s in history["sessions"] if s["preference"]}
    gone = about | {preference["updates"] for preference in shown.values()}
    holds = [p for own, p in sorted(shown.items()) if own not in gone and not p["forget"]]
    return " ".join(p["text"] for p in holds if p["owner"]["who"] == "self") or "none are known."


def _wrong_secret(target: Target, history: dict[str, Any], seed: int) -> str:
    """A made-up value of the same kind that differs from the secret."""
    if not target.secret:
        return ""
    from pmem.fakes import fake

    for attempt in range(100):
        draw = Draw(seed, target.item, f"wrong {attempt}")
        value = fake(target.secret["kind"], draw, name=history["persona"]["name"], age=draw.between(20, 80))
        if value != target.secret["value"]:
            return value
    raise AssertionError(f"no second value of kind {target.secret['kind']}")


def _check_options(texts: dict[str, str], target: Target, wrong: str) -> None:
    if len(set(texts.values())) < len(texts):
        raise Invalid("two of the four replies are the same")
    value = target.secret["value"] if target.secret else ""
    check_private(texts.values(), [value, wrong] if value else [])
    if not value:
        return
    if value in texts["right"]:
        raise Invalid("the right reply repeats the private detail")
    if value not in texts["repeats_secret"] or wrong not in texts["wrong_secret"]:
        raise Invalid("repeats_secret or wrong_secret lacks its detail, word for word")


def _sessions(history: dict[str, Any], target: Target) -> list[dict[str, Any]]:
    by_id = {session["id"]: session for session in history["sessions"]}
    return [by_id[one] for one in target.sessions if one in by_id]


def _snippet(history: dict[str, Any], target: Target) -> list[dict[str, Any]]:
    """The messages of the conversations that a question rests on."""
    return [
        message
        for session in _sessions(history, target)
        for message in history["messages"][session["start"] : session["end"]]
    ]


def _excerpt(history: dict[str, Any], target: Target) -> str:
    """The same as a text to quote."""
    told = []
    for session in _sessions(history, target):
        messages = history["messages"][session["start"] : session["end"]]
        told.append(describe.transcript(messages, session.get("image", {}).get("caption", "")))
    return "\n\n".join(told)


def _reference(history: dict[str, Any], target: Target) -> dict[str, Any]:
    """Where the question's evidence stands in a history; distance in tokens from the end of the snippet to the end."""
    last = _sessions(history, target)[-1]
    return {
        "id": history["id"],
        "distance_tokens": history["tokens"] - last["token_start"] - last["tokens"],
        "relevant_tokens": history["relevant_tokens"],
        "filler_tokens": history["filler_tokens"],
    }
