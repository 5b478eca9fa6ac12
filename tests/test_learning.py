"""Training really learns: a tiny model, a task whose answer stands in the history alone, personas never seen before."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from tests import learning
from tests.tiny_models import one_thread

pytestmark = pytest.mark.local


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The task, and the model `started` that SFT makes."""
    made = learning.prepared(tmp_path_factory.mktemp("learning") / "task", 0)
    learning.started(made, 0)
    return made


def test_sft_lifts_accuracy_on_unseen_personas(folder: Path) -> None:
    assert learning.share(learning.answers(folder, "model")) < 0.05  # it doesn't even know the form
    assert learning.share(learning.answers(folder, "started")) >= 0.45


def test_grpo_adds_ten_points(folder: Path) -> None:
    learning.trained(folder, "grpo", "started", "rewarded", 1, learning.GRPO)
    points, half = learning.gain(learning.answers(folder, "started"), learning.answers(folder, "rewarded"))
    assert points >= 0.10 and points - half > 0


def test_shuffled_rewards_teach_nothing(folder: Path) -> None:
    with learning.shuffled():
        learning.trained(folder, "grpo", "started", "misled", 1, learning.GRPO)
    points, half = learning.gain(learning.answers(folder, "started"), learning.answers(folder, "misled"))
    assert points - half <= 0
