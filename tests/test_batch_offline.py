"""`--batch-out` and `--batch-in`: calls go to a file, somebody else makes them, the same command goes on."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pmem.errors import BackendError, Deferred, ModelError
from pmem.stream.made import together
from tests.command import (
    PMEM,
    Ran,
    asking,
    bash,
    ended,
    lines,
    people,
    pmem,
    question,
    records,
    sample,
    start,
    wait_for,
)
from tests.run_batch import answered
from tests.stub import ROOT, Stub

DOCS = ROOT / "docs" / "models.md"
NO_KEY = {"OPENAI_API_KEY": ""}
STAGES = {
    "personas": (people(2), ["personas"]),
    "converse": (lines([sample("persona")]), ["converse"]),
    "qa": (lines([sample("history")]), ["qa"]),
    "judge": (lines([question(0)]), ["judge"]),
    "eval": (
        lines([question(0)]),
        ["eval", "--mode", "open", "--context", "snippet", "--judge-model", "openai:stub"],
    ),
}
ROUNDS = {"personas": [2, 10, 2, 2], "converse": [4], "qa": [1, 1], "judge": [25], "eval": [1, 3]}
"""Calls of each round: those of a later one follow from the replies to others."""


def put_off(folder: Path, *more: str, stage: str = "judge", input: bytes | None = None) -> Ran:
    """A run that writes its calls to calls.jsonl, without a key or a server."""
    given, command = STAGES[stage]
    arguments = [*command, "-m", "openai:stub", "--batch-out", "calls.jsonl", "-o", "out.jsonl", *more]
    return pmem(*arguments, folder=folder, input=given if input is None else input, env=NO_KEY)


def calls_in(folder: Path) -> list[dict[str, Any]]:
    return records((folder / "calls.jsonl").read_bytes())


# ---- the whole way ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_a_round_trip_gives_what_a_server_gives(tmp_path: Path, stage: str, stub: Stub) -> None:
    stub.restart(reply=ROOT / "tests" / "stub_author.py")
    input, command = STAGES[stage]
    server = [*asking(stub), *(["--judge-base-url", stub.url] if stage == "eval" else [])]
    usual = pmem(*command, *server, "--no-cache", folder=tmp_path, input=input)
    made = stub.counts()["requests"]
    stub.reset()
    sent: list[str] = []
    rounds: list[int] = []
    more: list[str] = []
    while (ran := put_off(tmp_path, *more, stage=stage)).status == 4:
        assert not (tmp_path / "out.jsonl").exists()
        calls = calls_in(tmp_path)
        sent += [call["custom_id"] for call in calls]
        rounds.append(len(calls))
        (tmp_path / "replies.jsonl").write_bytes(lines(answered(stub.url, calls)))
        more = ["--batch-in", "replies.jsonl"]
    assert ran.status == 0 and (tmp_path / "out.jsonl").read_bytes() == usual.out, ran.err
    assert (tmp_path / "calls.jsonl").read_bytes() == b""
    assert rounds == ROUNDS[stage]
    assert len(sent) == len(set(sent)) == made == stub.counts()["distinct"]
    # the replies are kept: the files aren't needed any more
    assert put_off(tmp_path, stage=stage).status == 0


def test_the_loop_that_the_documentation_shows(tmp_path: Path, stub: Stub) -> None:
    (loop,) = re.findall(r"^```sh\n(.*?run-batch.*?)^```$", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL)[-1:]
    (tmp_path / "lines.jsonl").write_bytes(people(2))
    vllm = tmp_path / "vllm"
    vllm.write_text(f'#!/bin/sh\nexec env PYTHONPATH={ROOT} {sys.executable} -m tests.run_batch {stub.url} "$@"\n')
    vllm.chmod(0o755)
    ran = bash(f"set -u; PATH=.:$PATH\n{loop}", folder=tmp_path, env=NO_KEY)
    assert len(records((tmp_path / "personas.jsonl").read_bytes())) == 2, ran.err
    assert ran.err.count("left for later") == 4 and "2 in, 2 out" in ran.err.splitlines()[-1]


def test_calls_are_those_of_the_usual_backend(tmp_path: Path, stub: Stub) -> None:
    log = tmp_path / "log.jsonl"
    stub.restart(log=log)
    pmem("judge", *asking(stub), "--max-tokens", "50", "--no-cache", folder=tmp_path, input=STAGES["judge"][0])
    put_off(tmp_path, "--max-tokens", "50", "--base-url", stub.url)
    written = [call["body"] for call in calls_in(tmp_path)]
    assert len(written) == 25 and all(body["response_format"]["type"] == "json_schema" for body in written)
    assert written[0].keys() == {"messages", "seed", "model", "max_tokens", "response_format"}
    stub.reset()
    answered(stub.url, calls_in(tmp_path))
    assert stub.counts()["distinct"] == 25  # as bodies that the stub tells apart


def test_azure_has_an_address_of_its_own(tmp_path: Path) -> None:
    env = {"AZURE_OPENAI_ENDPOINT": "https://example.invalid", "OPENAI_API_VERSION": "2024-10-21"}
    arguments = ["-m", "azure:mine", "--batch-out", "calls.jsonl"]
    assert pmem("judge", *arguments, folder=tmp_path, input=STAGES["judge"][0], env=env).status == 4
    assert {(call["url"], call["body"]["model"]) for call in calls_in(tmp_path)} == {("/chat/completions", "mine")}


# ---- what is left for later ------------------------------------------------------------------------------------


def test_the_last_line_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_bytes(b"old\n")
    ran = put_off(tmp_path)
    (line,) = ran.err.splitlines()
    assert line.startswith(
        "pmem judge: 1 in, 0 out, 1 left for later; 25 calls in calls.jsonl: have them answered "
        "(vllm run-batch -i calls.jsonl -o REPLIES --model NAME), then run this again with --batch-in REPLIES; "
    )
    assert ran.status == 4 and (tmp_path / "out.jsonl").read_bytes() == b"old\n"
    assert put_off(tmp_path, "-q").err == ""


def test_what_is_done_goes_to_stdout_and_the_rest_is_left(tmp_path: Path, stub: Stub) -> None:
    both = lines([question(0), {**question(1), "query": "What else?"}])
    done = pmem("judge", *asking(stub), folder=tmp_path, input=STAGES["judge"][0])
    ran = pmem("judge", "-m", "openai:stub", "--batch-out", "calls.jsonl", folder=tmp_path, input=both, env=NO_KEY)
    assert (ran.status, ran.out) == (4, done.out) and len(calls_in(tmp_path)) == 25


def test_a_part_that_is_put_off_puts_off_the_record(tmp_path: Path, stub: Stub) -> None:
    persona = sample("persona")
    one = {**persona, "preferences": persona["preferences"][:1], "secrets": []}
    two = {**persona, "preferences": persona["preferences"], "secrets": []}
    assert pmem("converse", *asking(stub), folder=tmp_path, input=lines([one])).status == 0
    ran = put_off(tmp_path, stage="converse", input=lines([two]))
    assert ran.status == 4 and "1 in, 0 out, 1 left for later" in ran.err
    assert 1 <= len(calls_in(tmp_path)) < len(persona["preferences"]) + 1


def test_equal_calls_are_written_once(tmp_path: Path) -> None:
    ran = put_off(tmp_path, input=lines([question(n) for n in range(40)]))
    assert "40 left for later; 25 calls in" in ran.err
    assert len({call["custom_id"] for call in calls_in(tmp_path)}) == len(calls_in(tmp_path)) == 25


@pytest.mark.parametrize("how", ["torn", "ctrl-c"])
def test_a_run_that_stops_leaves_no_file(tmp_path: Path, how: str) -> None:
    arguments = [*PMEM, "judge", "-m", "openai:stub", "--batch-out", "calls.jsonl"]
    child = start(*arguments, folder=tmp_path, env=NO_KEY)
    assert child.stdin
    child.stdin.write(STAGES["judge"][0])
    if how == "torn":
        ran = ended(child, b"{")
    else:
        stdin, child.stdin = child.stdin, None
        wait_for((tmp_path / "calls.jsonl.part").exists)
        child.send_signal(signal.SIGINT)
        ran = ended(child)
        stdin.close()
    assert ran.status == (1 if how == "torn" else 130)
    assert not (tmp_path / "calls.jsonl").exists() and (tmp_path / "calls.jsonl.part").exists()


def test_rejects_are_complete_or_not_at_all(tmp_path: Path, stub: Stub) -> None:
    mixed = STAGES["judge"][0] + b"{\n"
    ran = put_off(tmp_path, "--rejects", "rejects.jsonl", input=mixed)
    assert ran.status == 4 and not (tmp_path / "rejects.jsonl").exists()
    (tmp_path / "replies.jsonl").write_bytes(lines(answered(stub.url, calls_in(tmp_path))))
    ran = put_off(tmp_path, "--rejects", "rejects.jsonl", "--batch-in", "replies.jsonl", input=mixed)
    assert ran.status == 3 and len(records((tmp_path / "rejects.jsonl").read_bytes())) == 1


# ---- replies ---------------------------------------------------------------------------------------------------


def test_every_kind_of_line_is_counted(tmp_path: Path, stub: Stub) -> None:
    put_off(tmp_path)
    calls = calls_in(tmp_path)
    results = answered(stub.url, calls)
    strange = {**results[0], "custom_id": "request-1"}
    unknown = {**results[0], "custom_id": "ab" * 32}
    failed = {**results[24], "response": {"status_code": 500, "request_id": "", "body": {"error": "busy"}}}
    files = lines([*results[:20], strange, unknown, failed]) + b"\n[]\nno\n" + lines([results[20]])[:200]
    (tmp_path / "replies.jsonl").write_bytes(files)
    ran = put_off(tmp_path, "--batch-in", "replies.jsonl")
    first, last = ran.err.splitlines()
    assert first == (
        "pmem judge: --batch-in: replies: 21; failed calls: 1 (such as: busy); "
        "lines that are no results of pmem's calls: 4"
    )
    assert ran.status == 4 and "20 calls to openai:stub" in last
    assert "; --batch-in: replies to no call of this run: 1; 5 calls in calls.jsonl: " in last
    assert calls_in(tmp_path) == calls[20:]
    # a later file may have what failed before; what is known already is not told again
    (tmp_path / "more.jsonl").write_bytes(lines(answered(stub.url, calls[20:])))
    ran = put_off(tmp_path, "--batch-in", "replies.jsonl", "--batch-in", "more.jsonl")
    assert ran.status == 0 and "--batch-in: replies: 26; lines" in ran.err and "5 calls to openai:stub" in ran.err


def test_a_call_that_was_refused_for_good_is_not_written_again(tmp_path: Path, stub: Stub) -> None:
    put_off(tmp_path)
    stub.restart(context=50)
    (tmp_path / "replies.jsonl").write_bytes(lines(answered(stub.url, calls_in(tmp_path))))
    ran = put_off(tmp_path, "--batch-in", "replies.jsonl", "--rejects", "rejects.jsonl")
    assert ran.status == 3 and (tmp_path / "calls.jsonl").read_bytes() == b""
    assert records((tmp_path / "rejects.jsonl").read_bytes())[0]["reason"] == "limit"


def test_a_schema_that_is_refused_is_put_in_words(tmp_path: Path, stub: Stub) -> None:
    stub.restart(no_json_schema=True)
    more: list[str] = []
    forms = []
    while put_off(tmp_path, *more).status == 4:
        forms.append({call["body"]["response_format"]["type"] for call in calls_in(tmp_path)})
        (tmp_path / "replies.jsonl").write_bytes(lines(answered(stub.url, calls_in(tmp_path))))
        more = ["--batch-in", "replies.jsonl"]
    assert forms == [{"json_schema"}, {"json_object"}]


def test_unanswered_calls_may_go_to_a_server(tmp_path: Path, stub: Stub) -> None:
    put_off(tmp_path)
    (tmp_path / "replies.jsonl").write_bytes(lines(answered(stub.url, calls_in(tmp_path)[:20])))
    stub.reset()
    more = ["--batch-in", "replies.jsonl", "--batch", "--batch-poll", "0.05"]
    ran = pmem("judge", *asking(stub), *more, folder=tmp_path, input=STAGES["judge"][0])
    assert ran.status == 0 and stub.counts()["batch_requests"] == 5
    assert "25 calls to openai:stub" in ran.err


def test_replies_may_come_through_a_pipe(tmp_path: Path, stub: Stub) -> None:
    put_off(tmp_path)
    replies = lines(answered(stub.url, calls_in(tmp_path)))
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["sh", "-c", "cat > pipe"], cwd=tmp_path, stdin=subprocess.PIPE) as cat:
        assert cat.stdin
        cat.stdin.write(replies)
        cat.stdin.close()
        assert put_off(tmp_path, "--batch-in", "pipe").status == 0


# ---- parts of a record -----------------------------------------------------------------------------------------


def of_parts(*parts: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What `together` gives or raises, and which parts came to their end."""
    ends: list[str] = []

    async def part(number: int) -> Any:
        try:
            await asyncio.sleep(0.01 * number)
            value = parts[number]()
            ends.append(f"{number} done")
            return value
        except asyncio.CancelledError:
            ends.append(f"{number} cancelled")
            raise

    async def main() -> Any:
        try:
            return await together(map(part, range(len(parts))))
        except Exception as fault:
            return fault
        finally:
            assert len(asyncio.all_tasks()) == 1

    return asyncio.run(main()), ends


def fails(fault: Exception) -> Callable[[], None]:
    def raises() -> None:
        raise fault

    return raises


def test_together() -> None:
    deferred, invalid, refused = Deferred(), ModelError("no"), BackendError("no server")
    assert of_parts(lambda: 1, lambda: 2) == ([1, 2], ["0 done", "1 done"])
    assert of_parts(fails(invalid), fails(deferred), lambda: 3) == (deferred, ["2 done"])
    assert of_parts(fails(invalid), fails(ModelError("other")), lambda: 3) == (invalid, ["2 done"])
    assert of_parts(fails(refused), lambda: 2, lambda: 3) == (refused, ["1 cancelled", "2 cancelled"])
