"""Where a training step's time goes, and what the trainer adds to a bare forward and backward pass.

.venv/bin/python bench/training.py [--model NAME] [--rounds N] [--tokens N] [--json FILE]

The ratio: tokens per second of an SFT step's and of a GRPO step's gradients (this trainer: batches of conversations,
log-probabilities of the replies, losses) to those of transformers' own forward pass with labels, and backward, on the
same conversations padded likewise; the optimiser's step is in neither. Round by round, one after the other. Then, with
--model, how much less time the gradients of 8 replies to one prompt take if it is computed once; and the shares of
rollout, reward and update in GRPO steps of the tiny model of tests/likes.py, by `pmem grpo` itself.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from machine import heading, machine

sys.path.insert(0, str(Path(__file__).parent.parent))
from pmem.train import grpo
from pmem.train.batches import SHARED, Conversation
from pmem.train.losses import cross_entropy
from pmem.train.policy import Policy, Setup, opened
from tests import learning


def conversations(policy: Policy, tokens: int, *, rows: int = 8, reply: int = 24) -> list[Conversation]:
    """Conversations of some lengths around `tokens`, each with a short reply."""
    draw = Random(1)

    def ids(count: int) -> list[int]:
        return [draw.randrange(policy.vocabulary) for _ in range(count)]

    return [
        Conversation(ids(draw.randint(tokens * 3 // 4, tokens)), ids(draw.randint(reply // 2, reply)))
        for _ in range(rows)
    ]


def ours(policy: Policy, batch: list[Conversation]) -> None:
    """Gradients of an SFT step."""
    policy.model.train()
    for part in policy.parts(batch):
        rows = policy.rows([batch[i] for i in part])
        chosen, _ = policy.logprobs(rows)
        cross_entropy(chosen, rows.mask, 100.0).backward()


def rewarded(policy: Policy, batch: list[Conversation]) -> None:
    """Gradients and measurements of a GRPO step, as grpo._update makes them, without the optimiser."""
    weighed = [grpo.Weighed(one, (-1.0) ** n) for n, one in enumerate(batch)]
    grpo._update(policy, weighed, grpo.Settings(), 0, grpo.Sums())


def bare(policy: Policy, batch: list[Conversation]) -> None:
    """transformers' own loss on the same parts."""
    import torch

    policy.model.train()
    for part in policy.parts(batch):
        rows = policy.rows([batch[i] for i in part])
        labels = torch.where(rows.seen > 0, rows.ids, -100)
        with policy.computing():
            policy.model(input_ids=rows.ids, attention_mask=rows.seen, labels=labels, use_cache=False).loss.backward()


def seconds(work: Callable[[Policy, list[Conversation]], None], policy: Policy, batch: list[Conversation]) -> float:
    """CPU seconds; on a GPU, seconds."""
    import torch

    clock = time.perf_counter if policy.device.type == "cuda" else time.process_time
    begun = clock()
    work(policy, batch)
    if policy.device.type == "cuda":
        torch.cuda.synchronize()
    policy.optimiser.zero_grad()
    return clock() - begun


def ratios(name: str, tokens: int, rounds: int) -> dict[str, Any]:
    """Tokens per second, and their ratios to the bare loop's, round by round."""
    policy = opened(name, Setup(0.0, 1))
    policy.step = lambda *_: {}  # type: ignore[method-assign] # the optimiser's work is in none of the three
    batch = conversations(policy, min(tokens, policy.loaded.context - 32))
    size = sum(one.tokens for one in batch)
    for work in (bare, ours, rewarded):
        seconds(work, policy, batch)
    found: dict[str, list[float]] = {"bare": [], "sft": [], "grpo": []}
    for _ in range(rounds):
        for title, work in (("bare", bare), ("sft", ours), ("grpo", rewarded)):
            found[title].append(size / seconds(work, policy, batch))
    return {
        "tokens": size,
        "tokens_per_second": {title: statistics.median(values) for title, values in found.items()},
        "to_bare": {
            title: [mine / its for mine, its in zip(found[title], found["bare"], strict=True)]
            for title in ("sft", "grpo")
        },
    }


def group(name: str, tokens: int, rounds: int) -> list[float]:
    """Seconds of a GRPO step's gradients on 8 replies to one prompt, computed anew for each, over those with the prompt
    computed once."""
    policy = opened(name, Setup(0.0, 1))
    policy.step = lambda *_: {}  # type: ignore[method-assign]
    first, *others = conversations(policy, min(tokens, policy.loaded.context - 32))
    batch = [first, *(Conversation(first.prompt, one.reply) for one in others)]
    found = []
    for number in range(rounds + 1):
        times = []
        for policy.shares in (False, True):
            times.append(seconds(rewarded, policy, batch))
        found += [times[0] / times[1]] if number else []
    return found


def split(folder: Path) -> str:
    """The last line of `pmem grpo` on the tiny task."""
    learning.prepared(folder, 0)
    command = ["grpo", "train.jsonl", "--histories", "histories.jsonl", "-m", "local:model", "--prompts", "prompts"]
    command += ["--mix", "mcq=1", "--max-tokens", "4", "--steps", "10", "--batch-size", "16", "-o", "out"]
    done = subprocess.run(
        [sys.executable, "-m", "pmem", *command], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stderr.splitlines()[-1]


def main() -> None:
    """Print, write the JSON."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="also this model (smollm2)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    where = machine("torch", "transformers")
    print(heading(where))
    report: dict[str, Any] = {"machine": where}
    with tempfile.TemporaryDirectory() as folder:
        report["split"] = split(Path(folder) / "task")
        print(report["split"])
        for name in filter(None, (str(Path(folder) / "task" / "model"), options.model)):
            row = report["smollm2" if name == options.model else "tiny"] = ratios(name, options.tokens, options.rounds)
            speeds = ", ".join(f"{title} {value:,.0f}" for title, value in row["tokens_per_second"].items())
            told = ", ".join(
                f"{title} {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
                for title, values in row["to_bare"].items()
            )
            print(f"{Path(name).name}: tokens per second: {speeds}; ratio to the bare loop: {told}")
            if options.tokens > SHARED * 4 // 3 and name == options.model:
                row["group"] = found = group(name, options.tokens, options.rounds)
                told = f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"
                print(f"a group of 8 with its prompt computed once is quicker by {told}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
