"""The protocol at its edges: what a user sees of each fault of a server, and of odd settings. See also test_calls."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from pmem.backends import calls
from pmem.backends.base import Completion, Request, Unavailable
from pmem.backends.calls import Asked, Calls, Limits, _pause
from pmem.backends.openai import OpenAIBackend, _duration, _retry_after
from pmem.backends.usage import Tally
from pmem.errors import BackendError, ModelError
from tests.command import KEY, Ran, people, pmem, records
from tests.stub import Stub, running


def personas(folder: Path, url: str, *options: str, env: dict[str, str] | None = None, count: int = 2) -> Ran:
    run = ["personas", "-m", "openai:stub", "--base-url", url, "--no-cache", *options]
    return pmem(*run, folder=folder, input=people(count), hurried=True, env=env)


# ---- as a user sees it -------------------------------------------------------------------------------------------

PASSING = ("429", "429ra", "500", "503", "reset", "resetbody", "truncated", "notjson", "empty", "redirect")
LASTING = {  # fault -> what the reject says
    "429": "the server answers 429: Rate limit reached. Please try again later. (tried 8 times)",
    "429ra": "the server answers 429: Rate limit reached. Please try again later. (tried 8 times)",
    "500": "the server answers 500: The server had an error while processing your request. (tried 8 times)",
    "503": "the server answers 503: The engine is currently overloaded. (tried 8 times)",
    "empty": "the server's reply is no chat completion: ",
    "badschema": "no valid reply in 4 attempts: ",
    "refusal": 'no valid reply in 4 attempts: the model refused: "I can\'t help with that."',
    "length": "no valid reply in 4 attempts: cut off at the limit of tokens (--max-tokens)",
}
HOPELESS = {  # no server of the protocol seems to be there: the run stops
    "reset": "no connection to ",
    "resetbody": "broke off its reply: ",
    "truncated": "the server's reply is not JSON: ",
    "notjson": "the server's reply is not JSON: b'<html>",
    "redirect": "the server redirects elsewhere (302), which is not followed",
}


@pytest.fixture(scope="module")
def sound(shared: Stub, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    shared.restart()
    return personas(tmp_path_factory.mktemp("sound"), shared.url).out


@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_leaves_no_trace(tmp_path: Path, stub: Stub, fault: str, sound: bytes) -> None:
    stub.restart(fault=fault, fault_first=1)
    ran = personas(tmp_path, stub.url)
    assert (ran.status, ran.out) == (0, sound)
    counts = stub.counts()
    assert counts["requests"] == 2 * counts["distinct"] == 32


def test_faults_of_all_kinds_at_once_leave_no_trace(tmp_path: Path, stub: Stub) -> None:
    whole = personas(tmp_path, stub.url, count=20).out
    stub.restart(latency=1, fault=dict.fromkeys(PASSING, 0.02))
    ran = personas(tmp_path, stub.url, count=20)
    assert (ran.status, ran.out) == (0, whole)
    assert stub.counts()["repeats"] > 10


@pytest.mark.parametrize("fault", LASTING)
def test_a_lasting_fault_rejects_every_record(tmp_path: Path, stub: Stub, fault: str) -> None:
    stub.restart(fault=fault, retry_after=0.01)
    stopped = personas(tmp_path, stub.url)
    assert (stopped.status, stopped.out) == (1, b"")
    assert LASTING[fault] in stopped.err.splitlines()[-1] and "<stdin>:1: " in stopped.err.splitlines()[-1]
    ran = personas(tmp_path, stub.url, "--rejects", "r.jsonl")
    assert (ran.status, ran.out) == (3, b"")
    errors = records((tmp_path / "r.jsonl").read_bytes())
    assert [error["record"]["persona"] for error in errors] == people(2).decode().splitlines()
    for error in errors:
        assert error["reason"] == "model" and LASTING[fault] in error["message"] and "\n" not in error["message"]
        assert error["call"].startswith("personas/p-") and "/profile/0" in error["call"]


@pytest.mark.parametrize("fault", HOPELESS)
def test_a_server_that_never_speaks_the_protocol_stops_the_run(tmp_path: Path, stub: Stub, fault: str) -> None:
    stub.restart(fault=fault)
    ran = personas(tmp_path, stub.url, "--rejects", "r.jsonl")
    assert (ran.status, ran.out) == (1, b"")
    assert ran.err.splitlines()[-1].startswith("pmem: openai:stub: ") and HOPELESS[fault] in ran.err.splitlines()[-1]
    assert stub.counts()["requests"] <= 2 * calls.FIRST_TRIES
    assert not (tmp_path / "r.jsonl").exists()


def test_what_no_retry_mends_is_one_line_at_once(tmp_path: Path, stub: Stub) -> None:
    for options, why in (
        ({"key": "sk-another"}, "the server refuses the key (401; is OPENAI_API_KEY right?)"),
        ({"models": ["other"]}, "the server knows no such model or address: The model `stub` does not exist"),
    ):
        stub.restart(**options)
        ran = personas(tmp_path, stub.url, "--rejects", "r.jsonl")
        assert (ran.status, ran.out) == (1, b"") and why in ran.err.splitlines()[-1]
        assert stub.counts()["requests"] <= 2
    stub.restart(key="sk-another")
    ran = personas(tmp_path, stub.url, env={"OPENAI_API_KEY": ""})
    assert ran.status == 1 and "(401; OPENAI_API_KEY is not set)" in ran.err
    ran = personas(tmp_path, stub.url, env={"OPENAI_API_KEY": "sk-another\n"})  # as `$(cat key)` in some shells
    assert ran.status == 0
    ran = pmem("personas", "-m", "openai:gpt-5", folder=tmp_path, env={"OPENAI_API_KEY": ""})
    assert (ran.status, ran.err) == (
        1,
        "pmem: openai:gpt-5 needs a key: set OPENAI_API_KEY (or --base-url for a server of your own)\n",
    )


def test_a_prompt_that_is_too_long_rejects_its_record_alone(tmp_path: Path, stub: Stub) -> None:
    (tmp_path / "people").write_bytes(people(1) + b"A " + b"very " * 5000 + b"old sailor.\n")
    stub.restart(context=3000)
    run = ["personas", "people", "-m", "openai:stub", "--base-url", stub.url, "--no-cache", "--rejects", "r.jsonl"]
    ran = pmem(*run, folder=tmp_path)
    assert ran.status == 3 and len(ran.records) == 1
    (error,) = records((tmp_path / "r.jsonl").read_bytes())
    assert error["reason"] == "limit" and error["message"].startswith("context length exceeded: This model's maximum")


def test_a_server_without_json_schema(tmp_path: Path, stub: Stub) -> None:
    stub.restart(no_json_schema=True)
    ran = personas(tmp_path, stub.url, "-j", "8", count=10)
    assert ran.status == 0 and len(ran.records) == 10
    assert stub.counts()["by_status"]["400"] <= 8  # learnt once, by those in flight


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:9/v1", "no connection to http://127.0.0.1:9/v1: "),
        ("http://nowhere.invalid/v1", "no connection to http://nowhere.invalid/v1: "),
        ("127.0.0.1:9/v1", "'127.0.0.1:9/v1' is no server's address: expected http://HOST[:PORT]/v1"),
        ("localhost", "'localhost' is no server's address"),
        ("", "'' is no server's address"),
        ("http://", "'http://' is no server's address"),
        ("http://127.0.0.1:99999/v1", "is no server's address"),
        ("http://127.0.0.1:x/v1", "is no server's address"),
        ("ftp://127.0.0.1/v1", "is no server's address"),
        (f"http://me:{KEY}@127.0.0.1:9/v1", "'127.0.0.1:9/v1' is no server's address"),
    ],
)
def test_addresses_that_lead_nowhere(tmp_path: Path, url: str, why: str) -> None:
    ran = personas(tmp_path, url, "--rejects", "r.jsonl")
    assert (ran.status, ran.out) == (1, b"") and why in ran.err.splitlines()[-1]


def test_several_servers_share_the_calls(tmp_path: Path, stub: Stub, sound: bytes) -> None:
    with running() as other:
        ran = personas(tmp_path, stub.url, "--base-url", other.url)
        assert ran.out == sound
        shares = [one.counts()["requests"] for one in (stub, other)]
        assert sum(shares) == 16 and min(shares) >= 5  # each call went where least was to do


# ---- a server of our own, which answers what we like ---------------------------------------------------------------


class Answers(HTTPServer):
    """Answers each request with the next of `given`: (status, headers, body); keeps the requests' bodies."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.given: list[tuple[int, dict[str, str], bytes]] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []


class Handler(BaseHTTPRequestHandler):
    server: Answers

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.headers.append(dict(self.headers))
        status, headers, body = self.server.given.pop(0)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(calls, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(calls, "LONGEST_WAIT", 0.01)
    with Answers() as answers:
        thread = threading.Thread(target=answers.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield answers
        answers.shutdown()
        thread.join()


def reply(text: str | None = "yes", **message: Any) -> tuple[int, dict[str, str], bytes]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
    return 200, {}, orjson.dumps({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}})


def problem(status: int, message: str, code: str | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return status, headers, orjson.dumps({"error": {"message": message, "code": code}})


def ask(
    server: Answers, *answers: tuple[int, dict[str, str], bytes], clock: Callable[[], float] | None = None, **given: Any
) -> Completion:
    """One call, as patiently as pmem makes it; clock: what the backend takes for the time."""
    server.given = list(answers)
    request = Request([{"role": "user", "content": "?"}], call="a/b/c/0", **given)
    completions: list[Completion] = []

    async def inside() -> None:
        backend = OpenAIBackend("m", (f"http://127.0.0.1:{server.server_port}/v1/",))
        backend._servers.clock = clock or backend._servers.clock

        async def once() -> Asked[Completion]:
            completions.append(await backend.complete(request))
            return Asked(completions[-1], b"", completions[-1].usage)

        try:
            await Calls(Tally("openai:m"), None, Limits()).make(request, once)
        finally:
            await backend.close()

    asyncio.run(inside())
    (completion,) = completions
    return completion


def test_what_is_sent(server: Answers) -> None:
    schema = {"title": "city", "type": "object"}
    completion = ask(server, reply(), schema=schema, seed=7, max_tokens=9, temperature=0.0)
    assert completion.text == "yes" and completion.usage.prompt == 3
    assert server.bodies == [
        {
            "messages": [{"role": "user", "content": "?"}],
            "model": "m",
            "max_tokens": 9,
            "temperature": 0.0,
            "seed": 7,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "city", "strict": True, "schema": schema},
            },
        }
    ]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("thinking", [True, False])
def test_whether_to_reason_is_told_to_the_chat_template(server: Answers, thinking: bool) -> None:
    ask(server, reply(), thinking=thinking)
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": thinking}


def test_reasoning_that_a_server_tells_apart_is_no_reply(server: Answers) -> None:
    assert ask(server, reply("Answer: B", reasoning_content="Answer: A")).text == "Answer: B"
    for name in ("reasoning_content", "reasoning"):
        assert ask(server, reply(None, **{name: "Answer: A"})).text == ""
    assert len(server.bodies) == 3
    completion = ask(server, reply(None, reasoning=""), reply("yes"))  # nothing at all: asked for again
    assert completion.text == "yes" and len(server.bodies) == 5


def test_a_parameter_that_the_server_does_not_take_is_left_out(server: Answers) -> None:
    refused = [
        problem(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        problem(400, "Unrecognized request argument supplied: seed"),
        problem(422, "response_format of type json_schema is not supported"),
    ]
    ask(server, *refused, reply(), schema={"type": "object"}, seed=7, max_tokens=9)
    last = server.bodies[-1]
    assert "seed" not in last and "max_tokens" not in last and last["max_completion_tokens"] == 9
    assert last["response_format"] == {"type": "json_object"} and '{"type":"object"}' in last["messages"][-1]["content"]


def test_a_refusal_that_no_parameter_explains_is_not_repeated(server: Answers) -> None:
    with pytest.raises(ModelError, match="the server answers 400: Your request was flagged"):
        ask(server, problem(400, "Your request was flagged by our safety system."))
    assert len(server.bodies) == 1


def test_a_parameter_that_is_refused_for_ever_is_given_up(server: Answers) -> None:
    with pytest.raises(ModelError, match=r"refuses a parameter: bad max_tokens \(tried 4 times\)"):
        ask(server, *[problem(400, "bad max_tokens")] * 8, max_tokens=9)


def test_an_empty_account_stops_the_run(server: Answers) -> None:
    with pytest.raises(BackendError, match="no quota left: You exceeded"):
        ask(server, problem(429, "You exceeded your current quota.", "insufficient_quota"))


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"x"', b"{}", b'{"choices":null}', b'{"choices":[1]}', b"\xff",
                                  b'{"choices":[{}]}', b'{"choices":[{"message":null}]}', b'{"choices":{}}',
                                  b'{"choices":[{"message":{"content":null}}]}', b'{"choices":[{"message":{"content":[1]}}]}',
                                  b'{"choices":[{"message":{"content":"x"}}],"usage":[]}'])  # fmt: skip
def test_a_reply_of_another_shape_is_asked_for_again(server: Answers, body: bytes) -> None:
    assert ask(server, (200, {}, body), reply()).text == ("yes" if b'"x"}}' not in body else "x")


@pytest.mark.parametrize("body", [b"", b"null", b"[1]", b'"no"', b'{"error":"no"}', b'{"error":null}', b"<h1>\nno</h1>\n",
                                  b"\xff\xfe", b'{"detail":[{"msg":"no"}]}', b'{"message":"no\\nno","code":7}'])  # fmt: skip
@pytest.mark.parametrize("status", [400, 500])
def test_errors_of_other_shapes_are_one_line(server: Answers, body: bytes, status: int) -> None:
    with pytest.raises(ModelError) as caught:
        ask(server, *[(status, {}, body)] * 8)
    assert f"the server answers {status}" in caught.value.message and "\n" not in caught.value.message


def test_a_server_that_echoes_the_key(server: Answers) -> None:
    said = f"You sent Authorization: Bearer {KEY} and that's bad."
    for answer in (problem(400, said), problem(500, said), (200, {}, said.encode()), (400, {}, said.encode())):
        with pytest.raises((ModelError, BackendError)) as caught:
            ask(server, *[answer] * 8)
        assert KEY not in caught.value.message and "[key]" in caught.value.message


def test_the_wait_that_a_server_asks_for(server: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await real(0)

    def within(seconds: tuple[float, ...], least: float, most: float) -> bool:
        shares = [wait / asked if asked else 1 + wait for wait, asked in zip(waited, seconds, strict=True)]
        waited.clear()
        return all(least <= share <= most for share in shares)

    def clock() -> float:
        return sum(waited)

    monkeypatch.setattr("pmem.backends.calls.asyncio.sleep", sleep)
    monkeypatch.setattr(calls, "FIRST_WAIT", 0.5)
    monkeypatch.setattr(calls, "LONGEST_WAIT", 60.0)
    limited = [problem(429, "slow down", **{"Retry-After": value}) for value in ("7", "0.25", "599", "-3")]
    ask(server, *limited, problem(429, "", **{"retry-after-ms": "1500"}), reply(), clock=clock)
    assert within((7, 0.25, 599, 0, 1.5), 1, 1.2)
    ask(server, *[problem(500, "")] * 7, reply(), clock=clock)
    assert within((0.5, 1, 2, 4, 8, 16, 32), 0.5, 1.5)
    soon, gone = (format_datetime(datetime.now(UTC) + timedelta(seconds=s), usegmt=True) for s in (100, -100))
    ask(server, *[problem(503, "", **{"Retry-After": date}) for date in (soon, gone)], reply(), clock=clock)
    assert within((100, 0), 0.97, 1.2)
    with pytest.raises(BackendError, match="asks to wait 3,600 s: try again later") as caught:
        ask(server, problem(429, "slow down", **{"Retry-After": "3600"}), clock=clock)
    assert "\n" not in caught.value.message and not waited


def test_a_server_with_nothing_left_is_spared_until_it_has_more(
    server: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left after this reply: the next call waits, rather than be refused."""
    passed: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        passed.append(seconds)
        await real(0)

    monkeypatch.setattr("pmem.backends.servers.asyncio.sleep", sleep)
    for left, renewed, least, most in (("0", "1m30s", 90, 99), ("0", "250ms", 0.25, 0.28), ("1", "90s", 0, 0)):
        status, _, body = reply()
        headers = {"x-ratelimit-remaining-tokens": left, "x-ratelimit-reset-tokens": renewed}
        server.given = [(status, headers, body), reply()]

        async def twice() -> None:
            backend = OpenAIBackend("m", (f"http://127.0.0.1:{server.server_port}/v1",))
            backend._servers.clock = lambda: sum(passed)
            for _ in range(2):
                await backend.complete(Request([{"role": "user", "content": "?"}]))
            await backend.close()

        asyncio.run(twice())
        assert least <= sum(passed) <= most
        passed.clear()


def test_headers_of_waiting() -> None:
    assert _retry_after({"retry-after": "3"}) == 3
    assert _retry_after({"retry-after": "soon"}) is None
    assert _retry_after({"retry-after-ms": "20", "retry-after": "9"}) == pytest.approx(0.02)
    assert _retry_after({}) is None
    assert _retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0


def test_durations_of_rate_limit_headers() -> None:
    said = {
        "120ms": 0.12,
        "1s": 1,
        "6m0s": 360,
        "1h2m3.5s": 3723.5,
        "2d": 172800,
        "7": 7,
        "0.5": 0.5,
        "": None,
        "soon": None,
    }
    assert {text: _duration(text) for text in said} == pytest.approx(said)


def test_a_reply_whose_tokens_all_went_into_reasoning_is_paid_for_and_empty(server: Answers) -> None:
    choice = {"message": {"role": "assistant", "content": None}, "finish_reason": "length"}
    body = orjson.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 4000}})
    completion = ask(server, (200, {}, body))
    assert (completion.text, completion.finish, completion.usage.completion) == ("", "length", 4000)
    choice["finish_reason"] = "content_filter"
    completion = ask(server, (200, {}, orjson.dumps({"choices": [choice]})))
    assert completion.finish == "refusal"


def test_taking_the_server_as_it_is_costs_no_attempt(tmp_path: Path, stub: Stub) -> None:
    stub.restart(no_json_schema=True)
    ran = personas(tmp_path, stub.url, "-j", "3", "--retries", "0", count=3)
    assert (ran.status, len(ran.records)) == (0, 3)


def test_no_wait_asked_for_is_the_usual_wait() -> None:
    assert 0.5 <= _pause(Unavailable("", wait=0.0), 1.0) <= 1.5
    assert _pause(Unavailable("", wait=0.0, busy=True), 1.0) == 0
    assert 7 <= _pause(Unavailable("", wait=7.0), 1.0) <= 8.4
