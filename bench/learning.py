"""Does training learn? SFT, GRPO and memtrain on tasks whose answers stand in the history alone; and their controls.

.venv/bin/python bench/learning.py [--only likes|memory] [--seeds N] [--work DIR] [--json FILE]

A Llama of two layers with random weights, 16 items, four options, personas that it has never seen, two questions on
each of 150. likes (tests/likes.py): one thing is said in the history; accuracy of the untrained model, after SFT, after
GRPO from there, and after GRPO on shuffled rewards. memory (tests/two_likes.py): two things are said, in chunks that
are read one after the other; accuracy from the model's own memories after SFT (what its cold start was like stands in
tests/learning_memory.py), after memtrain, with the memories of somebody else, and after memtrain whose updates of the
memory learn nothing. Differences are paired, with 95% intervals over personas. All through the commands, as in
tests/test_learning.py for fewer seeds.
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
from tests import learning, learning_memory


def likes(folder: Path, seed: int) -> dict[str, Any]:
    """SFT and GRPO, one seed."""
    learning.prepared(folder, seed)
    found: dict[str, Any] = {"untrained": learning.share(learning.answers(folder, "model"))}
    before = learning.started(folder, seed)
    learning.trained(folder, "grpo", "started", "rewarded", seed, learning.GRPO)
    after = learning.answers(folder, "rewarded")
    with learning.shuffled():
        learning.trained(folder, "grpo", "started", "misled", seed, learning.GRPO)
    misled = learning.answers(folder, "misled")
    found |= {"sft": learning.share(before), "grpo": learning.share(after), "grpo gain": learning.gain(before, after)}
    return found | {"shuffled rewards gain": learning.gain(before, misled)}


def memory(folder: Path, seed: int) -> dict[str, Any]:
    """memtrain, one seed."""
    learning_memory.prepared(folder, seed)
    before = learning_memory.started(folder, seed)
    learning_memory.trained(folder, "memtrain", "started", "rewarded", seed, learning_memory.MEMTRAIN)
    after = learning_memory.answers(folder, "rewarded")
    swapped = learning_memory.answers(folder, "rewarded", swapped=True)
    with learning_memory.zeroed():
        learning_memory.trained(folder, "memtrain", "started", "zeroed", seed, learning_memory.MEMTRAIN)
    zeroed = learning_memory.answers(folder, "zeroed")
    found: dict[str, Any] = {"sft": learning.share(before), "memtrain": learning.share(after)}
    found |= {"memtrain gain": learning.gain(before, after), "swapped": learning.share(swapped)}
    return found | {"zeroed": learning.share(zeroed), "memtrain over zeroed": learning.gain(zeroed, after)}


TASKS = {"likes": likes, "memory": memory}


def main() -> None:
    """Print a line for each seed, write the JSON."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(TASKS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    where = machine("torch", "transformers")
    print(heading(where))
    work = options.work or Path(tempfile.mkdtemp(prefix="pmem-learning-"))
    found: dict[str, list[dict[str, Any]]] = {}
    for name in [options.only] if options.only else TASKS:
        for seed in range(options.seeds):
            begun = time.process_time()
            row = TASKS[name](work / name / f"seed{seed}", seed)
            found.setdefault(name, []).append(row)
            print(
                f"{name}, seed {seed}: {', '.join(map(told, row.items()))}; {time.process_time() - begun:.0f} CPU s",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps({"machine": where, **found}, indent=2) + "\n")


def told(figure: tuple[str, Any]) -> str:
    """A share, or a difference with half of its interval."""
    name, value = figure
    return (
        f"{name} {100 * value[0]:+.1f} +- {100 * value[1]:.1f}" if isinstance(value, tuple) else f"{name} {value:.1%}"
    )


if __name__ == "__main__":
    main()
