"""Calibration of judges: faults made by rule, rates and agreement by hand, nothing of it in the output."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from pmem.backends.base import Usage
from pmem.backends.model import Reply
from pmem.dataset.calibration import Calibration, _agreement
from pmem.dataset.negatives import ARTEFACTS, negatives
from pmem.dataset.votes import Setup
from pmem.prompts import Prompts
from tests.command import lines, pmem
from tests.planted import questions
from tests.stub import running

ASKED = list(questions(30, 10, seed=4))


@pytest.mark.parametrize("qa", ASKED, ids=lambda qa: qa["case"])
def test_faults_by_rule(qa: dict[str, Any]) -> None:
    made = {one.fault: one.qa for one in negatives(qa, 0)}
    assert set(made) == {"swapped", "leaked", "artefact", "long"}
    swapped, leaked, artefact, long = (made[fault] for fault in ("swapped", "leaked", "artefact", "long"))
    assert swapped["gold"] != qa["gold"] and swapped["options"] == qa["options"]
    assert swapped["answer"] == qa["options"]["ABCD".index(swapped["gold"])]
    told = qa["secret"]["value"] if qa["case"] == "sensitive" else qa["preference"]["text"]
    assert told in leaked["query"] and qa["query"] in leaked["query"]
    changed = [new for new, old in zip(artefact["options"], qa["options"], strict=True) if new != old]
    assert len(changed) == 1 and changed[0].startswith(ARTEFACTS)
    right = "ABCD".index(qa["gold"])
    longest = max(len(text) for place, text in enumerate(qa["options"]) if place != right)
    assert len(long["options"][right]) > 1.6 * longest and long["answer"] == long["options"][right]


def test_a_question_without_a_preference_cannot_leak() -> None:
    qa = next(qa for qa in ASKED if qa["case"] == "own")
    assert "leaked" not in {one.fault for one in negatives({**qa, "preference": None}, 0)}


def test_agreement_is_that_of_fleiss() -> None:
    """The worked example of Fleiss (1971) as it is commonly given: 10 subjects, 14 raters, 5 categories: 0.210."""
    table = [(0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1), (7, 7, 0, 0, 0),
             (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7)]  # fmt: skip
    assert _agreement(Counter(table)) == {
        "agreement": pytest.approx(0.378, abs=5e-4),
        "kappa": pytest.approx(0.21, abs=5e-4),
    }
    assert _agreement(Counter({(3, 0, 0): 7})) == {"agreement": 1, "kappa": None}
    assert _agreement(Counter({(1, 0, 0): 7})) == {"agreement": None, "kappa": None}


class Judge:
    """Catches what is named; fails the form of every third question that is as it came."""

    name = "fake:judge"

    def __init__(self, *catches: str) -> None:
        self.catches = catches

    async def chat(self, messages: list[dict[str, Any]], *, call: str, n: int, **_: Any) -> Reply:
        own_id, step = call.split("/")[1:3]
        identity, _, fault = own_id.partition("+")
        if step == "blind":
            return Reply("", {"choice": "A", "reason": "r"}, Usage(1, 1))
        fails = fault in self.catches or (step == "form" and not fault and int(identity[2:], 16) % 3 == 0)
        return Reply("", {"verdict": "fail" if fails else "pass", "reason": "r"}, Usage(1, 1))


def test_rates_by_hand() -> None:
    calibration = Calibration(20, Setup(Judge("swapped", "long"), Prompts(None), 3), 0)  # type: ignore[arg-type]

    async def all_() -> list[dict[str, Any]]:
        return [await calibration.judged(qa) for qa in ASKED]

    judged = asyncio.run(all_())
    assert [qa["id"] for qa in judged] == [qa["id"] for qa in ASKED]
    found = {row["check"]: row for row in calibration.document()["checks"]}
    caught = {
        check: {fault: (rate["number"], rate["of"]) for fault, rate in row["faults"].items()}
        for check, row in found.items()
    }
    assert caught == {
        "blind": {"leaked": (0, 20)}, "leak": {"leaked": (0, 20)}, "gold": {"swapped": (20, 20)},
        "distractors": {"swapped": (20, 20)}, "form": {"artefact": (0, 20), "long": (20, 20)}, "harm": {},
    }  # fmt: skip
    assert (found["form"]["fails_unmodified"]["number"], found["form"]["fails_unmodified"]["of"]) == (10, 30)
    low, high = found["form"]["fails_unmodified"]["interval"]
    assert (low, high) == pytest.approx((0.1923, 0.5122), abs=1e-4)  # Wilson, 10 of 30
    assert found["form"]["kappa"] == 1 and found["leak"]["kappa"] is None


def test_output_is_that_of_a_run_without(tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl").write_bytes(lines(ASKED[:8]))
    with running() as stub:
        command = ("judge", "questions.jsonl", "-m", "openai:x", "--base-url", stub.url, "--no-cache", "--votes", "1")
        plain = pmem(*command, folder=tmp_path)
        ran = pmem(*command, "--calibrate", "3", "--calibration", "found.json", folder=tmp_path)
        again = pmem(*command, "--calibrate", "3", "-j", "1", "-q", "--calibration", "again.json", folder=tmp_path)
    assert ran.out == plain.out == again.out and ran.status == 0
    found = orjson.loads((tmp_path / "found.json").read_bytes())
    assert (found["questions"], found["questions_with_faults"]) == (8, 3)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "found.json").read_bytes()
    assert "calibration: 3 of 8" in ran.err and "calibration" not in again.err


@pytest.mark.parametrize("amount", ["0", "1.5", "-1", "many", "nan", "inf"])
def test_amounts_that_are_none(amount: str, tmp_path: Path) -> None:
    ran = pmem("judge", "-m", "openai:x", "--calibrate", amount, folder=tmp_path)
    assert ran.status == 2 and "neither a share" in ran.err
