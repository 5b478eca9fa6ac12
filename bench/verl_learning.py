"""Does reward rise under verl? `pmem grpo` and `pmem memtrain` with --engine verl --preset cpu, on the tasks of the
learning tests, from their SFT checkpoints.

.venv-verl/bin/python bench/verl_learning.py [--only likes|memory] [--seeds N] [--steps N] [--work DIR] [--json FILE]

Rewards of every step (reward/mean), the slope over the steps, and for all seeds of a task together a one-sided test
that the slope is above 0: least squares with a mean of its own for each seed. What is found in DIR (bench/learning.py
--work DIR leaves the same there) is not made again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import heading, machine

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests import learning, learning_memory

TASKS = {"likes": ("grpo", learning), "memory": ("memtrain", learning_memory)}
SETTINGS = {"--batch-size": 32, "--group": 8, "--learning-rate": 5e-4, "--kl": 0, "--warmup": 0.2, "--max-tokens": 4}


def rewards(folder: Path, name: str, seed: int, steps: int) -> list[float]:
    """Mean rewards by step of a run under verl."""
    kind, task = TASKS[name]
    if not (folder / "started").exists():
        task.prepared(folder, seed)  # type: ignore[attr-defined]
        task.started(folder, seed)  # type: ignore[attr-defined]
    metrics = folder / "verl.metrics.jsonl"
    if not (folder / "verl").exists():
        more = {**SETTINGS, "--steps": steps, "--seed": seed, "--save-every": 0}
        questions = "train.jsonl" if kind == "grpo" else "more.jsonl"
        made = f"{kind} {questions} --histories histories.jsonl --prompts prompts -m local:started -o verl"
        made += " --preset cpu --reply-form line --mix mcq=1"
        if kind == "memtrain":
            made += " --chunk-tokens 20 --memory-tokens 20 --tokenizer model --no-evidence"
        command = [sys.executable, "-m", "pmem", *made.split(), *(str(word) for pair in more.items() for word in pair)]
        with metrics.open("wb") as file:
            subprocess.run(command, cwd=folder, stdout=file, check=True)
    values = [json.loads(line)["values"] for line in metrics.read_text().splitlines()]
    return [one["reward/mean"] for one in values if "reward/mean" in one]


def trend(series: list[list[float]]) -> tuple[float, float]:
    """Slope of the rewards per step, and the one-sided p that it is above 0; each seed has a mean of its own."""
    from scipy import stats

    x: list[float] = []
    y: list[float] = []
    for one in series:
        x += [step - (len(one) - 1) / 2 for step in range(len(one))]
        y += [value - sum(one) / len(one) for value in one]
    square = sum(value * value for value in x)
    slope = sum(a * b for a, b in zip(x, y, strict=True)) / square
    freedom = len(y) - len(series) - 1
    left = sum((b - slope * a) ** 2 for a, b in zip(x, y, strict=True)) / freedom
    return slope, float(stats.t.sf(slope / (left / square) ** 0.5, freedom))


def main() -> None:
    """Print a line for each run and the tests, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(TASKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    where = machine("torch", "transformers", "verl", "ray")
    print(heading(where))
    work = options.work or Path(tempfile.mkdtemp(prefix="pmem-verl-learning-"))
    found: dict[str, Any] = {}
    for name in [options.only] if options.only else TASKS:
        series = []
        for seed in range(options.seeds):
            begun = time.perf_counter()
            series.append(rewards(work / name / f"seed{seed}", name, seed, options.steps))
            slope, _ = trend(series[-1:])
            first, last = sum(series[-1][:5]) / 5, sum(series[-1][-5:]) / 5
            told = f"reward {first:.3f} in the first five of {len(series[-1])} steps, {last:.3f} in the last five"
            took = f"{time.perf_counter() - begun:.0f} s"
            print(f"{name}, seed {seed}: {told}; slope {slope:+.4f} a step; {took}", flush=True)
        slope, p = trend(series)
        print(f"{name}: slope {slope:+.4f} a step over {len(series)} seeds, one-sided p = {p:.2g}")
        found[name] = {"rewards": series, "slope": slope, "p": p}
    if options.json:
        options.json.write_text(json.dumps({"machine": where, **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
