"""The task of `likes` learnt by a tiny model through the commands: shared by the tests and by bench/learning.py."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from pmem.cli import main
from pmem.train.answers import Answers
from pmem.train.grpo import Collected
from tests import likes
from tests.command import records

PEOPLE, HELD_OUT = 3000, 150
SFT = {"--batch-size": 64, "--learning-rate": 1e-3, "--schedule": "constant"}
FIRST, MORE, MOST = 200, 10, 60
"""Steps of SFT: at first, and in each of at most 60 runs from there, until ENOUGH is reached. What a tiny model learns it
learns all at once, some steps sooner or later by its random start: GRPO is to begin in the middle of that."""
ENOUGH = 0.45
GRPO = {"--steps": 70, "--batch-size": 64, "--group": 8, "--learning-rate": 5e-4, "--kl": 0, "--warmup": 0.15}


def prepared(folder: Path, seed: int) -> Path:
    """A folder with the task's files and an untrained model."""
    return likes.task(folder, people=PEOPLE, held=HELD_OUT, seed=2 * seed + 1, model_seed=seed)


def started(folder: Path, seed: int) -> list[bool]:
    """Fine-tune the untrained model into `started`; its answers."""
    trained(folder, "sft", "model", "sft0", seed, {**SFT, "--steps": FIRST})
    found, runs = answers(folder, "sft0"), 0
    while share(found) < ENOUGH and runs < MOST:
        before, now, runs = f"sft{runs}", f"sft{runs + 1}", runs + 1
        trained(folder, "sft", before, now, 1000 * runs + seed, {**SFT, "--steps": MORE})
        found = answers(folder, now)
    (folder / f"sft{runs}").rename(folder / "started")
    return found


def trained(folder: Path, kind: str, start: str, to: str, seed: int, options: dict[str, Any], *more: str) -> Path:
    """The model that `pmem KIND` makes of one in the folder; its metrics are in TO.metrics.jsonl."""
    given = [str(word) for pair in options.items() for word in pair]
    with stdout_to(folder / f"{to}.metrics.jsonl"):
        _train(kind, folder, start, to, seed, [*given, *more])
    return folder / to


def _train(kind: str, folder: Path, start: str, to: str, seed: int, more: list[str]) -> None:
    command = [kind, str(folder / "train.jsonl"), "-m", f"local:{folder / start}", "-o", str(folder / to)]
    command += [*_asked(folder), "--mix", "mcq=1", "--seed", str(seed), "--save-every", "0", *more]
    main(command, standalone_mode=False)


@contextmanager
def stdout_to(path: Path) -> Iterator[None]:
    """Meanwhile, what is written to stdout, by whatever means, goes to a file."""
    before = os.dup(1)
    with path.open("wb") as file:
        os.dup2(file.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(before, 1)
            os.close(before)


def answers(folder: Path, model: str) -> list[bool]:
    """Whether each question on unseen personas is answered rightly, by `pmem eval`."""
    out = folder / f"{model}.results.jsonl"
    main(["eval", str(folder / "held.jsonl"), "-m", f"local:{folder / model}", "-o", str(out), *_asked(folder),
          "--no-cache", "-j", "64"], standalone_mode=False)  # fmt: skip
    return [one["correct"] for one in records(out.read_bytes())]


def _asked(folder: Path) -> list[str]:
    return [
        "--histories",
        str(folder / "histories.jsonl"),
        "--prompts",
        str(folder / "prompts"),
        "--max-tokens",
        "4",
        "-q",
    ]


def shuffled() -> Any:
    """While it is entered, each reply of a step gets the reward of another one."""
    collect: Callable[..., Any] = Answers.collect

    async def mixed(self: Answers, asks: Any, step: int) -> Collected:
        found = await collect(self, asks, step)
        rewards = [one.reward for group in found.groups for one in group]
        Random(step).shuffle(rewards)
        each = iter(rewards)
        return found._replace(groups=[[one._replace(reward=next(each)) for one in group] for group in found.groups])

    return patch.object(Answers, "collect", mixed)


def share(right: list[bool]) -> float:
    """Of right answers."""
    return sum(right) / len(right)


def gain(before: list[bool], after: list[bool]) -> tuple[float, float]:
    """Difference of shares on the same questions, and half of its 95% interval (paired; two questions a persona are
    taken together)."""
    pairs = [sum(after[n : n + 2]) / 2 - sum(before[n : n + 2]) / 2 for n in range(0, len(before), 2)]
    mean = sum(pairs) / len(pairs)
    variance = sum((one - mean) ** 2 for one in pairs) / (len(pairs) - 1)
    return mean, 1.96 * math.sqrt(variance / len(pairs))
