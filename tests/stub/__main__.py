"""`python -m tests.stub`: serve until SIGTERM, then say what was asked."""

import asyncio
import contextlib
import os
import resource
import signal
import sys
from typing import Any

import orjson
from aiohttp import web

from tests.stub.options import Options, parse
from tests.stub.server import Server


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    """aiohttp's own, but for its limit of 1 MB a body."""
    return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=0)


async def serve(options: Options) -> None:
    server = Server(options)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    if options.until_eof:
        loop.add_reader(sys.stdin, lambda: os.read(sys.stdin.fileno(), 4096) or stop.set())
    low_level = web.Server(server.handle, request_factory=_request, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(low_level, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", options.port, backlog=4096).start()
    print(f"listening on http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await stop.wait()
    if options.until_eof:
        loop.remove_reader(sys.stdin)
    await runner.cleanup()
    with contextlib.suppress(BrokenPipeError):
        print(orjson.dumps(server.counts.summary()).decode(), flush=True)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(serve(parse(sys.argv[1:])))
