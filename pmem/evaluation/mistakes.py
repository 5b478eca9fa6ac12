"""What kind of mistake a wrong answer makes, by a judge."""

from typing import Any

from pmem.backends.model import Model
from pmem.choices import LETTERS, without_thinking
from pmem.errors import RecordError
from pmem.prompts import Prompts, describe
from pmem.prompts.replies import TEXT, closed, user

Record = dict[str, Any]
KINDS = (
    "hallucinated_personalisation",
    "stale_preference",
    "generic_answer",
    "sensitive_information",
    "stereotype",
    "other",
)
"""The paper's kinds of errors, and what is none of them."""
UNPARSED = "unparsed"
"""Where no answer could be read: no judge is asked."""
MISTAKE = closed("mistake", {"reason": TEXT, "category": {"type": "string", "enum": list(KINDS)}})
PROMPT = "eval/judge_error"
NEEDED = {"sensitive": ("secret",), "updated": ("preference", "previous")}
"""What has to be known of a question to judge an answer to it, by its case; else its case and the preference."""


async def sorted_out(result: Record, questions: dict[str, Record], judge: Model, prompts: Prompts) -> Record:
    """The result with its `error_category`, `error_reason` and `error_judge`, if it is wrong.

    questions: by id. A right answer is passed on as it is, and so is one that is sorted already. RecordError if its
    question isn't there, or doesn't tell what a judge has to know.
    """
    if result["correct"] or result["error_category"]:
        return result
    if not result["parsed"]:
        return {**result, "error_category": UNPARSED}
    qa = questions.get(result["qa_id"])
    if qa is None:
        raise RecordError(f"--questions holds no question {result['qa_id']}", reason="schema", pointer="/qa_id")
    needed = NEEDED.get(qa["case"], ("case", "preference"))
    if missing := [name for name in needed if not qa[name]]:
        raise RecordError(
            f"question {qa['id']} has no {missing[0]}, which a judge has to know", reason="schema", pointer="/qa_id"
        )
    fields = {"facts": describe.facts(qa), "rule": describe.rule(qa, prompts), "answer": qa["answer"]}
    prompt = prompts.render(PROMPT, query=qa["query"], reply=_said(result), **fields)
    reply = await judge.chat(user(prompt), call=f"eval/{result['id']}/error", schema=MISTAKE)
    hashes = prompts.provenance("eval", judge.name, 0, [PROMPT])["prompts"]
    provenance = {**result["provenance"], "prompts": {**result["provenance"].get("prompts", {}), **hashes}}
    found = {"error_category": reply.parsed["category"], "error_reason": reply.parsed["reason"]}
    return {**result, **found, "error_judge": judge.name, "provenance": provenance}


def _said(result: Record) -> str:
    """What the judge sees as the answer: the option that was chosen, with the model's reasons; or the reply."""
    reply = without_thinking(result["reply"])
    if not (result["options"] and result["choice"]):
        return reply
    option = result["options"][LETTERS.index(result["choice"])]
    return f"{option}\n\n(chosen among several with these words: {reply})" if reply else str(option)
