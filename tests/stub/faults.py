"""What can go wrong between a server and its client, on purpose."""

import asyncio
import contextlib
import hashlib
import socket
import struct
from random import Random
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.stub.problems import JSON, Problem
from tests.stub.words import sentence

if TYPE_CHECKING:
    from tests.stub.options import Options

FAULTS = (
    "429",  # no Retry-After
    "429ra",  # with Retry-After
    "500",
    "503",
    "reset",  # the connection, before any byte
    "resetbody",  # declares a length, sends half, closes
    "truncated",  # JSON cut in half, with the length of that half
    "notjson",  # a page of HTML
    "badschema",  # valid JSON against the schema; free text without an answer
    "empty",  # no choices
    "refusal",
    "stall",  # silence first
    "drip",  # byte by byte, a large body in PIECES
    "redirect",
    "huge",  # HUGE characters of content
    "length",  # content cut in half, finish_reason says so
)
SAID = {"badschema", "refusal", "length"}
"""Faults of what the model says: a client pays for it and may keep it. Drawn per body, so that asking again gets the
same; all others are drawn per attempt."""
CONTENT = {"empty", "huge"}  # faults on the way that a batch can have, too
READABLE = {None, "stall", "drip"}  # faults on the way that let through what was said; nobody need read a huge reply
HUGE = 10_000_000  # characters
PIECES = 1000  # of a dripping body, at most: smaller ones go byte by byte


def draw(purpose: str, seed: int, fingerprint: str, n: int) -> float:
    """A number in [0, 1) that only the arguments determine."""
    digest = hashlib.sha256(f"{purpose}/{seed}/{fingerprint}/{n}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def drawn(options: "Options", fingerprint: str, n: int) -> tuple[str | None, str | None]:
    """The faults of a body's n-th attempt (from 1): on the way, and in what is said (if it gets through).

    Each fault meets its share of all attempts.
    """
    if options.fault_first:
        first = next(iter(options.fault)) if n <= options.fault_first else None
        return (None, first) if first in SAID else (first, None)
    said = {name: share for name, share in options.fault.items() if name in SAID}
    way = {name: share for name, share in options.fault.items() if name not in SAID}
    let_through = 1 - sum(share for name, share in way.items() if name not in READABLE)
    return (
        _picked(way, draw("fault", options.seed, fingerprint, n)),
        _picked(said, draw("said", options.seed, fingerprint, 0) * let_through),
    )


def _picked(shares: dict[str, float], at: float) -> str | None:
    """The name in whose share of [0, 1) a number lies."""
    for name, share in shares.items():
        if at < share:
            return name
        at -= share
    return None


def instead(fault: str | None, request: web.BaseRequest, options: "Options") -> web.Response | None:
    """The answer of a fault that gives no completion at all."""
    match fault:
        case "429" | "429ra":
            headers = {"Retry-After": f"{options.retry_after:g}"} if fault == "429ra" else None
            message = "Rate limit reached. Please try again later."
            return Problem(429, message, type="requests", code="rate_limit_exceeded", headers=headers).response()
        case "500":
            return Problem(
                500, "The server had an error while processing your request.", type="server_error"
            ).response()
        case "503":
            return Problem(
                503, "The engine is currently overloaded.", type="server_error", code="overloaded"
            ).response()
        case "notjson":
            page = "<html><body><h1>Welcome to the hotel network</h1></body></html>"
            return web.Response(text=page, content_type="text/html")
        case "redirect":
            return web.Response(status=302, headers={"Location": f"http://{request.host}/v1/elsewhere"})
    return None


def alter(fault: str | None, completion: dict[str, Any]) -> None:
    """Change a finished completion in place."""
    match fault:
        case "empty":
            completion["choices"] = []
        case "refusal":
            choice = completion["choices"][0]
            choice["message"] |= {"content": None, "refusal": "I can't help with that."}
            choice["finish_reason"] = "content_filter"
        case "length":
            choice = completion["choices"][0]
            content = choice["message"]["content"]
            choice["message"]["content"] = content[: len(content) // 2]
            choice["finish_reason"] = "length"
        case "huge":
            completion["choices"][0]["message"]["content"] = ("very " * (HUGE // 5))[:HUGE]


def wrong(schema: Any, value: Any, rng: Random) -> Any:
    """JSON near the instance `value` that violates the schema; None becomes of nothing better."""
    from jsonschema import Draft202012Validator  # slow to import, and rarely needed

    candidates: list[Any] = [[sentence(rng)], sentence(rng), 0, None, {}]
    rng.shuffle(candidates)
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        near = [
            {k: v for k, v in value.items() if k != key},
            {**value, key: sentence(rng)},
            {**value, key: [[0]]},
            {**value, "unasked": sentence(rng)},
        ]
        rng.shuffle(near)
        candidates = near + candidates
    validator = Draft202012Validator(schema)
    return next((candidate for candidate in candidates if not validator.is_valid(candidate)), None)


async def deliver(fault: str | None, request: web.BaseRequest, data: bytes, options: "Options") -> web.StreamResponse:
    """Send a completion's bytes, in the way of the fault."""
    match fault:
        case "reset":
            return _reset(request)
        case "truncated":
            return web.Response(body=data[: len(data) // 2], headers=JSON)
        case "resetbody":
            response = await _begun(request, len(data))
            await response.write(data[: len(data) // 2])
            if request.transport is not None:
                request.transport.close()
            return response
        case "drip":
            return await _dripped(request, data, options.drip)
    return web.Response(body=data, headers=JSON)


def _reset(request: web.BaseRequest) -> web.Response:
    """Close with RST rather than FIN, as a crashed server or a firewall does."""
    transport = request.transport
    if transport is not None:
        linger = struct.pack("ii", 1, 0)  # on, 0 seconds
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    return web.Response()


async def _begun(request: web.BaseRequest, length: int) -> web.StreamResponse:
    response = web.StreamResponse(headers=JSON)
    response.content_length = length
    await response.prepare(request)
    return response


async def _dripped(request: web.BaseRequest, data: bytes, seconds: float) -> web.StreamResponse:
    response = await _begun(request, len(data))
    loop = asyncio.get_running_loop()
    start = loop.time()
    size = 1 + len(data) // PIECES
    with contextlib.suppress(ConnectionResetError):  # the client has had enough
        for at in range(0, len(data), size):
            await asyncio.sleep(max(0, start + seconds * at / len(data) - loop.time()))
            await response.write(data[at : at + size])
    return response
