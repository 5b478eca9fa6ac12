"""Open-ended replies: judges decide whether a reply treats what is known about the user rightly; majority wins."""

from typing import Any

from pmem.backends.model import Model, NoValidReply
from pmem.choices import without_thinking
from pmem.errors import RecordError
from pmem.prompts import Prompts, describe
from pmem.prompts.replies import VERDICT, user
from pmem.stream.made import together

CASE, REFERENCE, ABSTENTION = "eval/judge_open", "eval/judge_reference", "eval/judge_abstention"


def rubric(qa: dict[str, Any]) -> str:
    """The prompt by which replies to a question are judged; RecordError if nothing is there to judge by.

    By what its case demands, where that and what it is about are known; else by the reference answer. A question that
    the history doesn't answer has a label of its own, `abstention: yes`.
    """
    needed = {"sensitive": ("secret",), "updated": ("preference", "previous")}.get(qa["case"], ("preference",))
    if qa["case"] and all(qa[name] for name in needed):
        return CASE
    if qa.get("labels", {}).get("abstention") == "yes":
        return ABSTENTION
    if not qa["answer"].strip():
        raise RecordError("a question without a case or an answer has nothing to judge by", reason="schema")
    return REFERENCE


async def votes_on(
    reply: str, qa: dict[str, Any], judges: tuple[Model, ...], prompts: Prompts, votes: int, call: str
) -> list[dict[str, Any]]:
    """Votes on a reply, so many of each judge, by the question's rubric; an unreadable vote is `unclear`."""
    name = rubric(qa)
    if name == CASE:
        fields = {"facts": describe.facts(qa), "rule": describe.rule(qa, prompts)}
    else:
        fields = {"answer": qa["answer"]}
    prompt = prompts.render(name, query=qa["query"], reply=without_thinking(reply), **fields)

    async def one(judge: Model, of: str, n: int) -> dict[str, Any]:
        paper = {"check": "open", "n": n, "judge": judge.name}
        try:
            cast = await judge.chat(user(prompt), call=of, step="judge", n=n, schema=VERDICT)
        except NoValidReply as fault:
            return {**paper, "verdict": "unclear", "choice": None, "reason": fault.message}
        return {**paper, "verdict": cast.parsed["verdict"], "choice": None, "reason": cast.parsed["reason"]}

    numbered = [(judge, f"{call}/judge{number if number > 1 else ''}") for number, judge in enumerate(judges, 1)]
    return await together(one(judge, of, n) for judge, of in numbered for n in range(votes))


def passes(votes: list[dict[str, Any]]) -> bool:
    """More than half of all votes say pass; unclear ones count among all."""
    return 2 * _count(votes, "pass") > len(votes)


def decided(votes: list[dict[str, Any]]) -> bool:
    """Whether the votes that could be read decide: the unclear ones could not have changed what `passes` says."""
    return passes(votes) or 2 * (_count(votes, "pass") + _count(votes, "unclear")) <= len(votes)


def disputed(votes: list[dict[str, Any]]) -> bool:
    """Whether some votes say pass and others fail."""
    return bool(_count(votes, "pass") and _count(votes, "fail"))


def _count(votes: list[dict[str, Any]], verdict: str) -> int:
    return sum(vote["verdict"] == verdict for vote in votes)
