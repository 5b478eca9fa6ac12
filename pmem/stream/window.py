"""Ordered bounded concurrency: many records in work at once, results in input order."""

import asyncio
import contextvars
import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar

from pmem.errors import PmemError
from pmem.turns import turn

In = TypeVar("In")
Out = TypeVar("Out")

MOST_BYTES = 64 << 20
"""Bytes of records in work, and again of results that wait for an older one: what bounds a run's memory."""
TASK_BYTES = 2048
"""What a result takes beside its own bytes."""


async def in_order(
    source: AsyncIterator[list[In]],
    work: Callable[[In], Awaitable[Out]],
    window: int,
    before_waiting: Callable[[], None],
    *,
    weigh: Callable[[In], int] = lambda _item: 0,
    weigh_result: Callable[[Out], int] = lambda _result: 0,
) -> AsyncGenerator[Out, None]:
    """Run `work` on every item, at most `window` of them unfinished at once; yield the results in input order.

    A slow item holds up nothing but the output: others go on being worked on until their finished results weigh
    MOST_BYTES. weigh, weigh_result: bytes of an item in work and of its result. An exception of `work` is raised in its
    turn; a PmemError, which stops the run, as soon as any item has it and what is ready has been yielded.
    `before_waiting` is called whenever nothing is ready, for flushing.
    """
    loop = asyncio.get_running_loop()
    tasks: deque[asyncio.Task[Out]] = deque()  # in input order
    weights: dict[asyncio.Task[Out], int] = {}  # of the unfinished
    waiting: deque[In] = deque()
    fetch: asyncio.Task[list[In]] | None = None
    exhausted = False
    number = in_work = held = 0
    wake = loop.create_future()
    stopping: list[PmemError] = []

    def stir() -> None:
        if not wake.done():
            wake.set_result(None)

    def finished(task: "asyncio.Task[Out]") -> None:
        nonlocal in_work, held
        in_work -= weights.pop(task)
        if task.cancelled():
            return
        if (fault := task.exception()) is None:
            held += weigh_result(task.result()) + TASK_BYTES
        elif isinstance(fault, PmemError):
            stopping.append(fault)
        if waiting or stopping or (tasks and tasks[0] is task):
            stir()

    try:
        while True:
            while tasks and tasks[0].done():
                done = tasks.popleft()
                result = done.result()
                held -= weigh_result(result) + TASK_BYTES
                yield result
            if stopping:
                raise stopping[0]
            if fetch and fetch.done():
                batch = fetch.result()
                fetch = None
                exhausted = not batch
                waiting.extend(batch)
            while waiting and len(weights) < window and held < MOST_BYTES and (in_work < MOST_BYTES or not weights):
                item = waiting.popleft()
                number += 1
                context = contextvars.copy_context()
                context.run(turn.set, number)
                task = loop.create_task(_run(work, item), context=context)
                tasks.append(task)
                weights[task] = weigh(item)
                in_work += weights[task]
                task.add_done_callback(finished)
            if not waiting and not exhausted and fetch is None:
                fetch = loop.create_task(_next(source))
                fetch.add_done_callback(lambda _: stir())
            if exhausted and not tasks and not waiting:
                return
            if not (tasks and tasks[0].done()):
                before_waiting()
                wake = loop.create_future()
                if (tasks and tasks[0].done()) or (fetch and fetch.done()) or stopping:
                    continue
                await wake
    finally:
        left: list[asyncio.Task[Any]] = list(tasks)
        left += [fetch] if fetch else []
        for unfinished in left:
            unfinished.cancel()
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
