"""Ordered bounded concurrency: many records in work at once, results in input order."""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar

from pmem.errors import PmemError

In = TypeVar("In")
Out = TypeVar("Out")


async def in_order(
    source: AsyncIterator[list[In]],
    work: Callable[[In], Awaitable[Out]],
    window: int,
    before_waiting: Callable[[], None],
) -> AsyncGenerator[tuple[In, "asyncio.Task[Out]"], None]:
    """Run `work` on every item, at most `window` between the oldest unfinished and the newest; yield in input order.

    The tasks that come out are done; their result or exception is the caller's. A PmemError (which stops the run)
    is raised as soon as any task has it, whatever is unfinished before it. `before_waiting` is called whenever
    nothing is ready, for flushing.
    """
    loop = asyncio.get_running_loop()
    pending: deque[tuple[In, asyncio.Task[Out]]] = deque()
    waiting: deque[In] = deque()
    fetch: asyncio.Task[list[In]] | None = None
    exhausted = False
    wake = loop.create_future()
    stopping: list[PmemError] = []

    def ready(task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and isinstance(fault := task.exception(), PmemError):
            stopping.append(fault)
        head = pending and pending[0][1] is task
        if (head or task is fetch or stopping) and not wake.done():
            wake.set_result(None)

    try:
        while True:
            while pending and pending[0][1].done() and not stopping:
                yield pending.popleft()
            if stopping:
                raise stopping[0]
            if fetch and fetch.done():
                batch = fetch.result()
                fetch = None
                exhausted = not batch
                waiting.extend(batch)
            while waiting and len(pending) < window:
                item = waiting.popleft()
                task = loop.create_task(_run(work, item))
                pending.append((item, task))
                task.add_done_callback(ready)
            if not waiting and not exhausted and fetch is None:
                fetch = loop.create_task(_next(source))
                fetch.add_done_callback(ready)
            if exhausted and not pending and not waiting:
                return
            if not (pending and pending[0][1].done()):
                before_waiting()
                wake = loop.create_future()
                if (pending and pending[0][1].done()) or (fetch and fetch.done()) or stopping:
                    continue
                await wake
    finally:
        left: list[asyncio.Task[Any]] = [task for _, task in pending]
        left += [fetch] if fetch else []
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _run(work: Callable[[In], Awaitable[Out]], item: In) -> Out:
    return await work(item)


async def _next(source: AsyncIterator[list[In]]) -> list[In]:
    async for batch in source:
        if batch:
            return batch
    return []


async def from_thread(batches: Iterable[Out]) -> AsyncIterator[Out]:
    """Iterate in a thread of its own, one batch ahead: a read that waits for another program holds up no call.

    The thread is a daemon: it may sit in a read for ever without keeping the process from ending.
    """
    loop = asyncio.get_running_loop()
    wanted: queue.SimpleQueue[asyncio.Future[Any]] = queue.SimpleQueue()
    end = object()

    def answer(future: "asyncio.Future[Any]", value: Any, fault: BaseException | None) -> None:
        if not future.done():
            if fault:
                future.set_exception(fault)
            else:
                future.set_result(value)

    def read(iterator: Iterator[Out]) -> None:
        while True:
            future = wanted.get()
            value: Any = end
            fault: BaseException | None = None
            try:
                value = next(iterator, end)
            except BaseException as caught:
                fault = caught
            try:
                loop.call_soon_threadsafe(answer, future, value, fault)
            except RuntimeError:  # the loop has ended meanwhile
                return
            if fault or value is end:
                return

    threading.Thread(target=read, args=(iter(batches),), daemon=True, name="reader").start()
    while True:
        future = loop.create_future()
        wanted.put(future)
        if (value := await future) is end:
            return
        yield value


async def directly(batches: Iterable[Out]) -> AsyncIterator[Out]:
    """Iterate in the loop itself: regular files don't block."""
    for batch in batches:
        yield batch
