"""Open-ended replies: judges decide whether a reply treats what is known about the user rightly; majority wins."""

from typing import Any

from pmem.backends.model import Model, NoValidReply
from pmem.choices import without_thinking
from pmem.prompts import Prompts, describe
from pmem.prompts.replies import VERDICT, user
from pmem.stream.made import together


async def votes_on(
    reply: str, qa: dict[str, Any], judge: Model, prompts: Prompts, votes: int, call: str
) -> list[dict[str, Any]]:
    """Votes on a reply. The rubric is that of the question's case; an unreadable vote is `unclear`."""
    fields = {"query": qa["query"], "facts": describe.facts(qa), "rule": describe.rule(qa, prompts)}
    prompt = prompts.render("eval/judge_open", reply=without_thinking(reply), **fields)

    async def one(n: int) -> dict[str, Any]:
        paper = {"check": "open", "n": n, "judge": judge.name}
        try:
            cast = await judge.chat(user(prompt), call=f"{call}/judge", n=n, schema=VERDICT)
        except NoValidReply as fault:
            return {**paper, "verdict": "unclear", "choice": None, "reason": fault.message}
        return {**paper, "verdict": cast.parsed["verdict"], "choice": None, "reason": cast.parsed["reason"]}

    return await together(one(n) for n in range(votes))


def passes(votes: list[dict[str, Any]]) -> bool:
    """More than half of all votes say pass; unclear ones count among all."""
    in_favour = sum(1 for vote in votes if vote["verdict"] == "pass")
    return 2 * in_favour > len(votes)
