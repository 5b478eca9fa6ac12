"""How a run ends before its input does: readers that leave, Ctrl-C, full disks."""

import fcntl
import os
import random
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

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
from tests.stub import Stub

# ---- readers that leave ------------------------------------------------------------------------------------------


TALKING = (
    "filter many.jsonl",
    "filter < many.jsonl",
    "cat many.jsonl | pmem filter",
    "show many.jsonl",
    "schema",
    "schema qa",
    "--help",
    "filter --help",
    "--version",
    "personas people -m openai:stub --no-cache -q",
    "cat people | pmem personas -m openai:stub --no-cache -q -j 2",
)


@pytest.mark.parametrize("command", TALKING)
def test_head_ends_the_run_quietly(tmp_path: Path, command: str, stub: Stub) -> None:
    (tmp_path / "many.jsonl").write_bytes(lines(map(question, range(500))))
    (tmp_path / "people").write_bytes(people(100))
    run = command if "| pmem" in command else f"pmem {command}"
    env = {"OPENAI_BASE_URL": stub.url}
    first = bash(f"{run} 2>err | head -1; echo ${{PIPESTATUS[@]}} >status", folder=tmp_path, env=env)
    assert len(first.out.splitlines()) == 1
    assert (tmp_path / "status").read_text().split()[-2:] == ["0", "0"]
    assert (tmp_path / "err").read_text() == ""
    # and where the reader has gone before the first byte
    gone = bash(f"{{ sleep 0.3; {run}; echo $? >status; }} 2>err | true", folder=tmp_path, env=env)
    assert gone.out == b"" and (tmp_path / "status").read_text() == "0\n"
    assert (tmp_path / "err").read_text() == ""


def test_head_ends_a_run_whose_calls_are_in_flight(tmp_path: Path, stub: Stub) -> None:
    stub.restart(latency=30, jitter=30)
    (tmp_path / "people").write_bytes(people(300))
    model = " ".join(asking(stub))
    ran = bash(f"pmem personas people {model} | head -1; echo ${{PIPESTATUS[@]}} >status", folder=tmp_path)
    assert (tmp_path / "status").read_text() == "0 0\n" and ran.err == ""
    assert stub.counts()["requests"] < 300 * 8 / 2


# ---- Ctrl-C ------------------------------------------------------------------------------------------------------


def interrupted(child: "subprocess.Popen[bytes]") -> Ran:
    """What a child leaves that gets a Ctrl-C, while its stdin stays open. It must end within two seconds."""
    stdin, child.stdin = child.stdin, None
    child.send_signal(signal.SIGINT)
    began = time.monotonic()
    ran = ended(child)
    assert time.monotonic() - began < 2
    if stdin:
        stdin.close()
    return ran


def unread(pipe: IO[bytes]) -> int:
    """How many bytes stand in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4), sys.byteorder)


def test_ctrl_c_while_calls_hang(tmp_path: Path, stub: Stub) -> None:
    stub.restart(fault="stall", stall=60)
    child = start(*PMEM, "personas", *asking(stub), folder=tmp_path)
    assert child.stdin
    child.stdin.write(people(60))
    child.stdin.flush()
    wait_for(lambda: stub.counts()["requests"] == 16)
    ran = interrupted(child)
    assert (ran.status, ran.out) == (130, b"") and "0 calls to openai:stub, 16 broken off" in ran.err


@pytest.mark.parametrize("to", ["stdout", "file"])
def test_ctrl_c_ends_a_run_with_whole_lines(tmp_path: Path, to: str, stub: Stub) -> None:
    stub.restart(latency=40, jitter=40)
    options = ["-o", "out.jsonl", "--rejects", "r.jsonl"] if to == "file" else []
    child = start(*PMEM, "personas", *asking(stub), "-j", "32", *options, folder=tmp_path)
    assert child.stdin and child.stdout
    child.stdin.write(people(60))  # and the pipe stays open
    child.stdin.flush()
    if to == "file":
        wait_for(lambda: stub.counts()["requests"] >= 100)
        first = b""
    else:
        first = child.stdout.readline()
    ran = interrupted(child)
    assert ran.status == 130
    assert len(ran.err.splitlines()) == 1 and ran.err.startswith("pmem personas: interrupted: 60 in, ")
    if to == "file":
        assert not (tmp_path / "out.jsonl").exists() and not (tmp_path / "r.jsonl").exists()
        whole = records((tmp_path / "out.jsonl.part").read_bytes())
    else:
        whole = records(first + ran.out)
    assert f"60 in, {len(whole)} out" in ran.err and len(whole) < 60
    # what was answered is not asked again, and the output begins with what was written
    asked = stub.counts()["requests"]
    stub.reset()
    again = pmem("personas", *asking(stub), "-j", "32", folder=tmp_path, input=people(60))
    assert again.records[: len(whole)] == whole
    assert stub.counts()["requests"] <= 60 * 8 - asked + 32


def test_ctrl_c_while_nothing_comes_in(tmp_path: Path, stub: Stub) -> None:
    for arguments in (["filter"], ["validate"], ["show"], ["personas", *asking(stub)], ["assemble"]):
        child = start(*PMEM, *arguments, folder=tmp_path)
        assert child.stdin
        child.stdin.write(b"\n")
        wait_for(lambda pipe=child.stdin: not unread(pipe))  # type: ignore[misc]
        time.sleep(0.05)
        ran = interrupted(child)
        assert ran.status == 130
        said = ran.err.splitlines()
        if arguments[0] in ("validate", "show"):
            assert said == []
        else:
            assert said[-1].startswith(f"pmem {arguments[0]}: interrupted: 0 in, 0 out")


def test_ctrl_c_tears_no_line_where_the_reader_is_slow(tmp_path: Path) -> None:
    big = lines({**question(n), "query": "x" * 300_000} for n in range(20))
    (tmp_path / "in.jsonl").write_bytes(big)
    for pause in (0.25, 0.35):  # while it waits for the pipe to be read
        child = start(*PMEM, "filter", "in.jsonl", folder=tmp_path)
        assert child.stdout
        time.sleep(pause)
        first = os.read(child.stdout.fileno(), 10_000)
        child.send_signal(signal.SIGINT)
        time.sleep(0.1)
        ran = ended(child)
        assert ran.status == 130 and "interrupted: " in ran.err
        whole = records(first + ran.out)
        assert 0 < len(whole) < 20 and big.startswith(first + ran.out)


@pytest.mark.parametrize("command", ["filter", "personas"])
def test_a_second_ctrl_c_does_not_wait_for_the_reader(tmp_path: Path, command: str, stub: Stub) -> None:
    arguments = ["in.jsonl"] if command == "filter" else ["people", *asking(stub)]
    (tmp_path / "in.jsonl").write_bytes(lines(map(question, range(2000))))
    (tmp_path / "people").write_bytes(people(60))
    child = start(*PMEM, command, *arguments, folder=tmp_path)
    assert child.stdout
    wait_for(lambda: unread(child.stdout) > 50_000)  # type: ignore[arg-type]
    time.sleep(0.5)  # now it waits for the pipe to be read
    for _ in range(2):
        child.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert child.wait(5) == 130
    assert ended(child).err.count("\n") <= 1


def test_ctrl_c_again_and_again_is_taken_calmly(tmp_path: Path, stub: Stub) -> None:
    draw = random.Random(1)
    (tmp_path / "in.jsonl").write_bytes(lines(map(question, range(5000))))
    (tmp_path / "people").write_bytes(people(60))
    begun: dict[str, Callable[[], bool]] = {
        "filter in.jsonl -o out": (tmp_path / "out.part").exists,
        f"personas people {' '.join(asking(stub))} --no-cache": lambda: stub.counts()["requests"] > 20,
    }
    for command in list(begun) * 4:
        stub.restart(latency=20, jitter=30)
        child = start(*PMEM, *command.split(), folder=tmp_path, stdout=subprocess.DEVNULL)
        wait_for(begun[command])
        time.sleep(draw.random() / 20)
        for _ in range(3):
            child.send_signal(signal.SIGINT)
            time.sleep(draw.choice([0, 0.001, 0.01, 0.05]))
        assert child.wait(5) in (130, 0, -signal.SIGINT)  # 0: it was done before
        ended(child)  # without a traceback
        for file in tmp_path.glob("out*"):
            file.unlink()


def test_ctrl_c_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines(map(question, range(3000))))  # as a background job's is
    line = "trap '' INT; pmem filter -q in.jsonl >out & sleep 0.1; kill -INT $!; sleep 0.05; kill -INT $!; wait $!; echo $?"
    assert bash(line, folder=tmp_path).out == b"0\n"
    assert len((tmp_path / "out").read_bytes().splitlines()) == 3000


def test_sigterm_ends_at_once(tmp_path: Path, stub: Stub) -> None:
    stub.restart(latency=50)
    child = start(*PMEM, "personas", *asking(stub), "-o", "out.jsonl", folder=tmp_path)
    assert child.stdin
    child.stdin.write(people(60))
    child.stdin.flush()
    time.sleep(0.8)
    child.terminate()
    assert child.wait(2) == -signal.SIGTERM
    child.communicate()
    assert not (tmp_path / "out.jsonl").exists()


# ---- disks that are full -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [line for line in TALKING if " | " not in line])
def test_a_full_disk_under_stdout(tmp_path: Path, command: str, stub: Stub) -> None:
    (tmp_path / "many.jsonl").write_bytes(lines(map(question, range(200))))
    (tmp_path / "people").write_bytes(people(5))
    ran = bash(f"pmem {command} > /dev/full", folder=tmp_path, env={"OPENAI_BASE_URL": stub.url})
    assert ran.status == 1
    assert ran.err.splitlines()[-1] == "pmem: standard output: can't be written: No space left on device"


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst"])
@pytest.mark.parametrize("option", ["-o", "--rejects", "--dropped"])
def test_a_full_disk_under_a_file(tmp_path: Path, suffix: str, option: str) -> None:
    tools = {"-o": question(0), "--dropped": question(0, passes=False), "--rejects": {**question(0), "case": "none"}}
    unlike = [{**tools[option], "query": os.urandom(900).hex()} for _ in range(300)]  # hard to compress
    (tmp_path / "in.jsonl").write_bytes(lines(unlike))
    (tmp_path / f"out.{suffix}").write_bytes(b"old")
    rest = "--rejects r.jsonl" if option == "--dropped" else ""
    ran = bash(f"ulimit -f 20; pmem filter in.jsonl {option} out.{suffix} {rest} > /dev/null", folder=tmp_path)
    assert ran.status == 1
    assert ran.err.splitlines()[-1] == f"pmem: out.{suffix}.part: can't be written: File too large"
    assert (tmp_path / f"out.{suffix}").read_bytes() == b"old"


def test_a_full_disk_under_the_cache(tmp_path: Path, stub: Stub) -> None:
    line = f"ulimit -f 200; pmem personas people {' '.join(asking(stub))} --cache cache.sqlite | cat"
    (tmp_path / "people").write_bytes(people(60))
    ran = bash(f"set -o pipefail; {line}", folder=tmp_path)
    assert ran.status == 1
    last = ran.err.splitlines()[-1]
    assert last.startswith("pmem: response cache cache.sqlite: ") and last.endswith("(--cache FILE or --no-cache)")
    records(ran.out)
    # with room, the same command carries on
    paid = stub.counts()["requests"]
    again = bash(line.replace("ulimit -f 200; ", ""), folder=tmp_path)
    assert len(again.records) == 60 and stub.counts()["requests"] - paid < 480


def test_a_full_disk_under_a_table(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines([sample("result")]))
    ran = bash("pmem eval --summary in.jsonl > /dev/full", folder=tmp_path)
    assert ran.status == 1
    assert ran.err.splitlines()[-1] == "pmem: standard output: can't be written: No space left on device"


# ---- input that fails --------------------------------------------------------------------------------------------


def test_what_stood_before_a_faulty_line_is_written(tmp_path: Path, stub: Stub) -> None:
    questions = lines(map(question, range(3)))
    for arguments, good in ((["filter"], questions), (["personas", *asking(stub)], people(3))):
        for input in (good + b"{\n", good + b"{"):
            ran = pmem(*arguments, folder=tmp_path, input=input)
            assert ran.status == 1 and len(ran.records) == 3
            assert "stopped: 4 in, 3 out" in ran.err and ran.err.splitlines()[-1].startswith(
                f"pmem: {arguments[0]}: <stdin>:4: "
            )


def test_a_file_that_cannot_be_read_midway(tmp_path: Path) -> None:
    child = start(*PMEM, "filter", "-", "/proc/self/mem", folder=tmp_path, stdin=subprocess.DEVNULL)
    ran = ended(child)
    assert ran.status == 1 and ran.err.splitlines()[-1].startswith("pmem: /proc/self/mem: can't be read: ")
