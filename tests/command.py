"""pmem as a child process, the way a user's shell starts it; and records to feed it with."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from tests.stub import Stub

RECORDS = Path(__file__).parent / "records"
KEY = "sk-never-to-be-seen-0123456789"
"""The key of every child: `pmem` below fails if it shows up in what the child says."""

PMEM = (sys.executable, "-m", "pmem")
HURRIED = (
    sys.executable,
    "-c",
    "import sys, pmem.backends.calls as calls, pmem.backends.limits as limits\n"
    "calls.FIRST_WAIT, calls.LONGEST_WAIT, calls.PATIENCE, limits.LONGEST_GAP = 0.01, 0.05, 0.0, 0.01\n"
    "from pmem.cli import main\n"
    "main(prog_name='pmem')",
)
"""The same, with short waits between the tries of a call."""


class Ran(NamedTuple):
    """What a child left: exit status, stdout, stderr."""

    status: int
    out: bytes
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return records(self.out)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """This process's environment without anybody's settings, with the folder as home."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("PMEM_", "OPENAI_", "XDG_"))}
    keep.pop("PYTHONDONTWRITEBYTECODE", None)  # children are timed
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"PATH": path, "HOME": str(folder), "OPENAI_API_KEY": KEY, "COLUMNS": "100", "LANG": "C.UTF-8"}
    return keep | own | more


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # tests run in a shell's background; children inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def start(
    *command: str | Path, folder: Path, env: dict[str, str] | None = None, **options: Any
) -> subprocess.Popen[bytes]:
    """A child with pipes for stdin, stdout and stderr (unless given), where Ctrl-C means what it means in a shell."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=folder,
        env=environment(folder, **(env or {})),
        bufsize=0,
        **{**pipes, **options},
    )


def ended(child: subprocess.Popen[bytes], input: bytes | None = None, *, seconds: float = 60) -> Ran:
    """Wait for a child. It may neither crash nor show the key."""
    try:
        out, err = child.communicate(input, timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        raise
    ran = Ran(child.returncode, out or b"", (err or b"").decode())
    assert "Traceback" not in ran.err and "Exception" not in ran.err, ran.err
    assert KEY.encode() not in ran.out and KEY not in ran.err
    return ran


def pmem(
    *arguments: str | Path,
    folder: Path,
    input: bytes = b"",
    hurried: bool = False,
    env: dict[str, str] | None = None,
    **options: Any,
) -> Ran:
    """Run `pmem ARGUMENTS` with `input` on stdin (a pipe)."""
    return ended(start(*(HURRIED if hurried else PMEM), *arguments, folder=folder, env=env, **options), input)


def bash(line: str, *, folder: Path, env: dict[str, str] | None = None) -> Ran:
    """Run a line of shell, with nothing on stdin."""
    return ended(start("bash", "-c", line, folder=folder, env=env, stdin=subprocess.DEVNULL))


PEAK = "print('peak', *[line for line in open('/proc/self/status') if 'VmHWM' in line], file=sys.stderr)"
"""Code that says a process's peak of memory; `ru_maxrss` would count the process that it was forked from."""


def peak(code: str, *arguments: str, folder: Path) -> int:
    """MiB of memory that Python took at most to run the code (which has `sys` imported)."""
    lines = [f"    {line}" for line in code.splitlines()]
    code = "\n".join(["import sys", "try:", *lines, "finally:", f"    {PEAK}"])
    ran = ended(start(sys.executable, "-c", code, *arguments, folder=folder), seconds=100)
    assert ran.status == 0, ran.err
    return int(ran.err.split("VmHWM:")[1].split()[0]) // 1024


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.01)


def records(data: bytes) -> list[dict[str, Any]]:
    """JSON lines; every one of them must be whole."""
    assert not data or data.endswith(b"\n"), data[-80:]
    return [orjson.loads(line) for line in data.splitlines()]


def lines(values: Iterable[Any]) -> bytes:
    """Values as JSON lines."""
    return b"".join(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE) for value in values)


def sample(kind: str) -> dict[str, Any]:
    """The sample record of a type."""
    value: dict[str, Any] = orjson.loads((RECORDS / f"{kind}.json").read_bytes())
    return value


def question(number: int, *, passes: bool = True) -> dict[str, Any]:
    """A judged question that `pmem filter` keeps, or drops for its form."""
    qa = sample("qa")
    cast = [(check, n, None, "pass") for check in ("blind", "leak", "gold", "harm") for n in range(4)]
    cast += [("form", n, None, "pass" if passes else "fail") for n in range(3)]
    cast += [("distractors", n, letter, "pass") for letter in "ABCD" if letter != qa["gold"] for n in range(3)]
    votes = [
        {"check": check, "n": n, "judge": "openai:m", "verdict": verdict, "choice": choice, "reason": None}
        for check, n, choice, verdict in cast
    ]
    return {**qa, "id": f"q-{number:016x}", "votes": votes}


def people(count: int) -> bytes:
    """Lines that describe persons, for `pmem personas`."""
    return b"".join(b"A beekeeper of %d years who repairs clocks.\n" % (20 + n) for n in range(count))


def asking(stub: Stub) -> list[str]:
    """The options that make a stub server the model."""
    return ["-m", "openai:stub", "--base-url", stub.url]
