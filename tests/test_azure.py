"""The backend `azure:DEPLOYMENT`, by the openai package, against a small server with Azure's routes."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pmem.backends.azure import AzureBackend
from pmem.backends.base import Completion, Request, Unavailable
from pmem.errors import BackendError, ModelError
from tests.command import KEY, people, pmem
from tests.local_server import REPLY, Local, serving

ROUTE = "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"
NAMES = ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "OPENAI_API_VERSION")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Local]:
    for server in serving(Local()):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.url.removesuffix("/v1"))
        monkeypatch.setenv("OPENAI_API_VERSION", "2024-10-21")
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", f"{KEY}\n")
        yield server


def ask(**given: Any) -> Completion:
    async def inside() -> Completion:
        backend = AzureBackend("my-gpt")
        try:
            return await backend.complete(Request([{"role": "user", "content": "?"}], **given))
        finally:
            await backend.close()

    return asyncio.run(inside())


def problem(status: int, message: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json", **headers}, orjson.dumps({"error": {"message": message}})


def test_route_key_and_body(server: Local) -> None:
    schema = {"title": "city", "type": "object"}
    assert ask(schema=schema, seed=7, max_tokens=9, temperature=0.0).text == "yes"
    assert server.targets == [ROUTE] and server.headers[0]["api-key"] == KEY
    assert "authorization" not in server.headers[0]
    assert orjson.loads(server.bodies[0]) == {
        "messages": [{"role": "user", "content": "?"}],
        "model": "my-gpt",
        "max_tokens": 9,
        "temperature": 0.0,
        "seed": 7,
        "response_format": {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": schema}},
    }


def test_a_token_of_entra_takes_the_place_of_the_key(server: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", "ad-token-0123456789")
    ask()
    assert server.headers[0]["authorization"] == "Bearer ad-token-0123456789" and "api-key" not in server.headers[0]


def test_what_answers_mean(server: Local) -> None:
    said = f"you sent {KEY}"
    server.answers = [
        problem(401, said),
        problem(404, "The API deployment for this resource does not exist."),
        problem(429, "slow down", **{"Retry-After": "7"}),
        problem(500, said),
        problem(400, "This model's maximum context length is 5 tokens."),
        (200, {}, b"<html>"),
    ]
    with pytest.raises(BackendError, match=r"refuses the key \(401; AZURE_OPENAI_API_KEY or AZURE_OPENAI_AD_TOKEN"):
        ask()
    with pytest.raises(
        BackendError, match="azure:my-gpt: the server knows no such model or address: The API deployment"
    ):
        ask()
    with pytest.raises(Unavailable, match="answers 429: slow down") as busy:
        ask()
    assert busy.value.busy and 6.9 < (busy.value.wait or 0) <= 7
    with pytest.raises(Unavailable, match=r"answers 500: you sent \[key\]"):
        ask()
    with pytest.raises(ModelError, match="context length exceeded"):
        ask()
    with pytest.raises(Unavailable, match="reply is not JSON"):
        ask()
    assert len(server.targets) == 6  # the package itself repeats nothing


def test_what_is_missing_is_said(server: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="takes one --base-url"):
        AzureBackend("m", (server.url, server.url))
    for name, why in (
        ("AZURE_OPENAI_API_KEY", "needs AZURE_OPENAI_API_KEY, AZURE_OPENAI_AD_TOKEN, or the package azure-identity"),
        ("OPENAI_API_VERSION", "needs AZURE_OPENAI_ENDPOINT and OPENAI_API_VERSION to be set"),
    ):
        monkeypatch.delenv(name)
        with pytest.raises(BackendError, match=why):
            AzureBackend("m")
    monkeypatch.setenv("OPENAI_API_VERSION", "v")
    for name in ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"):
        monkeypatch.setenv(name, f"{KEY}\nsecond")
        with pytest.raises(BackendError, match=f"{name} holds characters") as caught:
            AzureBackend("m")
        assert KEY not in caught.value.message


def test_no_answer(server: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"no connection to http://127\.0\.0\.1:9: ") as caught:
        ask()
    assert not caught.value.reached


def test_a_run_is_patient_and_says_what_went_wrong(tmp_path: Path, server: Local) -> None:
    server.answers = [problem(429, "slow down"), problem(500, "oops"), (200, {}, REPLY), problem(401, KEY)]
    env = {
        "AZURE_OPENAI_ENDPOINT": server.url.removesuffix("/v1"),
        "AZURE_OPENAI_API_KEY": KEY,
        "OPENAI_API_VERSION": "v",
    }
    ran = pmem("personas", "-m", "azure:g", "--no-cache", folder=tmp_path, env=env, input=people(1), hurried=True)
    assert ran.status == 1 and not server.answers
    *_, summary, last = ran.err.splitlines()
    assert "; 1 calls to azure:g, 2 attempts repeated, 1 invalid replies, 3 tokens in, 1 out, cost unknown; " in summary
    assert last.startswith(
        "pmem: azure:g: the server refuses the key (401; AZURE_OPENAI_API_KEY or AZURE_OPENAI_AD_TOKEN"
    )
