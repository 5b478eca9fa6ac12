"""Several servers of one model: which gets a call, and what becomes of one that fails."""

import asyncio
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from pmem.backends import servers
from pmem.backends.base import Prefix, Unavailable
from pmem.backends.calls import Limits
from pmem.backends.model import Model
from pmem.backends.openai import OpenAIBackend
from pmem.backends.servers import Server, Servers
from tests.command import people, pmem
from tests.stub import Stub, running

URLS = ["http://a/v1", "http://b/v1", "http://c/v1"]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that sleeping moves; what is random takes its middle."""
    clock = Clock()

    async def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr("pmem.backends.servers.asyncio.sleep", sleep)
    monkeypatch.setattr("pmem.backends.servers.random.uniform", lambda low, high: (low + high) / 2)
    return clock


def chosen(servers: Servers, history: str | None = None) -> Server:
    return asyncio.run(servers.choose(history))


def test_a_call_goes_where_least_is_to_do(clock: Clock) -> None:
    group = Servers(URLS, clock)
    for server, calls in zip(group.all, (2, 0, 1), strict=True):
        server.in_flight = calls
    assert chosen(group).url == "http://b/v1"
    for server in group.all:
        server.in_flight = 1
    assert Counter(chosen(group).url for _ in range(30)) == dict.fromkeys(URLS, 10)  # in turn


def test_a_history_stays_with_its_server(clock: Clock) -> None:
    ids = [f"h-{n}" for n in range(300)]
    own = {own_id: chosen(Servers(URLS, clock), own_id).url for own_id in ids}
    again = Servers(URLS[::-1], clock)  # another run, the servers named in another order
    assert {own_id: chosen(again, own_id).url for own_id in ids} == own
    assert all(70 < count < 130 for count in Counter(own.values()).values())
    fewer = Servers(URLS[:2], clock)  # without one, only its histories move
    moved = {own_id for own_id in ids if chosen(fewer, own_id).url != own[own_id]}
    assert moved == {own_id for own_id in ids if own[own_id] == URLS[2]}


def test_a_crowded_server_is_passed_over(clock: Clock) -> None:
    """Its own server has a history's calls up to 1.25 times the average, this call included: 1.25 * 10 / 3 = 4.17."""
    group = Servers(URLS, clock)
    first, second, third = group._order("h")
    first.in_flight, second.in_flight, third.in_flight = 4, 3, 2
    assert chosen(group, "h") is first
    first.in_flight, second.in_flight = 5, 2
    assert chosen(group, "h") is second
    second.in_flight, third.in_flight = 5, 0  # 1.25 * 11 / 3 = 4.58
    assert chosen(group, "h") is third


def test_a_server_that_fails_is_left_alone_for_a_while(clock: Clock) -> None:
    group = Servers(URLS[:2], clock)
    dead, sound = group.all
    sound.in_flight = 5
    for _ in range(2):
        dead.failed(clock())
    assert chosen(group) is dead
    dead.failed(clock())
    assert chosen(group) is sound
    clock.now += 4.9
    assert chosen(group) is sound
    clock.now += 0.2
    assert chosen(group) is dead  # is it back?
    dead.in_flight = 1
    assert chosen(group) is sound  # one call finds out, not all of them
    dead.in_flight = 0
    dead.failed(clock())  # it is not: twice as long
    clock.now += 9.9
    assert chosen(group) is sound
    clock.now += 0.2
    assert chosen(group) is dead
    dead.answered()
    dead.in_flight = 4
    assert chosen(group) is dead
    dead.failed(clock())
    assert chosen(group) is dead  # one fault is none


def test_calls_that_are_lost_together_are_one_reason_to_rest(clock: Clock) -> None:
    server = Server("http://a/v1")
    for _ in range(64):
        server.failed(clock())
    assert server.resting - clock() == pytest.approx(servers.FIRST_REST)


def test_where_all_servers_fail_they_are_asked_all_the_same(clock: Clock) -> None:
    group = Servers(URLS, clock)
    for server in group.all:
        for _ in range(5):
            server.failed(clock())
    assert Counter(chosen(group).url for _ in range(9)) == dict.fromkeys(URLS, 3)


def test_a_server_that_asks_to_be_spared_is_spared(clock: Clock) -> None:
    group = Servers(URLS[:2], clock)
    one, other = group.all
    one.spare(clock() + 20)
    one.spare(clock() + 10)  # the longer one counts
    other.in_flight = 9
    assert chosen(group) is other and group.wait() == 0
    other.spare(clock() + 30)
    assert group.wait() == 20
    began = clock()
    assert chosen(group) is one  # when it may be asked again
    assert 20 <= clock() - began <= 22
    one.spare(clock() + 5000)
    other.spare(clock() + 4000)
    with pytest.raises(Unavailable) as caught:
        chosen(group)
    assert caught.value.busy and caught.value.wait == 4000


# ---- with servers that run ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def more() -> Iterator[list[Stub]]:
    with running() as one, running() as other:
        yield [one, other]


@pytest.fixture
def three(stub: Stub, more: list[Stub]) -> list[Stub]:
    for one in more:
        one.restart()
    return [stub, *more]


def test_one_dead_server_among_three(tmp_path: Path, three: list[Stub]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    for stub in three[:2]:
        stub.restart(latency=10)
    passed = {}
    for name, third in (("sound", three[0].url), ("dead", dead)):
        urls = [word for url in (third, three[0].url, three[1].url) for word in ("--base-url", url)]
        began = time.monotonic()
        ran = pmem(
            "personas", "-m", "openai:stub", *urls, "--no-cache", "--rejects", "r", folder=tmp_path, input=people(30)
        )
        passed[name] = time.monotonic() - began
        assert (ran.status, len(ran.records)) == (0, 30) and "rejected" not in ran.err
    shares = [stub.counts()["by_status"]["200"] for stub in three[:2]]
    assert sum(shares) == 2 * 30 * 8 and shares[1] > 160 and shares[0] > 160
    assert passed["dead"] < passed["sound"] + 3  # seconds: some calls wait for a second attempt


def test_an_hour_asked_by_one_server_does_not_stop_a_run_that_has_another(tmp_path: Path, three: list[Stub]) -> None:
    three[0].restart(fault="429ra", retry_after=3600)
    run = ["personas", "-m", "openai:stub", "--no-cache", "--rejects", "r"]
    ran = pmem(*run, "--base-url", three[0].url, "--base-url", three[1].url, folder=tmp_path, input=people(10))
    assert (ran.status, len(ran.records)) == (0, 10)
    assert three[1].counts()["requests"] == 80 and three[0].counts()["requests"] <= 16
    ran = pmem(*run, "--base-url", three[0].url, folder=tmp_path, input=people(10))
    said = ran.err.splitlines()
    assert ran.status == 1 and said[-1].startswith("pmem: openai:stub: the server answers 429: ")
    assert "it asks to wait 3,6" in said[-1] and "try again later" in said[-1]


def test_refused_parameters_are_no_fault_of_the_servers(three: list[Stub], monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen calls learn at once that there is no json_schema; none of the servers is to rest for it."""
    faults: list[Server] = []
    monkeypatch.setattr(Server, "failed", lambda server, now: faults.append(server))

    async def run() -> None:
        backend = OpenAIBackend("stub", tuple(stub.url for stub in three))
        model = Model("openai:stub", backend, cache=None)
        schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
        calls = (model.chat([{"role": "user", "content": str(n)}], call=f"t/{n}/s", schema=schema) for n in range(16))
        await asyncio.gather(*calls)
        await model.close()

    for stub in three:
        stub.restart(no_json_schema=True, latency=20)
    asyncio.run(run())
    assert not faults and sum(stub.counts()["by_status"]["400"] for stub in three) > 9


@pytest.mark.parametrize("jobs", [1, 12])
def test_calls_on_a_history_go_to_one_server(tmp_path: Path, three: list[Stub], jobs: int) -> None:
    histories = {f"h-{n}": [{"role": "user", "content": f"I am number {n}."}] for n in range(12)}
    homes: list[dict[str, Counter[int]]] = []

    async def ask(run: int) -> None:
        backend = OpenAIBackend("stub", tuple(stub.url for stub in three))
        model = Model("openai:stub", backend, cache=None, limits=Limits(jobs=jobs))
        prefixes = [Prefix(own_id, orjson.dumps(messages)) for own_id, messages in histories.items()]
        calls = (
            model.chat([{"role": "user", "content": f"{run}/{n}"}], call=f"t/{n}/s", prefix=prefix)
            for n in range(15)
            for prefix in prefixes
        )
        await asyncio.gather(*calls)
        await model.close()

    for run in range(2):
        for number, stub in enumerate(three):
            stub.restart(log=tmp_path / f"{jobs}-{run}-{number}", latency=2)
        asyncio.run(ask(run))
        found: dict[str, Counter[int]] = defaultdict(Counter)
        for number in range(3):
            for line in (tmp_path / f"{jobs}-{run}-{number}").read_bytes().splitlines():
                found[orjson.loads(line)["first"]][number] += 1
        homes.append(found)
        assert len(found) == 12 and sum(sum(counts.values()) for counts in found.values()) == 180
    own = [{first: counts.most_common(1)[0] for first, counts in found.items()} for found in homes]
    if jobs == 1:
        assert all(count == 15 for _, count in own[0].values())
        assert own[0] == own[1]
    else:  # some are passed on by a crowded server
        assert sum(count for _, count in own[0].values()) > 0.6 * 180
