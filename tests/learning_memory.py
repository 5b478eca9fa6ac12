"""The task of `two_likes` learnt by a tiny model through the commands: shared by the tests and by bench/learning.py.

Cold start: to answer from memories as they should be; then the trajectories of a teacher who forgets, so far as they
ended right. What is left to learn by reward is to keep what the memory says.
"""

import os
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from pmem.cli import main
from pmem.train import grpo
from tests import likes, two_likes
from tests.command import lines, records
from tests.learning import stdout_to
from tests.stub import running

PEOPLE, QUESTIONS, MORE_PEOPLE, HELD_OUT = 2000, 4, 2000, 150
"""Personas of the cold start and questions on each, personas of memtrain, personas to ask about."""
SFT = {"--batch-size": 64, "--learning-rate": 1e-3, "--schedule": "constant"}
ANSWERS, TRAJECTORIES = 450, 120
"""Steps of SFT."""
MEMTRAIN = {"--steps": 40, "--batch-size": 32, "--group": 8, "--learning-rate": 5e-4, "--kl": 0, "--warmup": 0.2}


def prepared(folder: Path, seed: int) -> Path:
    """A folder with the task's files, an untrained model, and what the teacher wrote and answered."""
    folder.mkdir(exist_ok=True, parents=True)
    numbers = {"train": 3 * seed, "more": 3 * seed + 1, "held": 3 * seed + 2}
    for name, people, questions in (("train", PEOPLE, QUESTIONS), ("more", MORE_PEOPLE, 2), ("held", HELD_OUT, 2)):
        two_likes.written(folder, people=people, seed=numbers[name], name=name, questions=questions)
    for what in ("histories", "memories"):
        every = [(folder / f"{name}-{what}.jsonl").read_bytes() for name in numbers]
        (folder / f"{what}.jsonl").write_bytes(b"".join(every))
    likes.prompts(folder, two_likes.PROMPTS)
    likes.model(folder / "model", seed, heads=8)
    return folder


def taught(folder: Path) -> None:
    """Ask the teacher: trace.jsonl, results.jsonl."""
    with running(reply=Path(two_likes.__file__)) as stub, patch.dict(os.environ, {"OPENAI_API_KEY": "none"}):
        model = ["-m", "openai:stub", "--base-url", stub.url, "--no-cache", "-j", "64"]
        _pmem(folder, "memdump", "train-histories", *model, "--trace", *_written(folder), to="trace")
        asked = ["--context", "memory", "--memories", str(folder / "trace.jsonl"), "--reply-form", "line"]
        _pmem(folder, "eval", "train", *model, *asked, to="results")


def started(folder: Path, seed: int) -> list[bool]:
    """Fine-tune the untrained model into `started`; its answers from its own memories."""
    taught(folder)
    ideal = {"--context": "memory", "--memories": folder / "memories.jsonl", "--steps": ANSWERS}
    trained(folder, "sft", "model", "answers", seed, {**SFT, **ideal})
    given = {"--targets": folder / "results.jsonl", "--trajectories": folder / "trace.jsonl", "--steps": TRAJECTORIES}
    trained(folder, "sft", "answers", "started", seed, {**SFT, **given})
    return answers(folder, "started")


def trained(folder: Path, kind: str, start: str, to: str, seed: int, options: dict[str, Any]) -> Path:
    """The model that `pmem KIND` makes of one in the folder; its metrics are in TO.metrics.jsonl."""
    questions = "more" if kind == "memtrain" else "train"
    command = [
        kind,
        f"{folder / questions}.jsonl",
        "-m",
        f"local:{folder / start}",
        "-o",
        str(folder / to),
        *_asked(folder),
    ]
    command += ["--histories", str(folder / "histories.jsonl"), *_written(folder)]
    command += ["--mix", "mcq=1", "--seed", str(seed), "--save-every", "0"]
    with stdout_to(folder / f"{to}.metrics.jsonl"):
        main([*command, *(str(word) for pair in options.items() for word in pair)], standalone_mode=False)
    return folder / to


def answers(folder: Path, model: str, *, swapped: bool = False) -> list[bool]:
    """Whether each question on unseen personas is answered rightly from the memory that the model has written of them,
    by `pmem memdump` and `pmem eval`. swapped: from another persona's."""
    name = ["-m", f"local:{folder / model}", "--no-cache", "-j", "64", "--temperature", "0"]
    _pmem(folder, "memdump", "held-histories", *name, *_written(folder), to=f"{model}.memories")
    memories = folder / f"{model}.memories.jsonl"
    if swapped:
        memories = _swapped(memories, folder / f"{model}.swapped.jsonl")
    asked = ["--context", "memory", "--memories", str(memories), *_asked(folder)]
    _pmem(folder, "eval", "held", *name, *asked, to=f"{model}.results")
    return [one["correct"] for one in records((folder / f"{model}.results.jsonl").read_bytes())]


def _swapped(memories: Path, to: Path) -> Path:
    """Memories with their histories and users exchanged, so that nobody keeps their own."""
    found = records(memories.read_bytes())
    order = Random(0).sample(range(len(found)), len(found))
    whose = [(found[number]["user_id"], found[number]["history_id"]) for number in order]
    for number, (user_id, history_id) in zip([*order[1:], order[0]], whose, strict=True):
        found[number] |= {"user_id": user_id, "history_id": history_id}
    to.write_bytes(lines(found))
    return to


def zeroed() -> Any:
    """While it is entered, a rollout's updates learn nothing of what its answer was worth."""
    weighed = grpo._weighed

    def without(groups: Any) -> Any:
        found = weighed(groups)
        return [[*(one._replace(advantage=0.0) for one in rollout[:-1]), rollout[-1]] for rollout in found]

    return patch.object(grpo, "_weighed", without)


def _pmem(folder: Path, stage: str, records_of: str, *more: str, to: str) -> None:
    read, out = folder / f"{records_of}.jsonl", folder / f"{to}.jsonl"
    main([stage, str(read), "-o", str(out), "--prompts", str(folder / "prompts"), "-q", *more], standalone_mode=False)


def _written(folder: Path) -> list[str]:
    """How memories are written."""
    size = str(two_likes.CHUNK)
    return ["--chunk-tokens", size, "--memory-tokens", size, "--tokenizer", str(folder / "model"), "--no-evidence"]


def _asked(folder: Path) -> list[str]:
    return ["--prompts", str(folder / "prompts"), "--reply-form", "line", "--max-tokens", "4", "-q"]
