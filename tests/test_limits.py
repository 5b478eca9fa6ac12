"""What holds calls back: rates by the clock, places in the order of records, the pace that a server allows."""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest

from pmem.backends.limits import Pace, Places, Rate
from pmem.turns import turn
from tests.command import asking, people, pmem, start, wait_for
from tests.stub import Stub

# ---- rates -------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that goes on when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_rate_as_computed_by_hand() -> None:
    """600 a minute: ten a second. A second's worth may come at once after a pause (and the one that is due)."""
    clock = Clock()
    rate = Rate(600, clock)
    assert [rate.take(1) for _ in range(14)] == pytest.approx([0] * 11 + [0.1, 0.2, 0.3])
    clock.now += 0.3  # all of these are through now, and one more is due in a tenth
    assert rate.take(1) == pytest.approx(0.1)
    clock.now += 50  # a long pause saves up no more than a second's worth
    assert [rate.take(1) for _ in range(12)] == pytest.approx([0] * 11 + [0.1])


def test_a_rate_in_tokens_is_overdrawn_once_and_corrected() -> None:
    """6,000 tokens a minute: 100 a second."""
    clock = Clock()
    rate = Rate(6000, clock, burst=0)
    assert rate.take(1000) == 0  # more than fits at once
    assert rate.take(50) == pytest.approx(10)
    rate.correct(200)  # the reply was longer than expected
    assert rate.take(1) == pytest.approx(12.5)
    rate.correct(-1000)
    assert rate.take(1) == pytest.approx(2.51)
    rate.change(60_000)  # what was taken stays taken
    assert rate.take(100) == pytest.approx(2.52)
    assert rate.take(1) == pytest.approx(2.62)


@pytest.mark.parametrize(("option", "most"), [("--rpm", 2400), ("--tpm", 1_800_000)])
def test_arrivals_at_the_server_keep_the_rate(tmp_path: Path, stub: Stub, option: str, most: int) -> None:
    stub.restart(log=tmp_path / "log")
    run = ["personas", *asking(stub), "--no-cache", "-j", "64", option, str(most)]
    ran = pmem(*run, folder=tmp_path, input=people(16))
    assert ran.status == 0
    lines = [orjson.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    came = sorted(line["at"] for line in lines)
    came = [at for at in came if at > came[0] + 1]  # after the first second's worth
    counts = stub.counts()
    each = 1 if option == "--rpm" else (counts["prompt_tokens"] + counts["completion_tokens"]) / counts["requests"]
    rate = 60 * each * (len(came) - 1) / (came[-1] - came[0])
    assert rate == pytest.approx(most, rel=0.1)


# ---- places ------------------------------------------------------------------------------------------------------


async def at_turn(number: int, work: Coroutine[Any, Any, None]) -> None:
    turn.set(number)
    await work


def test_the_oldest_record_goes_first() -> None:
    went = []

    async def run() -> None:
        places = Places(1)

        async def call(name: str) -> None:
            async with places:
                went.append(name)
                await asyncio.sleep(0.001)

        order = [(9, "first come"), (7, "7"), (3, "3"), (5, "5a"), (5, "5b"), (1, "1")]
        await asyncio.gather(*(asyncio.create_task(at_turn(number, call(name))) for number, name in order))
        assert places.taken == 0

    asyncio.run(run())
    assert went == ["first come", "1", "3", "5a", "5b", "7"]


def test_waiting_that_is_given_up_costs_no_place() -> None:
    async def run() -> None:
        places = Places(2)
        through = []

        async def call(number: int) -> None:
            async with places:
                await asyncio.sleep(0)
                through.append(number)

        await places.__aenter__()
        await places.__aenter__()
        tasks = [asyncio.create_task(call(number)) for number in range(6)]
        await asyncio.sleep(0)
        tasks[0].cancel()  # while it waits
        await asyncio.sleep(0)
        await places.__aexit__()
        tasks[1].cancel()  # just as it has been given a place
        await places.__aexit__()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(one, asyncio.CancelledError) for one in done] == [True, True, False, False, False, False]
        assert through == [2, 3, 4, 5] and places.taken == 0 and not places._waiting

    asyncio.run(run())


def test_places_fall_with_the_share_of_refusals_and_rise_slowly() -> None:
    places = Places(16)

    def round_trip(refused: int) -> float:
        for number in range(int(-(-places.limit // 1))):
            places.heard(refused=number < refused)
        return places.limit

    assert round_trip(0) == 16
    assert round_trip(3) == 16  # a few are no reason
    assert round_trip(8) == pytest.approx(16 * 0.75)
    assert round_trip(0) == pytest.approx(12 * 1.05 + 1)  # 13.6
    for _ in range(60):
        round_trip(9)
    assert 1 <= places.limit < 3
    for _ in range(40):
        round_trip(0)
    assert places.limit == 16


def test_a_lower_limit_holds_for_those_who_wait_and_a_higher_one_lets_them_in() -> None:
    async def run() -> None:
        places = Places(4)
        for _ in range(4):
            await places.__aenter__()
        for _ in range(4):
            places.heard(refused=True)  # 4 * 0.5 * 1.05: two
        waiting = [asyncio.create_task(places.__aenter__()) for _ in range(3)]
        await asyncio.sleep(0)
        await places.__aexit__()
        await places.__aexit__()
        await asyncio.sleep(0)
        assert [task.done() for task in waiting] == [False] * 3 and places.taken == 2
        for _ in range(3):
            places.heard(refused=False)  # 2.1 * 1.05 + 1: three
        await asyncio.sleep(0)
        assert [task.done() for task in waiting] == [True, False, False]
        for _ in range(3):
            await places.__aexit__()
            await asyncio.sleep(0)
        assert places.taken == 0 + 2 and all(task.done() for task in waiting)

    asyncio.run(run())


# ---- the pace that a server allows -------------------------------------------------------------------------------


def test_the_pace_follows_refusals() -> None:
    clock = Clock()
    pace = Pace(clock)

    def second(answered: int, refused: int, in_flight: int = 0) -> float:
        for number in range(answered + refused):
            clock.now += number == answered + refused - 1
            pace.heard(refused=number < refused, in_flight=in_flight)
        return pace._per_minute / 60

    assert second(500, 0) == 0  # unlimited
    assert second(85, 15) == 0  # a few refusals may have other reasons
    assert second(10, 50, in_flight=90) == pytest.approx(100)  # what is in flight hasn't been refused
    assert second(65, 35) == pytest.approx(100 * (1 - 0.35 / 2))
    assert second(80, 8) == pytest.approx(82.5 * 1.05)  # few refusals: a little faster
    assert second(90, 0) == pytest.approx(82.5 * 1.05**2)
    assert second(95, 0) == pytest.approx(82.5 * 1.05**2 * 1.1)  # none: twice the growth each time
    assert second(20, 0) == pytest.approx(82.5 * 1.05**2 * 1.1)  # something else holds calls back
    assert second(0, 30) == pytest.approx(82.5 * 1.05**2 * 1.1 / 2)
    for _ in range(9):
        second(0, 5)
    assert pace._per_minute == 60  # once a second it is asked whether it takes calls again


def test_refusals_at_random_hardly_slow_a_run_down(tmp_path: Path, stub: Stub) -> None:
    """Overload that comes and goes is no limit: a run that crawled for it would never recover."""
    run = ["personas", *asking(stub), "--no-cache", "-j", "64", "-q"]
    stub.restart(latency=50, fault={"429": 0.1})
    began = time.monotonic()
    ran = pmem(*run, folder=tmp_path, input=people(100), hurried=True)
    assert (ran.status, len(ran.records)) == (0, 100)
    assert time.monotonic() - began < 5  # 800 calls, 64 at once, 0.05 s each: 0.7 s and what the stub takes


@pytest.mark.parametrize("tells", ["nothing", "ratelimit"])
def test_a_run_slows_down_to_what_the_server_allows(tmp_path: Path, stub: Stub, tells: str) -> None:
    stub.restart(rps=150, rps_tells=tells, latency=30)
    run = ["personas", *asking(stub), "--no-cache", "-j", "64", "--rejects", "r.jsonl"]
    began = time.monotonic()
    ran = pmem(*run, folder=tmp_path, input=people(75))
    passed = time.monotonic() - began
    counts = stub.counts()
    assert (ran.status, len(ran.records)) == (0, 75)
    assert counts["by_status"]["429"] < counts["requests"] / 3  # half of them before the first answers
    assert passed < 2.5 * counts["by_status"]["200"] / 150 + 3


# ---- slow records among fast ones --------------------------------------------------------------------------------


def steady(count: Callable[[], int], seconds: float = 0.5) -> int:
    """A count, once it has stayed the same for a while."""
    last, since = count(), time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(0.05)
        if (now := count()) != last:
            last, since = now, time.monotonic()
    return last


@pytest.mark.parametrize("most", [64 << 20, 60_000])
def test_a_stalled_record_holds_up_the_output_alone_and_within_bounds(tmp_path: Path, stub: Stub, most: int) -> None:
    """The first of 60 records gets no answer. All the others are made meanwhile, as far as memory may be used."""
    stub.restart(stall_if="of 20 years", stall=60)
    code = f"import pmem.stream.window as w; w.MOST_BYTES = {most}; from pmem.cli import main; main(prog_name='pmem')"
    (tmp_path / "people").write_bytes(people(60))
    run = ["-c", code, "personas", "people", *asking(stub), "--no-cache", "-j", "4"]
    child = start(sys.executable, *run, folder=tmp_path)
    wait_for(lambda: stub.counts()["requests"] > 8)
    made = steady(lambda: stub.counts()["requests"])
    child.kill()
    assert child.communicate()[0] == b""
    if most > 1 << 20:
        assert made == 59 * 8 + 1
    else:
        assert 4 * 8 < made < 30 * 8
