"""What a run leaves on disk: while it goes, FOLDER.part with checkpoints; once it is done, FOLDER, a model to load.

A checkpoint is written beside the others and renamed when whole, so that whatever happens the last good one stays. It
holds the trained weights (safetensors), the optimiser's state, torch's random state, the step, and the metrics so far.
Questions, their order and seeds of samples are functions of the step: there is no more to keep of the data's position.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import torch

from pmem.errors import OutputError, PmemError, first_line
from pmem.stream.folder import held
from pmem.train.policy import Policy

KEPT = 2
"""Checkpoints, the latest."""
RUN = "run.json"


class Checkpoints:
    """Those of one run.

    lock: a handle of FOLDER.part by which other runs are kept out. settings: what determines the run's outcome; a run
    goes on only from checkpoints of the same. Errors: OutputError where FOLDER holds something already, or FOLDER.part
    a run with other settings, or one that is still going on.
    """

    def __init__(self, folder: str, settings: dict[str, Any]) -> None:
        self.name = folder
        self.target = Path(os.path.realpath(folder))
        self.part = self.target.with_name(self.target.name + ".part")
        if self.target.is_file() or (self.target.is_dir() and any(self.target.iterdir())):
            raise OutputError(f"{folder}: is there already; name another folder, or move it away")
        try:
            self.part.mkdir(parents=True, exist_ok=True)
            self.lock = held(self.part)
        except OSError as fault:
            raise OutputError(f"{folder}.part: can't be written: {fault.strerror}") from None
        try:
            self._begin(orjson.dumps(settings, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
        except BaseException:
            os.close(self.lock)
            raise

    def _begin(self, told: bytes) -> None:
        """Leave what the run is, or see that it goes on as what it was."""
        file = self.part / RUN
        try:
            if file.exists():
                self._compare(orjson.loads(file.read_bytes()), orjson.loads(told))
            else:
                file.with_suffix(".part").write_bytes(told)
                file.with_suffix(".part").replace(file)
        except OSError as fault:
            raise OutputError(f"{self.name}.part: can't be written: {fault.strerror}") from None

    def report(self) -> str:
        """Nothing for the summary line."""
        return ""

    async def close(self) -> None:
        """Let another run go on from here."""
        os.close(self.lock)

    def _compare(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        other = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if other:
            told = ", ".join(f"{name} {before.get(name)!r}, now {now.get(name)!r}" for name in other)
            raise OutputError(
                f"{self.name}.part holds a run with other settings ({told}): go on with the same ones, or remove it"
            )

    def all(self) -> list[Path]:
        """Whole checkpoints, the latest last."""
        return sorted(one for one in self.part.glob("step-*") if one.suffix != ".part")

    def save(self, step: int, policy: Policy, metrics: list[bytes]) -> None:
        """Keep the run as it is after `step` steps. OutputError if it can't be written; earlier ones stay."""
        with self._written(f"step-{step:08d}") as folder:
            _save_weights(policy, folder / "trained.safetensors")
            torch.save(policy.optimiser.state_dict(), folder / "optimiser.pt")
            torch.save(_random(), folder / "random.pt")
            (folder / "metrics.jsonl").write_bytes(b"".join(metrics))
        for old in self.all()[:-KEPT]:
            shutil.rmtree(old)

    def restore(self, policy: Policy) -> tuple[int, list[bytes]]:
        """Put the policy where the last checkpoint left it; the steps done, and their metrics. (0, []) without one."""
        found = self.all()
        if not found:
            return 0, []
        folder = found[-1]
        try:
            _load_weights(policy, folder / "trained.safetensors")
            policy.optimiser.load_state_dict(torch.load(folder / "optimiser.pt", map_location=policy.device))
            _set_random(torch.load(folder / "random.pt"))
            metrics = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        except Exception as fault:  # whatever torch and safetensors raise about a file that somebody damaged
            raise PmemError(f"{folder}: can't be read: {_said(fault)}; remove it to go on from before it") from None
        return int(folder.name.removeprefix("step-")), metrics

    def finish(self, policy: Policy) -> None:
        """All is done: the model as FOLDER, which `local:FOLDER` loads; checkpoints go."""

        def put(folder: Path) -> None:
            model = policy.adapters.merge_and_unload() if policy.adapters else policy.model
            model.save_pretrained(folder)
            policy.loaded.tokenizer.save_pretrained(folder)

        self.leave(put)

    def leave(self, put: Callable[[Path], None]) -> None:
        """All is done: FOLDER is what `put` writes into the folder that it is told; FOLDER.part goes."""
        with self._written("model") as folder:
            put(folder)
            shutil.copy(self.part / RUN, folder / "pmem_training.json")
        try:
            if self.target.is_dir():
                self.target.rmdir()
            (self.part / "model").replace(self.target)
        except OSError as fault:
            raise OutputError(f"{self.name}: can't be written: {fault.strerror}") from None
        shutil.rmtree(self.part)

    @contextmanager
    def _written(self, name: str) -> Iterator[Path]:
        """A folder to write into, which gets its name when all is in it."""
        part = self.part / f"{name}.part"
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            yield part
            shutil.rmtree(self.part / name, ignore_errors=True)
            part.replace(self.part / name)
        except Exception as fault:  # a full disk comes as OSError, SafetensorError or RuntimeError
            shutil.rmtree(part, ignore_errors=True)  # so that there is room again
            good = self.all()
            stays = f"; {good[-1].name} stays" if good else ""
            raise OutputError(f"{self.part / name}: can't be written: {_said(fault)}{stays}") from None


def _save_weights(policy: Policy, path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: one.detach().contiguous() for name, one in policy.trained.items()}, path)


def _load_weights(policy: Policy, path: Path) -> None:
    from safetensors.torch import load_file

    found = load_file(path)
    with torch.no_grad():
        for name, weights in policy.trained.items():
            weights.copy_(found[name])
    policy.changes += 1


def _random() -> dict[str, Any]:
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_available() else {})


def _set_random(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def _said(fault: BaseException) -> str:
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror
    return first_line(fault)
