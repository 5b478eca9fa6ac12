"""What kind of mistake a wrong answer makes, by a judge."""

from typing import Any

from pmem.backends.model import Model
from pmem.choices import LETTERS, without_thinking
from pmem.errors import RecordError
from pmem.prompts import Prompts, describe
from pmem.prompts.replies import TEXT, closed, user
from pmem.reward.open_ended import CASE, rubric

Record = dict[str, Any]
OF_CASES = (
    "hallucinated_personalisation",
    "stale_preference",
    "generic_answer",
    "sensitive_information",
    "stereotype",
    "other",
)
"""The paper's kinds of errors, and what is none of them: for questions of which the case is known."""
OF_REFERENCES = (
    "contradicting_answer",
    "incomplete_answer",
    "unknown_answer",
    "invented_answer",
    "generic_answer",
    "other",
)
"""For questions of which only a right answer is known: what can be told by that alone."""
UNPARSED = "unparsed"
"""Where no answer could be read: no judge is asked."""


def _schema(kinds: tuple[str, ...]) -> dict[str, Any]:
    return closed("mistake", {"reason": TEXT, "category": {"type": "string", "enum": list(kinds)}})


BY_CASE = ("eval/judge_error", _schema(OF_CASES))
BY_REFERENCE = ("eval/judge_error_reference", _schema(OF_REFERENCES))


async def sorted_out(result: Record, questions: dict[str, Record], judge: Model, prompts: Prompts) -> Record:
    """The result with its `error_category`, `error_reason` and `error_judge`, if it is wrong.

    questions: by id. A right answer is passed on as it is, and so is one that is sorted already. Like open-ended
    replies, mistakes are judged by what the question's case demands, else by its reference answer. RecordError if the
    question isn't there, or has neither.
    """
    if result["correct"] or result["error_category"]:
        return result
    if not result["parsed"]:
        return {**result, "error_category": UNPARSED}
    qa = questions.get(result["qa_id"])
    if qa is None:
        raise RecordError(f"--questions holds no question {result['qa_id']}", reason="schema", pointer="/qa_id")
    name, schema = BY_CASE if rubric(qa) == CASE else BY_REFERENCE
    known = {"facts": describe.facts(qa), "rule": describe.rule(qa, prompts)} if name == BY_CASE[0] else {}
    prompt = prompts.render(name, query=qa["query"], answer=qa["answer"], reply=_said(result), **known)
    reply = await judge.chat(user(prompt), call=f"eval/{result['id']}/error", schema=schema)
    hashes = prompts.provenance("eval", judge.name, 0, [name])["prompts"]
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
