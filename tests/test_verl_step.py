"""One step, two engines: verl's trainer and pmem's learn the same from the same rollouts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tests.verl_quietly")
from pmem.train import grpo  # noqa: E402
from pmem.train.batches import Conversation  # noqa: E402
from pmem.train.policy import Policy, Setup, opened  # noqa: E402
from pmem.train.verl.presets import preset  # noqa: E402
from tests.tiny_models import one_thread, saved  # noqa: E402

pytestmark = [pytest.mark.verl, pytest.mark.local, pytest.mark.filterwarnings("ignore")]

OPTIONS = {
    "learning_rate": 1e-2,
    "warmup": 0.0,
    "clip": 0.1,
    "clip_high": 0.15,
    "kl": 0.05,
    "passes": 2,
    "clip_norm": 0.5,
}
ROOT = Path(__file__).parent.parent


def rollouts(seed: int, *, memory: bool) -> list[list[dict[str, Any]]]:
    """Groups of rollouts: of one conversation, or of several, of all lengths from one token on."""
    draw = torch.Generator().manual_seed(seed)

    def ids(most: int) -> list[int]:
        return torch.randint(0, 256, (int(torch.randint(1, most, (1,), generator=draw)),), generator=draw).tolist()

    groups = []
    for _ in range(3):
        group = [
            {
                "conversations": [[ids(40), ids(12)] for _ in range(1 + memory * n)],
                "reward": float(n % 3 == 0) + 0.1 * n,
            }
            for n in range(4)
        ]
        groups.append(group)
    groups[1] = [{**one, "reward": 1.0} for one in groups[1]]  # nothing to learn from
    groups[0][0]["conversations"][0][1] = [7]  # a reply of one token
    return groups


class Kept:
    """A policy that keeps what each of its updates was like."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.updates = policy, []  # type: ignore[var-annotated]
        step = policy.step

        def noted(number: int, loss: float) -> dict[str, float]:
            self.updates.append({"loss": loss, **step(number, loss)})
            return self.updates[-1]

        policy.step = noted  # type: ignore[method-assign]


@pytest.mark.parametrize("memory", [False, True], ids=["answers", "memories"])
def test_both_engines_learn_the_same_from_the_same_rollouts(tmp_path: Path, memory: bool) -> None:
    model = saved(tmp_path / "model", max_position_embeddings=128)
    groups = rollouts(1, memory=memory)
    flat = [one for group in groups for rollout in group for one in rollout["conversations"]]
    draw = torch.Generator().manual_seed(3)
    reference = [(-4 + torch.randn(len(reply), generator=draw)).tolist() for _, reply in flat]
    given = {
        "model": str(model),
        "groups": groups,
        "group": 4,
        "temperature": 0.8,
        "reference": reference,
        "passes": 2,
        "options": OPTIONS,
    }
    (tmp_path / "given.json").write_text(json.dumps(given))
    environment = {**os.environ, **preset("cpu", "grpo").environment, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.verl_step", str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = json.loads((tmp_path / "verl.json").read_text())

    with one_thread():
        setup = Setup(1e-2, 10, warmup=0.0, schedule="constant", weight_decay=0.01, clip_norm=0.5, tokens_at_once=100)
        kept = Kept(opened(str(model), setup))
        policy = kept.policy
        made = [
            [
                grpo.Rollout(tuple(Conversation(*one) for one in rollout["conversations"]), rollout["reward"])
                for rollout in group
            ]
            for group in groups
        ]
        old = policy.frozen([Conversation(*one) for one in flat], 0.8)
        settings = grpo.Settings(low=0.1, high=0.15, kl=0.05, passes=2, temperature=0.8)
        values = grpo._step(policy, made, settings, 0, lambda _: [torch.tensor(one) for one in reference])
        advantages = [one.advantage for rollout in grpo._weighed(made) for one in rollout]

    close = {"rel": 2e-5, "abs": 2e-6}
    assert advantages == pytest.approx(theirs["advantages"], **close)
    for ours, their in zip(old, theirs["old"], strict=True):
        assert ours.tolist() == pytest.approx(their, **close)
    assert [one["loss"] for one in kept.updates] == pytest.approx(theirs["loss"], **close)
    assert [one["gradient_norm"] for one in kept.updates] == pytest.approx(theirs["grad_norm"], **close)
    assert values["kl/reference"] > 0.1
    weights = torch.load(tmp_path / "verl.pt")
    assert weights.keys() >= policy.trained.keys()
    for name, own in policy.trained.items():
        # Adam divides by the gradient's size: where that is next to nothing, rounding shows in the step (of 1e-2)
        torch.testing.assert_close(own.detach(), weights[name].float(), atol=2e-4, rtol=1e-4)
