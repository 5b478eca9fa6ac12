"""The stub's files and batches, asked by the openai package."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import orjson
import pytest
from openai.types import Batch

from tests.stub import Stub
from tests.test_stub import ask, chat, structured

VERDICT = {"type": "object", "properties": {"verdict": {"enum": ["pass", "fail"]}}, "required": ["verdict"]}
Talk = Callable[[openai.AsyncOpenAI], Awaitable[Any]]


def sdk(stub: Stub, talk: Talk, key: str = "none") -> Any:
    """What `talk` makes of a client of the openai package."""

    async def main() -> Any:
        async with openai.AsyncOpenAI(base_url=stub.url, api_key=key, max_retries=0) as client:
            return await talk(client)

    return asyncio.run(main())


def request(custom_id: str, body: dict[str, Any], **other: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body, **other}


def requests(count: int) -> list[dict[str, Any]]:
    return [request(f"r{number}", chat(seed=number)) for number in range(count)]


def jsonl(lines: list[Any]) -> bytes:
    return b"".join((line if isinstance(line, bytes) else orjson.dumps(line)) + b"\n" for line in lines)


async def begin(client: openai.AsyncOpenAI, lines: list[Any], **more: Any) -> Batch:
    file = await client.files.create(file=("in.jsonl", io.BytesIO(jsonl(lines))), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **more
    )


async def results(client: openai.AsyncOpenAI, batch: Batch, file: str) -> list[Any]:
    name = getattr(batch, f"{file}_file_id")
    return (
        [] if name is None else [orjson.loads(line) for line in (await client.files.content(name)).content.splitlines()]
    )


def run(stub: Stub, lines: list[Any]) -> tuple[Batch, list[Any], list[Any]]:
    """The batch at its end, its output and its errors; for a stub whose batches take no time."""

    async def talk(client: openai.AsyncOpenAI) -> tuple[Batch, list[Any], list[Any]]:
        made = await begin(client, lines)
        assert made.status == "validating"
        batch = await client.batches.retrieve(made.id)
        return batch, await results(client, batch, "output"), await results(client, batch, "error")

    answer: tuple[Batch, list[Any], list[Any]] = sdk(stub, talk)
    return answer


def test_a_batch_gives_the_replies_of_chat_requests_in_any_order(stub: Stub) -> None:
    bodies = {f"r{number}": structured(VERDICT, seed=number) for number in range(30)}
    batch, output, errors = run(stub, [request(name, body) for name, body in bodies.items()])
    assert batch.status == "completed" and not errors and batch.error_file_id is None
    assert batch.request_counts and dict(batch.request_counts) == {"total": 30, "completed": 30, "failed": 0}
    order = [line["custom_id"] for line in output]
    assert sorted(order) == sorted(bodies) and order != list(bodies)
    for line in output:
        assert line.keys() == {"id", "custom_id", "response", "error"} and line["error"] is None
        assert line["response"].keys() == {"status_code", "request_id", "body"}
        assert line["response"]["status_code"] == 200
        assert line["response"]["body"] == ask(stub.url, bodies[line["custom_id"]]).completion
    counts = stub.counts()
    assert (counts["batches"], counts["batch_requests"], counts["requests"]) == (1, 30, 60)
    assert counts["by_status"] == {"200": 60} and counts["paid_again"] == 30


def test_states_follow_each_other(stub: Stub) -> None:
    stub.restart(batch_seconds=0.5)

    async def talk(client: openai.AsyncOpenAI) -> list[Batch]:
        seen = [await begin(client, requests(50), metadata={"for": "test"})]
        while seen[-1].status != "completed":
            seen.append(await client.batches.retrieve(seen[0].id))
            await asyncio.sleep(0.01)
        assert seen[-1].metadata == {"for": "test"}
        return seen

    seen: list[Batch] = sdk(stub, talk)
    states = list(dict.fromkeys(batch.status for batch in seen))
    assert states == ["validating", "in_progress", "finalizing", "completed"]
    counts = [batch.request_counts.completed for batch in seen if batch.request_counts]
    assert counts == sorted(counts) and len(set(counts)) > 5 and counts[-1] == 50
    last = seen[-1]
    assert last.in_progress_at and last.finalizing_at and last.completed_at
    assert last.created_at <= last.in_progress_at <= last.finalizing_at <= last.completed_at


def test_requests_that_fail_stand_in_the_error_file(stub: Stub) -> None:
    stub.restart(context=100, batch_fault={"500": 0.3})
    batch, output, errors = run(
        stub, [*requests(40), request("long", chat("x" * 1000)), request("bad", {"model": "stub"})]
    )
    assert batch.status == "completed" and len(output) + len(errors) == 42
    statuses = {line["custom_id"]: line["response"]["status_code"] for line in errors}
    assert statuses.pop("long") == 400 and statuses.pop("bad") == 400
    assert 4 <= len(statuses) <= 20 and set(statuses.values()) == {500}
    assert all(line["response"]["body"]["error"]["message"] for line in errors)
    assert batch.request_counts and batch.request_counts.failed == len(errors)


def test_faults_of_content_are_those_of_chat_requests(stub: Stub) -> None:
    stub.restart(fault={"empty": 0.5, "429": 0.5})
    _, output, _ = run(stub, requests(40))
    choices = [len(line["response"]["body"]["choices"]) for line in output]
    assert len(choices) == 40 and 8 <= choices.count(0) <= 32


def test_an_expired_batch_has_done_half(stub: Stub) -> None:
    stub.restart(batch_fault="expired", batch_fault_first=1)
    batch, output, errors = run(stub, requests(9))
    assert batch.status == "expired" and batch.expired_at
    assert len(output) == 4 and len(errors) == 5
    assert {line["error"]["code"] for line in errors} == {"batch_expired"}
    assert all(line["response"] is None for line in errors)
    assert run(stub, requests(9))[0].status == "completed"


def test_garbage_and_lost_lines(stub: Stub) -> None:
    stub.restart(batch_fault={"garbage": 0.3, "lost": 0.3})

    async def talk(client: openai.AsyncOpenAI) -> list[bytes]:
        batch = await client.batches.retrieve((await begin(client, requests(60))).id)
        assert batch.output_file_id
        return (await client.files.content(batch.output_file_id)).content.splitlines()

    lines = sdk(stub, talk)
    whole = [line for line in lines if line.endswith(b"}")]
    assert len(whole) < len(lines) < 60


@pytest.mark.parametrize(
    ("options", "lines", "code", "line"),
    [
        ({}, [*requests(2), requests(1)[0]], "duplicate_custom_id", 3),
        ({}, [requests(1)[0], b'{"custom_id": '], "invalid_json_line", 2),
        ({}, [request("a", chat(), url="/v1/embeddings")], "url_mismatch", 1),
        ({}, [request("a", chat(), method="GET")], "url_mismatch", 1),
        ({}, [request("a", chat()), request("b", {**chat(), "model": "other"})], "model_mismatch", 2),
        ({}, [], "empty_batch", None),
        ({"batch_lines": 2}, requests(3), "too_many_tasks", None),
        ({"batch_tokens": 10}, requests(3), "token_limit_exceeded", None),
        ({"batch_fault": {"failed": 1}}, requests(3), "invalid_request", None),
    ],
)
def test_what_a_validation_finds(
    stub: Stub, options: dict[str, Any], lines: list[Any], code: str, line: int | None
) -> None:
    stub.restart(**options)
    batch, output, errors = run(stub, lines)
    assert batch.status == "failed" and batch.failed_at and not output and not errors
    assert batch.errors and batch.errors.data
    assert [(error.code, error.line) for error in batch.errors.data] == [(code, line)]
    assert stub.counts()["requests"] == 0


def test_the_limit_of_enqueued_tokens_counts_batches_that_are_not_done(stub: Stub) -> None:
    tokens = len(jsonl(requests(3))) // 4
    stub.restart(batch_seconds=0.6, batch_tokens=tokens + 10)

    async def talk(client: openai.AsyncOpenAI) -> list[str]:
        names = [(await begin(client, requests(3))).id, (await begin(client, requests(3))).id]
        await asyncio.sleep(0.7)
        names.append((await begin(client, requests(3))).id)
        await asyncio.sleep(0.7)
        return [(await client.batches.retrieve(name)).status for name in names]

    assert sdk(stub, talk) == ["completed", "failed", "completed"]


def test_cancelling_keeps_what_is_done(stub: Stub) -> None:
    stub.restart(batch_seconds=2)

    async def talk(client: openai.AsyncOpenAI) -> None:
        made = await begin(client, requests(20))
        await asyncio.sleep(0.3)
        assert (await client.batches.cancel(made.id)).status == "cancelling"
        batch = await client.batches.retrieve(made.id)
        assert batch.status == "cancelled" and batch.cancelled_at
        output, errors = await results(client, batch, "output"), await results(client, batch, "error")
        assert len(output) + len(errors) == 20 and output and errors
        assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
        with pytest.raises(openai.ConflictError):
            await client.batches.cancel(made.id)

    sdk(stub, talk)


def test_batches_are_listed_newest_first_in_pages(stub: Stub) -> None:
    async def talk(client: openai.AsyncOpenAI) -> None:
        made = [(await begin(client, requests(1))).id for _ in range(5)]
        page = await client.batches.list(limit=2)
        assert [batch.id for batch in page.data] == made[:2:-1] and page.has_more
        assert [batch.id async for batch in client.batches.list(limit=2)] == made[::-1]

    sdk(stub, talk)


def test_files_are_kept_until_they_are_deleted(stub: Stub) -> None:
    stub.restart(batch_bytes=1000)

    async def talk(client: openai.AsyncOpenAI) -> None:
        file = await client.files.create(file=("in.jsonl", b"{}\n"), purpose="batch")
        assert (file.bytes, file.filename, file.purpose) == (3, "in.jsonl", "batch")
        assert await client.files.retrieve(file.id) == file
        assert [each.id async for each in client.files.list()] == [file.id]
        assert (await client.files.content(file.id)).content == b"{}\n"
        assert (await client.files.delete(file.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.files.content(file.id)
        with pytest.raises(openai.BadRequestError, match="too large"):
            await client.files.create(file=("in.jsonl", b" " * 1001), purpose="batch")
        with pytest.raises(openai.BadRequestError, match="jsonl"):
            await client.files.create(file=("in.txt", b"{}\n"), purpose="batch")
        with pytest.raises(openai.BadRequestError, match="purpose"):
            await client.files.create(file=("in.jsonl", b"{}\n"), purpose="vision")
        with pytest.raises(openai.NotFoundError):
            await client.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")
        with pytest.raises(openai.NotFoundError):
            await client.batches.retrieve("batch_none")

    sdk(stub, talk)


def test_the_key_is_asked_for_and_a_reset_forgets(stub: Stub) -> None:
    stub.restart(key="right")
    with pytest.raises(openai.AuthenticationError):
        sdk(stub, lambda client: begin(client, requests(1)))
    made: Batch = sdk(stub, lambda client: begin(client, requests(1)), key="right")
    stub.reset()
    with pytest.raises(openai.NotFoundError):
        sdk(stub, lambda client: client.batches.retrieve(made.id), key="right")
