"""`--batch` on every command that calls a model: the same output at another price, whatever happens meanwhile."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import PMEM, Ran, asking, ended, lines, people, pmem, question, records, sample, start
from tests.stub import ROOT, Stub

AUTHOR = ROOT / "tests" / "stub_author.py"
QUICK = ("--batch", "--batch-poll", "0.05")
DYING = (
    sys.executable,
    "-c",
    "import os, signal, sys\n"
    "from pmem.backends.batch_provider import Provider\n"
    "when, step = sys.argv.pop(1).split()\n"
    "usual = getattr(Provider, step)\n"
    "async def dies(self, *arguments):\n"
    "    if when == 'after':\n"
    "        await usual(self, *arguments)\n"
    "    os.kill(os.getpid(), signal.SIGKILL)\n"
    "setattr(Provider, step, dies)\n"
    "from pmem.cli import main\n"
    "main(prog_name='pmem')",
)
"""A process that is killed before or after a step at the provider."""
SPLIT = (
    sys.executable,
    "-c",
    "from pmem.backends.batch_provider import Terms\n"
    "Terms.__init__.__defaults__ = (20, *Terms.__init__.__defaults__[1:])\n"
    "from pmem.cli import main\n"
    "main(prog_name='pmem')",
)
"""A process whose batches hold 20 requests."""


def asked(count: int) -> bytes:
    """Questions that differ."""
    return lines({**question(n), "query": f"What is for dinner on day {n}?"} for n in range(count))


STAGES = {
    "personas": people(2),
    "converse": lines([sample("persona")]),
    "qa": lines([sample("history")]),
    "judge": asked(2),
    "eval": asked(2),
}


def options(command: str, stub: Stub) -> list[str]:
    judged = ["--mode", "open", "--context", "snippet", "--judge-model", "openai:judge", "--judge-base-url", stub.url]
    return [command, *asking(stub), *(judged if command == "eval" else [])]


def alone(stub: Stub, folder: Path, command: str) -> bytes:
    """What a command makes without batches."""
    ran = pmem(*options(command, stub), "--no-cache", "-q", folder=folder, input=STAGES[command])
    assert ran.status == 0 and ran.out
    stub.reset()
    return ran.out


@pytest.fixture(scope="module")
def votes(shared: Stub, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What `pmem judge` makes without batches."""
    return alone(shared, tmp_path_factory.mktemp("alone"), "judge")


def judged(stub: Stub, folder: Path, *more: str) -> Ran:
    """`pmem judge --batch` about some questions."""
    return pmem("judge", *asking(stub), *QUICK, *more, folder=folder, input=STAGES["judge"])


# ---- the same, for less ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", STAGES)
def test_output_is_that_of_the_same_run_without_batches(tmp_path: Path, command: str, stub: Stub) -> None:
    stub.restart(reply=AUTHOR)
    out = alone(stub, tmp_path, command)
    ran = pmem(*options(command, stub), *QUICK, folder=tmp_path, input=STAGES[command])
    assert (ran.status, ran.out) == (0, out), ran.err
    rounds = {"personas": 4, "converse": 1, "qa": 2, "judge": 1, "eval": 2}[command]
    counts = stub.counts()
    assert counts["batches"] == rounds and counts["batch_requests"] == counts["requests"] and not counts["repeats"]
    again = pmem(*options(command, stub), folder=tmp_path, input=STAGES[command])  # the replies are there for all runs
    assert again.out == out and stub.counts()["requests"] == counts["requests"]


def test_cost_is_that_of_batches(tmp_path: Path, stub: Stub) -> None:
    prices = 'date = "2026-11-25"\n[models."stub"]\ninput = 30\ncached = 3\noutput = 120\nbatch = 0.25\n'
    (tmp_path / "prices.toml").write_text(prices)
    ran = judged(stub, tmp_path, "--prices", "prices.toml", "--usage", "usage.jsonl", "--rpm", "1")
    counts = stub.counts()
    (usage,) = records((tmp_path / "usage.jsonl").read_bytes())
    assert (usage["calls"], usage["prompt_tokens"]) == (50, counts["prompt_tokens"]) and usage["cached_tokens"] == 0
    cost = 0.25 * (30 * counts["prompt_tokens"] + 120 * counts["completion_tokens"]) / 1e6
    assert usage["cost_usd"] == pytest.approx(cost, abs=1e-6) and f", ${cost:.2f}; " in ran.err
    assert ran.err.splitlines()[0] == "pmem judge: --rpm and --tpm don't apply to batches"


def test_batches_go_as_far_as_the_budget(tmp_path: Path, stub: Stub, votes: bytes) -> None:
    # a prompt of about 160 tokens costs $0.016, and at most twice as much by its size; 50 of them about $0.82
    (tmp_path / "prices.toml").write_text('[models."stub"]\ninput = 100\noutput = 0\n')
    limited = ("--prices", "prices.toml", "--usage", "usage.jsonl", "--max-cost")
    ran = judged(stub, tmp_path, *limited, "0.5")
    assert ran.status == 1 and len(ran.out) < len(votes) and votes.startswith(ran.out)
    assert ran.err.splitlines()[-1].startswith("pmem: --max-cost 0.5: $0.4")
    counts = stub.counts()
    assert counts["batches"] > 2 and 20 < counts["batch_requests"] < 40
    assert records((tmp_path / "usage.jsonl").read_bytes())[0]["cost_usd"] <= 0.5
    assert judged(stub, tmp_path, *limited, "3").out == votes
    assert stub.counts()["batch_requests"] == 50 and not stub.counts()["repeats"]


def test_files_are_split_at_the_limit(tmp_path: Path, stub: Stub, votes: bytes) -> None:
    stub.restart(batch_lines=20)
    arguments = ["judge", *asking(stub), *QUICK]
    ran = ended(start(*SPLIT, *arguments, folder=tmp_path), asked(2))
    assert ran.out == votes and stub.counts()["batches"] == 3


# ---- faults ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "first"), [({"500": 0.04, "garbage": 0.04, "lost": 0.04}, 0), ({"expired": 1}, 1)], ids=["lines", "batch"]
)
def test_what_failed_is_made_in_the_next_batch(
    tmp_path: Path, fault: dict[str, float], first: int, stub: Stub, votes: bytes
) -> None:
    stub.restart(batch_fault=fault, batch_fault_first=first)
    ran = judged(stub, tmp_path)
    assert (ran.status, ran.out) == (0, votes), ran.err
    assert stub.counts()["batches"] in (2, 3)


def test_a_batch_that_the_server_refuses_is_one_line(tmp_path: Path, stub: Stub) -> None:
    stub.restart(batch_fault={"failed": 1})
    ran = judged(stub, tmp_path, "-o", "out.jsonl")
    assert ran.status == 1 and not (tmp_path / "out.jsonl").exists()
    last = ran.err.splitlines()[-1]
    assert last.startswith("pmem: openai:stub: batch batch_") and last.endswith("fails this batch on purpose.")


def test_a_server_without_batches_is_one_line(tmp_path: Path, stub: Stub) -> None:
    stub.restart(key="another")
    ran = judged(stub, tmp_path)
    assert ran.status == 1 and "refuses the key" in ran.err.splitlines()[-1]


# ---- ends ------------------------------------------------------------------------------------------------------


def test_a_run_that_is_killed_again_and_again_sends_nothing_twice(tmp_path: Path, stub: Stub, votes: bytes) -> None:
    input = asked(2)
    for step in ("before upload", "after create", "before ended", "after content"):
        killed = start(*DYING, step, "judge", *asking(stub), *QUICK, "-o", "out.jsonl", folder=tmp_path)
        assert ended(killed, input).status == -signal.SIGKILL, step
        assert not (tmp_path / "out.jsonl").exists()
    ran = judged(stub, tmp_path, "-o", "out.jsonl", "-q")
    assert (ran.status, ran.err) == (0, "") and (tmp_path / "out.jsonl").read_bytes() == votes
    counts = stub.counts()
    assert (counts["batches"], counts["batch_requests"], counts["repeats"]) == (1, 50, 0)


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGINT])
def test_a_run_that_ends_while_it_waits_is_taken_up(
    tmp_path: Path, how: signal.Signals, stub: Stub, votes: bytes
) -> None:
    stub.restart(batch_seconds=2.5)
    (tmp_path / "in.jsonl").write_bytes(asked(2))
    arguments = ["judge", "in.jsonl", *asking(stub), *QUICK]
    child = start(*PMEM, *arguments, folder=tmp_path, stdin=subprocess.DEVNULL)
    assert child.stderr
    told = child.stderr.readline()
    assert b": batch batch_" in told and told.endswith(b": validating, 0 of 50 done\n")
    child.send_signal(how)
    ran = ended(child)
    assert ran.out == b""
    if how is signal.SIGINT:
        assert ran.status == 130
        said = ran.err.splitlines()[-2:]
        assert "1 batch goes on at the provider (batch_" in said[0] and "the same command again waits for it" in said[0]
        assert said[1].startswith("pmem judge: interrupted: 2 in, 0 out; 0 calls to openai:stub, 50 broken off")
    else:  # the terminal was closed: there is nobody to say it to
        assert ran.status == -how
    again = pmem(*arguments, folder=tmp_path)
    assert (again.status, again.out) == (0, votes)
    counts = stub.counts()
    assert (counts["batches"], counts["batch_requests"], counts["repeats"]) == (1, 50, 0)


# ---- options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-m", "recorded:demo", "--batch"], "are for openai: and azure: models"),
        (["-m", "openai:m", "--batch", "--no-cache"], "need the response cache"),
        (["-m", "openai:m", "--batch", "--batch-out", "calls.jsonl"], "choose one"),
        (["-m", "openai:m", "-o", "x.jsonl", "--batch-out", "x.jsonl"], "two outputs can't be one file"),
        (["-m", "openai:m", "--batch", "--batch-poll", "0"], "--batch-poll"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, arguments: list[str], said: str) -> None:
    ran = pmem("judge", *arguments, folder=tmp_path, input=lines([question(0)]))
    assert ran.status == 2 and said in ran.err
    assert not list(tmp_path.glob("*.jsonl*"))
