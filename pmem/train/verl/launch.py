"""Starting verl, following what it measures, and keeping the model that it leaves."""

import asyncio
import contextlib
import functools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from pmem.children import end_with_parent
from pmem.errors import OutputError, PmemError
from pmem.train.verl.attempts import checkpoint, latest, remove_outdated, told_before
from pmem.train.verl.compose import Composed
from pmem.train.verl.overrides import line as setting
from pmem.train.verl.settings import UNREWARDED

NAMES = {
    "critic/score/mean": "reward/mean",
    "actor/pg_loss": "loss",
    "train/loss": "loss",
    "actor/kl_loss": "kl/reference",
    "actor/pg_clipfrac": "clip_fraction",
    "actor/entropy": "entropy",
    "actor/grad_norm": "gradient_norm",
    "train/grad_norm": "gradient_norm",
    "actor/lr": "learning_rate",
    "train/lr": "learning_rate",
    "response_length/mean": "reply_tokens/mean",
    "response_length/max": "reply_tokens/max",
    "val/loss": "eval/loss",
    "val-core/pmem/mcq/acc/mean@1": "eval/accuracy",
}
"""verl's names of what pmem's own trainer measures too; the others stay as they are."""
LOOK = 0.5
"""Seconds between two looks at what has come."""
PATIENCE = 30.0
"""Seconds for verl to end by itself, once it has been told to."""
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray's variable for a job's description, its runtime environment included."""
SHOWN = 5
"""Lines of its log in a message."""


class Run(NamedTuple):
    """A run's folder. lock: a handle that keeps other runs out of it, verl's processes included; write: takes a metric
    record's line; show: is told (step, values), for a progress bar."""

    folder: Path
    lock: int
    stage: str
    steps: int
    write: Callable[[bytes], None]
    show: Callable[[int, Mapping[str, float]], None]


async def launch(run: Run, found: Composed, environment: Mapping[str, str]) -> Path:
    """Run verl until it is done, from its last checkpoint if there is one; the folder of the model it left.

    Errors: PmemError with the end of its log; what its processes reported, if they did.
    """
    folder = run.folder
    done = latest(folder)
    for line in told_before(folder, done):
        run.write(line)
    if done < run.steps:
        await _running(run, found, environment, done)
    if latest(folder) < run.steps:
        raise PmemError(f"verl ended after step {latest(folder)} of {run.steps}; see {folder / 'log.txt'}")
    model = checkpoint(folder, run.steps) / ("." if run.stage == "sft" else "actor")
    left = (model / "huggingface").resolve()
    if not any(left.glob("*.safetensors")):
        raise PmemError(f"verl left no Hugging Face model in {left} (is checkpoint.save_contents changed?)")
    return left


async def _running(run: Run, found: Composed, environment: Mapping[str, str], done: int) -> None:
    """Start verl, and tell its metrics as they come."""
    folder = run.folder
    alarm, measured, log, unrewarded = (folder / name for name in ("alarm.txt", "verl.jsonl", "log.txt", UNREWARDED))
    for left in (alarm, unrewarded):
        left.unlink(missing_ok=True)
    measured.write_bytes(b"")
    trainer = found.config.trainer
    kept = trainer.max_ckpt_to_keep if run.stage == "sft" else trainer.max_actor_ckpt_to_keep
    remove_outdated(folder, done, kept)
    try:
        (folder / "verl.yaml").write_text(found.text(), encoding="utf-8")
    except OSError as fault:
        raise OutputError(f"{folder}: can't be written: {fault.strerror}") from None
    with log.open("ab") as to:
        process = await asyncio.create_subprocess_exec(
            *command(run, found), stdin=asyncio.subprocess.DEVNULL, stdout=to, stderr=to,
            env=_variables(run, found, environment), start_new_session=True, pass_fds=[run.lock],
            preexec_fn=functools.partial(end_with_parent, signal.SIGTERM),
        )  # fmt: skip
    try:
        async for step, values in _lines(measured, process, alarm):
            if not values or step <= done > 0:  # a mean over nothing; what verl measures again where it goes on
                continue
            record = {"type": "metric", "run": run.stage, "step": step, "values": values}
            line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
            with (folder / "metrics.jsonl").open("ab") as to_keep:
                to_keep.write(line)
            run.write(line)
            run.show(step, values)
            unrewarded.unlink(missing_ok=True)  # it was no reason to end
    finally:
        await _ended(process)
    if alarm.exists():
        raise PmemError(f"{_text(alarm)} (verl's log: {log})")
    if process.returncode:
        why = f"; the last reply without a reward: {_text(unrewarded)}" if unrewarded.exists() else ""
        raise PmemError(f"verl stopped with status {process.returncode}: {_end(log)}{why} (the whole log: {log})")


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _variables(run: Run, found: Composed, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of verl's main process. Ray's workers have theirs by verl's settings, which its SFT trainer
    doesn't read."""
    own = {**environment, **found.variables()}
    job = {JOB: _with_variables(os.environ.get(JOB, "{}"), own)} if _on_ray(run, found) else {}
    return {**os.environ, **own, **job, "HYDRA_FULL_ERROR": "1"}


def command(run: Run, found: Composed) -> list[str]:
    """What is started: verl's trainer with the configuration in the run's folder, nothing else."""
    folder = str(run.folder.resolve())
    hydra = [f"--config-path={folder}", "--config-name=verl", setting("hydra.run.dir", f"{folder}/hydra", new=False)]
    hydra += ["hydra.output_subdir=null", "hydra/job_logging=disabled", "hydra/hydra_logging=disabled"]
    if run.stage != "sft":
        return [sys.executable, "-m", "verl.trainer.main_ppo", *hydra]
    if _on_ray(run, found):
        return [sys.executable, "-m", "pmem.train.verl.sft_on_ray", *hydra]
    ranks = found.config.trainer.n_gpus_per_node
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return [*torchrun, "-m", "verl.trainer.sft_trainer", *hydra]


def _with_variables(job: str, own: Mapping[str, str]) -> str:
    """Ray's description of a job, with these variables for its processes."""
    told = orjson.loads(job)
    runtime = told.get("runtime_env") or {}
    told["runtime_env"] = {**runtime, "env_vars": {**runtime.get("env_vars", {}), **own}}
    return orjson.dumps(told).decode()


def _on_ray(run: Run, found: Composed) -> bool:
    """Whether SFT's ranks are ray's workers: on several nodes. torchrun starts those of one."""
    return run.stage == "sft" and found.config.trainer.nnodes > 1


async def _lines(
    measured: Path, process: asyncio.subprocess.Process, alarm: Path
) -> AsyncIterator[tuple[int, dict[str, float]]]:
    """What verl has measured, step by step, until it ends or one of its processes raises the alarm."""
    with measured.open("rb") as file:
        rest = b""
        while True:
            over = process.returncode is not None or _raised(alarm)
            rest += file.read()
            *lines, rest = rest.split(b"\n")
            for line in lines:
                said = orjson.loads(line)
                yield int(said["step"]), values_of(said["data"])
            if over:
                return
            await asyncio.sleep(LOOK)


def _raised(alarm: Path) -> bool:
    return alarm.exists() and alarm.stat().st_size > 0  # else it is just being written


def values_of(data: Mapping[str, Any]) -> dict[str, float]:
    """verl's metrics under our names; only finite numbers."""
    numbers = {name: one for name, one in data.items() if isinstance(one, int | float) and one - one == 0}
    return {NAMES.get(name, name): float(one) for name, one in numbers.items()}


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Make sure that nothing of it is left."""
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), PATIENCE)
    _signal(process, signal.SIGKILL)
    await process.wait()


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _end(log: Path) -> str:
    """The last line that names an error, else the last lines of a log."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - (1 << 16)))
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line and not line.startswith(("File ", "raise "))]
    return named[-1] if named else " | ".join(lines[-SHOWN:])
