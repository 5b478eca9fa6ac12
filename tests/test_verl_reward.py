"""Rewards under verl are eval's scores; a rollout without one leaves its group, a fault ends the run."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

pytest.importorskip("tests.verl_quietly")

from omegaconf import OmegaConf
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput

from pmem.backends.base import Completion, Request, Usage
from pmem.backends.model import Model
from pmem.backends.opening import Judging, judges_of
from pmem.choices import without_thinking
from pmem.errors import BackendError, ModelError
from pmem.evaluation.asking import Setup, results
from pmem.evaluation.scenes import Scenes, View
from pmem.evaluation.takes import Plan
from pmem.prompts import Prompts
from pmem.reward import open_ended
from pmem.train.verl import reward, rollouts
from tests.command import sample
from tests.tiny_models import byte_tokenizer

pytestmark = [pytest.mark.verl, pytest.mark.local, pytest.mark.filterwarnings("ignore")]

REPLIES = Path(__file__).with_name("parser_replies.jsonl")
LENGTHS = (0, 1, 3, 7, 40, 200)


class Fake:
    """A backend that answers by a function of the request."""

    cacheable = False

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def identify(self) -> dict[str, Any]:
        return {"kind": "fake"}

    async def complete(self, request: Request) -> Completion:
        return Completion(self._answer(request), Usage(), "stop")

    async def close(self) -> None: ...


def verdict(request: Request) -> str:
    """A judge that decides by the words it is shown, and by its number now and then."""
    draw = random.Random(f"{request.messages[-1]['content'][-200:]} {request.seed and request.seed % 3}")
    return orjson.dumps({"reason": "so", "verdict": draw.choice(["pass", "pass", "fail"])}).decode()


def said(count: int) -> list[str]:
    """Replies of all kinds and lengths: real ones, right and wrong ones, thoughts, nothing at all."""
    real = [orjson.loads(line)["reply"] for line in REPLIES.read_bytes().splitlines()]
    made = [
        "",
        " ",
        "A",
        "B.",
        "Answer: C",
        "Answer: D\n",
        "<think>\nhm\n</think>\nAnswer: B",
        "<think>never ends",
        "Antwort: Б",
        "答案：B",
        "I can't.",
    ]
    draw = random.Random(1)
    cut = [draw.choice(real)[: draw.choice(LENGTHS)] for _ in range(60)]
    made += [f"{'word ' * draw.choice(LENGTHS)}\nAnswer: {draw.choice('ABCD')}" for _ in range(60)]
    return [*made, *cut, *draw.sample(real, count - len(made) - len(cut))]


def question(case: str = "own") -> dict[str, Any]:
    qa = sample("qa")
    secret = {"id": "p-x/x01", "kind": "phone_number", "value": "+1 202 555 0143"}
    return {**qa, "case": case, "previous": qa["preference"], "secret": secret}


def evaluated(reply: str, qa: dict[str, Any], mode: str, judges: tuple[Model, ...]) -> dict[str, Any]:
    """What `pmem eval` makes of a reply."""
    model = Model("fake", Fake(lambda _: reply), cache=None)
    scenes = Scenes(View(), Prompts(), histories=None, memories=None, reply=None)
    setup = Setup(model, judges, Prompts(), 0, Plan(mode, ("none",), (), 1), "reply", "sum", 3, scenes)
    made = asyncio.run(results(qa, None, setup))
    assert not made.failures
    return made.records[0]


Making = Callable[[], Any]
"""Makes a reward manager: verl's look for the running event loop, and leave a new one behind where there is none."""


def manager(monkeypatch: pytest.MonkeyPatch, judges: tuple[Model, ...] = (), **more: Any) -> Making:
    monkeypatch.setattr(reward, "judges_of", lambda _: judges)
    ours = {
        "prompts": None,
        "judging": {},
        "votes": 3,
        "length_penalty": 0.0,
        "format_reward": 0.0,
        "answer_limit": 512,
        "alarm": "/nowhere/alarm.txt",
    }
    return lambda: reward.Manager(OmegaConf.create({"pmem": {**ours, **more}}), byte_tokenizer())


def output(prompt: str, reply: str) -> AgentLoopOutput:
    tokenizer = byte_tokenizer()
    ids = [*tokenizer.encode(reply), tokenizer.eos_token_id]
    return AgentLoopOutput(
        prompt_ids=tokenizer.encode(prompt),
        response_ids=ids,
        response_mask=[1] * len(ids),
        num_turns=2,
        metrics=AgentLoopMetrics(),
    )


def row(qa: dict[str, Any], mode: str, permutation: int = 0) -> dict[str, Any]:
    extra = {"qa": orjson.dumps(qa).decode(), "mode": mode, "permutation": permutation, "index": 0, "history": ""}
    return {"data_source": f"pmem/{mode}", "reward_model": {"style": "rule", "ground_truth": "A"}, "extra_info": extra}


def worker(making: Making) -> Any:
    """An agent loop's worker of verl's with this reward manager, and nothing else."""

    class Handle:
        class compute_score:
            @staticmethod
            async def remote(data: Any) -> Any:
                return await making().run_single(data)

    made = rollouts._Worker.__new__(rollouts._Worker)
    made.processor, made.mm_processor_kwargs, made.reward_loop_worker_handles = None, {}, [Handle]
    return made


def scored(found: Making, outputs: list[AgentLoopOutput], given: dict[str, Any]) -> tuple[float, dict[str, float]]:
    """The reward as it gets to verl's trainer, by the way of its workers."""
    asyncio.run(worker(found)._compute_score(outputs, kwargs=given))
    return outputs[-1].reward_score, outputs[-1].extra_fields["reward_extra_info"]


@pytest.mark.parametrize(
    "before", [[], ["a long update " * 40], ["x", "one more " * 100]], ids=["answer", "memory", "memories"]
)
def test_the_reward_of_200_choices_is_evals_score(monkeypatch: pytest.MonkeyPatch, before: list[str]) -> None:
    found = manager(monkeypatch)
    rights = []
    for number, reply in enumerate(said(200)):
        qa = {**question(), "gold": "ABCD"[number % 4]}
        expected = evaluated(reply, qa, "mcq", ())
        outputs = [*(output("a prompt" * 9, text) for text in before), output("q", reply)]
        value, told = scored(found, outputs, row(qa, "mcq"))
        assert (value, told["right"], told["parsed"]) == (
            expected["correct"],
            expected["correct"],
            expected["parsed"],
        ), (number, reply)
        assert told["missing"] == 0
        rights.append(value)
    assert 10 < sum(rights) < 190


def test_verls_own_manager_would_lose_short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why there is one of ours. If this fails, verl has been mended."""
    from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager

    def right(data_source: str, solution_str: str, ground_truth: str, **_: Any) -> float:
        return float("Answer" in solution_str)

    def theirs() -> NaiveRewardManager:
        return NaiveRewardManager(OmegaConf.create({}), byte_tokenizer(), right)

    value, _ = scored(theirs, [output("a long chunk " * 40, "note"), output("q", "Answer: A")], row(question(), "mcq"))
    assert value == 0
    assert scored(theirs, [output("q", "Answer: A")], row(question(), "mcq"))[0] == 1


@pytest.mark.parametrize("case", ["own", "updated", "forgotten", "sensitive"])
def test_the_reward_of_open_replies_is_evals_score(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    judges = (Model("fake:judge", Fake(verdict), cache=None),)
    found, qa = manager(monkeypatch, judges), question(case)
    secret = qa["secret"]["value"]
    rights = []
    for reply in [*said(200)[::4], f"Call {secret}"]:
        expected = evaluated(reply, qa, "open", judges)
        value, told = scored(found, [output("x" * 300, "note"), output("q", reply)], row(qa, "open"))
        blank = not without_thinking(reply).strip() or (case == "sensitive" and secret in reply)
        assert (value, told["missing"]) == (float(expected["correct"] and not blank), 0), reply  # these nobody is asked
        rights.append(value)
    assert 0 < sum(rights) < len(rights)


def test_options_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    found, qa = manager(monkeypatch), question()
    for permutation in range(4):
        letter = "ABCD"[("ABCD".index(qa["gold"]) - permutation) % 4]
        assert scored(found, [output("q", f"Answer: {letter}")], row(qa, "mcq", permutation))[0] == 1


def test_terms_of_length_and_form(monkeypatch: pytest.MonkeyPatch) -> None:
    found = manager(monkeypatch, length_penalty=0.5, format_reward=0.25, answer_limit=100)
    reply = "Answer: A"  # 9 bytes and the end
    assert scored(found, [output("q", reply)], row({**question(), "gold": "B"}, "mcq"))[0] == pytest.approx(0.25 - 0.05)


# ---- what can't be judged ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("validate", [False, True])
def test_a_rollout_that_judges_could_not_judge_leaves_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validate: bool
) -> None:
    def fails(_: Request) -> str:
        raise ModelError("busy")

    found = manager(monkeypatch, (Model("fake:judge", Fake(fails), cache=None),), alarm=str(tmp_path / "alarm.txt"))
    made, passed = worker(found), []

    async def on(self: Any, output: Any, validate: bool, **row: Any) -> None:
        passed.append(output[-1].reward_score)

    monkeypatch.setattr(rollouts._Theirs, "_agent_loop_postprocess", on)
    for given in (row(question(), "open"), row({**question(), "gold": "A"}, "mcq")):
        asyncio.run(made._agent_loop_postprocess(output("q", "Answer: A"), validate, **given))
    assert passed == ([0.0, 1.0] if validate else [1.0])
    assert (tmp_path / "unrewarded.txt").read_text() == "busy"


def test_undecided_votes_are_no_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    votes = iter(["pass", "fail"])

    async def cast(*_: Any) -> list[dict[str, str]]:
        return [{"verdict": one} for one in (*votes, "unclear")]

    monkeypatch.setattr(open_ended, "votes_on", cast)
    found = manager(monkeypatch, alarm=str(tmp_path / "alarm.txt"))
    assert scored(found, [output("q", "yes")], row(question(), "open"))[1]["missing"] == 1
    assert (tmp_path / "unrewarded.txt").read_text() == "the judges' votes don't decide"


def test_what_goes_wrong_in_a_rollout_is_left_for_the_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = worker(lambda: None)
    made.config = SimpleNamespace(pmem=SimpleNamespace(alarm=str(tmp_path / "alarm.txt")))

    async def fails(*_: Any, **__: Any) -> None:
        raise BackendError("openai:judge: the key was refused")

    monkeypatch.setattr(rollouts._Theirs, "_run_agent_loop", fails)
    for _ in range(2):
        with pytest.raises(BackendError):
            asyncio.run(made._run_agent_loop({}))
    assert (tmp_path / "alarm.txt").read_text() == "openai:judge: the key was refused (BackendError)"


def test_judges_are_opened_again_as_they_were(tmp_path: Path) -> None:
    given = {
        "judges": ["recorded:demo", "openai:x"],
        "urls": ["http://127.0.0.1:9/v1"],
        "seed": 3,
        "jobs": 2,
        "cache": str(tmp_path / "c"),
        "rpm": None,
        "other": 1,
    }
    judging = Judging.of(orjson.loads(orjson.dumps(given)))
    assert Judging.of(judging._asdict()) == judging
    found = judges_of(judging)
    assert [one.name for one in found] == ["recorded:demo", "openai:x"]
    assert {one.seed for one in found} == {3}
