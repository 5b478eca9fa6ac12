"""A Slurm of two nodes that are both this machine, started without systemd; for tests of `shell/slurm/`."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch")
HERE = all(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") for name in NEEDED) and os.geteuid() == 0
CONF = """
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
KillWait=2
ReturnToService=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs={cpus}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs={cpus}
PartitionName=all Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def running(folder: Path, *, cpus: int = 4) -> Iterator[Path]:
    """The path of its slurm.conf, for SLURM_CONF. Its files are in the folder. cpus: that each node claims to have."""
    control, first, second = _free_ports(3)
    host = socket.gethostname().partition(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, host=host, control=control, first=first, second=second, cpus=cpus))
    (folder / "state").mkdir()
    (key := folder / "munge.key").write_bytes(os.urandom(128))
    key.chmod(0o600)
    munge = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log"}
    munge |= {"seed-file": "munged.seed"}
    commands = [
        ["munged", "--foreground", "--force", *(f"--{option}={folder / name}" for option, name in munge.items())],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", "n1"],
        ["slurmd", "-D", "-N", "n2"],
    ]
    env = {**os.environ, "SLURM_CONF": str(conf), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    started = []
    try:
        for command in commands:
            log = (folder / f"{command[0]}.out").open("ab")
            with log:
                started.append(subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
            if command[0] == "munged":
                _until(lambda: (folder / "munge.socket").exists(), "munged doesn't start")
        _until(lambda: _idle(env) == 2, "the nodes don't come up")
        yield conf
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)


def _idle(env: dict[str, str]) -> int:
    told = subprocess.run(["sinfo", "-h", "-N", "-o", "%T"], env=env, capture_output=True, text=True).stdout
    return told.split().count("idle")


def _until(condition: object, why: str, seconds: float = 30) -> None:
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, why
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
