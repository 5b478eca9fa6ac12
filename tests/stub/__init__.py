"""A stub OpenAI-compatible server: real HTTP, deterministic replies, faults on demand.

In a test:

    with running(fault="429=0.1,reset=0.05", latency=20) as stub:
        ... stub.url ("http://127.0.0.1:PORT/v1") ...
        assert stub.counts()["paid_again"] == 0
        stub.restart(fault={"stall": 1}, stall=0.5)  # the same process, as if started with these options

In a shell: `python -m tests.stub --port 0 --latency 500`; `--help` lists the options. Here they are keywords with
underscores: `no_json_schema=True`, `models=["a", "b"]`, `fault_first=2`, `log=path`.

A reply depends on the request's model, messages, response_format, temperature, seed, max_tokens and
max_completion_tokens only (which don't shorten it); a fault on these, the attempt and --seed. What a client pays for and
may keep (badschema, refusal, length) doesn't depend on the attempt: asked again, the stub says the same, so that
a run that was killed and resumed ends like an undisturbed one. Without --latency a reply is made in one go, so that
in_flight_max stays near 1. Beside the OpenAI routes (chat completions, embeddings, models, files, batches) there are
GET /stub/counts and POST /stub/reset.

The requests of a batch get the replies that they would get as chat requests, when the batch is done, with the faults of
--batch-fault, and those of --fault that change a reply's content.
"""

import http.client
import json
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Stub:
    """A running stub."""

    url: str  # ends in /v1
    process: "subprocess.Popen[str]"

    def counts(self) -> dict[str, Any]:
        """requests, by_status ("0": closed without an answer), distinct, repeats, paid_again, in_flight_max,
        prompt_tokens, completion_tokens, batches (created ones), batch_requests (answered ones, which are counted as
        requests too)."""
        return self._ask("GET", "/stub/counts")

    def reset(self) -> None:
        """Zero the counts, and forget which bodies have been seen, files and batches; the options stay."""
        self._ask("POST", "/stub/reset")

    def restart(self, **options: Any) -> None:
        """Go on as if started with exactly these options (but the port), in a millisecond."""
        self._ask("POST", "/stub/reset", json.dumps(options, default=str))

    def _ask(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self.url.split("/")[2], timeout=10)
        try:
            connection.request(method, path, body)
            reply = connection.getresponse()
            answer: dict[str, Any] = json.load(reply)
        finally:
            connection.close()
        if reply.status != 200:
            raise ValueError(answer["error"]["message"])
        return answer


@contextmanager
def running(**options: Any) -> Iterator[Stub]:
    """A stub in a process of its own, which ends with the block (or with this process, whatever ends that)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.stub", "--until-eof", *arguments(options)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a Ctrl-C meant for the client under test is not meant for it
    )
    with process:
        try:
            assert process.stdout is not None
            yield Stub(_first_line(process.stdout, 20).removeprefix("listening on ").strip(), process)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def arguments(options: dict[str, Any]) -> list[str]:
    """Keyword options as a command line: fault_first=2 as --fault-first 2, True as a flag; what is None, False
    or empty is left out; a dict as NAME=VALUE,...; a list as A,B."""
    line: list[str] = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is None or value is False or value in ([], {}):
            continue
        if value is True:
            line.append(flag)
        elif isinstance(value, dict):
            line.append(f"{flag}=" + ",".join(f"{key}={share}" for key, share in value.items()))
        elif isinstance(value, list | tuple):
            line.append(f"{flag}=" + ",".join(map(str, value)))
        else:
            line.append(f"{flag}={value}")
    return line


def _first_line(stdout: IO[str], seconds: float) -> str:
    if not select.select([stdout], [], [], seconds)[0]:
        raise TimeoutError(f"the stub said nothing in {seconds} s")
    line = stdout.readline()
    if not line.startswith("listening on "):
        raise RuntimeError(f"the stub did not start: {line!r} (see its stderr)")
    return line
