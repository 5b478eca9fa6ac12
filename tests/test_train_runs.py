"""sft and grpo as commands: they go on where they stopped, say what is wrong, and never spoil a good checkpoint."""

import asyncio
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

pytest.importorskip("transformers")
import torch

from pmem import check
from pmem.cli import main
from pmem.errors import BackendError, InputError, ModelError, OutputError, PmemError
from pmem.reward import open_ended
from pmem.train import grpo, sft
from pmem.train.checkpoints import Checkpoints
from tests import likes, two_likes
from tests.command import PMEM, ended, lines, records, start, wait_for
from tests.tiny_models import one_thread

pytestmark = pytest.mark.local
STEPS = 6


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the task family, and a model."""
    return likes.task(tmp_path_factory.mktemp("likes"), people=12, held=3, texts=two_likes.PROMPTS)


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with one_thread():
        yield


def command(kind: str, task: Path, output: Path, *more: str) -> list[str]:
    made = [
        kind,
        str(task / "train.jsonl"),
        "--histories",
        str(task / "histories.jsonl"),
        "-m",
        f"local:{task / 'model'}",
    ]
    made += ["--prompts", str(task / "prompts"), "--reply-form", "line", "--mix", "mcq=1", "-o", str(output)]
    made += [
        "--steps",
        str(STEPS),
        "--batch-size",
        "4",
        "--max-tokens",
        "4",
        "--save-every",
        "2",
        "--learning-rate",
        "1e-3",
    ]
    rollouts = [] if kind == "sft" else ["--group", "3", "--clip", "0.1", "--mini-batches", "2"]
    small = ["--chunk-tokens", "20", "--memory-tokens", "20", "--tokenizer", str(task / "model")]
    return [*made, *rollouts, *(small if kind == "memtrain" else []), *more]


def trained(capfd: pytest.CaptureFixture[str], *arguments: str) -> bytes:
    """What training wrote to stdout."""
    capfd.readouterr()
    main(list(arguments), standalone_mode=False)
    return capfd.readouterr().out.encode()


def weights(folder: Path) -> dict[str, "torch.Tensor"]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def stop_after(monkeypatch: pytest.MonkeyPatch, module: Any, steps: int) -> None:
    """Let training break off after so many more steps."""
    real, left = module._step, iter(range(steps))

    def step(*given: Any) -> Any:
        if next(left, None) is None:
            raise PmemError("the cable was pulled")
        return real(*given)

    monkeypatch.setattr(module, "_step", step)


def test_two_runs_do_not_train_in_one_folder(tmp_path: Path, task: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run, going = command("sft", task, tmp_path / "out"), Checkpoints(str(tmp_path / "out"), {})
    with pytest.raises(OutputError, match=r"out.part: can't be written: another run is writing it"):
        trained(capfd, *run)
    asyncio.run(going.close())
    shutil.rmtree(tmp_path / "out.part")
    trained(capfd, *run)


# ---- a run and its interruption ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "module"), [("sft", sft), ("grpo", grpo), ("memtrain", grpo)])
def test_an_interrupted_run_ends_like_an_undisturbed_one_to_the_last_bit(
    tmp_path: Path,
    task: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    module: Any,
) -> None:
    held = ["--eval-set", str(task / "held.jsonl"), "--eval-every", "3"]
    whole = trained(capfd, *command(kind, task, tmp_path / "whole", *held))
    told = records(whole)
    assert [one["step"] for one in told] == list(range(STEPS + 1)) and all(map(check.validator("metric"), told))
    assert [one["step"] for one in told if "eval/accuracy" in one["values"]] == [0, 3, 6]
    for steps in (5, 0, 1):  # stopped after step 5, again at once, and after one more
        with monkeypatch.context() as patch:
            stop_after(patch, module, steps)
            with pytest.raises(PmemError, match="cable"):
                main(command(kind, task, tmp_path / "broken", *held), standalone_mode=False)
        assert not (tmp_path / "broken").exists()
    assert trained(capfd, *command(kind, task, tmp_path / "broken", *held)) == whole
    before, after = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert any(not torch.equal(one, weights(task / "model")[name]) for name, one in before.items())
    assert not (tmp_path / "broken.part").exists()


def test_a_killed_run_goes_on(tmp_path: Path, task: Path) -> None:
    arguments = [*PMEM, *command("sft", task, tmp_path / "out", "--steps", "400", "--save-every", "1")]
    child = start(*arguments, folder=tmp_path)
    wait_for(lambda: len(list((tmp_path / "out.part").glob("step-*[0-9]"))) > 1, seconds=100)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    found = sorted(one.name for one in (tmp_path / "out.part").glob("step-*[0-9]"))
    at = int(found[-1].removeprefix("step-"))
    arguments[arguments.index("400")] = "400"
    child = start(*arguments, folder=tmp_path)
    wait_for(lambda: (tmp_path / "out.part" / f"step-{at + 2:08d}").exists(), seconds=100)
    child.send_signal(signal.SIGINT)
    ran = ended(child, seconds=100)
    assert ran.status == 130 and "interrupted" in ran.err
    assert [one["step"] for one in ran.records][: at + 2] == list(range(1, at + 3))


def test_the_model_that_comes_of_it_answers(tmp_path: Path, task: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trained(capfd, *command("sft", task, tmp_path / "out", "--steps", "40", "--learning-rate", "3e-3"))
    evaluated = ["eval", str(task / "held.jsonl"), "--histories", str(task / "histories.jsonl"), "--no-cache", "-q"]
    evaluated += ["-m", f"local:{tmp_path / 'out'}", "--prompts", str(task / "prompts"), "--reply-form", "line"]
    main([*evaluated, "--max-tokens", "6", "-o", str(tmp_path / "results")], standalone_mode=False)
    assert all(one["parsed"] for one in records((tmp_path / "results").read_bytes()))  # the form has been learnt
    told = orjson.loads((tmp_path / "out" / "pmem_training.json").read_bytes())
    assert told["learning_rate"] == 0.003 and told["reply_form"] == "line"


def test_another_run_does_not_go_on_from_these_checkpoints(
    tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, sft, 3)
    with pytest.raises(PmemError, match="cable"):
        main(command("sft", task, tmp_path / "out"), standalone_mode=False)
    with pytest.raises(OutputError, match=r"other settings \(seed 0, now 1\)"):
        main(command("sft", task, tmp_path / "out", "--seed", "1"), standalone_mode=False)


def test_a_folder_that_is_there_stays(tmp_path: Path, task: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("all of it")
    with pytest.raises(OutputError, match="is there already"):
        main(command("sft", task, tmp_path / "out"), standalone_mode=False)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "all of it"


# ---- what goes wrong ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit of file sizes here")
def test_a_full_disk_leaves_the_last_good_checkpoint(
    tmp_path: Path, task: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(capfd, *command("sft", task, tmp_path / "whole"))
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    save, saved = Checkpoints.save, []

    def full_from_the_second_on(self: Checkpoints, step: int, *given: Any) -> None:
        if saved:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, usual[1]))
        saved.append(step)
        save(self, step, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", full_from_the_second_on)
        try:
            with pytest.raises(OutputError, match=r"step-00000004: can't be written: .*; step-00000002 stays"):
                main(command("sft", task, tmp_path / "out"), standalone_mode=False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert sorted(os.listdir(tmp_path / "out.part")) == ["run.json", "step-00000002"]
    assert trained(capfd, *command("sft", task, tmp_path / "out")) == whole


def test_a_damaged_checkpoint_is_named(tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, sft, 3)
        with pytest.raises(PmemError, match="cable"):
            main(command("sft", task, tmp_path / "out"), standalone_mode=False)
    (tmp_path / "out.part" / "step-00000002" / "trained.safetensors").write_bytes(b"torn")
    with pytest.raises(PmemError, match=r"step-00000002: can't be read: .*; remove it to go on"):
        main(command("sft", task, tmp_path / "out"), standalone_mode=False)


@pytest.mark.parametrize(("kind", "module"), [("sft", sft), ("grpo", grpo)])
def test_a_loss_that_is_no_number_ends_the_run_before_it_spoils_the_weights(
    tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch, kind: str, module: Any
) -> None:
    real, calls = module.token_mean if kind == "grpo" else module.cross_entropy, iter(range(100))

    def broken(*given: Any) -> Any:
        return real(*given) * (float("nan") if next(calls) >= 8 else 1.0)

    monkeypatch.setattr(module, "token_mean" if kind == "grpo" else "cross_entropy", broken)
    with pytest.raises(PmemError, match=r"step \d: the loss is no finite number; try a lower --learning-rate"):
        main(command(kind, task, tmp_path / "out", "--tokens-at-once", "100"), standalone_mode=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["sft", "grpo", "memtrain"])
def test_input_that_can_not_be_trained_on(tmp_path: Path, task: Path, kind: str) -> None:
    (tmp_path / "empty").write_bytes(b"")
    given = command(kind, task, tmp_path / "out")
    with pytest.raises(InputError, match="no question to train on"):
        main([kind, str(tmp_path / "empty"), *given[2:]], standalone_mode=False)
    with pytest.raises(InputError, match=r"share persona .* with --eval-set"):
        main([*given, "--eval-set", str(task / "train.jsonl")], standalone_mode=False)
    with pytest.raises(InputError, match="expected a qa record"):
        main([kind, str(task / "histories.jsonl"), *given[2:]], standalone_mode=False)
    with pytest.raises(BackendError, match="no such directory"):
        main([*given, "-m", "local:/no/such/model"], standalone_mode=False)
    likes.model(tmp_path / "short", context=20)
    with pytest.raises(
        InputError, match=r"question q-\w+: the prompt has \d+ tokens and the reply .* more than the 20"
    ):
        main([*given, "-m", f"local:{tmp_path / 'short'}"], standalone_mode=False)
    assert not (tmp_path / "out").exists()


def test_a_broken_line_is_left_out_where_that_is_asked_for(
    tmp_path: Path, task: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "torn").write_bytes((task / "train.jsonl").read_bytes() + b'{"type":"qa", torn\n')
    given = ["sft", str(tmp_path / "torn"), *command("sft", task, tmp_path / "out", "--steps", "1")[2:]]
    with pytest.raises(InputError, match="torn:25: not JSON"):
        main(given, standalone_mode=False)
    with pytest.raises(SystemExit) as status:
        main([*given, "--rejects", str(tmp_path / "rejects")], standalone_mode=False)
    assert status.value.code == 3 and len(records((tmp_path / "rejects").read_bytes())) == 1
    assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_training_on_a_gpu(tmp_path: Path, task: Path, capfd: pytest.CaptureFixture[str], kind: str) -> None:
    told = records(trained(capfd, *command(kind, task, tmp_path / "out", "--dtype", "bfloat16", "--checkpointing")))
    assert len(told) == STEPS and (tmp_path / "out" / "model.safetensors").exists()


# ---- LoRA --------------------------------------------------------------------------------------------------------


def test_lora_without_peft_names_the_extra(tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(PmemError, match="extra 'train'"):
        main(command("sft", task, tmp_path / "out", "--lora", "4"), standalone_mode=False)


@pytest.mark.parametrize(("kind", "module"), [("sft", sft), ("grpo", grpo)])
def test_lora_trains_little_and_leaves_a_whole_model(
    tmp_path: Path,
    task: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    module: Any,
) -> None:
    pytest.importorskip("peft")
    whole = trained(capfd, *command(kind, task, tmp_path / "whole", "--lora", "4"))
    with monkeypatch.context() as patch:
        stop_after(patch, module, 3)
        with pytest.raises(PmemError, match="cable"):
            main(command(kind, task, tmp_path / "out", "--lora", "4"), standalone_mode=False)
    kept = (tmp_path / "out.part" / "step-00000002" / "trained.safetensors").stat().st_size
    assert kept < (task / "model" / "model.safetensors").stat().st_size / 4
    assert trained(capfd, *command(kind, task, tmp_path / "out", "--lora", "4")) == whole
    merged, begun = weights(tmp_path / "out"), weights(task / "model")
    assert merged.keys() == begun.keys()
    changed = {name for name in merged if not torch.equal(merged[name], begun[name])}
    assert changed and all("proj" in name for name in changed)


# ---- open-ended rewards ------------------------------------------------------------------------------------------


def test_a_judge_that_fails_leaves_no_reward(
    tmp_path: Path, task: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def votes_on(reply: str, qa: Any, judges: Any, prompts: Any, votes: int, call: str) -> list[dict[str, Any]]:
        await asyncio.sleep(0.01)
        kind = int(call[-1]) % 3
        if kind == 0:
            raise ModelError("overloaded", call=call)
        verdicts = ["pass", "unclear", "fail"] if kind == 1 else ["pass", "pass", "fail"]
        return [{"verdict": verdict} for verdict in verdicts[:votes]]

    monkeypatch.setattr(open_ended, "votes_on", votes_on)
    monkeypatch.setattr("pmem.reward.rewards.without_thinking", lambda _: "words")  # an empty reply would be 0 unasked
    (tmp_path / "judge").write_bytes(lines([{"call": "none", "prompt": "0" * 16, "reply": "x"}]))
    judged = ["--judge-model", f"recorded:{tmp_path / 'judge'}", "--mix", "open=1", "--steps", "2"]
    told = records(trained(capfd, *command("grpo", task, tmp_path / "out", *judged)))
    assert [one["values"]["reward/missing"] for one in told] == [8.0, 8.0]  # two in three of 4 groups of 3
    assert [one["values"]["reward/mean"] for one in told] == [1.0, 1.0]


def test_open_ended_questions_need_a_judge(tmp_path: Path, task: Path) -> None:
    import click

    with pytest.raises(click.UsageError, match="needs --judge-model"):
        main(command("grpo", task, tmp_path / "out", "--mix", "mcq=0.5,open=0.5"), standalone_mode=False)
