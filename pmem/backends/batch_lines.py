"""The lines of batch files, as OpenAI's Batch API and `vllm run-batch` read and write them.

A request is `{"custom_id", "method": "POST", "url", "body"}`, a result `{"id", "custom_id", "response": {"status_code",
"request_id", "body"}, "error"}`, in any order. The custom_id is the reply's key in the cache, in hexadecimal digits.
vLLM leaves out the body of a request that failed, and puts what OpenAI has there into `error`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import orjson

from pmem.backends.base import Completion, Likelihood, Request, Unavailable
from pmem.check import plain

CHAT = "/v1/chat/completions"
KEY = 32
"""Bytes of a key."""


class Chat(Protocol):
    """What a batch needs of the backend whose calls it carries."""

    name: str

    def identify(self) -> dict[str, Any]: ...

    def parts(self, request: Request) -> list[bytes]:
        """The request's JSON body, in pieces."""
        ...

    def completion(self, raw: bytes) -> Completion:
        """What the body of a reply says; Unavailable if it says nothing."""
        ...

    def refusal(self, status: int, headers: Mapping[str, str], raw: bytes, request: Request) -> Exception:
        """What a status other than 200 means: Unavailable, ModelError or BackendError; no key in its message."""
        ...

    def sdk(self) -> Any:
        """A client of the openai package for the same server, with the same credentials."""
        ...

    async def likelihood(self, request: Request, texts: list[str]) -> list[Likelihood]: ...

    async def close(self) -> None: ...


class Result(NamedTuple):
    """A result line that could be read."""

    key: bytes
    response: dict[str, Any]
    error: Any


def request_line(chat: Chat, request: Request, url: str = CHAT) -> list[bytes]:
    """A request as a line of a batch file, in pieces."""
    head = f'{{"custom_id":"{request.key.hex()}","method":"POST","url":"{url}","body":'
    return [head.encode(), *chat.parts(request), b"}\n"]


def result(line: bytes) -> Result | None:
    """A line of a result file; None if it isn't one, or not of a request that pmem wrote."""
    try:
        read = orjson.loads(line)
        key = bytes.fromhex(read["custom_id"])
        response = read.get("response") or {}
        if len(key) != KEY or not isinstance(response, dict) or not (response or read.get("error")):
            return None  # the last: a call, not a result
        return Result(key, response, read.get("error"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def completion(chat: Chat, answered: Result, request: Request) -> Completion:
    """What a result says. Errors: as of Chat's `completion` and `refusal`; Unavailable for a call that wasn't made."""
    status, body = answered.response.get("status_code"), answered.response.get("body")
    if status == 200 and not answered.error:
        return chat.completion(orjson.dumps(body))
    error = answered.error
    if isinstance(status, int) and status != 200:
        said = body if body is not None else error if _wrapped(error) else {"error": error}
        raise chat.refusal(status, {}, orjson.dumps(said), request)
    if isinstance(error, dict):
        raise Unavailable(plain(": ".join(str(error[part]) for part in ("code", "message") if error.get(part)), 300))
    raise Unavailable(f"the result holds no response: {plain(str(error), 100)}")


def _wrapped(error: Any) -> bool:
    return isinstance(error, dict) and "error" in error


def chunks(content: bytes, most: int) -> Iterable[list[bytes]]:
    """The lines of a file, up to so many at a time. Only line feeds end a line."""
    lines: list[bytes] = []
    begin = 0
    while begin < len(content):
        end = content.find(b"\n", begin)
        end = len(content) if end < 0 else end
        lines.append(content[begin:end])
        begin = end + 1
        if len(lines) == most:
            yield lines
            lines = []
    if lines:
        yield lines
