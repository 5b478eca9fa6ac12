"""`pmem eval --errors`: what is asked of the judge, and what isn't; with the stub server as the judge."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pmem.evaluation.mistakes import sorted_out
from pmem.prompts import Prompts
from tests.command import lines, pmem, sample
from tests.stub import Stub

QA = {**sample("qa"), "case": "own"}


def sort(folder: Path, stub: Stub, *results: dict[str, Any], qa: dict[str, Any] = QA) -> Any:
    (folder / "questions.jsonl").write_bytes(lines([qa]))
    judge = ["--judge-model", "openai:stub", "--judge-base-url", stub.url, "--rejects", "rejects.jsonl"]
    return pmem("eval", "--errors", "--questions", "questions.jsonl", *judge, "--no-cache", "-q", folder=folder,
                input=lines(results), hurried=True)  # fmt: skip


def wrong(**more: Any) -> dict[str, Any]:
    return {**sample("result"), "choice": "A", "correct": False, **more}


def test_a_wrong_answer_gets_a_kind_a_reason_and_a_judge(tmp_path: Path, stub: Stub) -> None:
    ran = sort(tmp_path, stub, wrong())
    assert ran.status == 0, ran.err
    (found,) = ran.records
    assert found["error_category"] in ("hallucinated_personalisation", "stale_preference", "generic_answer",
                                       "sensitive_information", "stereotype", "other")  # fmt: skip
    assert found["error_reason"] and found["error_judge"] == "openai:stub"
    assert "eval/judge_error" in found["provenance"]["prompts"]
    before = wrong()
    assert {key: found[key] for key in before if key not in ("error_category", "provenance")} == {
        key: before[key] for key in before if key not in ("error_category", "provenance")
    }


def test_only_wrong_answers_that_were_read_are_asked_about(tmp_path: Path, stub: Stub) -> None:
    right, sorted_before = sample("result"), wrong(error_category="other")
    unread = wrong(choice=None, parsed=False)
    ran = sort(tmp_path, stub, right, sorted_before, unread)
    assert ran.records == [right, sorted_before, {**unread, "error_category": "unparsed"}]
    assert stub.counts()["requests"] == 0


REFERENCE = {
    "contradicting_answer",
    "incomplete_answer",
    "unknown_answer",
    "invented_answer",
    "generic_answer",
    "other",
}


@pytest.mark.parametrize("more", [{}, {"labels": {"abstention": "yes"}}, {"case": "own"}, {"case": "sensitive"}])
def test_a_question_with_a_reference_alone_is_judged_by_that(tmp_path: Path, stub: Stub, more: dict[str, Any]) -> None:
    """As LongMemEval's and LoCoMo's are, and PersonaMem v1's with options; and where a case lacks what it is about."""
    qa = {**sample("qa-imported"), "id": QA["id"], **more}
    free = wrong(mode="open", options=None, gold=None, choice=None, reply="On Tuesday, I believe.")
    ran = sort(tmp_path, stub, free, wrong(), qa=qa)
    assert ran.status == 0, ran.err
    assert {one["error_category"] for one in ran.records} <= REFERENCE
    for one in ran.records:
        assert "eval/judge_error_reference" in one["provenance"]["prompts"] and one["error_reason"]


def test_what_the_judge_sees_of_a_reference() -> None:
    qa = sample("qa-imported")
    seen = []

    class Judge:
        name = "judge"

        async def chat(self, messages: Any, *, call: str, schema: Any) -> Any:
            seen.append((messages[0]["content"], schema["properties"]["category"]["enum"]))
            return SimpleNamespace(parsed={"category": "other", "reason": "Why."})

    result = wrong(qa_id=qa["id"], options=None, choice=None, reply="<think>Monday?</think>On Tuesday, I believe.")
    asyncio.run(sorted_out(result, {qa["id"]: qa}, Judge(), Prompts()))  # type: ignore[arg-type]
    ((prompt, kinds),) = seen
    assert all(text in prompt for text in (qa["query"], qa["answer"], "On Tuesday, I believe."))
    assert "Monday" not in prompt and "{{" not in prompt
    assert set(kinds) == REFERENCE and all(f"- {kind}: " in prompt for kind in kinds)


def test_a_question_with_nothing_to_judge_by_is_a_reject(tmp_path: Path, stub: Stub) -> None:
    ran = sort(tmp_path, stub, wrong(), qa={**sample("qa-imported"), "id": QA["id"], "answer": " ", "options": None, "gold": None})  # fmt: skip
    assert ran.status == 3 and ran.out == b""
    assert "has nothing to judge by" in (tmp_path / "rejects.jsonl").read_text()
