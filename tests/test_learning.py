"""Training really learns: tiny models, tasks whose answers stand in histories alone, personas never seen before. One seed
each; bench/learning.py has five."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from tests import learning, learning_memory
from tests.tiny_models import one_thread

pytestmark = pytest.mark.local
CHANCE = 0.25


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with one_thread():
        yield


def test_sft_and_then_grpo_lift_accuracy_on_unseen_personas_and_shuffled_rewards_do_not(tmp_path: Path) -> None:
    folder = learning.prepared(tmp_path, 0)
    assert learning.share(learning.answers(folder, "model")) < 0.05  # it doesn't even know the form
    before = learning.started(folder, 0)
    assert learning.share(before) >= 0.45  # letters by chance: 25%
    learning.trained(folder, "grpo", "started", "rewarded", 0, learning.GRPO)
    gain, half = learning.gain(before, learning.answers(folder, "rewarded"))
    assert gain >= 0.1 and gain - half > 0
    with learning.shuffled():
        learning.trained(folder, "grpo", "started", "misled", 0, learning.GRPO)
    gain, half = learning.gain(before, learning.answers(folder, "misled"))
    assert gain - half <= 0


def test_memtrain_teaches_what_to_keep_in_a_memory(tmp_path: Path) -> None:
    folder = learning_memory.prepared(tmp_path, 0)
    before = learning_memory.started(folder, 0)
    learning_memory.trained(folder, "memtrain", "started", "rewarded", 0, learning_memory.MEMTRAIN)
    after = learning_memory.answers(folder, "rewarded")
    gain, half = learning.gain(before, after)
    assert gain >= 0.1 and gain - half > 0
    swapped = learning.share(learning_memory.answers(folder, "rewarded", swapped=True))
    assert abs(swapped - CHANCE) < 0.08  # three standard errors of 300 answers
    with learning_memory.zeroed():
        learning_memory.trained(folder, "memtrain", "started", "zeroed", 0, learning_memory.MEMTRAIN)
    worse, half = learning.gain(learning_memory.answers(folder, "zeroed"), after)
    assert worse - half > 0
