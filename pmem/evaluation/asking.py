"""One question to one model in one context: the messages, the call, the score, the result record."""

from typing import Any, NamedTuple

from pmem.backends.base import Message, Prefix
from pmem.backends.model import Model
from pmem.draws import make_id
from pmem.errors import RecordError
from pmem.evaluation.photos import Photos
from pmem.prompts import Prompts, describe
from pmem.prompts.replies import user
from pmem.reward import mcq, open_ended
from pmem.stream.lookup import Lookup
from pmem.stream.made import Made, gathered


class Setup(NamedTuple):
    """How a run asks. window: the name of the history to show (None: the smallest that a question has)."""

    model: Model
    judge: Model | None
    prompts: Prompts
    seed: int
    mode: str
    contexts: tuple[str, ...]
    scoring: str
    rank: str
    votes: int
    window: str | None
    histories: Lookup | None
    photos: Photos


class Scene(NamedTuple):
    """What a model sees before the question: nothing, some messages, or a whole history kept as bytes."""

    context: str
    messages: list[Message]
    prefix: Prefix | None = None
    history_id: str | None = None
    window: str | None = None


async def results(qa: dict[str, Any], contexts: list[str] | None, setup: Setup) -> Made:
    """One result record per context (or for those named), and the contexts in which the model failed."""
    if setup.mode == "mcq" and not (qa["options"] and qa["gold"]):
        raise RecordError(
            "a question without options can only be asked with --mode open", reason="schema", pointer="/options"
        )
    wanted = [context for context in setup.contexts if contexts is None or context in contexts]
    return await gathered({context: _result(qa, context, setup) for context in wanted})


async def _scene(qa: dict[str, Any], context: str, setup: Setup) -> Scene:
    if context == "none":
        return Scene(context, [])
    if context == "snippet":
        return Scene(context, setup.photos.shown(qa["snippet"]))
    assert setup.histories
    window = setup.window or _smallest(qa)
    if window not in qa["histories"]:
        known = ", ".join(qa["histories"]) or "none"
        raise RecordError(
            f"the question has no history of window {window}; it has: {known}", reason="schema", pointer="/histories"
        )
    own_id = qa["histories"][window]["id"]
    raw = setup.photos.shown_raw(await setup.histories.messages(own_id))
    return Scene(context, [], Prefix(own_id, raw), own_id, window)


def _smallest(qa: dict[str, Any]) -> str:
    sizes = {name: (one["relevant_tokens"] or 0) + (one["filler_tokens"] or 0) for name, one in qa["histories"].items()}
    return min(sizes, key=lambda name: sizes[name]) if sizes else "32k"


async def _result(qa: dict[str, Any], context: str, setup: Setup) -> dict[str, Any]:
    scene = await _scene(qa, context, setup)
    call = f"eval/{qa['id']}/{setup.mode}-{scene.context}" + (f"-{scene.window}" if scene.window else "")
    if setup.mode == "open":
        said = await _open(qa, scene, setup, call)
    elif setup.scoring == "likelihood":
        said = await _ranked(qa, scene, setup, call)
    else:
        said = await _chosen(qa, scene, setup, call)
    mcq_only = setup.mode == "mcq"
    scoring = setup.scoring if mcq_only else "reply"
    told = [
        setup.model.name,
        setup.mode,
        scene.context,
        scene.window,
        scoring,
        _rank(scene, setup) if scoring == "likelihood" else "",
    ]
    names = {"mcq": ["eval/mcq"] if scoring == "reply" else [], "open": ["eval/open", "eval/judge_open"]}[setup.mode]
    return {
        "type": "result",
        "id": make_id("r", qa["id"], told, 0, setup.seed),
        "qa_id": qa["id"],
        "history_id": scene.history_id,
        "persona_id": qa["persona_id"],
        "model": setup.model.name,
        "judge_model": setup.judge.name if setup.judge and not mcq_only else None,
        "mode": setup.mode,
        "context": scene.context,
        "window": scene.window,
        "scoring": scoring,
        "permutation": 0,
        "options": qa["options"] if mcq_only else None,
        "gold": qa["gold"] if mcq_only else None,
        **{"choice": None, "parsed": True, "votes": [], "error_category": None, **said},
        "labels": _labels(qa, scene.window),
        "provenance": setup.prompts.provenance("eval", setup.model.name, setup.seed, names),
    }


async def _chosen(qa: dict[str, Any], scene: Scene, setup: Setup, call: str) -> dict[str, Any]:
    prompt = setup.prompts.render("eval/mcq", query=qa["query"], options=describe.options(qa["options"]))
    reply = await setup.model.chat([*scene.messages, *user(prompt)], call=call, prefix=scene.prefix)
    score = mcq.by_reply(reply.text, qa["gold"], len(qa["options"]))
    return {"reply": reply.text, **score._asdict(), **_tokens(reply.usage)}


def _rank(scene: Scene, setup: Setup) -> str:
    """Without a context nothing is gained over having none: options are then ranked per token."""
    return "token" if setup.rank == "relative" and scene.context == "none" else setup.rank


async def _ranked(qa: dict[str, Any], scene: Scene, setup: Setup, call: str) -> dict[str, Any]:
    asked = user(qa["query"])
    rank = _rank(scene, setup)
    given = await setup.model.likelihood([*scene.messages, *asked], qa["options"], call=call, prefix=scene.prefix)
    without = None
    if rank == "relative":
        without = await setup.model.likelihood(asked, qa["options"], call=f"{call}-without")
    score = mcq.by_likelihood(mcq.ranking(given, without, rank), qa["gold"])
    bare = [one.logprob for one in without] if without else [None] * len(given)
    likelihoods = [
        {"logprob": one.logprob, "tokens": one.tokens, "none": none} for one, none in zip(given, bare, strict=True)
    ]
    return {"reply": "", **score._asdict(), "likelihoods": likelihoods, "prompt_tokens": 0, "reply_tokens": 0}


async def _open(qa: dict[str, Any], scene: Scene, setup: Setup, call: str) -> dict[str, Any]:
    assert setup.judge
    if not qa["case"]:
        raise RecordError("a question without a case has no rubric to judge by", reason="schema", pointer="/case")
    prompt = setup.prompts.render("eval/open", query=qa["query"])
    reply = await setup.model.chat([*scene.messages, *user(prompt)], call=call, prefix=scene.prefix)
    votes = await open_ended.votes_on(reply.text, qa, setup.judge, setup.prompts, setup.votes, call)
    return {"reply": reply.text, "correct": open_ended.passes(votes), "votes": votes, **_tokens(reply.usage)}


def _tokens(usage: Any) -> dict[str, int]:
    return {"prompt_tokens": usage.prompt, "reply_tokens": usage.completion}


def _labels(qa: dict[str, Any], window: str | None) -> dict[str, str]:
    """What results are broken down by; the data set's own labels come along."""
    labels = dict(qa.get("labels", {}))
    preference = qa["preference"]
    if preference:
        labels["owner"] = preference["owner"]["who"]
        labels |= {"kind": preference["kind"]} if preference["kind"] else {}
    if qa["case"]:
        labels |= {"case": qa["case"], "updated": "yes" if qa["case"] == "updated" else "no"}
        labels["sensitive"] = "yes" if qa["case"] == "sensitive" else "no"
    if qa["scenario"]:
        labels["scenario"] = qa["scenario"]
    place = qa["histories"].get(window) if window else None
    if place and place["distance_tokens"] is not None:
        size = (place["relevant_tokens"] or 0) + (place["filler_tokens"] or 0)
        labels["distance_quartile"] = str(min(4, 1 + int(4 * place["distance_tokens"] / max(size, 1))))
    return dict(sorted(labels.items()))
