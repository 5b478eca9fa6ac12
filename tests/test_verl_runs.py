"""verl's own trainers on a CPU, on tiny models: SFT on two ranks, GRPO and memtrain by its V1 trainer.

What is stopped goes on where its last checkpoint left it, and what comes out is a model that `pmem eval` takes.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

pytest.importorskip("tests.verl_quietly")

from pmem.stream.folder import held
from tests import likes
from tests.command import PMEM, Ran, ended, records, start, wait_for
from tests.stub import running

pytestmark = [pytest.mark.verl, pytest.mark.local, pytest.mark.filterwarnings("ignore")]

LONG = 900
"""Seconds: most of a run is starting some ten processes that import torch, which a busy machine does slowly."""


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = likes.PROMPTS | {"memory/update": "{{memory}} {{chats}}", "eval/memory": "{{memory}} {{asked}}"}
    return likes.task(tmp_path_factory.mktemp("likes"), people=24, held=8, texts=texts)


def command(stage: str, model: str, more: str) -> list[str]:
    made = f"{stage} train.jsonl --histories histories.jsonl --prompts prompts -m local:{model} --preset cpu"
    return [*PMEM, *f"{made} --reply-form line --mix mcq=1 {more}".split()]


def done(task: Path, made: list[str]) -> Ran:
    ran = ended(start(*made, folder=task), seconds=LONG)
    assert ran.status == 0, ran.err
    return ran


def stopped(task: Path, made: list[str], step: int, number: int = signal.SIGINT) -> list[dict[str, Any]]:
    """Start a run, and stop it once it has told of a step; what it told."""
    child = start(*made, folder=task)
    assert child.stdout
    seen = []
    for line in child.stdout:
        seen.append(orjson.loads(line))
        if seen[-1]["step"] >= step:
            break
    child.send_signal(number)
    ran = ended(child, seconds=120)
    assert ran.status == (130 if number == signal.SIGINT else -number), ran.err
    assert ("interrupted" in ran.err) == (number == signal.SIGINT)
    return seen


def free(folder: Path) -> bool:
    """Whether no run holds it."""
    try:
        os.close(held(folder))
    except OSError:
        return False
    return True


def steps(told: list[dict[str, Any]], name: str) -> list[int]:
    return [one["step"] for one in told if name in one["values"]]


def evaluated(task: Path, model: str, more: str = "") -> list[dict[str, Any]]:
    made = f"eval held.jsonl --histories histories.jsonl --prompts prompts -m local:{model} --reply-form line {more}"
    return done(task, [*PMEM, *f"{made} --max-tokens 4 --no-cache".split()]).records


def same_weights(one: Path, other: Path) -> bool:
    from safetensors.torch import load_file

    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return first.keys() == second.keys() and all(
        first[name].equal(second[name].to(first[name].dtype)) for name in first
    )


@pytest.fixture(scope="module")
def started(task: Path) -> Path:
    """A model that knows the form of replies, by SFT on two ranks that was stopped on its way."""
    how = "--steps 60 --batch-size 16 --learning-rate 3e-3 --save-every 20 --eval-set held.jsonl --eval-every 30"
    made = command("sft", "model", f"{how} --set trainer.n_gpus_per_node=2 -o started")
    seen = stopped(task, made, 45)
    assert not (task / "started").exists()
    other = ended(start(*made, "--seed", "1", folder=task))
    assert other.status == 1
    assert "started.part holds a run with other settings" in other.err and "seed 0, now 1" in other.err
    told = done(task, made).records
    assert steps(told, "loss") == list(range(1, 61))
    assert steps(told, "eval/loss") == [30, 60]
    assert [one for one in told if one["step"] <= 40] == [one for one in seen if one["step"] <= 40]
    losses = [one["values"]["loss"] for one in told if "loss" in one["values"]]
    assert losses[-1] < 0.7 * losses[0]
    assert not (task / "started.part").exists()
    return task / "started"


def test_sft_on_two_ranks_goes_on_and_leaves_a_model(task: Path, started: Path) -> None:
    found = evaluated(task, "started")
    assert len(found) == 16
    assert sum(one["parsed"] for one in found) == 16  # the form was learnt
    assert not any(one["parsed"] for one in evaluated(task, "model"))


@pytest.fixture
def judge() -> Iterator[str]:
    with running() as stub:
        yield stub.url


def test_grpo_goes_on_and_leaves_a_model(task: Path, started: Path, judge: str) -> None:
    how = f"--mix mcq=0.5,open=0.5 --judge-model openai:stub --judge-base-url {judge} --no-cache"
    size = "--steps 3 --batch-size 4 --group 4 --max-tokens 4 --learning-rate 1e-3 --save-every 1"
    made = command("grpo", "started", f"{how} {size} --eval-set held.jsonl --eval-every 3 -o rewarded")
    seen = stopped(task, made, 1, signal.SIGKILL)
    assert [one["step"] for one in seen] == [0, 1]
    wait_for(lambda: free(task / "rewarded.part"), seconds=90)  # verl has ended, too
    asked_otherwise = ["-j", "3", "--timeout", "50"]  # which is no part of what is learnt
    told = done(task, [*made, *asked_otherwise]).records
    # verl saves a step before it tells of it: the one it was stopped at may have no record
    assert steps(told, "loss") in ([1, 2, 3], [1, 3])
    assert steps(told, "eval/accuracy") == [0, 3]
    assert told[:2] == seen
    for one in told[1:]:
        values = one["values"]
        assert 0 <= values["reward/mean"] <= 1
        assert values["reply_tokens/max"] <= 4
        assert values["clip_fraction"] == 0  # one update a step
    assert any(one["values"]["gradient_norm"] > 0 for one in told[1:])
    assert not same_weights(task / "rewarded", started)
    assert told[-1]["values"]["eval/accuracy"] == pytest.approx(
        sum(one["correct"] for one in evaluated(task, "rewarded")) / 16
    )


def test_memtrain_learns_from_all_conversations_of_a_rollout(task: Path, started: Path) -> None:
    size = "--steps 2 --batch-size 4 --group 4 --max-tokens 4 --learning-rate 1e-3 --chunk-tokens 24 --memory-tokens 20"
    made = command("memtrain", "started", f"{size} --no-evidence --kl 0 --format-reward 0.5 -o remembers")
    told = done(task, made).records
    assert steps(told, "loss") == [1, 2]
    for one in told:
        values = one["values"]
        assert values["clip_fraction"] == 0 and values["actor/ppo_kl"] == 0  # one update, however many conversations
        assert values["reply_tokens/max"] <= 20
        assert "kl/reference" not in values
    assert not same_weights(task / "remembers", started)
    assert len(evaluated(task, "remembers", "--context none")) == 16


def test_a_prompt_longer_than_the_room_is_refused_before_anything_starts(task: Path) -> None:
    size = "--steps 1 --batch-size 2 --max-tokens 4 -o x --set data.max_prompt_length=8"
    made = command("grpo", "model", size)
    ran = ended(start(*made, folder=task), seconds=LONG)
    assert ran.status == 1
    assert "more than verl's data.max_prompt_length, 8" in ran.err
    assert not (task / "x.part").exists()


def test_a_dry_run_starts_and_leaves_nothing(task: Path) -> None:
    size = "--steps 1 --batch-size 2 --group 2 --max-tokens 4 --chunk-tokens 24 --memory-tokens 20"
    made = command("memtrain", "model", f"{size} --dry-run")
    before = sorted(task.iterdir())
    text = done(task, made).out.decode()
    assert "# input tokens" in text
    assert "total_training_steps: 1" in text
    assert sorted(task.iterdir()) == before
    assert records(b"") == []
