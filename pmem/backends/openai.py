"""The backend `openai:NAME`: chat completions of any compatible server, over aiohttp and orjson.

Transport faults (no connection, 408, 409, 429, 5xx, a reply that is no completion) are retried here with exponential
backoff and jitter, honouring Retry-After. What no retry can mend is one clear line: BackendError where every call
would fail (key, model, server), ModelError where only this one does (context too long, request refused).
"""

import asyncio
import os
import random
from typing import Any
from urllib.parse import urlsplit

import orjson

from pmem.backends.base import Completion, Likelihood, Request, Usage
from pmem.check import plain
from pmem.errors import BackendError, ModelError

DEFAULT_URL = "https://api.openai.com/v1"
ATTEMPTS = 8
"""Tries per call; with the waits below the last comes after about two minutes."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds
CONNECT_ATTEMPTS = 4
"""Tries for a server that has not answered as one yet: a wrong address should not take minutes to report."""
CONNECT_TIMEOUT, READ_TIMEOUT = 20.0, 600.0  # seconds; a long reply of a slow model arrives in one piece
RETRIED = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}


class _Retry(Exception):
    """This attempt failed in a way that another may not. wait: seconds that the server asked for."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


class OpenAIBackend:
    """One model on one or several equal servers (requests go round)."""

    cacheable = True

    def __init__(self, name: str, base_urls: tuple[str, ...] = ()) -> None:
        self.name = name
        urls = base_urls or (os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL,)
        self.urls = [_checked(url).rstrip("/") + "/chat/completions" for url in urls]
        self._key = os.environ.get("OPENAI_API_KEY", "").strip()
        self._session: Any = None
        self._next = 0
        self._answered = False
        self._dropped: set[str] = set()  # parameters that this server turned out not to take
        if not self._key and any(url.startswith(DEFAULT_URL) for url in self.urls):
            raise BackendError(
                f"openai:{name} needs a key: set OPENAI_API_KEY (or --base-url for a server of your own)"
            )

    def identify(self) -> dict[str, Any]:
        """Kind and model; not the server's address, not the key."""
        return {"kind": "openai", "model": self.name}

    async def complete(self, request: Request) -> Completion:
        """Ask, patiently."""
        wait = FIRST_WAIT
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._attempt(request)
            except _Retry as fault:
                limit = ATTEMPTS if self._answered else CONNECT_ATTEMPTS
                if attempt >= limit:
                    self._give_up(request, str(fault), attempt)
                pause = fault.wait if fault.wait is not None else wait * random.uniform(0.5, 1.5)
                wait = min(2 * wait, LONGEST_WAIT)
            await asyncio.sleep(min(pause, 2 * LONGEST_WAIT))

    def _give_up(self, request: Request, why: str, attempts: int) -> None:
        if not self._answered:
            raise BackendError(f"openai:{self.name}: {why}")
        raise ModelError(f"openai:{self.name}: {why} (tried {attempts} times)", call=request.call)

    async def _attempt(self, request: Request) -> Completion:
        import aiohttp

        url = self.urls[self._next % len(self.urls)]
        self._next += 1
        try:
            async with self._connected().post(url, data=self._body(request), allow_redirects=False) as response:
                raw = await response.read()
                if response.status != 200:
                    self._refused(request, response.status, dict(response.headers), self._redacted(raw))
                return self._completion(raw)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.InvalidURL) as fault:
            raise BackendError(f"{_host(url)}: {fault}") from None
        except aiohttp.ClientConnectionError as fault:
            raise _Retry(f"no connection to {_host(url)}: {_plainly(fault)}") from None
        except aiohttp.ClientError as fault:
            raise _Retry(f"{_host(url)} broke off its reply: {fault}") from None
        except TimeoutError:
            raise _Retry(f"no answer from {_host(url)} in time") from None

    def _connected(self) -> Any:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                headers={"Authorization": f"Bearer {self._key or 'none'}", "Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT),
                trust_env=True,  # proxies
            )
        return self._session

    def _body(self, request: Request) -> bytes:
        """The request as JSON; a shared history's bytes are taken as they are."""
        messages = self._messages(request)
        raw = orjson.dumps(messages)
        if request.prefix:
            raw = request.prefix.raw[:-1] + b"," + raw[1:]
        rest: dict[str, Any] = {"model": self.name}
        if request.max_tokens is not None:
            newer = "max_tokens" in self._dropped or self.urls[0].startswith(DEFAULT_URL)
            rest["max_completion_tokens" if newer else "max_tokens"] = request.max_tokens
        if request.temperature is not None:
            rest["temperature"] = request.temperature
        if request.seed is not None and "seed" not in self._dropped:
            rest["seed"] = request.seed
        if request.schema is not None:
            rest["response_format"] = self._response_format(request.schema)
        return b'{"messages":' + raw + b"," + orjson.dumps(rest)[1:]

    def _response_format(self, schema: dict[str, Any]) -> dict[str, Any]:
        if "response_format" in self._dropped:
            return {"type": "json_object"}
        name = schema.get("title", "reply")
        return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}

    def _messages(self, request: Request) -> list[dict[str, Any]]:
        """The messages; with the schema in words, where the server takes no json_schema."""
        if request.schema is None or "response_format" not in self._dropped:
            return request.messages
        told = "Reply with one JSON object and nothing else. It must satisfy this JSON Schema:\n"
        return [*request.messages, {"role": "user", "content": told + orjson.dumps(request.schema).decode()}]

    def _completion(self, raw: bytes) -> Completion:
        try:
            reply = orjson.loads(raw)
            choices = reply["choices"]
            self._answered = True
            choice = choices[0]
            message = choice["message"]
            text, finish = message.get("content"), choice.get("finish_reason") or "stop"
            usage = reply.get("usage") or {}
            if message.get("refusal"):
                text, finish = message["refusal"], "refusal"
            if not isinstance(text, str):
                raise _Retry("the server's reply holds no text")
            return Completion(text, _usage(usage), finish)
        except orjson.JSONDecodeError:
            raise _Retry(f"the server's reply is not JSON: {self._redacted(raw)[:60]!r}") from None
        except (KeyError, IndexError, TypeError, AttributeError):
            raise _Retry(f"the server's reply is no chat completion: {self._redacted(raw)[:60]!r}") from None

    def _redacted(self, raw: bytes) -> bytes:
        """A reply that may be shown: some servers and proxies echo the request, with its key."""
        return raw.replace(self._key.encode(), b"[key]") if len(self._key) >= 8 else raw  # not a local server's "x"

    def _refused(self, request: Request, status: int, headers: dict[str, str], raw: bytes) -> None:
        """Raise what a status other than 200 means."""
        code, message = _error_of(raw)
        if status in (401, 403):
            hint = "OPENAI_API_KEY is not set" if not self._key else "is OPENAI_API_KEY right?"
            raise BackendError(f"openai:{self.name}: the server refuses the key ({status}; {hint})")
        if code == "insufficient_quota":
            raise BackendError(f"openai:{self.name}: the account has no quota left: {message}")
        if status == 404:
            raise BackendError(f"openai:{self.name}: the server knows no such model or address: {message}")
        if 300 <= status < 400:
            raise _Retry(f"the server redirects elsewhere ({status}), which is not followed")
        self._answered = True
        if status in RETRIED:
            raise _Retry(f"the server answers {status}: {message}", _retry_after(headers))
        if code == "context_length_exceeded" or "context length" in message.lower():
            raise ModelError(f"context length exceeded: {message}", call=request.call, reason="limit")
        if status in (400, 422) and self._adapt(message):
            raise _Retry(f"the server refuses a parameter: {message}", 0.0)
        raise ModelError(f"openai:{self.name}: the server answers {status}: {message}", call=request.call)

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
        raise BackendError("--scoring likelihood needs a model in process: local:NAME, not openai:NAME")

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


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


def _retry_after(headers: dict[str, str]) -> float | None:
    """Seconds that the server asks to wait (the header's date form counts as not given)."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        for key, value in headers.items():
            if key.lower() == name:
                try:
                    return max(0.0, float(value)) * unit
                except ValueError:
                    return None
    return None


def _checked(url: str) -> str:
    """A server's address as given; BackendError if it can't be one."""
    try:
        parts = urlsplit(url)
        if parts.username is None and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return url
    except ValueError:  # the port
        pass
    shown = url.split("@")[-1]
    raise BackendError(f"'{shown}' is no server's address: expected http://HOST[:PORT]/v1, the key in OPENAI_API_KEY")


def _host(url: str) -> str:
    return url.removesuffix("/chat/completions")


def _plainly(fault: Exception) -> str:
    return str(getattr(fault, "strerror", "") or fault or type(fault).__name__)
