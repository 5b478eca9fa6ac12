"""`--batch`: calls gathered into files for the provider's Batch API, at half the price and within a day.

Calls wait until no more come for a moment, then go out together. What is on its way stands in the cache before
anybody waits for it: the uploaded file's id before a batch is begun on it, the batch's id after that. So whenever the
process ends, the same command finds its batches, and what the provider has accepted once is never sent again; the
replies of a batch are in the cache before it counts as done.
"""

import asyncio
import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import click

from pmem.backends.base import Completion, Likelihood, Request, unstored
from pmem.backends.batch_files import Call, delivered, written
from pmem.backends.batch_lines import Chat
from pmem.backends.batch_provider import Provider, Terms
from pmem.backends.cache import Cache
from pmem.errors import BackendError, ModelError

if TYPE_CHECKING:
    from openai.types import Batch as Sent

UPLOADED = "uploaded:"
"""Before the id of a file: the batch that is to be begun on it may have been begun or not."""
QUEUE_FULL = "token_limit_exceeded"
TICKS = 4
"""Looks in a quiet period: one that a busy loop delays counts once only."""
GRACE = 10.0
"""Seconds that replies which are just arriving have at the end of a run."""


@dataclass(eq=False, slots=True)
class _Running:
    """A batch at the provider, the calls that wait for it, and the task that follows it."""

    calls: dict[bytes, Call]
    task: "asyncio.Task[None] | None" = None
    arriving: bool = False  # its replies are on their way into the cache


def _echo(text: str) -> None:
    click.echo(f"pmem: {text}", err=True)


class BatchBackend:
    """The calls of another backend, in batches.

    name: the model's, `openai:NAME`; cache: where replies and what is on its way are kept; say: where progress is told,
    a line at a time.

    Errors of a call: ModelError (refused, or without a reply in `terms.tries` batches), BackendError (the provider
    refuses a whole batch, or has none).
    """

    cacheable = True

    def __init__(
        self,
        name: str,
        chat: Chat,
        cache: Cache,
        *,
        terms: Terms | None = None,
        say: Callable[[str], None] = _echo,
    ) -> None:
        self.name = name
        self._chat, self._cache, self._say = chat, cache, say
        self._terms = terms or Terms()
        self._lines = self._terms.lines
        self._in_turn = False  # one batch after the other
        self._provider: Provider | None = None
        self._waiting: deque[Call] = deque()
        self._arrivals = 0
        self._gatherer: asyncio.Task[None] | None = None
        self._running: dict[str, _Running] = {}
        self._unknown: set[str] = set()  # batches that the server knows no more
        self._fault: Exception | None = None

    def identify(self) -> dict[str, Any]:
        """As of the other backend: a reply is the same, whichever way it came."""
        return self._chat.identify()

    async def complete(self, request: Request) -> Completion:
        """Wait for a reply; `request.key` names it."""
        call = Call(request, asyncio.get_running_loop().create_future())
        self._wait(call)
        return await call.reply

    async def likelihood(self, request: Request, texts: list[str]) -> list[Likelihood]:
        """As of the other backend."""
        return await self._chat.likelihood(request, texts)

    async def close(self) -> None:
        """Stop waiting. Batches go on at the provider; where replies are just arriving, they are stored first."""
        arriving = [running.task for running in self._running.values() if running.task and running.arriving]
        if arriving:
            await asyncio.wait(arriving, timeout=GRACE)
        if left := list(self._running):
            self._say_left(left)
        tasks = [running.task for running in self._running.values()] + [self._gatherer]
        for task in tasks:
            if task:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task), return_exceptions=True)
        if self._provider:
            self._end_stored(self._provider.server)
            await self._provider.close()
        await self._chat.close()

    def _say_left(self, ids: list[str]) -> None:
        shown = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
        what = "batch goes" if len(ids) == 1 else "batches go"
        self._say(f"{self.name}: {len(ids)} {what} on at the provider ({shown}); the same command again waits for it")

    def _end_stored(self, server: str) -> None:
        """End batches of former runs that ended with all replies stored but this last step undone."""
        for batch in self._cache.batches(server, self.name):
            if batch.id not in self._running and all(self._cache.get(key) is not None for key in batch.keys):
                self._cache.end_batch(batch.id)

    # ---- gathering --------------------------------------------------------------------------------------------

    def _wait(self, call: Call) -> None:
        if self._fault:
            call.fail(self._fault)
            return
        self._waiting.append(call)
        self._arrivals += 1
        if self._gatherer is None or self._gatherer.done():
            self._gatherer = asyncio.get_running_loop().create_task(self._gather())

    def _again(self, call: Call, why: str) -> None:
        """Put a call into another batch, if it may have one."""
        call.tries += 1
        if call.tries < self._terms.tries:
            self._wait(call)
        else:
            tried = f"(tried in {call.tries} batches)"
            call.fail(ModelError(f"{self.name}: {why} {tried}", call=call.request.call))

    async def _gather(self) -> None:
        calls: list[Call] = []
        try:
            while self._waiting:
                await self._quiet()
                calls, self._waiting = list(self._waiting), deque()
                await self._send([call for call in calls if not call.reply.done()])
        except Exception as fault:
            self._fail(calls, fault)

    async def _quiet(self) -> None:
        """Wait until no calls have come for a moment and no replies are arriving (which may bring further calls), or
        until there are enough for a file."""
        still = 0
        while still < TICKS and len(self._waiting) < self._lines:
            before = self._arrivals
            await asyncio.sleep(self._terms.quiet / TICKS)
            moving = before != self._arrivals or any(running.arriving for running in self._running.values())
            still = 0 if moving else still + 1

    def _fail(self, calls: Iterable[Call], fault: Exception) -> None:
        """No batch can succeed: fail these calls, those that wait, and any to come."""
        self._fault = fault
        for call in [*calls, *self._waiting]:
            call.fail(fault)
        self._waiting.clear()

    # ---- sending ----------------------------------------------------------------------------------------------

    async def _send(self, calls: list[Call]) -> None:
        if self._provider is None:
            self._provider = Provider(self.name, self._chat, self._terms)
        provider = self._provider
        left = deque(await self._unsent(provider, calls))
        while left:
            if self._in_turn and self._running:
                await asyncio.wait([running.task for running in self._running.values() if running.task])
            with tempfile.TemporaryFile() as file:
                taken = await written(
                    file,
                    left,
                    name=self.name,
                    chat=self._chat,
                    lines=self._lines,
                    size=self._terms.size,
                    url=self._terms.url,
                )
                if taken:
                    self._follow(provider, await self._begun(provider, file, list(taken)), taken)

    async def _unsent(self, provider: Provider, calls: list[Call]) -> list[Call]:
        """Those of the calls that no batch carries, of this run or of one before it, and that no other process has
        stored meanwhile; the others are seen to."""
        left: dict[bytes, Call] = {}
        for call in calls:
            if (value := self._cache.get(call.request.key)) is not None:
                call.answer(unstored(value))
            else:
                left[call.request.key] = call
        for batch in self._cache.batches(provider.server, self.name):
            if batch.id in self._unknown:
                continue
            carried = {key: left.pop(key) for key in batch.keys if key in left}
            id: str | None = batch.id
            if carried and batch.id.startswith(UPLOADED):
                file = batch.id.removeprefix(UPLOADED)
                id = await provider.find(file, batch.made)
                if id is None:
                    await provider.delete(file)
                else:
                    self._cache.add_batch(id, server=provider.server, model=self.name, keys=batch.keys)
                self._cache.end_batch(batch.id)
            if id is None:
                left |= carried
            elif carried:
                self._follow(provider, id, carried)
        return list(left.values())

    async def _begun(self, provider: Provider, file: IO[bytes], keys: list[bytes]) -> str:
        """Upload a file and begin a batch on it; its id, once that is in the cache."""
        uploaded = await provider.upload(file)
        self._cache.add_batch(UPLOADED + uploaded, server=provider.server, model=self.name, keys=keys)
        id = await provider.create(uploaded)
        self._cache.add_batch(id, server=provider.server, model=self.name, keys=keys)
        self._cache.end_batch(UPLOADED + uploaded)
        return id

    # ---- receiving --------------------------------------------------------------------------------------------

    def _follow(self, provider: Provider, id: str, calls: dict[bytes, Call]) -> None:
        if (running := self._running.get(id)) is not None and not running.arriving:
            running.calls |= calls
            return
        running = self._running[id] = _Running(calls)
        running.task = asyncio.get_running_loop().create_task(self._followed(provider, id, running))

    async def _followed(self, provider: Provider, id: str, running: _Running) -> None:
        calls = running.calls
        try:
            batch = await provider.ended(id, lambda now: self._say(f"{self.name}: batch {id}: {now}"))
            if batch is None:
                self._forgotten(id, calls)
                return
            if batch.status == "failed":
                await self._failed(batch, calls)
            else:
                running.arriving = True
                await self._receive(provider, batch, calls)
            await provider.delete(batch.input_file_id)
        except Exception as fault:
            self._fail(calls.values(), fault)
        finally:
            if self._running.get(id) is running:
                del self._running[id]

    def _forgotten(self, id: str, calls: dict[bytes, Call]) -> None:
        """A batch that isn't there. It stays in the cache till its calls have replies: with the key that it was begun
        with it may be found again."""
        self._say(
            f"{self.name}: the server knows no batch {id} (with this key); its {len(calls):,} calls are made anew"
        )
        self._unknown.add(id)
        for call in calls.values():
            self._again(call, f"the server knows no batch {id}")

    async def _failed(self, batch: "Sent", calls: dict[bytes, Call]) -> None:
        """A batch that was refused as a whole; where the provider's queue was full, it is sent again in parts."""
        self._cache.end_batch(batch.id)
        errors = (batch.errors.data if batch.errors else None) or []
        if not any(error.code == QUEUE_FULL for error in errors):
            said = [f"{error.message}{f' (line {error.line})' if error.line else ''}" for error in errors]
            raise BackendError(f"{self.name}: batch {batch.id} failed: {'; '.join(said[:3]) or 'no reason given'}")
        alone = len(self._running) == 1
        self._in_turn = True
        if alone:
            self._lines = max(1, len(calls) // 2)
        self._say(f"{self.name}: the provider's queue is full; batches of up to {self._lines:,} calls go one by one")
        if not (alone and len(calls) == 1):
            for call in calls.values():
                self._wait(call)
            return
        await asyncio.sleep(self._terms.poll[1])  # others have filled the queue
        for call in calls.values():
            self._again(call, str(errors[0].message))

    async def _receive(self, provider: Provider, batch: "Sent", calls: dict[bytes, Call]) -> None:
        """Store and deliver what a batch brought, then see to the calls that it brought nothing for."""
        again: list[tuple[Call, str]] = []
        missing = dict(calls)
        for file in filter(None, (batch.output_file_id, batch.error_file_id)):
            content = await provider.content(file) or b""
            again += await delivered(content, missing, name=self.name, chat=self._chat, cache=self._cache)
        self._cache.end_batch(batch.id)
        for key, call in missing.items():
            if (value := self._cache.get(key)) is not None:  # another process was faster
                call.answer(unstored(value))
            else:
                again.append((call, f"batch {batch.id} ({batch.status}) has no result for this call"))
        again = [(call, why) for call, why in again if not call.reply.done()]
        if again and batch.status == "cancelled":
            raise BackendError(
                f"{self.name}: batch {batch.id} was cancelled at the provider; the same command again makes its "
                f"{len(again):,} unanswered calls anew"
            )
        for call, why in again:
            self._again(call, why)
