"""`pmem eval --errors`: what is asked of the judge, and what isn't; with the stub server as the judge."""

import copy
from pathlib import Path
from typing import Any

import pytest

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


@pytest.mark.parametrize(("case", "lacks"), [("sensitive", "secret"), ("updated", "previous"), ("own", "preference"), (None, "case")])  # fmt: skip
def test_a_question_that_tells_too_little_is_a_reject(tmp_path: Path, stub: Stub, case: str | None, lacks: str) -> None:
    qa = {**copy.deepcopy(QA), "case": case, lacks: None}
    ran = sort(tmp_path, stub, wrong(), qa=qa)
    assert ran.status == 3 and ran.out == b""
    assert f"has no {lacks}" in (tmp_path / "rejects.jsonl").read_text()
