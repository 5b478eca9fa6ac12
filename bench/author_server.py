"""The author as a server: what `tests.stub --reply bench/author.py` answers, at a tenth of its cost.

python bench/author_server.py [PORT]

It speaks as much HTTP as pmem does: POST with a Content-Length on connections that are kept open. The first line on
stdout tells the address. GET /stub/counts gives requests, and how many of them repeated the body of an earlier one.
"""

import asyncio
import hashlib
import re
import sys
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).parent))
import author

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
END = b"\r\n\r\n"

seen: set[bytes] = set()
requests = 0


def completion(body: bytes) -> bytes:
    """The reply to a chat request, and note of it."""
    global requests
    requests += 1
    seen.add(hashlib.blake2b(body, digest_size=12).digest())
    content = author.reply(orjson.loads(body))
    if content is None:
        raise ValueError(f"the author has nothing to say to {body[:200]!r}")
    return orjson.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": "stub",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": len(body) // 4, "completion_tokens": len(content) // 4 + 1},
        }
    )


class Connection(asyncio.Protocol):
    """One client's requests, one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.came = bytearray()

    def data_received(self, data: bytes) -> None:
        self.came += data
        while (head := self.came.find(END)) >= 0:
            length = LENGTH.search(self.came, 0, head)
            end = head + len(END) + (int(length[1]) if length else 0)
            if len(self.came) < end:
                return
            answer = self.answer(bytes(self.came[:head]), bytes(self.came[head + len(END) : end]))
            del self.came[:end]
            self.transport.write(  # type: ignore[attr-defined]
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer)
                + answer
            )

    @staticmethod
    def answer(head: bytes, body: bytes) -> bytes:
        if head.startswith(b"POST"):
            try:
                return completion(body)
            except Exception as fault:
                print(f"author: {fault!r}", file=sys.stderr)
                raise SystemExit(1) from None
        return orjson.dumps({"requests": requests, "repeats": requests - len(seen)})


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port)
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
