"""Calls through the whole model layer to a stub server: faults, retries, cache, single flight."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pmem.backends import calls
from pmem.backends.cache import Cache
from pmem.backends.calls import Limits
from pmem.backends.model import Model, NoValidReply, Reply
from pmem.backends.openai import OpenAIBackend
from pmem.errors import BackendError, ModelError
from tests.stub import Stub

KEY = "sk-secret-of-the-tests"
SCHEMA = {
    "title": "city",
    "type": "object",
    "properties": {"city": {"type": "string", "minLength": 1}, "size": {"type": "integer"}},
    "required": ["city", "size"],
    "additionalProperties": False,
}


@pytest.fixture
def stub(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(calls, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(calls, "LONGEST_WAIT", 0.01)
    monkeypatch.setattr(calls, "PATIENCE", 0.0)
    return stub


def chat(
    url: str, *texts: str, jobs: int = 8, cache: Path | None = None, schema: Any = None, **more: Any
) -> list[Reply]:
    """One reply per text, asked for at once."""

    async def ask() -> list[Reply]:
        backend, limits = OpenAIBackend("stub", (url,)), Limits(jobs=jobs)
        model = Model("openai:stub", backend, limits=limits, cache=Cache(cache) if cache else None)
        try:
            asked = (
                model.chat([{"role": "user", "content": text}], call=f"test/{n}/say", schema=schema, **more)
                for n, text in enumerate(texts)
            )
            return list(await asyncio.gather(*asked))
        finally:
            await model.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "fault", ["429", "429ra", "500", "503", "reset", "resetbody", "truncated", "notjson", "empty", "redirect"]
)
def test_passing_faults_are_asked_again(stub: Stub, fault: str) -> None:
    stub.restart()
    (sound,) = chat(stub.url, "hello", schema=SCHEMA)
    stub.restart(fault=fault, fault_first=2, retry_after=0.01)
    (reply,) = chat(stub.url, "hello", schema=SCHEMA)
    assert reply.parsed == sound.parsed
    assert stub.counts()["requests"] >= 3


def test_an_address_that_never_speaks_the_protocol_stops_the_run(stub: Stub) -> None:
    stub.restart(fault="notjson")
    with pytest.raises(BackendError, match="the server's reply is not JSON"):
        chat(stub.url, "hello")


@pytest.mark.parametrize("fault", ["500", "empty"])
def test_lasting_faults_reject_the_record_in_one_line(stub: Stub, fault: str) -> None:
    stub.restart(fault=fault)
    with pytest.raises(ModelError) as caught:
        chat(stub.url, "hello")
    assert f"tried {calls.TRIES} times" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(("fault", "why"), [("badschema", ""), ("refusal", "refused"), ("length", "")])
def test_invalid_replies_are_asked_for_anew_then_given_up(stub: Stub, fault: str, why: str) -> None:
    stub.restart(fault=fault)
    with pytest.raises(NoValidReply, match="no valid reply in 4 attempts") as caught:
        chat(stub.url, "hello", schema=SCHEMA)
    assert why in caught.value.message
    assert stub.counts()["requests"] == 4


def test_an_invalid_reply_is_kept_and_not_paid_for_again(stub: Stub, tmp_path: Path) -> None:
    stub.restart(fault="badschema")
    for _ in range(2):
        with pytest.raises(NoValidReply):
            chat(stub.url, "hello", schema=SCHEMA, cache=tmp_path / "cache")
    assert stub.counts()["requests"] == 4


def test_a_wrong_key_is_one_line_without_the_key(stub: Stub) -> None:
    stub.restart(key="another")
    with pytest.raises(BackendError, match=r"refuses the key \(401; is OPENAI_API_KEY right\?\)") as caught:
        chat(stub.url, "hello")
    assert KEY not in caught.value.message


def test_no_key_for_the_default_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(BackendError, match="set OPENAI_API_KEY"):
        OpenAIBackend("gpt-5")


def test_an_unknown_model(stub: Stub) -> None:
    stub.restart(models=["other"])
    with pytest.raises(BackendError, match="knows no such model"):
        chat(stub.url, "hello")


def test_a_refused_connection(stub: Stub) -> None:
    with pytest.raises(BackendError, match=r"no connection to http://127\.0\.0\.1:9/v1"):
        chat("http://127.0.0.1:9/v1", "hello")


def test_a_prompt_beyond_the_context(stub: Stub) -> None:
    stub.restart(context=50)
    with pytest.raises(ModelError, match="context length exceeded") as caught:
        chat(stub.url, "word " * 500)
    assert caught.value.reason == "limit"
    assert stub.counts()["requests"] == 1


def test_a_server_without_json_schema_gets_it_in_words(stub: Stub) -> None:
    stub.restart(no_json_schema=True)
    (reply,) = chat(stub.url, "hello", schema=SCHEMA)
    assert set(reply.parsed) == {"city", "size"}


def test_identical_calls_in_flight_are_one(stub: Stub) -> None:
    stub.restart(latency=50)
    replies = chat(stub.url, *["same"] * 10)
    assert len({reply.text for reply in replies}) == 1
    assert stub.counts()["requests"] == 1


def test_calls_in_flight_are_limited(stub: Stub) -> None:
    stub.restart(latency=30)
    chat(stub.url, *map(str, range(40)), jobs=5)
    assert stub.counts()["in_flight_max"] == 5


def test_the_cache_answers_and_holds_no_key(stub: Stub, tmp_path: Path) -> None:
    first = chat(stub.url, "a", "b", cache=tmp_path / "cache")
    assert chat(stub.url, "a", "b", cache=tmp_path / "cache") == first
    assert stub.counts()["requests"] == 2
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_samples_and_seeds_have_replies_of_their_own(stub: Stub, tmp_path: Path) -> None:
    texts = {chat(stub.url, "a", cache=tmp_path / "cache", n=n)[0].text for n in range(3)}
    assert len(texts) == 3


def test_a_broken_cache_file_is_set_aside(stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cache").write_bytes(b"this is no database\0" * 100)
    chat(stub.url, "a", cache=tmp_path / "cache")
    assert "set aside as cache.corrupt" in capsys.readouterr().err
    with sqlite3.connect(tmp_path / "cache") as db:
        assert db.execute("select count(*) from reply").fetchone() == (1,)
    db.close()


def test_a_history_as_prefix_is_sent_as_its_messages(stub: Stub) -> None:
    """The same conversation in one piece or as a shared prefix is the same request to the server."""
    import orjson

    from pmem.backends.base import Prefix, Request

    backend = OpenAIBackend("stub", (stub.url,))
    history = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    asked = [{"role": "user", "content": "which?"}]
    split = backend.parts(Request(asked, Prefix("h-1", orjson.dumps(history)), max_tokens=5))
    whole = backend.parts(Request(history + asked, max_tokens=5))
    assert orjson.loads(b"".join(split)) == orjson.loads(b"".join(whole))
