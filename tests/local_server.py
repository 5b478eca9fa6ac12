"""A small HTTP server in a thread, which keeps what it is sent; it can be a proxy, too."""

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import orjson

REPLY = orjson.dumps(
    {
        "choices": [{"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }
)


class Local(ThreadingHTTPServer):
    """Answers each POST with the next of `answers` (status, headers, body), then with `reply` and `more` headers; keeps
    what it was sent. What is meant for another server it passes on, as a proxy."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[bytes] = []
        self.targets: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.reply, self.more = REPLY, dict[str, str]()
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Local

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)
        self.server.targets.append(self.path)
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        status, headers, reply = self.answer(body)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(reply))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply)

    def answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if not self.path.startswith("http://"):
            return self.server.answers.pop(0) if self.server.answers else (200, self.server.more, self.server.reply)
        to = urlsplit(self.path)  # we are a proxy: pass it on
        assert to.hostname
        onward = http.client.HTTPConnection(to.hostname, to.port, timeout=10)
        keep = {name: value for name, value in self.headers.items() if not name.startswith("Proxy-")}
        onward.request("POST", to.path, body, keep)
        came = onward.getresponse()
        data = came.read()
        onward.close()
        return came.status, {"Content-Type": "application/json"}, data

    def log_message(self, *_: object) -> None:
        pass


def serving(server: Local) -> Iterator[Local]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
