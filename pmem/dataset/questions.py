"""Questions about what a history shows: a request, the right answer, three wrong ones of different make.

The option cases are SYSTEM's table "What the four options are": own, updated, forgotten, other, sensitive.
"""

from collections.abc import Awaitable
from functools import cache
from typing import Any, NamedTuple

from pmem.backends.model import Invalid, Model
from pmem.choices import LETTERS
from pmem.dataset import targets, wording
from pmem.dataset.privacy import check_private
from pmem.dataset.targets import Shown, Target
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


class Setup(NamedTuple):
    """What a run makes questions with."""

    model: Model
    prompts: Prompts
    seed: int
    attempts: range  # numbers of the questions about each target
    only: frozenset[str] | None = None  # ids of the targets to ask about


async def questions(group: Group, setup: Setup) -> Made:
    """Every question about a persona's histories (or those named), and the parts for which the model failed.

    A part is named by its target's id, and by the question's number too where several are made about each target.
    """
    parts: dict[str, Awaitable[dict[str, Any]]] = {}
    for shown in targets.shown(group.records):
        item = shown.target.item
        if group.items is None and setup.only is not None and item not in setup.only:
            continue
        for attempt in setup.attempts:
            part = item if len(setup.attempts) == 1 else f"{item}/{attempt}"
            if group.items is None or item in group.items or part in group.items:
                parts[part] = _question(shown, attempt, setup)
    return await gathered(parts)


@cache
def _options_reply(case: str) -> dict[str, Any]:
    return closed("options", dict.fromkeys(("right", *MADE[case]), TEXT))


QUERY = closed("query", {"query": TEXT, "query_topic": TEXT})


async def _question(shown: Shown, attempt: int, setup: Setup) -> dict[str, Any]:
    target, histories = shown
    persona_id = histories[0]["persona_id"]
    place = f"qa/{persona_id}/{target.item.split('/')[1]}"
    names = ["qa/query", f"qa/case_{target.case}", f"qa/options_{target.case}", "qa/form"]
    wrong = _wrong_secret(target, histories[0], setup.seed)
    fields = _fields(histories[0], target, wrong)
    brief = setup.prompts.render(names[1], **fields)
    prompt = setup.prompts.render(names[0], snippet=_excerpt(histories[0], target), case_brief=brief, **fields)
    if attempt:
        names.append("qa/again")
        prompt += "\n" + setup.prompts.render("qa/again", number=attempt + 1)
    asked = await setup.model.chat(
        user(prompt),
        call=f"{place}/query",
        n=attempt,
        schema=QUERY,
        accept=lambda reply: _check_query(reply["query"], target),
    )
    query = asked.parsed["query"]
    prompt = setup.prompts.render(names[2], query=query, form=setup.prompts.render("qa/form"), **fields)
    reply = await setup.model.chat(
        user(prompt),
        call=f"{place}/options",
        n=attempt,
        schema=_options_reply(target.case),
        accept=lambda texts: _check_options(texts, target, wrong),
    )
    own_id = make_id("q", target.item, target.case, attempt, setup.seed)
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


def _check_query(query: str, target: Target) -> None:
    if fault := wording.artefact(query):
        raise Invalid(f"the request {fault}")
    check_private([query])
    if target.secret:
        if wording.leaks_value(query, target.secret["value"]):
            raise Invalid("the request holds the private detail")
        return
    for preference in (target.preference, target.previous):
        if preference and (words := wording.leaked_words(query, preference["text"])):
            raise Invalid(f"the request gives the preference away by its words: {', '.join(words)}")


def _check_options(texts: dict[str, str], target: Target, wrong: str) -> None:
    for name, text in texts.items():
        if fault := wording.artefact(text):
            raise Invalid(f"{name} {fault}")
    if wording.same(texts.values()):
        raise Invalid("two of the four replies are the same")
    value = target.secret["value"] if target.secret else ""
    check_private(texts.values(), [value, wrong] if value else [])
    others = [texts[name] for name in MADE[target.case]]
    if wording.length_tells(texts["right"], others):
        raise Invalid(wording.lengths_in_words(texts["right"], others))
    if wording.form_tells(texts["right"], others):
        raise Invalid("the right reply differs from all others in form (list or prose, one paragraph or several)")
    if not value:
        return
    if wording.leaks_value(texts["right"], value):
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
