"""The stub server of tests and benches: replies, schemas, faults, counts."""

import asyncio
import io
import json
import os
import re
import signal
import time
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import aiohttp
import pytest
from jsonschema import Draft202012Validator

from tests.stub import Stub, arguments, running
from tests.stub.instance import SchemaError, instance

VERDICT = {
    "type": "object",
    "properties": {"verdict": {"enum": ["pass", "fail", "unclear"]}, "reason": {"type": "string"}},
    "required": ["verdict", "reason"],
    "additionalProperties": False,
}
PERSONA = {
    "type": "object",
    "required": ["name", "profile", "preferences", "age", "id"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "pattern": "^p-[0-9a-f]{16}$"},
        "name": {"type": "string", "minLength": 1, "maxLength": 12, "pattern": "\\S"},
        "age": {"type": "integer", "minimum": 18, "maximum": 19},
        "score": {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5},
        "born": {"type": "string", "format": "date"},
        "kind": {"const": "persona"},
        "married": {"type": "boolean"},
        "note": {"type": ["string", "null"]},
        "profile": {"type": "object", "minProperties": 2, "additionalProperties": {"type": "string"}},
        "preferences": {"type": "array", "minItems": 4, "maxItems": 6, "items": {"$ref": "#/$defs/preference"}},
        "topics": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "minItems": 2},
    },
    "$defs": {
        "preference": {
            "type": "object",
            "properties": {
                "text": {"type": "string", "minLength": 150},
                "owner": {"anyOf": [{"$ref": "#/$defs/owner"}, {"type": "null"}]},
                "size": {"oneOf": [{"type": "integer"}, {"type": "string", "maxLength": 1}]},
            },
            "required": ["text", "owner"],
        },
        "owner": {"allOf": [{"properties": {"who": {"enum": ["self"]}}, "required": ["who"]}, {"type": "object"}]},
    },
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "code": {"type": "string", "pattern": "^(ab|[^a-y])+\\d{2,}_?\\w*$", "maxLength": 14},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]},
            },
            "required": ["code", "next"],
        }
    },
}
SCHEMAS = {"verdict": VERDICT, "persona": PERSONA, "tree": TREE}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def completion(self) -> dict[str, Any]:
        return json.loads(self.data)

    @property
    def content(self) -> str:
        return self.completion["choices"][0]["message"]["content"]


def chat(text: str = "Hello", **more: Any) -> dict[str, Any]:
    return {"model": "stub", "messages": [{"role": "user", "content": text}], **more}


def structured(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, **more)


def ask_all(url: str, *bodies: dict[str, Any], timeout: float = 5, at_once: int = 1, **headers: str) -> list[Answer]:
    """The answers, redirects not followed."""

    async def one(session: aiohttp.ClientSession, turn: asyncio.Semaphore, body: dict[str, Any]) -> Answer:
        async with turn, session.post(f"{url}/chat/completions", json=body, allow_redirects=False) as reply:
            return Answer(reply.status, dict(reply.headers), await reply.read())

    async def all_of_them() -> list[Answer]:
        turn, limit = asyncio.Semaphore(at_once), aiohttp.ClientTimeout(total=timeout)
        async with aiohttp.ClientSession(timeout=limit, headers=headers) as session:
            return await asyncio.gather(*(one(session, turn, body) for body in bodies))

    return asyncio.run(all_of_them())


def ask(url: str, body: dict[str, Any], **options: Any) -> Answer:
    return ask_all(url, body, **options)[0]


def test_replies_depend_on_the_body_alone(stub: Stub) -> None:
    bodies = [chat(seed=seed) for seed in range(5)] + [structured(PERSONA, seed=seed) for seed in range(5)]
    with running(seed=7) as other:
        theirs = ask_all(other.url, *reversed(bodies))
    contents = [answer.content for answer in ask_all(stub.url, *bodies)]
    assert [answer.content for answer in reversed(theirs)] == contents
    assert len(set(contents)) == len(contents)
    assert ask(stub.url, chat(seed=0, user="me")).content == contents[0]
    shuffled = dict(reversed(chat(seed=0).items()))
    assert ask(stub.url, shuffled).content == contents[0]


def test_a_completion_has_the_protocols_fields(stub: Stub) -> None:
    body = chat("12345678")
    body["messages"].append({"role": "user", "content": [{"type": "text", "text": "x" * 8000}, {"type": "image_url"}]})
    completion = ask(stub.url, body).completion
    assert completion["object"] == "chat.completion" and completion["model"] == "stub"
    assert completion["id"].startswith("chatcmpl-")
    choice, usage = completion["choices"][0], completion["usage"]
    assert choice["finish_reason"] == "stop" and choice["message"].keys() == {"role", "content", "refusal"}
    assert usage["prompt_tokens"] == 8008 // 4 + 4 * 2
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 896}


@pytest.mark.parametrize("name", SCHEMAS)
def test_instances_satisfy_their_schema(name: str) -> None:
    validator = Draft202012Validator(SCHEMAS[name], format_checker=Draft202012Validator.FORMAT_CHECKER)
    made = [instance(SCHEMAS[name], Random(seed)) for seed in range(50)]
    for value in made:
        validator.validate(value)
    assert len({json.dumps(value) for value in made}) > 45


def test_all_properties_are_made_and_texts_differ() -> None:
    made = [instance(PERSONA, Random(seed)) for seed in range(100)]
    assert all(value.keys() == PERSONA["properties"].keys() for value in made)
    texts = [preference["text"] for value in made for preference in value["preferences"]]
    assert len(set(texts)) == len(texts)


def test_lengths_are_kept() -> None:
    for low in range(60):
        for room in (0, 1, 5, 40):
            schema = {"type": "string", "minLength": low, "maxLength": low + room}
            text = instance(schema, Random(low * 100 + room))
            assert low <= len(text) <= low + room and text == text.strip()


@pytest.mark.parametrize("first", [0.8, 0.2])
def test_an_enum_mostly_gives_its_first_value(first: float) -> None:
    made = [instance(VERDICT, Random(seed), first=first)["verdict"] for seed in range(2000)]
    assert made.count("pass") / 2000 == pytest.approx(first, abs=0.05)
    assert made.count("fail") / 2000 == pytest.approx((1 - first) / 2, abs=0.05)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "not": {"const": "x"}},
        {"type": "string", "pattern": "^(?=a)a$"},
        {"type": "string", "pattern": "^("},
        {"type": "string", "pattern": "^abc$", "maxLength": 2},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#"},
        {"type": "array", "items": {"enum": [1, 2]}, "minItems": 3, "uniqueItems": True},
        {"type": "object", "properties": {"a": False}},
    ],
)
def test_a_schema_beyond_the_stub_is_a_clear_error(stub: Stub, schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        instance(schema, Random(1))
    answer = ask(stub.url, structured(schema))
    assert answer.status == 400 and b"Invalid schema for response_format" in answer.data


def test_json_object_and_schemas_in_the_prompt(stub: Stub) -> None:
    stub.restart(no_json_schema=True)
    refused = ask(stub.url, structured(VERDICT))
    assert refused.status == 400 and b"response_format" in refused.data
    asked = {"response_format": {"type": "json_object"}}
    assert json.loads(ask(stub.url, chat(**asked)).content).keys() == {"text"}
    for text in (
        f"Answer in JSON like\n{json.dumps(VERDICT)}\nplease.",
        f"Answer in JSON:\n```json\n{json.dumps(VERDICT, indent=2)}\n```",
    ):
        Draft202012Validator(VERDICT).validate(json.loads(ask(stub.url, chat(text, **asked)).content))


@pytest.mark.parametrize("form", ["{}. a", "({}) a"])
def test_multiple_choice_is_answered_with_a_letter(stub: Stub, form: str) -> None:
    question = "Which one?\n" + "\n".join(form.format(letter) for letter in "ABCD")
    answers = ask_all(stub.url, *(chat(question, seed=seed) for seed in range(40)))
    lines = [answer.content.splitlines() for answer in answers]
    assert {line[-1] for line in lines} == {f"Answer: {letter}" for letter in "ABCD"}
    assert all(len(line) > 1 and "." in line[0] for line in lines)
    assert "Answer:" not in ask(stub.url, chat("A. Lone wrote this.")).content


def test_requests_that_are_refused(stub: Stub) -> None:
    stub.restart(models=["a", "b"], key="K", context=100)

    def error(body: dict[str, Any], key: str = "K") -> tuple[int, str | None]:
        answer = ask(stub.url, body, Authorization=f"Bearer {key}")
        error = answer.completion["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        return answer.status, error["code"]

    good = chat() | {"model": "b"}
    assert ask(stub.url, good, Authorization="Bearer K").status == 200
    assert error(good, key="L") == (401, "invalid_api_key")
    assert error(chat()) == (404, "model_not_found")
    assert error(chat("x" * 500) | {"model": "a"}) == (400, "context_length_exceeded")
    for bad in ({"messages": []}, {"seed": 2**63}, {"stream": True}, {"response_format": {"type": "xml"}}):
        assert error(good | bad) == (400, None)
    assert stub.counts()["by_status"] == {"200": 1, "400": 5, "401": 1, "404": 1}


def test_models_are_listed(stub: Stub) -> None:
    async def listed() -> list[str]:
        async with aiohttp.ClientSession() as session, session.get(f"{stub.url}/models") as reply:
            return [model["id"] for model in (await reply.json())["data"]]

    assert asyncio.run(listed()) == ["stub"]
    stub.restart(models=["a", "b"])
    assert asyncio.run(listed()) == ["a", "b"]


@pytest.mark.parametrize("fault", ["429", "429ra", "500", "503"])
def test_error_statuses(stub: Stub, fault: str) -> None:
    stub.restart(fault=fault, retry_after=1.5)
    answer = ask(stub.url, chat())
    assert answer.status == int(fault[:3]) and answer.completion["error"]["message"]
    assert answer.headers.get("Retry-After") == ("1.5" if fault == "429ra" else None)
    assert stub.counts()["by_status"] == {fault[:3]: 1}


def raw(url: str, body: dict[str, Any]) -> bytes:
    """All bytes that come back until the server closes."""

    async def exchanged() -> bytes:
        host, port = url.split("/")[2].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        data = json.dumps(body).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data))
        writer.write(data)
        try:
            return await reader.read()
        finally:
            writer.close()

    return asyncio.run(exchanged())


def test_reset_closes_without_a_byte(stub: Stub) -> None:
    stub.restart(fault="reset")
    with pytest.raises(ConnectionResetError):
        raw(stub.url, chat())
    with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        ask(stub.url, chat())
    counts = stub.counts()
    assert counts["by_status"]["0"] == counts["requests"] >= 2  # aiohttp may try once more by itself


def test_resetbody_closes_halfway(stub: Stub) -> None:
    stub.restart(fault="resetbody")
    head, _, body = raw(stub.url, chat()).partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    assert head.startswith(b"HTTP/1.1 200") and length and len(body) == int(length[1]) // 2
    with pytest.raises(aiohttp.ClientPayloadError):
        ask(stub.url, chat())


def test_faulty_bodies(stub: Stub) -> None:
    def faulty(fault: str) -> Answer:
        stub.restart(fault=fault)
        answer = ask(stub.url, chat())
        assert answer.status == 200
        return answer

    with pytest.raises(json.JSONDecodeError):
        json.loads(faulty("truncated").data)
    notjson = faulty("notjson")
    assert notjson.headers["Content-Type"].startswith("text/html") and notjson.data.startswith(b"<html>")
    assert faulty("empty").completion["choices"] == []
    choice = faulty("refusal").completion["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "content_filter")
    assert choice["message"]["refusal"]
    assert len(faulty("huge").content) == 10_000_000
    short = faulty("length")
    stub.restart()
    whole = ask(stub.url, chat()).content
    assert short.completion["choices"][0]["finish_reason"] == "length"
    assert whole.startswith(short.content) and len(short.content) == len(whole) // 2


@pytest.mark.parametrize("schema", [*SCHEMAS.values(), {"type": "object", "additionalProperties": {"type": "null"}}])
def test_badschema_is_json_that_violates_the_schema(stub: Stub, schema: dict[str, Any]) -> None:
    stub.restart(fault="badschema")
    answers = ask_all(stub.url, *(structured(schema, seed=seed) for seed in range(20)))
    validator = Draft202012Validator(schema)
    assert not any(validator.is_valid(json.loads(answer.content)) for answer in answers)
    assert "Answer:" not in ask(stub.url, chat("Which?\nA. one\nB. two")).content


def test_redirect_points_to_the_stub_itself(stub: Stub) -> None:
    stub.restart(fault="redirect")
    answer = ask(stub.url, chat())
    assert (answer.status, answer.headers["Location"]) == (302, f"{stub.url}/elsewhere")


def test_stall_is_silent_first(stub: Stub) -> None:
    stub.restart(fault="stall", stall=0.3)
    with pytest.raises(asyncio.TimeoutError):
        ask(stub.url, chat(), timeout=0.1)
    start = time.monotonic()
    assert ask(stub.url, chat()).status == 200
    assert time.monotonic() - start > 0.29


def test_drip_sends_byte_by_byte(stub: Stub) -> None:
    stub.restart(fault="drip", drip=0.3)

    async def pieces() -> list[int]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{stub.url}/chat/completions", json=chat()) as reply,
        ):
            return [len(piece) async for piece in reply.content.iter_any()]

    start = time.monotonic()
    sizes = asyncio.run(pieces())
    assert time.monotonic() - start > 0.29
    assert len(sizes) > 50 and sorted(sizes)[len(sizes) // 2] < 5


def test_fault_first_fails_so_many_times_per_body(stub: Stub) -> None:
    stub.restart(fault="503,429=0", fault_first=2)
    bodies = [chat(seed=1), chat(seed=2)] * 4
    assert [answer.status for answer in ask_all(stub.url, *bodies)] == [503] * 4 + [200] * 4
    assert stub.counts()["paid_again"] == 2


def test_faults_are_drawn_per_body_and_attempt(stub: Stub) -> None:
    bodies = [chat(seed=seed) for seed in range(200)]

    def statuses(**options: Any) -> list[int]:
        stub.restart(fault={"500": 0.2, "429": 0.1}, **options)
        return [answer.status for answer in ask_all(stub.url, *bodies, *bodies, at_once=20)]

    drawn = statuses()
    assert drawn == statuses()
    assert drawn[:200] != drawn[200:]
    assert drawn != statuses(seed=1)
    assert drawn.count(500) / 400 == pytest.approx(0.2, abs=0.08)
    assert drawn.count(429) / 400 == pytest.approx(0.1, abs=0.06)


def test_faults_in_what_is_said_are_drawn_per_body(stub: Stub) -> None:
    bodies = [chat(seed=seed) for seed in range(300)]
    stub.restart(fault={"500": 0.4, "refusal": 0.2, "length": 0.1})
    rounds = [ask_all(stub.url, *bodies, at_once=20) for _ in range(4)]

    def finish(answer: Answer) -> str | None:
        return answer.completion["choices"][0]["finish_reason"] if answer.status == 200 else None

    said = [{finish(answer) for answer in answers} - {None} for answers in zip(*rounds, strict=True)]
    assert max(len(one) for one in said) == 1  # whenever a body got through, it got the same
    everything = [finish(answer) for answers in rounds for answer in answers]
    assert everything.count(None) / 1200 == pytest.approx(0.4, abs=0.05)  # shares are of all attempts
    assert everything.count("content_filter") / 1200 == pytest.approx(0.2, abs=0.05)
    assert everything.count("length") / 1200 == pytest.approx(0.1, abs=0.05)


def test_counts_and_log(stub: Stub, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    stub.restart(log=log, fault="429", fault_first=1, latency=20, jitter=5)
    bodies = [chat(seed=seed) for seed in range(3)]
    ask_all(stub.url, *bodies, at_once=3)
    usage = [answer.completion["usage"] for answer in ask_all(stub.url, *bodies)]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["n"], line["status"], line["fault"]) for line in lines] == [(1, 429, "429")] * 3 + [
        (2, 200, None)
    ] * 3
    assert len({line["hash"] for line in lines}) == 3
    expected = {
        "requests": 6,
        "by_status": {"200": 3, "429": 3},
        "distinct": 3,
        "repeats": 3,
        "paid_again": 0,
        "in_flight_max": 3,
        "prompt_tokens": sum(one["prompt_tokens"] for one in usage),
        "completion_tokens": sum(one["completion_tokens"] for one in usage),
        "batches": 0,
        "batch_requests": 0,
    }
    assert stub.counts() == expected
    stub.reset()
    assert stub.counts()["requests"] == 0
    assert ask(stub.url, bodies[0]).status == 429  # the options stay, attempts begin anew


def test_latency(stub: Stub) -> None:
    stub.restart(latency=200)
    start = time.monotonic()
    ask_all(stub.url, *(chat(seed=seed) for seed in range(50)), at_once=50)
    assert 0.19 < time.monotonic() - start < 2
    assert stub.counts()["in_flight_max"] == 50


def test_a_client_that_leaves_is_noted(stub: Stub, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    stub.restart(latency=60_000, log=log)
    with pytest.raises(asyncio.TimeoutError):
        ask(stub.url, chat(), timeout=0.1)
    deadline = time.monotonic() + 5
    while not log.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    line = json.loads(log.read_text())
    assert (line["status"], line["fault"]) == (0, "gone")


def test_a_reply_hook(stub: Stub, tmp_path: Path) -> None:
    hook = tmp_path / "hook.py"
    hook.write_text(
        "def reply(body):\n"
        "    text = body['messages'][-1]['content']\n"
        "    if text == 'fail':\n"
        "        raise ValueError('no')\n"
        "    return None if text == 'usual' else text.upper()\n"
    )
    usual = ask(stub.url, chat("usual")).content
    stub.restart(reply=hook)
    assert ask(stub.url, chat("loud")).content == "LOUD"
    assert ask(stub.url, chat("usual")).content == usual
    assert ask(stub.url, chat("fail")).status == 500


def test_a_large_body_is_read(stub: Stub) -> None:
    body = json.dumps(chat("word " * 800_000)).encode()  # aiohttp's servers stop at 1 MB, if not told otherwise

    async def status() -> int:
        async with aiohttp.ClientSession() as session:
            url = f"{stub.url}/chat/completions"
            async with session.post(url, data=io.BytesIO(body)) as reply:
                return reply.status

    assert asyncio.run(status()) == 200
    assert stub.counts()["prompt_tokens"] == 1_000_004


def test_options_become_a_command_line() -> None:
    line = arguments({"fault": {"429": 0.5, "reset": 0.1}, "models": ["a", "b"], "key": None, "no_json_schema": True})
    assert line == ["--fault=429=0.5,reset=0.1", "--models=a,b", "--no-json-schema"]


def test_wrong_options_are_refused(stub: Stub) -> None:
    with pytest.raises(ValueError, match="cannot take the options"):
        stub.restart(fault="gremlin")
    with pytest.raises(RuntimeError, match="did not start"), running(fault="gremlin"):
        pass


def test_it_says_its_counts_on_sigterm_and_stops_midway() -> None:
    with running(latency=60_000) as stub:
        with pytest.raises(asyncio.TimeoutError):
            ask(stub.url, chat(), timeout=0.1)
        os.kill(stub.process.pid, signal.SIGTERM)
        assert stub.process.wait(5) == 0
        assert stub.process.stdout is not None
        rest = stub.process.stdout.read().splitlines()
        assert len(rest) == 1 and json.loads(rest[0])["requests"] == 1


def test_it_ends_with_the_process_that_started_it() -> None:
    with running() as stub:
        assert stub.process.stdin is not None
        stub.process.stdin.close()
        assert stub.process.wait(5) == 0
