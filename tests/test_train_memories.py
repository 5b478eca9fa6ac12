"""Rollouts of memories: what they read and ask is what memdump and eval send; trajectories teach what was written."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

pytest.importorskip("transformers")

from pmem.backends.local import prompt_ids
from pmem.backends.local_model import load
from pmem.cli import main
from pmem.errors import InputError, PmemError
from pmem.evaluation.scenes import Scenes, View
from pmem.memory.loop import Form
from pmem.prompts import Prompts
from pmem.reward.rewards import Rewards
from pmem.stream.lookup import Lookup, finished
from pmem.tokens import tokenizer
from pmem.train.answers import Answers
from pmem.train.grpo import Collected
from pmem.train.memories import Memories
from pmem.train.policy import Policy, Setup
from pmem.train.questions import Ask, Asking
from pmem.train.reading import Reading
from pmem.train.rollout import Prompt, Sampler
from pmem.train.run import Clock
from pmem.train.targets import Lesson
from pmem.train.trajectories import Teacher, updates_of
from tests import likes, two_likes
from tests.command import lines, records
from tests.memory_model import Model, run
from tests.memory_model import history as history_of
from tests.stub import running
from tests.tiny_models import one_thread

pytestmark = pytest.mark.local
SMALL = {"--chunk-tokens": "20", "--memory-tokens": "20"}


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the task, and a model."""
    folder = tmp_path_factory.mktemp("two-likes")
    two_likes.written(folder, people=6, seed=1, name="train", questions=2)
    likes.prompts(folder, two_likes.PROMPTS)
    likes.model(folder / "model")
    return folder


class Trial(Sampler):
    """A sampler that keeps the prompts that it was given."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.given: list[list[Prompt]] = []

    def sample(self, prompts: Any, *more: Any) -> None:
        self.given.append(list(prompts))
        super().sample(prompts, *more)


class Side:
    """Memories in training, over the task's files."""

    def __init__(self, task: Path, *, penalty: float = 0.0, n: int = 3) -> None:
        texts = Prompts(task / "prompts")
        model = str(task / "model")
        self.policy = Policy(load(model, "float32"), Setup(1e-3, 1))
        histories = Lookup(task / "train-histories.jsonl", "history")
        scenes = Scenes(View(), texts, histories=histories, memories=None, reply=4)
        self.asking = Asking(scenes, texts, "none", None, "line")
        form = Form(texts, lambda text: len(tokenizer(model).encode(text)), most=20, evidence=False)
        self.reading = Reading(self.asking, form, 20)
        self.updates, self.replies = Trial(self.policy, limit=20), Trial(self.policy, limit=4)
        answers = Answers(
            self.replies, self.asking, Rewards((), texts), self.policy.loaded.tokenizer, n=n, seed=5, clock=Clock()
        )
        self.memories = Memories(self.updates, answers, self.reading, penalty=penalty)

    def collected(self, task: Path) -> Collected:
        """The rollouts of a step on four questions."""
        return self._done(self.memories.collect(asks(task), 0))

    def held_out(self, task: Path) -> dict[str, float]:
        return self._done(self.memories.held_out(asks(task)))

    def _done(self, work: Any) -> Any:
        async def done() -> Any:
            try:
                return await work
            finally:
                assert self.asking.scenes.histories
                await self.asking.scenes.histories.close()

        return asyncio.run(done())


def asks(task: Path, count: int = 4) -> list[Ask]:
    return [Ask(qa, "mcq") for qa in records((task / "train.jsonl").read_bytes())[:count]]


# ---- rollouts ----------------------------------------------------------------------------------------------------


def test_a_rollout_at_temperature_0_is_what_memdump_and_eval_do(tmp_path: Path, task: Path) -> None:
    own = [
        "--prompts",
        str(task / "prompts"),
        "-m",
        f"local:{task / 'model'}",
        "--no-cache",
        "--temperature",
        "0",
        "-q",
    ]
    size = [word for pair in SMALL.items() for word in pair]
    more = ["--tokenizer", str(task / "model"), "--no-evidence", "--max-tokens", "20"]
    dumped, results = tmp_path / "memories", tmp_path / "results"
    main(["memdump", str(task / "train-histories.jsonl"), *own, *size, *more, "-o", str(dumped)], standalone_mode=False)
    asked = ["--context", "memory", "--memories", str(dumped), "--reply-form", "line", "--max-tokens", "4"]
    main(["eval", str(task / "train.jsonl"), *own, *asked, "-o", str(results)], standalone_mode=False)
    side = Side(task)
    found = side.held_out(task)
    right = [one["correct"] for one in records(results.read_bytes())[:4]]
    assert found["eval/accuracy"] == sum(right) / 4

    texts = Prompts(task / "prompts")
    memories = Lookup(dumped, "memory", key=finished)
    scenes = Scenes(View(), texts, histories=None, memories=memories, reply=4)

    async def evals(ask: Ask) -> list[int]:
        request = await Asking(scenes, texts, "memory", None, "line").request(ask)
        return prompt_ids(request, side.policy.loaded.tokenizer, "model")

    async def every() -> list[list[int]]:
        found = [await evals(ask) for ask in asks(task)]
        await memories.close()
        return found

    assert [prompt.ids for prompt in side.replies.given[0]] == asyncio.run(every())


def test_a_rollout_is_all_updates_and_the_answer_and_those_that_begin_alike_are_computed_once(task: Path) -> None:
    side = Side(task)
    found = side.collected(task)
    assert [len(group) for group in found.groups] == [3, 3, 3, 3]
    assert all(len(rollout.conversations) == 3 for group in found.groups for rollout in group)
    first, second = side.updates.given
    assert len(first) == 2 and [len(prompt.seeds) for prompt in first] == [6, 6]  # two questions on each history
    assert sum(len(prompt.seeds) for prompt in second) == 12 and len(second) > 2  # by now the memories differ
    seeds = [seed for prompt in first for seed in prompt.seeds]
    assert len(set(seeds)) == 12
    for prompt in second:  # the chunk at hand and the memory, and nothing of the question
        text = side.policy.loaded.tokenizer.decode(prompt.ids)
        assert text.count("like") >= 1 and "which" not in text
    assert found.values["memory/updates"] == 2.0
    again = Side(task).collected(task)
    assert again.groups == found.groups and again.values == found.values


def test_both_samplers_share_the_beginnings_of_prompts(task: Path) -> None:
    side = Side(task)
    side.collected(task)
    for sampler in (side.updates, side.replies):
        assert sampler._decoder and sampler._decoder._forward._shares


def test_updates_that_had_to_be_cut_cost_what_was_asked_for(task: Path) -> None:
    plain = Side(task).collected(task)
    fined = Side(task, penalty=0.5).collected(task)
    assert plain.values["memory/cut"] > 0  # the untrained model never ends by itself
    costs = [
        one.reward - other.reward
        for group, others in zip(plain.groups, fined.groups, strict=True)
        for one, other in zip(group, others, strict=True)
        if one.reward is not None and other.reward is not None
    ]
    assert set(costs) <= {0.0, 0.25, 0.5} and sum(costs) / len(costs) == pytest.approx(0.5 * plain.values["memory/cut"])


def test_a_chunk_and_a_full_memory_have_to_fit(tmp_path: Path, task: Path) -> None:
    likes.model(tmp_path / "model", context=60)
    command = ["memtrain", str(task / "train.jsonl"), "--histories", str(task / "train-histories.jsonl"), "-q"]
    command += [
        "-m",
        f"local:{tmp_path / 'model'}",
        "--prompts",
        str(task / "prompts"),
        "--mix",
        "mcq=1",
        "--steps",
        "1",
    ]
    command += ["--tokenizer", str(task / "model"), "--chunk-tokens", "20", "-o", str(tmp_path / "out")]
    with pytest.raises(InputError, match=r"prompt has \d+ tokens and the reply may have 40"):
        main([*command, "--memory-tokens", "40"], standalone_mode=False)


# ---- trajectories ------------------------------------------------------------------------------------------------


def traced(reply: Any, *, evidence: bool = True) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A history, and the memory records of a model's way through it."""
    history = history_of(*([f"Number {n}: the boat at the pier needs paint.", "Sandpaper first."] for n in range(4)))
    found = asyncio.run(run(history, Model(reply), chunk=40, evidence=evidence))
    for one in found:
        one.record["chunks"] = len(found)
    return history, [one.record for one in found]


def taught(tmp_path: Path, history: dict[str, Any], trace: list[dict[str, Any]], chunk: int = 40) -> list[Any]:
    """(prompt, reply) of each update, from the last to the first."""
    (tmp_path / "h").write_bytes(lines([history]))
    histories = Lookup(tmp_path / "h", "history")
    scenes = Scenes(View(), Prompts(), histories=histories, memories=None, reply=None)
    asking = Asking(scenes, Prompts())
    teacher = Teacher(asking, Reading(asking, Form(Prompts(), lambda text: len(tokenizer().encode(text))), chunk))

    async def every() -> list[Any]:
        try:
            return [await teacher.said(update) for update in updates_of(trace, [trace[-1]["id"]])]
        finally:
            await histories.close()

    return [(request.messages[-1]["content"], reply) for request, reply in asyncio.run(every())]


def test_an_update_teaches_the_reply_that_was_given_to_what_was_sent(tmp_path: Path) -> None:
    said: list[str] = []

    def reply(messages: list[dict[str, Any]]) -> str:
        number = len(said)
        said.append("\n".join(["## About", "", "- Lives by the sea", f"- Has {number} boats [1]"]))
        return said[-1]

    history, trace = traced(reply)
    assert len(trace) >= 3
    found = taught(tmp_path, history, trace)
    assert [reply for _, reply in found] == said[::-1]
    assert "boats" not in found[-1][0].rpartition("<memory>")[2].partition("</memory>")[0]
    for (prompt, _), before in zip(found[:-1], said[-2::-1], strict=True):
        assert before.replace(" [1]", "") in prompt


def test_trajectories_with_a_gap_or_an_edit_teach_nothing(tmp_path: Path) -> None:
    history, trace = traced(lambda messages: "- Lives by the sea")
    assert len(updates_of(trace, [trace[-1]["id"], trace[-1]["id"], None])) == len(trace)
    for broken in (trace[1:], [trace[0] | {"edited": True}, *trace[1:]], [trace[0], *trace[2:]]):
        with pytest.raises(InputError, match="no reply that ended right rests on a memory"):
            updates_of(broken, [trace[-1]["id"]])
    with pytest.raises(InputError, match="give --chunk-tokens"):
        taught(tmp_path, history, trace, chunk=5000)


def test_sft_learns_trajectories_by_the_command(
    tmp_path: Path, task: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    prompts, size = ["--prompts", str(task / "prompts")], [word for pair in SMALL.items() for word in pair]
    size += ["--tokenizer", str(task / "model"), "--no-evidence"]
    histories, trace, results = str(task / "train-histories.jsonl"), str(tmp_path / "trace"), str(tmp_path / "results")
    with running(reply=Path(two_likes.__file__)) as stub:
        model = ["-m", "openai:stub", "--base-url", stub.url, "--no-cache", *prompts, "-q"]
        main(["memdump", histories, *model, "--trace", *size, "-o", trace], standalone_mode=False)
        asked = ["--context", "memory", "--memories", trace, "--reply-form", "line"]
        main(["eval", str(task / "train.jsonl"), *model, *asked, "-o", results], standalone_mode=False)
    learn = [
        "sft",
        str(task / "train.jsonl"),
        "-m",
        f"local:{task / 'model'}",
        *prompts,
        *size,
        "--trajectories",
        trace,
    ]
    learn += ["--histories", histories, "--reply-form", "line", "--mix", "mcq=1", "--steps", "2", "--batch-size", "30"]
    learn += ["-o", str(tmp_path / "out")]
    capfd.readouterr()
    main([*learn, "--targets", results], standalone_mode=False)
    out, err = capfd.readouterr()
    right = [one for one in records(Path(results).read_bytes()) if one["correct"]]
    assert f"{2 * len({one['memory_id'] for one in right})} updates and {len(right)} answers to learn" in err
    assert [orjson.loads(line)["step"] for line in out.splitlines()] == [1, 2]
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    main([*learn[:-2], "--targets", results, "--export", str(tmp_path / "rows")], standalone_mode=False)
    rows = pyarrow.parquet.read_table(tmp_path / "rows" / "train.parquet").column("messages").to_pylist()
    said = {row[-1]["content"] for row in rows}
    assert len(rows) == 60 and {one["text"] for one in records(Path(trace).read_bytes())} & said
    assert {one["reply"] for one in right} <= said
    with pytest.raises(Exception, match="--trajectories needs --targets FILE"):
        main([*learn, "-o", str(tmp_path / "other")], standalone_mode=False)
    with pytest.raises(PmemError, match="updates, and history"):
        main(
            [*learn, "--targets", results, "--chunk-tokens", "200", "-o", str(tmp_path / "other")],
            standalone_mode=False,
        )


def test_lessons_are_named_in_messages(task: Path) -> None:
    from pmem.train.trajectories import name

    (ask,) = asks(task, 1)
    assert name(Lesson(ask, "A")) == f"question {ask.qa['id']}"
