"""The parquet files: what verl's own dataset classes read of them, and that their tokens are those of pmem's trainer."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

pytest.importorskip("tests.verl_quietly")

from omegaconf import OmegaConf
from torch.utils.data import DistributedSampler
from transformers import AutoTokenizer
from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
from verl.utils.dataset.rl_dataset import RLHFDataset

from pmem.backends.base import Request
from pmem.backends.local import prompt_ids
from pmem.prompts import Prompts
from pmem.train.questions import Questions
from pmem.train.targets import Gold
from pmem.train.verl import measure
from pmem.train.verl.lessons import Lessons, in_order
from pmem.train.verl.rows import ask_of
from tests import likes
from tests.command import PMEM, ended, lines, records, sample, start

pytestmark = [pytest.mark.verl, pytest.mark.local, pytest.mark.filterwarnings("ignore")]

SHORT = ["--mix", "mcq=1", "--reply-form", "line", "--batch-size", "4", "--steps", "3"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return likes.task(tmp_path_factory.mktemp("likes"), people=10, held=3)


def exported(stage: str, task: Path, *more: str) -> Path:
    to = task / f"{stage}{len(more)}"
    if not to.exists():
        command = [
            *PMEM,
            *f"{stage} train.jsonl --histories histories.jsonl --prompts prompts".split(),
            "-m",
            "local:model",
        ]
        done = ended(start(*command, "--eval-set", "held.jsonl", *SHORT, *more, "--export", str(to), folder=task))
        assert (done.status, done.out) == (0, b""), done.err
        assert "24 out" not in done.err or stage == "sft"
    return to


def rl(folder: Path, task: Path, name: str = "train") -> RLHFDataset:
    config = {
        "prompt_key": "prompt",
        "max_prompt_length": 200,
        "filter_overlong_prompts": True,
        "return_raw_chat": True,
    }
    config |= {"cache_dir": str(folder), "filter_overlong_prompts_workers": 1}
    return RLHFDataset(
        [str(folder / f"{name}.parquet")], AutoTokenizer.from_pretrained(task / "model"), OmegaConf.create(config)
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_verl_reads_rl_rows_in_the_order_of_the_steps(task: Path) -> None:
    found = rl(exported("grpo", task), task)
    asked = Questions(records((task / "train.jsonl").read_bytes()), {"mcq": 1.0}, seed=0)
    expected = [ask for step in range(3) for ask in asked.batch(step, 4)]
    assert len(found) == 12
    for number, ask in enumerate(expected):
        row = found[number]
        assert ask_of(row["extra_info"]) == ask
        assert row["data_source"] == "pmem/mcq"
        assert row["ability"] == "personalisation"
        assert row["reward_model"] == {"style": "rule", "ground_truth": ask.gold}
        assert row["index"] == number
    assert len(rl(exported("grpo", task), task, "val")) == 6


def test_a_prompt_has_the_tokens_that_pmems_trainer_computes(task: Path) -> None:
    """Which are those that eval sends: see test_train_data."""
    from pmem.evaluation.scenes import Scenes, View
    from pmem.stream.lookup import Lookup
    from pmem.train.questions import Asking

    found = rl(exported("grpo", task), task)
    tokenizer = AutoTokenizer.from_pretrained(task / "model")
    prompts = Prompts(task / "prompts")

    async def ours() -> list[list[int]]:
        histories = Lookup(task / "histories.jsonl", "history")
        asking = Asking(
            Scenes(View(), prompts, histories=histories, memories=None, reply=4), prompts, "full", None, "line"
        )
        asks = [ask_of(found[number]["extra_info"]) for number in range(len(found))]
        ids = [prompt_ids(await asking.request(ask), tokenizer, "model") for ask in asks]
        await histories.close()
        return ids

    for number, ids in enumerate(asyncio.run(ours())):
        messages = list(found[number]["raw_prompt"])
        assert prompt_ids(Request(messages), tokenizer, "model") == ids
        assert (
            tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False) == ids
        )


def test_verl_reads_sft_rows_and_learns_what_pmem_learns(task: Path) -> None:
    from pmem.backends.local_model import load
    from pmem.train.policy import Policy, Setup

    folder = exported("sft", task)
    tokenizer = AutoTokenizer.from_pretrained(task / "model")
    config = OmegaConf.create(
        {
            "messages_key": "messages",
            "max_length": 200,
            "pad_mode": "no_padding",
            "truncation": "error",
            "apply_chat_template_kwargs": {},
        }
    )
    theirs = MultiTurnSFTDataset(
        [str(folder / "train.parquet")], tokenizer, OmegaConf.merge(config, {"ignore_input_ids_mismatch": True})
    )
    ours = Lessons([str(folder / "train.parquet")], tokenizer, config)
    assert len(theirs) == len(ours) == 12
    policy = Policy(load(str(task / "model"), "float32"), Setup(1e-3, 1))
    gold = Gold(
        Questions(records((task / "train.jsonl").read_bytes()), {"mcq": 1.0}, seed=0), Prompts(task / "prompts"), "line"
    )
    for number, lesson in enumerate(lesson for step in range(3) for lesson in gold.batch(step, 4)):
        messages = theirs.messages[number]
        assert messages[-1] == {"role": "assistant", "content": lesson.reply}
        row = ours[number]
        conversation = policy.conversation(prompt_ids(Request(messages[:-1]), tokenizer, "model"), lesson.reply, "x")
        assert row["input_ids"].tolist() == [*conversation.prompt, *conversation.reply]
        learnt = row["input_ids"][row["loss_mask"].bool()].tolist()
        assert learnt == conversation.reply
        whole = theirs[number]  # theirs learns the assistant's messages in the history as well: hence our own
        assert int(whole["loss_mask"].sum()) > len(learnt)
    with pytest.raises(ValueError, match=r"more than data.max_length 10"):
        Lessons(str(folder / "train.parquet"), tokenizer, OmegaConf.merge(config, {"max_length": 10}))[0]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_lessons_are_learnt_in_their_order_on_any_number_of_ranks(ranks: int) -> None:
    """By the sampler that verl's trainer makes: each step takes its own rows, whichever rank does which."""
    rows = in_order(24)
    samplers = [DistributedSampler(rows, ranks, rank, shuffle=True, drop_last=True) for rank in range(ranks)]  # type: ignore[arg-type]
    for sampler in samplers:
        sampler.set_epoch(0)
    drawn = [[rows[number] for number in sampler] for sampler in samplers]
    each = 8 // ranks
    for step in range(3):
        taken = [row for rank in drawn for row in rank[step * each : (step + 1) * each]]
        assert sorted(taken) == list(range(step * 8, (step + 1) * 8))


def test_memtrains_rows_hold_what_is_to_be_read(task: Path) -> None:
    found = rl(exported("memtrain", task), task)
    histories = {one["id"]: one for one in records((task / "histories.jsonl").read_bytes())}
    for number in range(len(found)):
        row = found[number]
        history = orjson.loads(row["extra_info"]["history"])
        assert history == histories[history["id"]]
        said = "".join(message["content"] for message in row["raw_prompt"])
        assert len(row["raw_prompt"]) == 1 and said.startswith("which")
        assert not any(message["content"] in said for message in history["messages"])


def test_open_questions_are_judged_by_their_answer(task: Path) -> None:
    done = exported("grpo", task, "--mix", "open=1", "--judge-model", "recorded:demo")
    row = rl(done, task)[0]
    assert row["data_source"] == "pmem/open"
    assert row["reward_model"] == {"style": "judge", "ground_truth": ask_of(row["extra_info"]).qa["answer"]}


def test_the_same_options_give_the_same_rows(task: Path) -> None:
    import pyarrow.parquet as parquet

    first, again = exported("grpo", task), exported("grpo", task, "--save-every", "7")
    assert parquet.read_table(first / "train.parquet").equals(parquet.read_table(again / "train.parquet"))


def test_what_is_measured_is_the_longest_and_the_mean(task: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(task / "model")

    def count(messages: list[dict[str, Any]]) -> int:
        return len(prompt_ids(Request(messages), tokenizer, "model"))

    folder = exported("grpo", task)
    found = rl(folder, task)
    sizes = [count(list(found[number]["raw_prompt"])) for number in range(len(found))]
    load = measure.of_prompts(folder / "train.parquet", count, 4)
    assert load.longest == max(sizes)
    assert load.prompt == pytest.approx(sum(sizes) / len(sizes), rel=0.02)


def test_there_is_room_for_the_longest_of_what_is_measured_meanwhile(task: Path, tmp_path: Path) -> None:
    """Or a run would end when it is done, where --eval-set is asked."""
    histories = records((task / "histories.jsonl").read_bytes())
    held = {one["id"] for one in records((task / "held-histories.jsonl").read_bytes())}
    for one in histories:
        if one["id"] in held:
            one["messages"][0]["content"] += " and" * 300
    (tmp_path / "histories.jsonl").write_bytes(lines(histories))
    made = f"sft {task}/train.jsonl --histories histories.jsonl --prompts {task}/prompts -m local:{task}/model"
    made += f" --eval-set {task}/held.jsonl --batch-size 2 --preset cpu --dry-run -o x"
    done = ended(start(*PMEM, *made.split(), *SHORT[:4], folder=tmp_path), seconds=200)
    assert done.status == 0, done.err
    config = OmegaConf.create(done.out.decode())
    assert 300 < config.data.max_length <= config.data.max_token_len_per_gpu


# ---- faults ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "more", "said"),
    [
        ("grpo", ["--export", "there"], "holds something already"),
        ("grpo", ["--export", "x", "-o", "y"], "not with -o"),
        ("grpo", ["--export", "x", "--context", "memory"], "--context memory needs --memories"),
        ("grpo", [], "Missing option '-o'"),
        ("grpo", ["-o", "x", "--set", "a=1"], "--set is for --engine verl"),
        ("grpo", ["-o", "x", "--dry-run"], "--dry-run is for --engine verl"),
        ("memtrain", ["-o", "x", "--engine", "verl", "--lora", "4"], "--lora is for --engine local"),
        ("grpo", ["-o", "x", "--engine", "verl", "--rollouts", "vllm"], "--rollouts is for --engine local"),
        ("sft", ["-o", "x", "--preset", "cpu", "--lora", "4"], "--lora is for --engine local"),
        ("sft", ["-o", "x", "--preset", "cpu", "--dtype", "float32"], "--dtype is for --engine local"),
        ("memtrain", ["-o", "x", "--preset", "cpu", "--mini-batches", "2"], "--mini-batches of memories are for"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together(task: Path, stage: str, more: list[str], said: str) -> None:
    (task / "there").mkdir(exist_ok=True)
    (task / "there" / "file").touch()
    command = [
        *PMEM,
        *f"{stage} train.jsonl --histories histories.jsonl --prompts prompts".split(),
        "-m",
        "local:model",
    ]
    done = ended(start(*command, *SHORT, *more, folder=task))
    assert done.status in (1, 2)
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_question_without_its_history_is_named(task: Path, tmp_path: Path) -> None:
    (tmp_path / "h.jsonl").write_bytes(lines([sample("history")]))
    command = [*PMEM, "memtrain", str(task / "train.jsonl"), "--histories", "h.jsonl", "-m", f"local:{task / 'model'}"]
    done = ended(start(*command, *SHORT, "--export", "x", folder=tmp_path))
    assert done.status == 1
    assert "holds no history" in done.err
    assert not (tmp_path / "x").exists()
