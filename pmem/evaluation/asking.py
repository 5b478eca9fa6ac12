"""One question to one model in one context: the messages, the call, the score, the result record."""

from typing import Any, NamedTuple

from pmem.backends.model import Model, Reply
from pmem.draws import make_id
from pmem.errors import RecordError
from pmem.evaluation.labels import labels_of
from pmem.evaluation.question import Put, history_of, scene
from pmem.evaluation.scenes import Scene, Scenes
from pmem.evaluation.takes import Plan, Take, takes
from pmem.prompts import Prompts
from pmem.prompts.replies import user
from pmem.reward import conduct, mcq, open_ended
from pmem.stream.made import Made, gathered


class Setup(NamedTuple):
    """How a run asks: `plan` says what, the rest says how. form: of replies, one of `question.FORMS`."""

    model: Model
    judges: tuple[Model, ...]
    prompts: Prompts
    seed: int
    plan: Plan
    scoring: str
    rank: str
    votes: int
    scenes: Scenes
    form: str = "steps"


async def results(qa: dict[str, Any], items: list[str] | None, setup: Setup) -> Made:
    """One result record per context, window and order of the options (or for those named), and those in which it
    failed. RecordError if the question can't be asked like this at all, or has no history of a window."""
    if setup.plan.mode == "mcq" and not (qa["options"] and qa["gold"]):
        raise RecordError(
            "a question without options can only be asked with --mode open", reason="schema", pointer="/options"
        )
    asked = takes(qa, items, setup.plan)
    for take in asked:
        if take.window:
            history_of(take.qa, take.window)  # refuses where there is none
    return await gathered({one.item: _result(one, setup) for one in asked})


async def _result(take: Take, setup: Setup) -> dict[str, Any]:
    ask = _open if setup.plan.mode == "open" else _ranked if setup.scoring == "likelihood" else _chosen
    shown, prompts, said = await ask(take, setup)
    qa, mcq_only = take.qa, setup.plan.mode == "mcq"
    options = take.options if mcq_only else None
    scoring = setup.scoring if mcq_only else "reply"
    judges = ", ".join(judge.name for judge in setup.judges) if not mcq_only else None
    settings = _settings(take, shown, setup)
    told: list[Any] = [setup.model.name, setup.plan.mode, take.context, take.window, scoring]
    told += [_rank(take, setup) if scoring == "likelihood" else "", *filter(None, (judges, settings, shown.facts))]
    return {
        "type": "result",
        "id": make_id("r", qa["id"], told, take.permutation, setup.seed),
        "qa_id": qa["id"],
        "history_id": shown.history_id,
        "persona_id": qa["persona_id"],
        "model": setup.model.name,
        "judge_model": judges,
        "mode": setup.plan.mode,
        "context": take.context,
        "window": take.window,
        "scoring": scoring,
        "permutation": take.permutation,
        "options": options,
        "gold": take.gold if mcq_only else None,
        **{"choice": None, "parsed": True, "votes": [], "error_category": None, **said},
        **shown.facts,
        **({"settings": settings} if settings else {}),
        "labels": labels_of(qa, take.window, shown.language)
        | conduct.labels(qa, options, said.get("choice"), said["reply"]),
        "provenance": setup.prompts.provenance("eval", setup.model.name, setup.seed, prompts),
    }


def _settings(take: Take, shown: Scene, setup: Setup) -> dict[str, Any]:
    """What was chosen beside the defaults, as far as it bears on this result."""
    model, view = setup.model, setup.scenes.view
    sampled = setup.plan.mode == "open" or setup.scoring == "reply"
    given = {
        "temperature": model.temperature if sampled else None,
        "max_tokens": model.max_tokens if sampled else None,
        "thinking": model.thinking,
        "form": setup.form if sampled and setup.form != "steps" else None,
        "top_k": view.top_k if take.context == "rag" else None,
        "with_system": shown.with_system or None,
        "context_length": view.context_length,
        "truncate": view.truncate if take.context == "full" else None,
    }
    return {name: value for name, value in given.items() if value is not None}


Answer = tuple[Scene, list[str], dict[str, Any]]
"""The scene, the prompts that were used, and what a result says of the reply."""


async def _chosen(take: Take, setup: Setup) -> Answer:
    shown, names, reply = await _asked(take, setup)
    score = mcq.by_reply(reply.text, take.gold, len(take.options))
    return shown, names, {"reply": reply.text, **score._asdict(), **_tokens(reply)}


async def _asked(take: Take, setup: Setup) -> tuple[Scene, list[str], Reply]:
    put = Put(take.qa, setup.plan.mode, take.context, take.window, take.options, setup.form)
    shown, names = await scene(put, setup.scenes, setup.prompts)
    step = take.call.rpartition("/")[2]
    call = f"{take.call}-order{take.permutation}" if take.permutation else take.call
    reply = await setup.model.chat(shown.messages, call=call, step=step, prefix=shown.prefix, shared=shown.shared)
    return shown, names, reply


def _rank(take: Take, setup: Setup) -> str:
    """Without a context nothing is gained over having none: options are then ranked per token."""
    return "token" if setup.rank == "relative" and take.context == "none" else setup.rank


async def _ranked(take: Take, setup: Setup) -> Answer:
    rank = _rank(take, setup)
    shown = await setup.scenes.scene(take.qa, take.context, take.window, take.qa["query"])
    given = await setup.model.likelihood(
        shown.messages, take.options, call=take.call, prefix=shown.prefix, shared=shown.shared
    )
    without = None
    if rank == "relative":
        asked = user(take.qa["query"])
        without = await setup.model.likelihood(asked, take.options, call=f"{take.call}-without")
    score = mcq.by_likelihood(mcq.ranking(given, without, rank), take.gold)
    bare = [one.logprob for one in without] if without else [None] * len(given)
    likelihoods = [
        {"logprob": one.logprob, "tokens": one.tokens, "none": none} for one, none in zip(given, bare, strict=True)
    ]
    counted = {"likelihoods": likelihoods, "prompt_tokens": 0, "reply_tokens": 0}
    return shown, list(shown.prompts), {"reply": "", **score._asdict(), **counted}


async def _open(take: Take, setup: Setup) -> Answer:
    rubric = open_ended.rubric(take.qa)
    shown, names, reply = await _asked(take, setup)
    votes = await open_ended.votes_on(reply.text, take.qa, setup.judges, setup.prompts, setup.votes, take.call)
    score = {"correct": open_ended.passes(votes), "parsed": open_ended.decided(votes), "votes": votes}
    return shown, [*names, rubric], {"reply": reply.text, **score, **_tokens(reply)}


def _tokens(reply: Reply) -> dict[str, int]:
    usage = reply.usage
    reasoning = {"reasoning_tokens": usage.reasoning} if usage.reasoning else {}
    return {"prompt_tokens": usage.prompt, "reply_tokens": usage.completion, **reasoning}
