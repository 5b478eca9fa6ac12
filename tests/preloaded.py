"""pmem as a command that starts at once: processes that are forked from one in which torch is imported already.

A script that runs many commands on tiny models takes most of its time for imports otherwise. `preloaded` makes a program
`pmem` for a test to put on a child's PATH. Each command is a process of its own, with the caller's streams, folder and
environment, and is killed when the caller is.
"""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from tests.command import wait_for

CALLER = """#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect("{path}")
told = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(told).to_bytes(8, "big")], [0, 1, 2])
server.sendall(told)
sys.exit(int(server.recv(8) or b"1"))
"""


@contextmanager
def preloaded(folder: Path) -> Iterator[Path]:
    """A folder with the program, as long as the block runs."""
    path, program = folder / "socket", folder / "pmem"
    program.write_text(CALLER.format(python=sys.executable, path=path))
    program.chmod(0o755)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parent.parent
    process = subprocess.Popen([sys.executable, "-m", "tests.preloaded", path], cwd=root, env=environment)
    try:
        wait_for(path.exists, 60)
        yield folder
    finally:
        process.kill()
        process.wait()


def serve(path: str) -> None:
    """Fork a process for each caller."""
    import torch._dynamo  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    import pmem.backends.local
    import pmem.cli
    import pmem.train.grpo  # noqa: F401

    server = socket.socket(socket.AF_UNIX)
    server.bind(path + ".part")
    server.listen(8)
    os.rename(path + ".part", path)
    while True:
        caller, _ = server.accept()
        if not os.fork():
            server.close()
            os._exit(_looked_after(caller))
        caller.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # those that have ended
                pass


def _looked_after(caller: socket.socket) -> int:
    """Run a caller's command in a process of its own; tell the caller how it ended, or end it with the caller."""
    size, streams, _, _ = socket.recv_fds(caller, 8, 3)
    told = caller.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
    worker = os.fork()
    if not worker:
        caller.close()
        _command(streams, *orjson.loads(told))
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(worker)
    watched: list[Any] = [caller, ended]
    ready, _, _ = select.select(watched, [], [])
    if ended not in ready:
        os.kill(worker, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    if ended in ready:
        caller.sendall(str(status if status >= 0 else 128 - status).encode())
    return 0


def _command(streams: list[int], words: list[str], folder: str, environment: dict[str, str]) -> Any:
    """The command, as if it had been started from a shell."""
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["pmem", *words]
    status = 1
    try:
        from pmem.cli import main

        main(prog_name="pmem")
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
