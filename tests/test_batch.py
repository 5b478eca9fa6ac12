"""Calls in batches: gathered, sent once, followed, joined; whatever happens to the process or the provider."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import openai
import orjson
import pytest

from pmem.backends.base import Completion, Request
from pmem.backends.batch import BatchBackend
from pmem.backends.batch_lines import chunks, completion, request_line, result
from pmem.backends.batch_provider import Provider, Terms
from pmem.backends.cache import Batch, Cache
from pmem.backends.openai import OpenAIBackend
from pmem.errors import BackendError, ModelError
from tests.stub import Stub

QUICK = Terms(quiet=0.04, poll=(0.01, 0.05), patience=5)


class Chat(OpenAIBackend):
    """The usual backend; its client of the openai package is kept, and gives up soon."""

    def sdk(self) -> Any:
        self.client = super().sdk().with_options(max_retries=1)
        return self.client


class Memory(Cache):
    """A cache that outlives a process that is killed."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.steps: set[str] = set()
        self.noted: dict[str, Batch] = {}
        self.all: list[str] = []

    def get(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    async def put(self, key: bytes, value: bytes, *, model: str, step: str) -> None:
        await asyncio.sleep(0)
        self.values.setdefault(key, value)
        self.steps.add(step)

    def batches(self, server: str, model: str) -> list[Batch]:
        return [each for each in self.noted.values() if (each.server, each.model) == (server, model)]

    def add_batch(self, id: str, *, server: str, model: str, keys: list[bytes]) -> None:
        self.noted[id] = Batch(id, server, model, 0, keys)
        self.all.append(id)

    def end_batch(self, id: str) -> None:
        self.noted.pop(id, None)


class Run(NamedTuple):
    """What came of some calls: replies or faults, and what was said."""

    results: list[Any]
    said: list[str]

    @property
    def texts(self) -> list[str]:
        return [reply.text for reply in self.results]


def asked(count: int, begin: int = 0) -> list[Request]:
    made = []
    for number in range(begin, begin + count):
        messages = [{"role": "user", "content": f"Call {number}"}]
        key = hashlib.sha256(orjson.dumps(messages)).digest()
        made.append(
            Request(
                messages,
                seed=number,
                call=f"judge/q-{number}/leak/0",
                step="judge/leak",
                raw=orjson.dumps(messages),
                key=key,
            )
        )
    return made


async def holds(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.002)


def run(
    stub: Stub,
    requests: list[Request],
    cache: Memory,
    *,
    until: Callable[[], bool] | None = None,
    **terms: Any,
) -> Run:
    """Ask all requests at once. until: end as a kill -9 would once that holds, with nothing closed."""
    said: list[str] = []

    async def main() -> list[Any]:
        chat = Chat("stub", (stub.url,))
        settings = {"quiet": QUICK.quiet, "poll": QUICK.poll, "patience": QUICK.patience, **terms}
        backend = BatchBackend("openai:stub", chat, cache, terms=Terms(**settings), say=said.append)
        calls = asyncio.gather(*map(backend.complete, requests), return_exceptions=True)
        if until is None:
            results = await asyncio.wait_for(calls, 20)
            await backend.close()
            return results
        await holds(until)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await chat.client.close()
        return []

    return Run(asyncio.run(main()), said)


def alone(stub: Stub, requests: list[Request]) -> list[str]:
    """The texts of the same calls without batches."""

    async def main() -> list[str]:
        chat = Chat("stub", (stub.url,))
        replies = await asyncio.gather(*map(chat.complete, requests))
        await chat.close()
        return [reply.text for reply in replies]

    return asyncio.run(main())


def files(stub: Stub) -> list[Any]:
    """Names of the files that the server holds."""
    found: list[Any] = stub._ask("GET", "/v1/files")["data"]
    return [file["filename"] for file in found]


# ---- the usual way ---------------------------------------------------------------------------------------------


def test_replies_are_those_of_chat_requests_and_are_stored(stub: Stub) -> None:
    cache, requests = Memory(), asked(40)
    ran = run(stub, requests, cache)
    assert stub.counts()["batches"] == 1 and stub.counts()["batch_requests"] == 40
    assert ran.texts == alone(stub, requests)
    assert all(reply.usage.completion > 0 for reply in ran.results)
    assert sorted(cache.values) == sorted(request.key for request in requests)
    stored = orjson.loads(cache.values[requests[0].key])
    assert stored == [ran.results[0].text, list(ran.results[0].usage), "stop"] and cache.steps == {"judge/leak"}
    assert not cache.noted
    assert [name for name in files(stub) if name == "pmem.jsonl"] == []  # what was uploaded is removed


def test_progress_is_told_once_for_each_change(stub: Stub) -> None:
    stub.restart(batch_seconds=0.5)
    ran = run(stub, asked(10), Memory())
    states = [line.split(": ", 2)[2] for line in ran.said]
    assert states[0] == "validating, 0 of 10 done" and states[-1] == "completed, 10 of 10 done"
    assert len(states) == len(set(states)) and any(state.startswith("in progress") for state in states)
    assert all(line.startswith("openai:stub: batch batch_") for line in ran.said)


def test_calls_that_come_later_wait_for_quiet(stub: Stub) -> None:
    async def main() -> None:
        backend = BatchBackend("openai:stub", Chat("stub", (stub.url,)), Memory(), terms=QUICK, say=lambda _: None)
        tasks = []
        for request in asked(12):
            tasks.append(asyncio.create_task(backend.complete(request)))
            await asyncio.sleep(0.015)  # more often than a quiet period's looks
        await asyncio.gather(*tasks)
        await asyncio.gather(*map(backend.complete, asked(5, 12)))  # a second round, as of dependent calls
        await backend.close()

    asyncio.run(main())
    assert stub.counts()["batches"] == 2 and stub.counts()["batch_requests"] == 17


def test_files_are_split_at_the_limits(stub: Stub) -> None:
    stub.restart(batch_lines=7)
    requests = asked(20)
    assert run(stub, requests, Memory(), lines=7).texts == alone(stub, requests)
    assert stub.counts()["batches"] == 3
    size = 4 * max(len(b"".join(request_line(Chat("stub", (stub.url,)), each))) for each in requests)
    stub.restart(batch_bytes=size)
    assert len(run(stub, requests, Memory(), size=size).texts) == 20
    assert stub.counts()["batches"] == 5


def test_a_request_larger_than_a_file_fails_alone(stub: Stub) -> None:
    large = Request([{"role": "user", "content": "x" * 2000}], call="judge/q/leak/0", key=b"k" * 32)
    ran = run(stub, [*asked(3), large], Memory(), size=1000)
    assert [type(one) for one in ran.results] == [Completion] * 3 + [ModelError]
    assert ran.results[3].reason == "limit" and "too large" in str(ran.results[3])


# ---- faults of requests ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["500", "garbage", "lost", "expired"])
def test_what_failed_goes_into_the_next_batch(stub: Stub, fault: str) -> None:
    stub.restart(batch_fault=fault, batch_fault_first=1)
    cache, requests = Memory(), asked(10)
    ran = run(stub, requests, cache)
    assert stub.counts()["batches"] == 2
    done = 5 if fault == "expired" else 10
    assert stub.counts()["batch_requests"] == done + (5 if fault == "expired" else 10)
    assert ran.texts == alone(stub, requests)
    assert not cache.noted


def test_tries_are_limited(stub: Stub) -> None:
    stub.restart(batch_fault="500", batch_fault_first=9)
    cache = Memory()
    ran = run(stub, asked(3), cache)
    assert stub.counts()["batches"] == 3
    assert all(isinstance(fault, ModelError) and "(tried in 3 batches)" in str(fault) for fault in ran.results)
    assert "answers 500" in str(ran.results[0]) and ran.results[1].call == "judge/q-1/leak/0"
    assert not cache.noted and not cache.values
    stub.restart(batch_fault="expired", batch_fault_first=9)
    last = run(stub, asked(8), Memory()).results[-1]
    assert isinstance(last, ModelError | Completion) and stub.counts()["batches"] == 3


def test_a_refused_request_is_not_tried_again(stub: Stub) -> None:
    stub.restart(context=100)
    long = Request([{"role": "user", "content": "x" * 2000}], call="judge/q/leak/0", key=b"k" * 32)
    ran = run(stub, [*asked(3), long], Memory())
    assert stub.counts()["batches"] == 1
    assert isinstance(ran.results[3], ModelError) and ran.results[3].reason == "limit"
    assert len(Run(ran.results[:3], []).texts) == 3


def test_a_parameter_that_is_refused_is_left_out_of_the_next_batch(stub: Stub) -> None:
    stub.restart(no_json_schema=True)
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    ran = run(stub, [request._replace(schema=schema) for request in asked(4)], Memory())
    assert stub.counts()["batches"] == 2
    assert all("a" in orjson.loads(text) for text in ran.texts)


# ---- faults of batches -----------------------------------------------------------------------------------------


def test_a_batch_that_fails_as_a_whole_is_one_clear_error(stub: Stub) -> None:
    stub.restart(batch_fault={"failed": 1})
    cache = Memory()
    ran = run(stub, asked(3), cache)
    assert {type(fault) for fault in ran.results} == {BackendError}
    assert "failed: The stub fails this batch on purpose." in str(ran.results[0])
    assert not cache.noted
    assert stub.counts()["batches"] == 1


def test_a_full_queue_is_gone_through_in_turn(stub: Stub) -> None:
    requests = asked(16)
    tokens = sum(len(b"".join(request_line(Chat("stub", (stub.url,)), each))) for each in requests) // 4
    stub.restart(batch_tokens=tokens // 3, batch_seconds=0.05)
    ran = run(stub, requests, Memory())
    assert stub.counts()["batch_requests"] == 16 and stub.counts()["repeats"] == 0
    assert "batches of up to 4 calls go one by one" in " ".join(ran.said)
    assert ran.texts == alone(stub, requests)
    stub.restart(batch_tokens=1)
    fault = run(stub, asked(1), Memory()).results[0]
    assert isinstance(fault, ModelError) and "Enqueued token limit" in str(fault)


def test_a_cancelled_batch_stops_the_run_and_keeps_what_is_done(stub: Stub) -> None:
    stub.restart(batch_seconds=3)
    cache = Memory()

    async def main() -> list[Any]:
        backend = BatchBackend("openai:stub", Chat("stub", (stub.url,)), cache, terms=QUICK, say=lambda _: None)
        calls = asyncio.gather(*map(backend.complete, asked(20)), return_exceptions=True)
        await holds(lambda: any(id.startswith("batch_") for id in cache.noted))
        await asyncio.sleep(0.4)
        stub._ask("POST", f"/v1/batches/{cache.all[-1]}/cancel")
        results = await calls
        await backend.close()
        return results

    results = asyncio.run(main())
    kinds = [type(one) for one in results]
    assert kinds.count(Completion) == len(cache.values) >= 1
    assert kinds.count(BackendError) == 20 - len(cache.values)
    fault = next(one for one in results if isinstance(one, BackendError))
    assert "was cancelled at the provider" in str(fault) and not cache.noted


def test_a_server_without_batches_and_a_wrong_key(stub: Stub) -> None:
    bad = Stub(stub.url.removesuffix("/v1") + "/v2", stub.process)
    fault = run(bad, asked(1), Memory()).results[0]
    assert isinstance(fault, BackendError) and "has no batches (it answers 404)" in str(fault)
    stub.restart(key="right")
    fault = run(stub, asked(1), Memory()).results[0]
    assert isinstance(fault, BackendError) and "refuses the key" in str(fault)


def test_a_dead_server_is_one_clear_error() -> None:
    dead = Stub("http://127.0.0.1:9/v1", None)  # type: ignore[arg-type]
    faults = run(dead, asked(2), Memory()).results
    assert all(
        isinstance(fault, BackendError) and "no connection to http://127.0.0.1:9" in str(fault) for fault in faults
    )


def test_a_server_may_be_out_of_reach_while_a_batch_runs(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.restart(batch_seconds=0.3)
    retrieve = openai.resources.AsyncBatches.retrieve
    looks = 0

    async def unreliable(self: Any, *arguments: Any, **more: Any) -> Any:
        nonlocal looks
        looks += 1
        if looks in (2, 3):
            raise openai.APIConnectionError(request=None)  # type: ignore[arg-type]
        if looks == 4:
            return "<html>Bad gateway</html>"
        return await retrieve(self, *arguments, **more)

    monkeypatch.setattr(openai.resources.AsyncBatches, "retrieve", unreliable)
    assert len(run(stub, asked(3), Memory()).texts) == 3 and looks > 5
    looks = 1
    fault = run(stub, asked(3), Memory(), patience=0).results[0]
    assert isinstance(fault, BackendError) and "no connection" in str(fault)


# ---- ends of the process ---------------------------------------------------------------------------------------


def stops_at(monkeypatch: pytest.MonkeyPatch, step: str, *, after: bool) -> Callable[[], bool]:
    """Make a step of the provider hang, before or after it has happened at the server; whether it does."""
    usual = getattr(Provider, step)
    reached = False

    async def hangs(self: Provider, *arguments: Any) -> Any:
        nonlocal reached
        if after:
            await usual(self, *arguments)
        reached = True
        await asyncio.Event().wait()

    monkeypatch.setattr(Provider, step, hangs)
    return lambda: reached


@pytest.mark.parametrize(
    ("step", "after", "uploads", "left"),
    [
        ("upload", False, 1, 0),  # nothing was sent
        ("upload", True, 2, 1),  # a file was that nobody knows: it is sent again, and the provider lets it expire
        ("create", False, 2, 0),  # the file is known, and has no batch
        ("create", True, 1, 0),  # the batch is found by its file
        ("ended", False, 1, 0),
        ("ended", True, 1, 0),
        ("content", False, 1, 0),
        ("content", True, 1, 0),
        ("delete", False, 1, 1),
    ],
)
def test_a_killed_run_is_taken_up_and_nothing_accepted_is_sent_again(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, step: str, after: bool, uploads: int, left: int
) -> None:
    cache, requests = Memory(), asked(10)
    sent: list[str] = []
    upload = Provider.upload

    async def counted(self: Provider, file: Any) -> str:
        sent.append(await upload(self, file))
        return sent[-1]

    monkeypatch.setattr(Provider, "upload", counted)
    with monkeypatch.context() as killed:
        run(stub, requests, cache, until=stops_at(killed, step, after=after))
    ran = run(stub, requests, cache)
    assert ran.texts == alone(stub, requests)
    assert len(sent) == uploads
    assert stub.counts()["batches"] == 1 and stub.counts()["batch_requests"] == 10
    assert not cache.noted
    assert len([name for name in files(stub) if name == "pmem.jsonl"]) == left


def test_a_resumed_run_sends_only_what_no_batch_carries(stub: Stub) -> None:
    stub.restart(batch_seconds=0.6)
    cache = Memory()
    run(stub, asked(10), cache, until=lambda: len(cache.all) == 2)
    ran = run(stub, asked(15, 5), cache)  # five of the ten, and ten new ones
    assert len(ran.texts) == 15
    assert stub.counts()["batches"] == 2 and stub.counts()["repeats"] == 0
    assert len(cache.values) == 20 and not cache.noted  # the replies that nobody waits for are kept too


def test_another_models_batches_are_left_alone(stub: Stub) -> None:
    cache = Memory()
    cache.add_batch("batch_x", server=f"{stub.url}/", model="openai:other", keys=[one.key for one in asked(2)])
    cache.add_batch("batch_y", server="http://elsewhere/v1/", model="openai:stub", keys=[one.key for one in asked(2)])
    cache.add_batch("batch_z", server=f"{stub.url}/", model="openai:stub", keys=[b"z" * 32])  # of another process
    assert len(run(stub, asked(2), cache).texts) == 2
    assert sorted(cache.noted) == ["batch_x", "batch_y", "batch_z"]


def test_a_batch_that_the_server_has_lost_is_made_anew(stub: Stub) -> None:
    cache, requests = Memory(), asked(3)
    cache.add_batch("batch_gone", server=f"{stub.url}/", model="openai:stub", keys=[one.key for one in requests])
    ran = run(stub, requests, cache)
    assert len(ran.texts) == 3 and "knows no batch batch_gone" in ran.said[0]
    assert not cache.noted  # all of its calls have replies now


def test_it_looks_for_the_batch_before_it_begins_another(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    create = openai.resources.AsyncBatches.create
    times = 0

    async def cut_off(self: Any, **more: Any) -> Any:
        nonlocal times
        times += 1
        await create(self, **more)
        raise openai.APITimeoutError(request=None)  # type: ignore[arg-type]

    monkeypatch.setattr(openai.resources.AsyncBatches, "create", cut_off)
    assert len(run(stub, asked(3), Memory()).texts) == 3
    assert times == 1 and stub.counts()["batches"] == 1


def test_closing_says_what_goes_on(stub: Stub) -> None:
    stub.restart(batch_seconds=60)

    async def main(cache: Memory) -> list[str]:
        said: list[str] = []
        backend = BatchBackend("openai:stub", Chat("stub", (stub.url,)), cache, terms=QUICK, say=said.append)
        tasks = [asyncio.create_task(backend.complete(request)) for request in asked(2)]
        await holds(lambda: bool(said))
        for task in tasks:
            task.cancel()
        await backend.close()
        return said

    cache = Memory()
    last = asyncio.run(main(cache))[-1]
    assert "1 batch goes on at the provider (batch_" in last and "the same command again waits for it" in last
    assert [id.partition("_")[0] for id in cache.noted] == ["batch"]


# ---- lines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"custom_id":5}',
        b'{"custom_id":"zz"}',
        b'{"custom_id":"00","response":{}}',
        b"\xff",
    ],
)
def test_lines_that_are_no_results(line: bytes) -> None:
    assert result(line) is None


def test_results_of_vllm() -> None:
    key = "ab" * 32
    error = {"error": {"message": "maximum context length is 10", "type": "BadRequestError", "code": 400}}
    line = {"id": "vllm-1", "custom_id": key, "response": {"status_code": 400, "request_id": "r"}, "error": error}
    read = result(orjson.dumps(line))
    assert read and read.key.hex() == key
    with pytest.raises(ModelError, match="context length"):
        completion(Chat("stub", ("http://x/v1",)), read, Request([]))
    flat = result(orjson.dumps({**line, "error": error["error"]}))
    assert flat
    with pytest.raises(ModelError, match="context length"):
        completion(Chat("stub", ("http://x/v1",)), flat, Request([]))


def test_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    assert list(chunks("a\u2028b\n\nc\r\nd".encode(), 2)) == [["a\u2028b".encode(), b""], [b"c\r", b"d"]]
    assert list(chunks(b"", 2)) == []
