"""What earlier attempts at a run under verl left in its folder, and how the next one goes on from there."""

import shutil
from pathlib import Path

import orjson

from pmem.errors import PmemError

STEP = "global_step_"
"""What the names of verl's checkpoints begin with."""


def checkpoint(folder: Path, step: int) -> Path:
    """Where verl keeps a step's checkpoint."""
    return folder / "checkpoints" / f"{STEP}{step}"


def latest(folder: Path) -> int:
    """The step of the last whole checkpoint; 0 without one. PmemError: the file that tells it holds something else."""
    tracker = folder / "checkpoints" / "latest_checkpointed_iteration.txt"
    try:
        text = tracker.read_text() or _newest(tracker)
        return int(text)
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as fault:
        raise PmemError(f"{tracker}: {fault}; write the number of the last checkpoint beside it into it") from None


def _newest(tracker: Path) -> str:
    """For a run that was killed when verl had opened the file, which it does once a checkpoint is whole."""
    newest = str(max(_checkpoints(tracker.parent), default=0))
    tracker.write_text(newest)
    return newest


def _checkpoints(folder: Path) -> dict[int, Path]:
    """By step, whole or not."""
    return {int(one.name.removeprefix(STEP)): one for one in folder.glob(f"{STEP}*")}


def told_before(folder: Path, done: int) -> list[bytes]:
    """The metric records up to a step. Those behind it are forgotten: these steps are taken anew."""
    file = folder / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    kept = [line for line in lines if line.endswith(b"\n") and orjson.loads(line)["step"] <= done and done]
    file.write_bytes(b"".join(kept))
    return kept


def remove_outdated(folder: Path, done: int, kept: int | None) -> None:
    """Remove the checkpoints that verl, which takes away those of its own process only, would leave for good: what was
    broken off, and what is older than the latest `kept` (None: all) of the whole ones."""
    if not done:
        return  # the first is written over
    found = _checkpoints(folder / "checkpoints")
    whole = sorted(step for step in found if step <= done)
    old = whole[:-kept] if kept else []
    for step, path in found.items():
        if step > done or step in old:
            shutil.rmtree(path)
