"""Does training learn? SFT, GRPO and GRPO on shuffled rewards, on a task whose answer stands in the history alone.

.venv/bin/python bench/learning.py [--seeds N] [--work DIR] [--json FILE]

A Llama of two layers with random weights, 48 items, four options, personas it has never seen (tests/likes.py). For
each seed: accuracy of the untrained model, after SFT, after GRPO from there, and after GRPO on shuffled rewards, with
the paired 95% interval of what GRPO changed. All through the commands, as tests/test_learning.py does for fewer seeds.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import heading, machine

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests import learning


def measured(folder: Path, seed: int) -> dict[str, Any]:
    """One seed's figures."""
    begun = time.process_time()
    learning.prepared(folder, seed)
    before = learning.started(folder, seed)
    found: dict[str, Any] = {"untrained": learning.share(learning.answers(folder, "model"))}
    found["sft"] = learning.share(before)
    found["sft_cpu_seconds"] = time.process_time() - begun
    learning.trained(folder, "grpo", "started", "rewarded", seed, learning.GRPO)
    after = learning.answers(folder, "rewarded")
    with learning.shuffled():
        learning.trained(folder, "grpo", "started", "misled", seed, learning.GRPO)
    found["grpo"], found["grpo_gain"] = learning.share(after), learning.gain(before, after)
    found["shuffled_gain"] = learning.gain(before, learning.answers(folder, "misled"))
    found["cpu_seconds"] = time.process_time() - begun
    return found


def main() -> None:
    """Print a line for each seed, write the JSON."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    where = machine("torch", "transformers")
    print(heading(where))
    work = options.work or Path(tempfile.mkdtemp(prefix="pmem-learning-"))
    found = []
    for seed in range(options.seeds):
        row = measured(work / f"seed{seed}", seed)
        found.append(row)
        changes = ", ".join(f"{name} {100 * row[key][0]:+.1f} +- {100 * row[key][1]:.1f}" for name, key in CHANGES)
        print(f"seed {seed}: untrained {row['untrained']:.1%}, SFT {row['sft']:.1%}, {changes}; "
              f"{row['cpu_seconds']:.0f} CPU seconds", flush=True)  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps({"machine": where, "seeds": found}, indent=2) + "\n")


CHANGES = (("GRPO", "grpo_gain"), ("shuffled rewards", "shuffled_gain"))


if __name__ == "__main__":
    main()
