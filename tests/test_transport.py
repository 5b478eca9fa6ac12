"""HTTP as it is sent: bodies, headers, bounds, timeouts."""

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pmem.backends import transport
from pmem.backends.base import Message, Prefix, Request, Unavailable
from pmem.backends.openai import OpenAIBackend
from pmem.backends.transport import LARGEST_REPLY, Answer, Transport
from tests.command import KEY, Ran, people, pmem
from tests.local_server import REPLY, Local, serving
from tests.stub import Stub


@pytest.fixture
def server() -> Iterator[Local]:
    yield from serving(Local())


def post(url: str, *pieces: bytes, timeout: float | None = None) -> Answer:
    async def inside() -> Answer:
        sent = Transport({}, timeout)
        try:
            return await sent.post(url + "/chat/completions", list(pieces))
        finally:
            await sent.close()

    return asyncio.run(inside())


def personas(folder: Path, url: str, *options: str, **env: str) -> Ran:
    run = ["personas", "-m", "openai:stub", "--base-url", url, "--no-cache", *options]
    return pmem(*run, folder=folder, input=people(1), env=env, hurried=True)


# ---- bodies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, transport.IN_PIECES, 3_000_000])
def test_a_body_in_pieces_arrives_whole(server: Local, size: int) -> None:
    history = bytes(range(256)) * (size // 256 + 1)
    assert post(server.url, b"{", memoryview(history)[:-1], b"}").status == 200  # type: ignore[arg-type]
    assert server.bodies == [b"{" + history[:-1] + b"}"]


def test_a_history_is_not_copied() -> None:
    """What goes to the socket is the history's own memory."""
    history = orjson.dumps([{"role": "user", "content": "x" * 200_000}])
    backend = OpenAIBackend("m", ("http://127.0.0.1:9/v1",))
    parts = backend.parts(Request([{"role": "user", "content": "?"}], Prefix("h", history)))
    written: list[Any] = []

    class Writer:
        async def write(self, piece: Any) -> None:
            written.append(piece)

    asyncio.run(transport._Pieces(parts).write(Writer()))
    (large,) = [piece for piece in written if len(piece) > 1000]
    assert isinstance(large, memoryview) and large.obj is history
    assert sum(map(len, written)) - len(large) < 200


def test_both_clients_send_the_same_body(server: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pmem puts together from bytes is what the openai package makes of the same request."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    history: list[Message] = [
        {
            "role": "system",
            "content": "Be brief.\n\u2028\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        },
        {"role": "user", "content": [{"type": "text", "text": 'Look: "é"'}, image]},
        {"role": "assistant", "content": "I see."},
    ]
    asked: list[Message] = [{"role": "user", "content": [{"type": "text", "text": "Which?"}]}]
    schema = {"title": "city", "type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": schema}}

    async def inside() -> None:
        backend = OpenAIBackend("m", (server.url,))
        prefix = Prefix("h", orjson.dumps(history))
        await backend.complete(Request(asked, prefix, schema, 7, 99, 0.5))
        await backend.complete(Request(asked))
        client = backend.sdk()
        await client.chat.completions.create(
            model="m", messages=history + asked, seed=7, max_tokens=99, temperature=0.5, response_format=form
        )
        await client.chat.completions.create(model="m", messages=asked)
        await client.close()
        await backend.close()

    asyncio.run(inside())
    ours, ours_bare, theirs, theirs_bare = map(json.loads, server.bodies)
    assert ours == theirs and len(ours["messages"]) == 4 and ours["response_format"] == form
    assert ours_bare == theirs_bare == {"model": "m", "messages": asked}
    kept = ("authorization", "content-type")
    assert [[headers[name] for name in kept] for headers in server.headers] == [
        [f"Bearer {KEY}", "application/json"]
    ] * 4


def test_organization_and_project_are_told(server: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    async def inside() -> None:
        backend = OpenAIBackend("m", (server.url,))
        await backend.complete(Request([{"role": "user", "content": "?"}]))
        await backend.close()

    asyncio.run(inside())
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1\n")
    asyncio.run(inside())
    names = ("openai-organization", "openai-project")
    assert [[headers.get(name) for name in names] for headers in server.headers] == [[None, None], ["org-1", "proj-1"]]


@pytest.mark.parametrize("key", ["sk-first\nsecond", "sk-ключ", "sk-\x1b[1m"])
@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "OPENAI_ORG_ID"])
def test_a_key_that_no_header_can_have_is_one_line(tmp_path: Path, server: Local, key: str, variable: str) -> None:
    ran = personas(tmp_path, server.url, **{variable: key})
    assert ran.status == 1 and f"pmem: {variable} holds characters that don't belong there" in ran.err
    assert "second" not in ran.err and "ключ" not in ran.err and not server.bodies


# ---- bounds ------------------------------------------------------------------------------------------------------


def test_a_reply_of_ten_megabytes_is_cut_off(stub: Stub) -> None:
    stub.restart(fault="huge")
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    with pytest.raises(Unavailable, match="sends more than 4 MiB for one reply") as caught:
        post(stub.url, body)
    assert caught.value.reached


@pytest.mark.parametrize("packed", [gzip.compress, zlib.compress])
def test_a_compressed_reply_is_unpacked_within_bounds(server: Local, packed: Any) -> None:
    server.more = {"Content-Encoding": "gzip" if packed is gzip.compress else "deflate"}
    server.reply = packed(REPLY)
    assert post(server.url, b"{}").body == REPLY
    server.reply = packed(b" " * (LARGEST_REPLY + 1))
    assert len(server.reply) < 10_000
    with pytest.raises(Unavailable, match="sends more than 4 MiB"):
        post(server.url, b"{}")


@pytest.mark.parametrize("fault", ["stall", "drip"])
def test_each_attempt_has_its_time(tmp_path: Path, stub: Stub, fault: str) -> None:
    stub.restart(fault=fault, fault_first=1, stall=30, drip=30)
    began = time.monotonic()
    ran = personas(tmp_path, stub.url, "--timeout", "0.3", "--preferences", "neutral=1")
    assert ran.status == 0 and time.monotonic() - began < 10
    stub.restart(fault=fault, stall=30, drip=30)
    ran = personas(tmp_path, stub.url, "--timeout", "0.1", "--retries", "1")
    assert ran.status == 1 and ran.err.splitlines()[-1] == f"pmem: openai:stub: no answer from {stub.url} in 0.1 s"
