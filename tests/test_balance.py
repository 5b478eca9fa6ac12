"""`filter --balance`: weights, moved options, one half evened out and the other left alone."""

from pathlib import Path

import numpy as np
import orjson

from pmem.audit.audit import Terms, audited
from pmem.audit.balance import kept, raked
from pmem.audit.balancer import Balancer, moved
from pmem.audit.corpus import Corpus
from pmem.audit.halves import first_half, is_balanced
from pmem.draws import Draw
from tests.planted import questions


def test_moved_options_keep_their_votes() -> None:
    vote = {"n": 0, "judge": "j", "verdict": "pass", "reason": None}
    qa = {
        "options": ["a", "b", "c", "d"],
        "gold": "C",
        "votes": [{**vote, "check": "distractors", "choice": "A"}, {**vote, "check": "blind", "choice": "C"},
                  {**vote, "check": "blind", "choice": None}, {**vote, "check": "leak", "choice": None}],
    }  # fmt: skip
    new = moved(qa, "A", Draw(0, "q", "order"))
    assert new["options"][0] == "c" and sorted(new["options"]) == ["a", "b", "c", "d"] and new["gold"] == "A"
    assert new["options"]["ABCD".index(new["votes"][0]["choice"])] == "a"
    assert [one["choice"] for one in new["votes"][1:]] == ["A", None, None]


def test_raking_by_hand() -> None:
    weights = raked({"length": np.array([0, 0, 0, 1])}, 2)
    assert weights[:3].sum() == np.float64(weights[3]) or np.isclose(weights[:3].sum(), weights[3])
    assert raked({"length": np.array([0, 0, 0, 0])}, 2).tolist() == [0, 0, 0, 0]  # can't be made even


def test_raking_evens_out_several_cues_at_once() -> None:
    rng = np.random.default_rng(0)
    at = {name: rng.choice(4, 3_000, p=p) for name, p in {"a": [0.4, 0.2, 0.2, 0.2], "b": [0.1, 0.2, 0.3, 0.4]}.items()}
    at["c"] = np.where(rng.random(3_000) < 0.3, at["a"], rng.integers(4, size=3_000))
    weights = raked(at, 4)
    assert weights.min() >= 0 and weights.max() <= 1
    chosen = kept(weights, Draw(0, "x", "y"))
    assert abs(chosen.sum() - weights.sum()) <= 1
    for ranks in at.values():
        assert np.abs(np.bincount(ranks, weights=weights) / weights.sum() - 0.25).max() < 0.005
        assert np.abs(np.bincount(ranks[chosen]) / chosen.sum() - 0.25).max() < 0.03


def test_one_half_is_balanced_and_the_other_is_not() -> None:
    came = [orjson.dumps(qa) for qa in questions(9_000, 300, bias="length", points=20, cases=("own",), seed=1)]
    balancer = Balancer(0)
    for line in came:
        balancer.note(orjson.loads(line))
    result = [balancer.again(line) for line in came]
    passed = [orjson.loads(line) for line in result if isinstance(line, bytes)]
    touched = [qa for qa in passed if is_balanced(qa)]
    assert all(is_balanced(qa) == first_half(qa["persona_id"], 0, "balance") for qa in passed)
    assert all(line == made for line, made in zip(came, result, strict=True) if isinstance(made, bytes)
               and not is_balanced(orjson.loads(made)))  # fmt: skip
    letters = [sum(qa["gold"] == letter for qa in touched) for letter in "ABCD"]
    assert max(letters) - min(letters) <= 1
    assert all(qa["options"]["ABCD".index(qa["gold"])] == qa["answer"] for qa in touched)
    verdicts = {}
    for name, half in (("balanced", touched), ("other", [qa for qa in passed if not is_balanced(qa)])):
        corpus = Corpus(0)
        for qa in half:
            corpus.add(qa)
        verdicts[name] = {one.strategy: one.verdict for one in audited(corpus, Terms())}
    assert verdicts["balanced"]["length"] == "pass" and verdicts["other"]["length"] == "fail"
    dropped = [line for line in result if isinstance(line, str)]
    assert dropped and all(reason.startswith("balance: ") for reason in dropped)


def test_balancing_repeats(tmp_path: Path) -> None:
    came = [orjson.dumps(qa) for qa in questions(600, 40, bias="length", cases=("own",), seed=1)]

    def run(seed: int) -> list[bytes | str]:
        balancer = Balancer(seed)
        for line in came:
            balancer.note(orjson.loads(line))
        return [balancer.again(line) for line in came]

    assert run(1) == run(1) != run(2)
