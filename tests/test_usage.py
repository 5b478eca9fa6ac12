"""What a run asked of its models, in numbers; and the most that it may cost."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import orjson
import pytest

from pmem.backends.base import Usage
from pmem.backends.prices import Price
from pmem.backends.usage import Budget, Spent, Tally
from tests.command import PMEM, asking, bash, ended, lines, people, pmem, question, records, start, wait_for
from tests.local_server import Local, serving
from tests.stub import Stub

INPUT, OUTPUT = 3.0, 12.0
TABLE = f'date = "2030-02-03"\n[models.stub]\ninput = {INPUT}\ncached = 1.0\noutput = {OUTPUT}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prices.toml").write_text(TABLE)
    (tmp_path / "people").write_bytes(people(12))
    return tmp_path


def usage(folder: Path) -> list[dict[str, Any]]:
    """The usage records, which must be valid."""
    assert pmem("validate", "-q", "usage.jsonl", folder=folder).status == 0
    return records((folder / "usage.jsonl").read_bytes())


# ---- the records -------------------------------------------------------------------------------------------------


def test_a_tally_counts_by_hand() -> None:
    tally = Tally("openai:m", "judge", Price(2, 1, 8, "2030-02-03"))
    assert tally.report() == ""
    tally.calls, tally.hits, tally.retries, tally.failed, tally.abandoned, tally.invalid = 1200, 5, 4, 3, 2, 1
    tally.seconds = 600.0
    tally.add(Usage(2000, 500, 100, 60))
    tally.add(Usage(1000, 0, 200, 0))
    cost = (2500 * 2 + 500 * 1 + 300 * 8) / 1e6
    assert tally.cost == pytest.approx(cost)
    assert tally.report() == (
        "1,200 calls to openai:m as judge, 5 from cache, 4 attempts repeated, 3 given up, 2 broken off, "
        "1 invalid replies, 3,000 (500 cached) tokens in, 300 (60 reasoning) out, $0.0079"
    )
    assert tally.record("judge") == {
        "type": "usage", "stage": "judge", "role": "judge", "model": "openai:m", "calls": 1200, "from_cache": 5,
        "repeated": 4, "failed": 3, "abandoned": 2, "invalid": 1, "prompt_tokens": 3000, "cached_tokens": 500,
        "completion_tokens": 300, "reasoning_tokens": 60, "latency_seconds": 0.5, "cost_usd": 0.0079, "prices": "2030-02-03",
    }  # fmt: skip


def test_usage_is_what_the_server_counted(folder: Path, stub: Stub) -> None:
    stub.restart(fault="500", fault_first=1)
    run = ["personas", "people", *asking(stub), "--usage", "usage.jsonl", "--prices", "prices.toml"]
    ran = pmem(*run, folder=folder, hurried=True)
    counts = stub.counts()
    (first,) = usage(folder)
    assert (first["stage"], first["role"], first["model"]) == ("personas", "model", "openai:stub")
    assert (first["calls"], first["repeated"], first["from_cache"]) == (12 * 8, 12 * 8, 0)
    assert (first["prompt_tokens"], first["completion_tokens"]) == (
        counts["prompt_tokens"],
        counts["completion_tokens"],
    )
    fresh = first["prompt_tokens"] - first["cached_tokens"]
    assert first["cost_usd"] == pytest.approx(
        (fresh * INPUT + first["cached_tokens"] + first["completion_tokens"] * OUTPUT) / 1e6, abs=1e-6
    )
    assert f"{first['prompt_tokens']:,} ({first['cached_tokens']:,} cached) tokens in" in ran.err
    pmem(*run, folder=folder)  # again: all from the cache, nothing to pay
    (second,) = usage(folder)
    assert (second["calls"], second["from_cache"], second["cost_usd"]) == (0, 12 * 8, 0)
    shown = pmem("show", "usage.jsonl", folder=folder)
    assert shown.status == 0 and shown.out.startswith(b"usage") and b"openai:stub" in shown.out


def test_model_and_judge_are_told_apart(folder: Path, stub: Stub) -> None:
    (folder / "in.jsonl").write_bytes(lines({**question(n), "query": f"Question {n}?"} for n in range(3)))
    run = ["eval", "in.jsonl", *asking(stub), "--judge-model", "openai:judge", "--judge-base-url", stub.url]
    ran = pmem(*run, "--mode", "open", "--context", "none", "--usage", "usage.jsonl", folder=folder)
    assert ran.status == 0, ran.err
    model, judge = usage(folder)
    assert [(one["role"], one["model"], one["cost_usd"], one["prices"]) for one in (model, judge)] == [
        ("model", "openai:stub", None, None),
        ("judge", "openai:judge", None, None),
    ]
    assert model["calls"] == 3 and judge["calls"] >= 3
    assert model["calls"] + judge["calls"] == stub.counts()["requests"]


def test_usage_is_written_however_a_run_ends(folder: Path, stub: Stub) -> None:
    run = ["personas", "people", *asking(stub), "--usage", "usage.jsonl", "--no-cache"]
    stub.restart(fault={"badschema": 0.3})
    assert pmem(*run, "--rejects", "r.jsonl", folder=folder).status == 3
    (after_rejects,) = usage(folder)
    assert after_rejects["calls"] == stub.counts()["requests"] and after_rejects["invalid"] > 10
    stub.restart(fault="badschema")
    assert pmem(*run, folder=folder).status == 1
    assert usage(folder)[0]["invalid"] >= 4
    stub.restart(fault="500")
    assert pmem(*run, "--rejects", "r.jsonl", "--retries", "1", folder=folder, hurried=True).status == 3
    assert usage(folder)[0]["failed"] == 12
    stub.restart()
    assert bash(f"pmem {' '.join(run)} | head -1", folder=folder).status == 0
    assert usage(folder)[0]["calls"] >= 8
    stub.restart(latency=60_000)
    child = start(*PMEM, *run, folder=folder)
    wait_for(lambda: stub.counts()["requests"] == 12)
    child.send_signal(signal.SIGINT)
    assert ended(child).status == 130
    assert (usage(folder)[0]["calls"], usage(folder)[0]["abandoned"]) == (0, 12)


def test_where_usage_cannot_be_written(folder: Path, stub: Stub) -> None:
    run = ["personas", "people", *asking(stub)]
    ran = pmem(*run, "--usage", "none/usage.jsonl", folder=folder)
    assert ran.status == 1 and "pmem: none/usage.jsonl: can't be written: " in ran.err
    assert stub.counts()["requests"] == 0  # said before anything is paid for
    ran = pmem(*run, "-o", "out", "--usage", "./out", folder=folder)
    assert ran.status == 2 and "two outputs can't be one file" in ran.err


# ---- the budget --------------------------------------------------------------------------------------------------


def test_a_budget_waits_for_calls_in_flight_and_then_refuses() -> None:
    async def run() -> None:
        budget = Budget(10.0)
        await budget.reserve(6)
        waiting = [asyncio.create_task(budget.reserve(amount)) for amount in (5, 3)]
        await asyncio.sleep(0)
        assert [task.done() for task in waiting] == [False, True]  # 6 + 3 is possible, 6 + 5 must wait
        budget.settle(6, 1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waiting[0].done() and budget.reserved == 8 and budget.spent == 1
        gone = asyncio.create_task(budget.reserve(4))
        await asyncio.sleep(0)
        gone.cancel()  # leaves nothing behind
        await asyncio.gather(gone, return_exceptions=True)
        late = asyncio.create_task(budget.reserve(2))
        budget.settle(5, 5)
        budget.settle(3, 3)
        with pytest.raises(
            Spent, match=r"--max-cost 10: \$9\.00 spent, and the next call may cost \$2\.00; with a higher"
        ):
            await late
        assert budget.reserved == 0
        await budget.reserve(1)

    asyncio.run(run())


def paid(stub: Stub) -> float:
    """US dollars at most, by the stub's own counts."""
    counts = stub.counts()
    return float(counts["prompt_tokens"] * INPUT + counts["completion_tokens"] * OUTPUT) / 1e6


@pytest.mark.parametrize("jobs", ["1", "32"])
def test_the_limit_of_cost_is_kept_and_a_higher_one_goes_on(folder: Path, stub: Stub, jobs: str) -> None:
    stub.restart(latency=5)
    priced = ["--max-tokens", "1500", "--prices", "prices.toml", "-j", jobs]
    whole = pmem("personas", "people", *asking(stub), *priced, "--no-cache", folder=folder).out
    full = paid(stub)
    stub.restart(latency=5)
    run = ["personas", "people", *asking(stub), *priced, "--usage", "usage.jsonl", "--rejects", "r.jsonl"]
    limit = full / 2
    ran = pmem(*run, "--max-cost", f"{limit:.6f}", folder=folder)
    assert ran.status == 1 and b"".join(whole.splitlines(keepends=True)[: len(ran.records)]) == ran.out
    assert ran.err.splitlines()[-1].startswith(f"pmem: --max-cost {limit:g}: $")
    assert (
        "with a higher limit the same command goes on from what the cache holds" in ran.err
        and not (folder / "r.jsonl").exists()
    )
    assert limit - 0.06 < paid(stub) <= limit  # a call may cost 0.02, and few are left undone
    assert usage(folder)[0]["cost_usd"] <= limit
    again = pmem(*run, "--max-cost", f"{2 * full:.6f}", folder=folder)
    assert (again.status, again.out) == (0, whole)
    assert stub.counts()["paid_again"] == 0 and stub.counts()["repeats"] <= int(jobs)  # broken off at the stop
    assert usage(folder)[0]["from_cache"] > 0


def test_a_server_that_tells_no_tokens_is_taken_at_its_dearest(folder: Path) -> None:
    """An unknown cost is not nothing: the limit holds all the same."""
    for server in serving(Local()):
        server.reply = orjson.dumps({"choices": [{"message": {"role": "assistant", "content": "yes"}}]})
        run = [
            "personas",
            "people",
            "-m",
            "openai:stub",
            "--base-url",
            server.url,
            "--no-cache",
            "--rejects",
            "r.jsonl",
        ]
        run += ["--prices", "prices.toml", "--max-tokens", "1000", "--usage", "usage.jsonl"]
        ran = pmem(*run, "--max-cost", "0.2", folder=folder)
        assert ran.status == 1 and "--max-cost 0.2: " in ran.err and "calls to openai:stub, " in ran.err
        assert ", cost unknown; " in ran.err and usage(folder)[0]["cost_usd"] is None
        assert 10 <= len(server.bodies) <= 16  # each at $0.012 for the reply, and something for the prompt


def test_a_limit_needs_a_price(folder: Path, stub: Stub) -> None:
    ran = pmem("personas", "people", *asking(stub), "--max-cost", "1", folder=folder)
    assert (ran.status, stub.counts()["requests"]) == (1, 0)
    assert ran.err == (
        "pmem: --max-cost: the price of openai:stub is not known; a table that has it can be given with --prices\n"
    )
    assert pmem("personas", "people", *asking(stub), "--max-cost", "0", folder=folder).status == 2


def test_model_and_judge_share_one_limit(folder: Path, stub: Stub) -> None:
    (folder / "in.jsonl").write_bytes(lines({**question(n), "query": f"Question {n}?"} for n in range(30)))
    run = ["eval", "in.jsonl", *asking(stub), "--judge-model", "openai:stub", "--judge-base-url", stub.url]
    run += ["--mode", "open", "--context", "none", "--prices", "prices.toml", "--max-tokens", "400"]
    ran = pmem(*run, "--max-cost", "0.03", "--usage", "usage.jsonl", folder=folder)
    assert ran.status == 1 and "--max-cost 0.03: " in ran.err
    model, judge = usage(folder)
    assert 0 < model["cost_usd"] + judge["cost_usd"] <= 0.03
    assert orjson.loads((folder / "usage.jsonl").read_bytes().splitlines()[0])["role"] == "model"
