"""HTTP for chat completions: aiohttp, bodies in pieces, timeouts per phase, replies of bounded size."""

import asyncio
import os
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from aiohttp.payload import Payload
from yarl import URL

from pmem.backends.base import Unavailable
from pmem.errors import BackendError

CONNECT_TIMEOUT = 20.0  # seconds: to connect and agree on TLS
ATTEMPT_TIMEOUT = 600.0  # seconds from sending to the last byte; a long reply of a slow model arrives in one piece
LARGEST_REPLY = 4 << 20
"""Bytes. 128,000 tokens of text with as many of reasoning make about one megabyte; more is no reply but a fault."""
IN_PIECES = 1 << 16
"""Bytes from which on a body is written as it lies in memory, its history not copied."""


class Answer(NamedTuple):
    """What a server sent back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Pieces(Payload):
    """A body that lies in several places: a history that many requests share, and what follows it."""

    _autoclose = True  # only bytes: nothing to close

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__(pieces, content_type="application/json")
        self._size = sum(map(len, pieces))

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._value).decode(encoding, errors)

    async def write(self, writer: Any) -> None:
        for piece in self._value:
            await writer.write(piece)

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        await self.write(writer)


class _Deadlines:
    """Ends attempts that take too long: one look at all of them now and then, instead of a timer for each."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[asyncio.Task[Any], float] = {}  # the oldest first
        self._late: set[asyncio.Task[Any]] = set()
        self._looking: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task
        self._since[task] = loop.time()
        if self._looking is None:
            self._looking = loop.call_later(min(1.0, self._seconds / 4), self._look, loop)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """TimeoutError instead of the cancellation that `_look` brought about."""
        task = asyncio.current_task()
        assert task
        del self._since[task]
        if task in self._late:
            self._late.discard(task)
            if task.uncancel() == 0 and kind is asyncio.CancelledError:
                raise TimeoutError

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looking = None
        if self._since:
            self._looking = loop.call_later(min(1.0, self._seconds / 4), self._look, loop)
        for task, since in self._since.items():
            if since > loop.time() - self._seconds:
                break
            if task not in self._late:
                self._late.add(task)
                task.cancel()


class Transport:
    """Connections that are kept, to any number of servers. Proxies, and certificates of one's own, come from the
    environment: HTTPS_PROXY, HTTP_PROXY, NO_PROXY; SSL_CERT_FILE (or REQUESTS_CA_BUNDLE), SSL_CERT_DIR."""

    def __init__(self, headers: Mapping[str, str], timeout: float | None = None) -> None:
        self._headers = {"Content-Type": "application/json", **headers}
        self._timeout = timeout or ATTEMPT_TIMEOUT
        self._deadlines = _Deadlines(self._timeout)
        self._session: aiohttp.ClientSession | None = None
        self._routes: dict[str, dict[str, Any]] = {}

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, ssl=_certificates()),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=min(CONNECT_TIMEOUT, self._timeout)),
            )
        return self._session

    def _route(self, url: str) -> dict[str, Any]:
        """A server's address and the proxy on the way to it, looked up once."""
        if url not in self._routes:
            self._routes[url] = {"url": URL(url), "proxy": _proxy(url)}
        return self._routes[url]

    async def post(self, url: str, pieces: list[bytes]) -> Answer:
        """Send a JSON body and read the answer. Unavailable: none came, or not a whole one; BackendError: this
        address can't be talked to at all."""
        size = sum(map(len, pieces))
        data: Any = _Pieces(pieces) if size > IN_PIECES else b"".join(pieces)
        host = url.removesuffix("/chat/completions")
        try:
            with self._deadlines:
                request = self._connected().post(data=data, allow_redirects=False, **self._route(url))
                async with request as response:
                    return Answer(response.status, response.headers, await _read(response, host))
        except (aiohttp.ClientConnectorCertificateError, aiohttp.InvalidURL) as fault:
            raise BackendError(f"{host}: {fault}") from None
        except aiohttp.ClientHttpProxyError as fault:  # its own text has the proxy's address, with the password
            raise Unavailable(f"the proxy for {host} answers {fault.status}", reached=False) from None
        except aiohttp.ClientResponseError as fault:
            raise Unavailable(f"{host} broke off its reply: {fault.message or fault.status}", reached=False) from None
        except aiohttp.ClientProxyConnectionError as fault:
            raise Unavailable(f"no connection to the proxy for {host}: {_plainly(fault)}", reached=False) from None
        except aiohttp.ClientConnectionError as fault:
            raise Unavailable(f"no connection to {host}: {_plainly(fault)}", reached=False) from None
        except aiohttp.ClientError as fault:
            raise Unavailable(f"{host} broke off its reply: {_plainly(fault)}", reached=False) from None
        except TimeoutError:
            raise Unavailable(f"no answer from {host} in {self._timeout:g} s", reached=False) from None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


async def _read(response: aiohttp.ClientResponse, host: str) -> bytes:
    known = response.content_length if "Content-Encoding" not in response.headers else None
    if known is not None and known <= LARGEST_REPLY:
        return await response.read()
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > LARGEST_REPLY:
            response.close()  # the connection with it: the rest of the reply is still on its way
            raise Unavailable(f"{host} sends more than {LARGEST_REPLY >> 20} MiB for one reply")
    return b"".join(pieces)


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address. aiohttp's own way (trust_env) looks it up for each request,
    in a thread, which costs more than all the rest of a call, and lets ~/.netrc replace the key."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.netloc):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        raise BackendError(f"{parts.scheme.upper()}_PROXY: '{proxy.split('@')[-1]}' is no proxy of HTTP")
    return proxy


def _certificates() -> Any:
    """How to verify servers: as the system does, or by the files that the environment names; BackendError if these
    can't be read."""
    import ssl

    file, folder = (os.environ.get(name) or None for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    file = file or os.environ.get("REQUESTS_CA_BUNDLE")
    if not (file or folder):
        return True
    for name in (file, folder):
        if name and not Path(name).exists():
            raise BackendError(f"{name}: no such file (SSL_CERT_FILE, REQUESTS_CA_BUNDLE or SSL_CERT_DIR names it)")
    try:
        return ssl.create_default_context(cafile=file, capath=folder)
    except (OSError, ssl.SSLError) as fault:
        raise BackendError(f"{file or folder}: certificates can't be read: {fault}") from None


def _plainly(fault: Exception) -> str:
    return str(getattr(fault, "strerror", "") or fault or type(fault).__name__)
