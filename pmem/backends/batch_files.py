"""The files of a batch: calls are written to one; what the others bring goes into the cache, then to the calls."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import IO

from pmem.backends.base import Completion, Request, Unavailable, stored
from pmem.backends.batch_lines import Chat, chunks, completion, request_line, result
from pmem.backends.cache import Cache
from pmem.errors import ModelError, OutputError, PmemError, RecordError

CHUNK = 1000
"""Lines written before others get a turn; replies that are stored, then delivered, at once."""


@dataclass(eq=False, slots=True)
class Call:
    """A call that somebody waits for. tries: batches that gave no reply to it."""

    request: Request
    reply: "asyncio.Future[Completion]"
    tries: int = 0

    def answer(self, reply: Completion) -> None:
        if not self.reply.done():
            self.reply.set_result(reply)

    def fail(self, fault: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(fault)


async def written(
    file: IO[bytes], calls: deque[Call], *, name: str, chat: Chat, lines: int, size: int, url: str
) -> dict[bytes, Call]:
    """Write the first calls to a file, at most so many lines and bytes; they leave `calls`. By their keys."""
    taken: dict[bytes, Call] = {}
    total = 0
    try:
        while calls and len(taken) < lines:
            line = request_line(chat, calls[0].request, url)
            length = sum(map(len, line))
            if taken and total + length > size:
                break
            call = calls.popleft()
            if length > size:
                message = f"{name}: a request of {length:,} bytes is too large for a batch"
                call.fail(ModelError(message, call=call.request.call, reason="limit"))
                continue
            file.writelines(line)
            total += length
            taken[call.request.key] = call
            if len(taken) % CHUNK == 0:
                await asyncio.sleep(0)
        file.flush()
    except OSError as fault:
        raise OutputError(f"the file of a batch can't be written: {fault.strerror}") from None
    return taken


async def delivered(
    content: bytes, waiting: dict[bytes, Call], *, name: str, chat: Chat, cache: Cache
) -> list[tuple[Call, str]]:
    """Go through a file of results: every reply into the cache, also one that nobody waits for in this run, then to
    its call, which leaves `waiting`. The calls that another batch may answer, with what went wrong in this one."""
    again: list[tuple[Call, str]] = []
    for lines in chunks(content, CHUNK):
        replies: list[tuple[Call | None, bytes, Completion]] = []
        for line in lines:
            if (answered := result(line)) is None:
                continue
            call = waiting.pop(answered.key, None)
            try:
                request = call.request if call else Request([])
                replies.append((call, answered.key, completion(chat, answered, request)))
            except Unavailable as fault:
                if call:
                    again.append((call, str(fault)))
            except (RecordError, PmemError) as fault:
                if call:
                    call.fail(fault)
        puts = [
            cache.put(key, stored(reply), model=name, step=call.request.step if call else "")
            for call, key, reply in replies
        ]
        await asyncio.gather(*puts)
        for call, _, reply in replies:
            if call:
                call.answer(reply)
    return again
