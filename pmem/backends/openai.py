"""The backend `openai:NAME`: chat completions of any compatible server; `azure.py` has the same on Azure.

What an answer means stands here: Unavailable where another attempt may do better (no connection, 408, 409, 429, 5xx, a
reply that is no completion), BackendError where every call would fail (key, model, server), ModelError where only this
one does (context too long, request refused).
"""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from pmem.backends.base import Completion, Likelihood, Request, Unavailable, Usage
from pmem.backends.servers import Server, Servers
from pmem.backends.transport import ATTEMPT_TIMEOUT, Answer, Transport
from pmem.check import plain
from pmem.errors import BackendError, ModelError

DEFAULT_URL = "https://api.openai.com/v1"
RETRIED = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
BUSY = {429, 503, 529}
"""Of these, the ones that say: too many requests at the moment."""
PATH = "/chat/completions"
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class _Adapted(Unavailable):
    """The server works, but takes the request in another form only: the next attempt has that."""

    adapted = True


class OpenAIBackend:
    """One model on one or several equal servers."""

    cacheable = True
    kind = "openai"

    def __init__(
        self, name: str, base_urls: tuple[str, ...] = (), *, timeout: float | None = None, keyless: bool = False
    ) -> None:
        """keyless: nothing is to be asked of the server."""
        self.name = name
        self.timeout = timeout
        self._dropped: set[str] = set()  # parameters that this server turned out not to take
        self._tails: dict[Any, tuple[dict[str, Any] | None, bytes]] = {}
        self._transport: Any = None
        self.urls = self._addresses(base_urls)
        self.key = "" if keyless else self._credential()
        self._servers = Servers([url + PATH for url in self.urls])

    def _addresses(self, given: tuple[str, ...]) -> list[str]:
        urls = given or (os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL,)
        return [checked_address(url).rstrip("/") for url in urls]

    def _credential(self) -> str:
        key = header_setting("OPENAI_API_KEY")
        if not key and self.hosted:
            raise BackendError(
                f"openai:{self.name} needs a key: set OPENAI_API_KEY (or --base-url for a server of your own)"
            )
        return key

    @property
    def hosted(self) -> bool:
        """Whether the model's maker serves it, at the maker's prices."""
        return all(url.startswith(DEFAULT_URL) for url in self.urls)

    def identify(self) -> dict[str, Any]:
        """Kind and model; not the server's address, not the key."""
        return {"kind": self.kind, "model": self.name}

    def sdk(self) -> Any:
        """A client of the openai package for the first server, for what that is good at: batches, files."""
        from openai import AsyncOpenAI

        return AsyncOpenAI(
            api_key=self.key or "none", base_url=self.urls[0], max_retries=4, timeout=self.timeout or ATTEMPT_TIMEOUT
        )

    async def complete(self, request: Request) -> Completion:
        """One attempt."""
        if self._transport is None:
            self._transport = self._connect()
        server = await self._servers.choose(request.beginning)
        server.in_flight += 1
        try:
            answer: Answer = await self._transport.post(server.url, self.parts(request))
            self._heed(server, answer.headers)
            if answer.status != 200:
                raise self.refusal(answer.status, answer.headers, answer.body, request)
            completion = self.completion(answer.body)
        except (_Adapted, ModelError):
            server.answered()
            raise
        except Unavailable as fault:
            if not fault.busy:
                server.failed(self._servers.clock())
            elif fault.wait is not None:
                server.spare(self._servers.clock() + fault.wait)
                fault.wait = self._servers.wait()  # none, where another server is free
            raise
        finally:
            server.in_flight -= 1
        server.answered()
        return completion

    def _connect(self) -> Any:
        return Transport(self._headers(), self.timeout)

    def _headers(self) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self.key or 'none'}"}
        for name, variable in (("OpenAI-Organization", "OPENAI_ORG_ID"), ("OpenAI-Project", "OPENAI_PROJECT_ID")):
            if value := header_setting(variable):
                headers[name] = value
        return headers

    def _heed(self, server: Server, headers: Mapping[str, str]) -> None:
        """Spare a server that says that nothing is left of an allowance until it is renewed."""
        for what in ("requests", "tokens"):
            if headers.get(f"x-ratelimit-remaining-{what}") == "0":
                server.spare(self._servers.clock() + (_duration(headers.get(f"x-ratelimit-reset-{what}", "")) or 0.0))

    # ---- the request ------------------------------------------------------------------------------------------

    def parts(self, request: Request) -> list[bytes]:
        """The request as JSON, in pieces that make the body one after the other; a history's bytes are not copied."""
        raw = request.raw or orjson.dumps(request.messages)
        tail = self._tail(request)
        if request.schema is not None and "response_format" in self._dropped:
            raw = orjson.dumps([*request.messages, _in_words(request.schema)])
        if request.seed is not None and "seed" not in self._dropped:
            tail = b',"seed":%d%b' % (request.seed, tail)
        if request.prefix:
            return [b'{"messages":', memoryview(request.prefix.raw)[:-1], b"," + raw[1:] + tail]  # type: ignore[list-item]
        return [b'{"messages":' + raw + tail]

    def _tail(self, request: Request) -> bytes:
        """What follows the messages and the seed: the same for all calls with one schema."""
        key = (id(request.schema), request.max_tokens, request.temperature, request.thinking, len(self._dropped))
        known = self._tails.get(key)
        if known is None or known[0] is not request.schema:
            if len(self._tails) > 256:
                self._tails.clear()
            known = self._tails[key] = (request.schema, b"," + orjson.dumps(self._parameters(request))[1:])
        return known[1]

    def _parameters(self, request: Request) -> dict[str, Any]:
        parameters: dict[str, Any] = {"model": self.name}
        if request.max_tokens is not None:
            newer = self.hosted != ("max_tokens" in self._dropped)
            parameters["max_completion_tokens" if newer else "max_tokens"] = request.max_tokens
        if request.temperature is not None:
            parameters["temperature"] = request.temperature
        if request.thinking is not None:  # as vLLM and SGLang take it
            parameters["chat_template_kwargs"] = {"enable_thinking": request.thinking}
        if request.schema is not None:
            parameters["response_format"] = self._response_format(request.schema)
        return parameters

    def _response_format(self, schema: dict[str, Any]) -> dict[str, Any]:
        if "response_format" in self._dropped:
            return {"type": "json_object"}
        name = schema.get("title", "reply")
        return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}

    # ---- the answer -------------------------------------------------------------------------------------------

    def completion(self, raw: bytes) -> Completion:
        """What the body of an answer 200 says; Unavailable if it is no completion."""
        try:
            reply = orjson.loads(raw)
            choices = reply["choices"]
        except orjson.JSONDecodeError:
            shown = self.redacted(raw)[:60]
            raise Unavailable(f"the server's reply is not JSON: {shown!r}", reached=False) from None
        except (KeyError, TypeError):
            shown = self.redacted(raw)[:60]
            raise Unavailable(f"the server's reply is no chat completion: {shown!r}", reached=False) from None
        try:
            choice = choices[0]
            message = choice["message"]
            text, finish = message.get("content"), choice.get("finish_reason") or "stop"
            if message.get("refusal"):
                text, finish = message["refusal"], "refusal"
            if finish == "content_filter":
                text, finish = text or "stopped by the server's filter", "refusal"
            if text is None and (finish == "length" or _reasoning(message)):
                text = ""  # nothing came after the reasoning: a reply, and paid for
            if not isinstance(text, str):
                raise Unavailable("the server's reply holds no text")
            return Completion(text, _usage(reply.get("usage") or {}), finish)
        except (KeyError, IndexError, TypeError, AttributeError):
            shown = self.redacted(raw)[:60]
            raise Unavailable(f"the server's reply is no chat completion: {shown!r}") from None

    def redacted(self, raw: bytes) -> bytes:
        """A reply that may be shown: some servers and proxies echo the request, with its key."""
        return raw.replace(self.key.encode(), b"[key]") if len(self.key) >= 8 else raw  # not a local server's "x"

    def refusal(self, status: int, headers: Mapping[str, str], raw: bytes, request: Request) -> Exception:
        """What a status other than 200 means, as the exception to raise."""
        code, message = _error_of(self.redacted(raw))
        name = f"{self.kind}:{self.name}"
        if status in (401, 403):
            return BackendError(f"{name}: the server refuses the key ({status}; {self._key_hint()})")
        if code == "insufficient_quota":
            return BackendError(f"{name}: the account has no quota left: {message}")
        if status == 404:
            return BackendError(f"{name}: the server knows no such model or address: {message}")
        if 300 <= status < 400:
            return Unavailable(f"the server redirects elsewhere ({status}), which is not followed", reached=False)
        if status in RETRIED:
            return Unavailable(
                f"the server answers {status}: {message}", wait=_retry_after(headers), busy=status in BUSY
            )
        if code == "context_length_exceeded" or "context length" in message.lower():
            return ModelError(f"context length exceeded: {message}", call=request.call, reason="limit")
        if status in (400, 422) and self._adapt(message):
            return _Adapted(f"the server refuses a parameter: {message}", wait=0.0)
        return ModelError(f"{name}: the server answers {status}: {message}", call=request.call)

    def _key_hint(self) -> str:
        return "is OPENAI_API_KEY right?" if self.key else "OPENAI_API_KEY is not set"

    def _adapt(self, message: str) -> bool:
        """Leave out, or put otherwise, the parameter that the server says it doesn't take; False if it names none.

        Several calls in flight may be refused for the same parameter: each of them is worth one more try.
        """
        for parameter, words in (
            ("response_format", ("response_format", "json_schema")),
            ("max_tokens", ("max_tokens", "max_completion_tokens")),
            ("seed", ("seed",)),
        ):
            if any(word in message for word in words):
                self._dropped.add(parameter)
                return True
        return False

    async def likelihood(self, request: Request, texts: list[str]) -> list[Likelihood]:
        """Chat servers don't tell the likelihood of a given text."""
        raise BackendError(
            f"--scoring likelihood needs a model in process: local:NAME or vllm:NAME, not {self.kind}:NAME"
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._transport is not None:
            await self._transport.close()


def header_setting(variable: str) -> str:
    """An environment variable that goes into a header; "" where it isn't set, BackendError if no header can have it."""
    value = os.environ.get(variable, "").strip()
    if not (value.isascii() and value.isprintable()):
        raise BackendError(f"{variable} holds characters that don't belong there (a line break, say)")
    return value


def _in_words(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as a message, for a server that takes no json_schema."""
    told = "Reply with one JSON object and nothing else. It must satisfy this JSON Schema:\n"
    return {"role": "user", "content": told + orjson.dumps(schema).decode()}


def _reasoning(message: dict[str, Any]) -> bool:
    """Whether a server that tells reasoning apart says that there was some."""
    return any(isinstance(message.get(name), str) and message[name] for name in ("reasoning_content", "reasoning"))


def _usage(usage: dict[str, Any]) -> Usage:
    return Usage(
        usage.get("prompt_tokens") or 0,
        (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        usage.get("completion_tokens") or 0,
        (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0,
    )


def _error_of(raw: bytes) -> tuple[str, str]:
    """(code, message) of an error body, in the protocol's form or any other."""
    try:
        body = orjson.loads(raw)
        error = body.get("error", body)
        if isinstance(error, dict):
            return str(error.get("code") or ""), plain(str(error.get("message") or error), 300)
        return "", plain(str(error), 300)
    except (orjson.JSONDecodeError, AttributeError):
        return "", plain(raw[:1000].decode("utf-8", "replace").strip())


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: a number, or a date as HTTP writes them."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if (value := headers.get(name)) is not None:
            try:
                return max(0.0, float(value)) * unit
            except ValueError:
                return _until(value)
    return None


def _until(date: str) -> float | None:
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    try:
        then = parsedate_to_datetime(date)
    except ValueError:
        return None
    return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _duration(text: str) -> float | None:
    """Seconds of a duration as rate-limit headers have it: "120ms", "1s", "6m0s", or a bare number of seconds."""
    found = DURATION.findall(text)
    if found:
        return sum(float(number) * SECONDS[unit] for number, unit in found)
    try:
        return float(text)
    except ValueError:
        return None


def checked_address(url: str) -> str:
    """A server's address as given; BackendError if it can't be one."""
    try:
        parts = urlsplit(url)
        if parts.username is None and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return url
    except ValueError:  # the port
        pass
    shown = url.split("@")[-1]
    raise BackendError(f"'{shown}' is no server's address: expected http://HOST[:PORT]/v1, the key in OPENAI_API_KEY")
