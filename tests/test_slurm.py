"""The batch scripts: checked by shellcheck, and really run by a Slurm (`bash shell/test.sh slurm`)."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pmem.train.verl.presets import preset
from tests import likes, slurm
from tests.command import PMEM, Ran, asking, ended, environment, lines, people, pmem, sample, start, wait_for
from tests.stub import Stub

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "shell" / "slurm"
real = [pytest.mark.slurm, pytest.mark.skipif(not slurm.HERE, reason="needs root, slurmctld, slurmd and munge")]
with_ray = [*real, pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs the extra 'ray'")]
with_verl = [*with_ray, pytest.mark.skipif(not importlib.util.find_spec("verl"), reason="needs the extra 'verl'")]


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck")
def test_scripts_pass_shellcheck() -> None:
    scripts = sorted((ROOT / "shell").rglob("*.sh"))
    done = subprocess.run(["shellcheck", "-x", *scripts], cwd=ROOT, capture_output=True, text=True)
    assert len(scripts) >= 7 and done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", ["stage.sh", "served.sh", "ray.sh"])
def test_without_arguments_they_say_how_to_use_them(tmp_path: Path, script: str) -> None:
    done = ended(start("bash", SCRIPTS / script, folder=tmp_path))
    assert done.status == 2 and script in done.err and "set -euo" not in done.err


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Slurm's slurm.conf."""
    with slurm.running(tmp_path_factory.mktemp("slurm")) as path:
        yield str(path)


@pytest.fixture
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The slurm.conf of one whose nodes have the CPUs that verl claims."""
    with slurm.running(tmp_path_factory.mktemp("large"), cpus=12) as path:
        yield str(path)


def submitted(script: str, *arguments: str | Path, folder: Path, conf: str, **env: str) -> Ran:
    """A script run until its jobs have ended. As long as there is a file `broken`, the third shard's task fails."""
    given = {"SLURM_CONF": conf, "PYTHONPATH": str(ROOT), **env}
    bin = folder / "bin"
    bin.mkdir(exist_ok=True)
    broken = '[ "${SLURM_ARRAY_TASK_ID-}" = 3 ] && [ -e broken ] && exit 1'
    (bin / "pmem").write_text(f'#!/bin/sh\n{broken}\nexec {sys.executable} -m pmem "$@"\n')
    (bin / "pmem").chmod(0o755)
    given["PATH"] = f"{bin}:{environment(folder)['PATH']}"
    return ended(start("bash", SCRIPTS / script, "--wait", *arguments, folder=folder, env=given), seconds=120)


class TestStage:
    pytestmark = real

    def test_shards_join_to_the_bytes_of_one_run(self, tmp_path: Path, conf: str, stub: Stub) -> None:
        """With groups: qa takes all histories of a persona together. And with rejects."""
        made = [{**sample("history"), "id": f"h-{n:016x}", "persona_id": f"p-{n // 4:016x}"} for n in range(30)]
        torn = lines(made[:10]) + b'{"type":"history"\n' + lines(made[10:])
        (tmp_path / "in.jsonl").write_bytes(torn)
        stub.restart(reply=ROOT / "tests" / "stub_author.py")
        run = ["qa", "in.jsonl", *asking(stub)]
        whole = pmem(*run, "--no-cache", "--rejects", "whole.rejects", folder=tmp_path)
        ran = submitted("stage.sh", "3", "out.jsonl", *run, folder=tmp_path, conf=conf)
        assert (ran.status, whole.status) == (0, 3), ran.err
        assert (tmp_path / "out.jsonl").read_bytes() == whole.out
        assert (tmp_path / "out.jsonl.rejects.jsonl").read_bytes() == (tmp_path / "whole.rejects").read_bytes()

    def test_only_what_failed_is_made_again(self, tmp_path: Path, conf: str, stub: Stub) -> None:
        (tmp_path / "people").write_bytes(people(12) + people(3))
        whole = pmem("personas", "people", *asking(stub), "--no-cache", "--dropped", "d", folder=tmp_path)
        run = ["4", "out.jsonl", "personas", "people", *asking(stub), "--dropped", "%s.dropped.jsonl"]
        stub.restart()
        (tmp_path / "broken").touch()  # see `submitted`
        first = submitted("stage.sh", *run, folder=tmp_path, conf=conf)
        shards = tmp_path / "out.jsonl.shards"
        assert first.status != 0 and not (tmp_path / "out.jsonl").exists()
        made = {path.name: path.stat().st_mtime_ns for path in shards.glob("0000[0-9].jsonl")}
        assert sorted(made) == ["00001.jsonl", "00002.jsonl", "00004.jsonl"]
        (tmp_path / "broken").unlink()
        again = submitted("stage.sh", *run, folder=tmp_path, conf=conf)
        assert again.status == 0, again.err
        assert (tmp_path / "out.jsonl").read_bytes() == whole.out
        assert (tmp_path / "out.jsonl.dropped.jsonl").read_bytes() == (tmp_path / "d").read_bytes()
        assert all((shards / name).stat().st_mtime_ns == before for name, before in made.items())
        third = submitted("stage.sh", *run, folder=tmp_path, conf=conf)
        assert (third.status, third.out) == (0, b"all shards are made: joined\n")
        (tmp_path / "out.jsonl").unlink()
        (shards / "00002.rejects.jsonl").rename(shards / "00002.rejects.jsonl.part")  # killed between two renames
        fourth = submitted("stage.sh", *run, folder=tmp_path, conf=conf)
        assert fourth.status == 0 and "makes shards 2," in fourth.err
        assert (tmp_path / "out.jsonl").read_bytes() == whole.out
        other = submitted("stage.sh", "5", *run[1:], folder=tmp_path, conf=conf)
        assert other.status == 1 and "holds 4 shards of: pmem personas people" in other.err


class TestServed:
    pytestmark = real

    @pytest.mark.parametrize("serves", [True, False])
    def test_the_client_waits_for_the_server_which_ends_with_it(
        self, tmp_path: Path, conf: str, stub: Stub, serves: bool
    ) -> None:
        (tmp_path / "people").write_bytes(people(5))
        whole = pmem("personas", "people", *asking(stub), "--no-cache", folder=tmp_path)
        server = f'sleep 3; {sys.executable} -m tests.stub --port "$PORT"' if serves else "exit 1"
        run = ["pmem", "personas", "people", "-m", "openai:stub", "-o", "out.jsonl"]
        ran = submitted("served.sh", server, *run, folder=tmp_path, conf=conf)
        said = "".join(path.read_text() for path in (tmp_path / "served").glob("*.log"))
        assert ran.status == (0 if serves else 1), said
        assert (tmp_path / "out.jsonl").read_bytes() == whole.out if serves else "has ended" in said
        env = {**os.environ, "SLURM_CONF": conf}
        squeue = ["squeue", "-h"]
        wait_for(lambda: subprocess.run(squeue, env=env, capture_output=True).stdout == b"", 30)


class TestRay:
    pytestmark = with_ray

    def test_workers_on_all_nodes_of_a_job(self, tmp_path: Path, conf: str, stub: Stub) -> None:
        """Five workers, four of which a node can hold."""
        (tmp_path / "people").write_bytes(people(40))
        whole = pmem("personas", "people", *asking(stub), "--no-cache", folder=tmp_path)
        run = ["personas", "people", *asking(stub), "--no-cache", "--ray", "--workers", "5", "-o", "out.jsonl"]
        _on_two_nodes(tmp_path, conf, run, seconds=240)
        assert (tmp_path / "out.jsonl").read_bytes() == whole.out


class TestVerl:
    pytestmark = with_verl

    def test_trains_on_all_nodes_of_a_job(self, tmp_path: Path, large: str) -> None:
        """One rank on each of two nodes: SFT, and GRPO from what it leaves. SFT's losses are those of one node."""
        likes.task(tmp_path, people=8, held=2)
        env = {"SLURM_GPUS_ON_NODE": "1", **preset("cpu", "grpo").environment}
        sft = "sft train.jsonl -m local:model --steps 3 --batch-size 4 --learning-rate 1e-3"
        alone = ended(start(*PMEM, *_trained(sft, "alone"), folder=tmp_path), seconds=600)
        many = _trained(f"{sft} --set=trainer.nnodes=2 --set=trainer.n_gpus_per_node=2", "many")
        said = _on_two_nodes(tmp_path, large, many, status=1, **env)
        assert "RuntimeError: trainer.nnodes=2 with 2 ranks each takes 2 GPUs and 20 CPUs of every node;" in said
        run = _trained(f"{sft} --set=trainer.nnodes=2", "started")
        started = _metrics(_on_two_nodes(tmp_path, large, run, **env))
        assert steps(started) == [1, 2, 3]
        for one, other in zip(alone.records, started, strict=True):
            for name in ("loss", "gradient_norm"):
                assert one["values"][name] == pytest.approx(other["values"][name], rel=1e-4)
        ray = [f"ray_kwargs.ray_init.{name}=null" for name in ("num_cpus", "num_gpus", "object_store_memory")]
        keys = ["trainer.nnodes=2", "ray_kwargs.ray_init.address=auto", *ray]
        grpo = "grpo train.jsonl -m local:started --steps 2 --batch-size 4 --group 4 --max-tokens 4"
        run = [*_trained(grpo, "rewarded"), *(f"--set={key}" for key in keys)]
        told = _metrics(_on_two_nodes(tmp_path, large, run, **env))
        assert steps(told) == [1, 2]
        assert (tmp_path / "rewarded" / "model.safetensors").exists()


def _trained(made: str, folder: str) -> list[str]:
    more = f"--histories histories.jsonl --prompts prompts --preset cpu --reply-form line --mix mcq=1 -o {folder}"
    return [*made.split(), *more.split()]


def _on_two_nodes(folder: Path, conf: str, run: list[str], *, status: int = 0, seconds: float = 900, **env: str) -> str:
    """What a command in a job of two nodes says."""
    (folder / "pmem").write_text(f'#!/bin/sh\nexec {sys.executable} -m pmem "$@"\n')
    (folder / "pmem").chmod(0o755)
    sbatch = ["sbatch", "--wait", "--nodes=2", "--exclusive", "-o", "log", SCRIPTS / "ray.sh", "./pmem"]
    given = {"SLURM_CONF": conf, "PYTHONPATH": str(ROOT), **env}
    ran = ended(start(*sbatch, *run, folder=folder, env=given), seconds=seconds)
    said = (folder / "log").read_text()
    assert ran.status == status, said
    return said


def _metrics(said: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in said.splitlines() if line.startswith('{"type":"metric"')]


def steps(told: list[dict[str, Any]]) -> list[int]:
    return [one["step"] for one in told if "loss" in one["values"]]
