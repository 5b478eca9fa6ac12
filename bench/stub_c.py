"""stub.c, compiled and running."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

SOURCE = Path(__file__).with_name("stub.c")


class StubC:
    """A running server. url: ends in /v1; counts: what it was asked, once it has stopped."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        self.process = process
        self.url = url
        self.counts: dict[str, Any] = {}

    def stop(self) -> None:
        """End the server and take its counts."""
        self.process.terminate()
        out, _ = self.process.communicate(timeout=10)
        self.counts = orjson.loads(out)


@contextmanager
def running_c(*, latency: float = 0, core: int | None = None) -> Iterator[StubC]:
    """The server on a free port, on one core if given. latency: milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "stub"
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", program, SOURCE], check=True)
        process = subprocess.Popen([program, "0", str(latency)], stdout=subprocess.PIPE)
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        assert process.stdout
        stub = StubC(process, process.stdout.readline().decode().removeprefix("listening on ").strip())
        try:
            yield stub
        finally:
            stub.stop()
