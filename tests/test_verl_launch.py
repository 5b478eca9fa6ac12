"""Following a run of verl's from outside: metrics, its end, faults, and nothing left of it. (verl itself isn't needed.)"""

import asyncio
import os
import signal
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from pmem.errors import PmemError
from pmem.stream.folder import held
from pmem.train.verl import launch
from pmem.train.verl.compose import Composed
from pmem.train.verl.settings import places
from tests.command import start, wait_for


class Shown(Composed):
    """A configuration that only has to be written down."""

    def text(self) -> str:
        return "x: 1\n"

    def variables(self) -> dict[str, str]:
        return {"NCCL_DEBUG": "INFO", **places(str(Path.cwd()))}


def found(**more: int | None) -> Shown:
    """For a trainer with these settings."""
    usual = {"n_gpus_per_node": 2, "nnodes": 1, "max_ckpt_to_keep": 2, "max_actor_ckpt_to_keep": 2}
    return Shown(SimpleNamespace(trainer=SimpleNamespace(**(usual | more))), {})


FOUND = found()


@pytest.fixture
def told() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def run(tmp_path: Path, told: list[dict[str, Any]]) -> Iterator[launch.Run]:
    lock = held(tmp_path)
    yield launch.Run(tmp_path, lock, "grpo", 3, lambda line: told.append(orjson.loads(line)), lambda *_: None)
    os.close(lock)


def script(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """What is started in verl's place."""
    head = "import json, os, sys, time\nfrom pathlib import Path\nfolder = Path.cwd()\n"
    head += "def say(step, **data):\n    with open(os.environ['VERL_FILE_LOGGER_PATH'], 'a') as f: f.write(json.dumps({'step': step, 'data': data}) + '\\n')\n"
    head += "def save(step):\n    to = folder / 'checkpoints'\n    (to / f'global_step_{step}/actor/huggingface').mkdir(parents=True)\n"
    head += "    (to / f'global_step_{step}/actor/huggingface/model.safetensors').touch()\n    (to / 'latest_checkpointed_iteration.txt').write_text(str(step))\n"
    monkeypatch.setattr(launch, "command", lambda run, found: [sys.executable, "-c", head + textwrap.dedent(text)])


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "LOOK", 0.02)
    monkeypatch.setattr(launch, "PATIENCE", 0.5)


def test_metrics_come_under_our_names_and_the_model_is_found(
    monkeypatch: pytest.MonkeyPatch, run: launch.Run, told: list[dict[str, Any]]
) -> None:
    script(monkeypatch, """
        say(1, **{"actor/pg_loss": 0.5, "critic/score/mean": 0.25, "other": 3, "text": "x", "none": None})
        say(2, **{"train/lr": 1e-3})
        say(2, none=None)
        say(3, **{"val-core/pmem/mcq/acc/mean@1": 0.75})
        save(3)
    """)  # fmt: skip
    left = asyncio.run(launch.launch(run, FOUND, {"A": "b"}))
    assert left == (run.folder / "checkpoints/global_step_3/actor/huggingface").resolve()
    assert [(one["step"], one["values"]) for one in told] == [
        (1, {"loss": 0.5, "reward/mean": 0.25, "other": 3}), (2, {"learning_rate": 1e-3}), (3, {"eval/accuracy": 0.75})
    ]  # fmt: skip
    assert all(one["type"] == "metric" and one["run"] == "grpo" for one in told)
    assert (run.folder / "verl.yaml").read_text() == "x: 1\n"


def test_a_run_that_goes_on_tells_each_step_once(
    monkeypatch: pytest.MonkeyPatch, run: launch.Run, told: list[dict[str, Any]]
) -> None:
    script(monkeypatch, "say(1, a=1); say(2, a=2); save(1); print('ValueError: out of memory'); sys.exit(1)")
    with pytest.raises(PmemError, match="status 1: ValueError: out of memory"):
        asyncio.run(launch.launch(run, FOUND, {}))
    assert [one["step"] for one in told] == [1, 2]
    with (run.folder / "metrics.jsonl").open("ab") as torn:
        torn.write(b'{"step": 3')
    told.clear()
    script(monkeypatch, "say(1, again=1); say(2, a=20); say(3, a=30); save(3)")
    asyncio.run(launch.launch(run, FOUND, {}))
    assert [(one["step"], one["values"]["a"]) for one in told] == [(1, 1), (2, 20), (3, 30)]
    told.clear()
    script(monkeypatch, "sys.exit(1)")  # all steps are done: it isn't started again
    asyncio.run(launch.launch(run, FOUND, {}))
    assert [one["step"] for one in told] == [1, 2, 3]


def test_what_a_process_reports_ends_the_run(monkeypatch: pytest.MonkeyPatch, run: launch.Run) -> None:
    script(monkeypatch, "say(1, a=1); (folder / 'alarm.txt').write_text('openai:judge: no such key'); time.sleep(60)")
    began = time.monotonic()
    with pytest.raises(PmemError, match=r"^openai:judge: no such key \(verl's log: .*log.txt\)"):
        asyncio.run(launch.launch(run, FOUND, {}))
    assert time.monotonic() - began < 20


def test_an_interruption_leaves_no_process_behind(monkeypatch: pytest.MonkeyPatch, run: launch.Run) -> None:
    script(monkeypatch, """
        import signal, subprocess
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        (folder / "pids").write_text(f"{os.getpid()} {child.pid}")
        time.sleep(60)
    """)  # fmt: skip

    pids = run.folder / "pids"

    async def interrupted() -> None:
        task = asyncio.create_task(launch.launch(run, FOUND, {}))
        await asyncio.to_thread(wait_for, lambda: pids.exists() and bool(pids.read_text()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    for pid in map(int, pids.read_text().split()):
        wait_for(lambda pid=pid: not alive(pid))


KILLED = """
import asyncio, sys
from pathlib import Path
from pmem.stream.folder import held
from pmem.train.verl import launch
from tests.test_verl_launch import FOUND
launch.command = lambda run, found: [sys.executable, "-c", sys.argv[1]]
folder = Path.cwd()
asyncio.run(launch.launch(launch.Run(folder, held(folder), "grpo", 3, print, print), FOUND, {}))
"""
SLOW_TO_END = """
import os, signal, sys, time
from pathlib import Path
def end(*_):
    while not Path("may_end").exists(): time.sleep(0.02)
    sys.exit()
signal.signal(signal.SIGTERM, end)
Path("pid.part").write_text(str(os.getpid()))
Path("pid.part").rename("pid")
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's parent-death signal")
def test_kill_9_ends_verl_too_and_no_other_run_begins_before(tmp_path: Path) -> None:
    env = {"PYTHONPATH": str(Path(__file__).parent.parent)}
    child = start(sys.executable, "-c", KILLED, SLOW_TO_END, folder=tmp_path, env=env)
    wait_for((tmp_path / "pid").exists, seconds=60)
    pid = int((tmp_path / "pid").read_text())
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert alive(pid)
    with pytest.raises(OSError, match="another run is writing it"):
        held(tmp_path)
    (tmp_path / "may_end").touch()
    wait_for(lambda: not alive(pid))
    os.close(held(tmp_path))


def test_a_run_killed_while_verl_noted_its_checkpoint_goes_on_from_there(
    monkeypatch: pytest.MonkeyPatch, run: launch.Run
) -> None:
    script(monkeypatch, "save(1); save(2); (folder / 'checkpoints/latest_checkpointed_iteration.txt').write_text('')")
    with pytest.raises(PmemError, match="after step 2 of 3"):
        asyncio.run(launch.launch(run, FOUND, {}))
    (run.folder / "checkpoints" / "latest_checkpointed_iteration.txt").write_text("two")
    with pytest.raises(PmemError, match=r"latest_checkpointed_iteration.txt: invalid literal .*write the number"):
        asyncio.run(launch.launch(run, FOUND, {}))


@pytest.mark.parametrize(("kept", "left"), [(1, [2]), (2, [1, 2]), (None, [0, 1, 2])])
def test_of_an_earlier_attempts_checkpoints_as_many_stay_as_are_to_be_kept(
    monkeypatch: pytest.MonkeyPatch, run: launch.Run, kept: int | None, left: list[int]
) -> None:
    script(monkeypatch, "save(0); save(1); save(2); (folder / 'checkpoints/global_step_3').mkdir(); sys.exit(1)")
    with pytest.raises(PmemError):
        asyncio.run(launch.launch(run, FOUND, {}))
    script(monkeypatch, "(folder / 'seen').write_text(' '.join(os.listdir(folder / 'checkpoints'))); save(3)")
    asyncio.run(launch.launch(run, found(max_actor_ckpt_to_keep=kept), {}))
    seen = {name for name in (run.folder / "seen").read_text().split() if name.startswith("global")}
    assert seen == {f"global_step_{step}" for step in left}


def test_ranks_on_several_nodes_get_their_variables_by_rays_job(
    monkeypatch: pytest.MonkeyPatch, run: launch.Run
) -> None:
    monkeypatch.setenv(launch.JOB, '{"metadata":{"a":"b"},"runtime_env":{"env_vars":{"X":"1"}}}')
    script(monkeypatch, f"print(os.environ['NCCL_DEBUG'], os.environ['{launch.JOB}']); sys.exit(1)")
    with pytest.raises(PmemError):
        asyncio.run(launch.launch(run._replace(stage="sft"), found(nnodes=2), {"A": "b"}))
    name, job = (run.folder / "log.txt").read_text().split(" ", 1)
    told = orjson.loads(job)
    assert name == "INFO" and told["metadata"] == {"a": "b"}
    variables = {"X": "1", "A": "b", "NCCL_DEBUG": "INFO", "HF_DATASETS_CACHE": f"{run.folder}/datasets"}
    assert told["runtime_env"]["env_vars"] == variables | {"VERL_FILE_LOGGER_PATH": f"{run.folder}/verl.jsonl"}


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("say(1, a=1)", "verl ended after step 0 of 3"),
        ("save(2)", "verl ended after step 2 of 3"),
        ("save(3); os.remove(folder / 'checkpoints/global_step_3/actor/huggingface/model.safetensors')", "left no Hugging Face model"),
        ("os.kill(os.getpid(), 9)", "status -9"),
        ("(folder / 'unrewarded.txt').write_text('no server'); sys.exit(1)", "without a reward: no server"),
    ],
)  # fmt: skip
def test_an_end_that_is_none(monkeypatch: pytest.MonkeyPatch, run: launch.Run, text: str, said: str) -> None:
    script(monkeypatch, text)
    with pytest.raises(PmemError, match=said):
        asyncio.run(launch.launch(run, FOUND, {}))


def test_what_is_started(run: launch.Run) -> None:
    rl = launch.command(run, FOUND)
    assert rl[:3] == [sys.executable, "-m", "verl.trainer.main_ppo"]
    sft = launch.command(run._replace(stage="sft"), FOUND)
    assert sft[2:6] == ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    assert f"--config-path={run.folder.resolve()}" in sft
    assert launch.command(run._replace(stage="sft"), found(nnodes=2))[:3] == [
        sys.executable,
        "-m",
        "pmem.train.verl.sft_on_ray",
    ]
    assert os.path.isabs(run.folder)
