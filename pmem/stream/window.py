"""Ordered bounded concurrency: many records in work at once, results in input order."""

import asyncio
import contextvars
import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import Any, Generic, TypeVar

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
    work: Callable[[In], Coroutine[Any, Any, Out]],
    window: int,
    before_waiting: Callable[[], None],
    *,
    weigh: Callable[[In], int] = lambda _item: 0,
    weigh_result: Callable[[Out], int] = lambda _result: 0,
    most_bytes: int | None = None,
) -> AsyncGenerator[Out, None]:
    """Run `work` on every item, at most `window` of them unfinished at once; yield the results in input order.

    A slow item holds up nothing but the output: others go on being worked on until their finished results weigh
    MOST_BYTES. weigh, weigh_result: bytes of an item in work and of its result; most_bytes: of items in work, if not
    MOST_BYTES. An exception of `work` is raised in its turn; a PmemError, which stops the run, as soon as any item has
    it and what is ready has been yielded.
    `before_waiting` is called whenever nothing is ready, for flushing.
    """
    begun = _Begun(work, window, weigh, weigh_result, most_bytes or MOST_BYTES)
    waiting: deque[In] = deque()
    fetch: asyncio.Task[list[In]] | None = None
    exhausted = False
    try:
        while True:
            while begun.next_is_done():
                yield begun.next_result()
            if begun.stopping:
                raise begun.stopping
            if fetch and fetch.done():
                batch = fetch.result()
                fetch = None
                exhausted = not batch
                waiting.extend(batch)
            while waiting and begun.has_room():
                begun.start(waiting.popleft())
            begun.more = bool(waiting)
            if not waiting and not exhausted and fetch is None:
                fetch = asyncio.ensure_future(_next(source))
                fetch.add_done_callback(begun.stir)
            if exhausted and not begun.tasks and not waiting:
                return
            if not begun.next_is_done():
                before_waiting()
                await begun.stirred(fetch)
    finally:
        left: list[asyncio.Task[Any]] = [*begun.tasks, *([fetch] if fetch else [])]
        for unfinished in left:
            unfinished.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class _Begun(Generic[In, Out]):
    """The items begun and not yet given out, as tasks in input order.

    more: whether items wait for room; stopping: the fault that stops the run.
    """

    def __init__(
        self,
        work: Callable[[In], Coroutine[Any, Any, Out]],
        window: int,
        weigh: Callable[[In], int],
        weigh_result: Callable[[Out], int],
        most_bytes: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._work, self._window, self._weigh, self._weigh_result = work, window, weigh, weigh_result
        self._most_bytes = most_bytes
        self.tasks: deque[asyncio.Task[Out]] = deque()
        self.more = False
        self.stopping: PmemError | None = None
        self._weights: dict[asyncio.Task[Out], int] = {}  # of the unfinished
        self._number = self._in_work = self._held = 0
        self._wake: asyncio.Future[None] = self._loop.create_future()

    def has_room(self) -> bool:
        """Whether another item may begin: one always may if none is unfinished."""
        few = len(self._weights) < self._window and self._in_work < self._most_bytes
        return (few or not self._weights) and self._held < MOST_BYTES

    def start(self, item: In) -> None:
        self._number += 1
        context = contextvars.copy_context()
        context.run(turn.set, self._number)
        task = self._loop.create_task(self._work(item), context=context)
        self._weights[task] = weight = self._weigh(item)
        self._in_work += weight
        self.tasks.append(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[Out]") -> None:
        self._in_work -= self._weights.pop(task)
        if task.cancelled():
            return
        fault = task.exception()
        if fault is None:
            self._held += self._weigh_result(task.result()) + TASK_BYTES
        elif isinstance(fault, PmemError):
            self.stopping = self.stopping or fault
        if self.more or self.stopping or (self.tasks and self.tasks[0] is task):
            self.stir()

    def next_is_done(self) -> bool:
        """Whether the oldest item's result can be given out."""
        return bool(self.tasks) and self.tasks[0].done()

    def next_result(self) -> Out:
        result = self.tasks.popleft().result()
        self._held -= self._weigh_result(result) + TASK_BYTES
        return result

    def stir(self, _: Any = None) -> None:
        """Something has changed that `stirred` may wait for."""
        if not self._wake.done():
            self._wake.set_result(None)

    async def stirred(self, fetch: "asyncio.Task[Any] | None") -> None:
        """Wait until there may be something to do; at once if there is something already."""
        self._wake = self._loop.create_future()
        if self.next_is_done() or self.stopping or (fetch and fetch.done()):
            return
        await self._wake


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
