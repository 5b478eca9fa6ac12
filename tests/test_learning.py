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


def test_sft_lifts_accuracy_on_unseen_personas(tmp_path: Path) -> None:
    folder = learning.prepared(tmp_path / "task", 0)
    assert learning.share(learning.answers(folder, "model")) < 0.05  # it doesn't even know the form
    assert learning.share(learning.started(folder, 0)) >= 0.45  # letters by chance: 25%
