"""A provider's files and batches, by way of the openai package, patiently: a batch runs for hours, and while it does
networks fail and servers restart."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar

from pmem.backends.base import Request, Unavailable
from pmem.backends.batch_lines import CHAT, Chat
from pmem.errors import BackendError, ModelError

if TYPE_CHECKING:
    import openai
    from openai.types import Batch

Answer = TypeVar("Answer")

ENDED = {"completed", "failed", "expired", "cancelled"}
HOUR = 3600.0
WINDOW: Literal["24h"] = "24h"
"""The one completion window that OpenAI has."""


@dataclass(frozen=True)
class Terms:
    """What a provider takes, and how it is asked.

    lines, size: most requests and bytes of a file (OpenAI's limits of 2026); quiet: seconds without a new call after
    which the waiting ones are sent; poll: seconds between two looks at a batch, at first and at most; tries: batches
    that a call may be in before its record fails; patience: seconds that a server which has answered may be out of
    reach; url: what the requests are for (Azure's has no version).
    """

    lines: int = 50_000
    size: int = 200_000_000
    quiet: float = 1.0
    poll: tuple[float, float] = (5.0, 60.0)
    tries: int = 3
    patience: float = HOUR
    url: str = CHAT


class Provider:
    """Where batches are sent. Errors: BackendError where the server refuses or stays out of reach."""

    def __init__(self, name: str, chat: Chat, terms: Terms) -> None:
        self._name, self._chat, self._terms = name, chat, terms
        self._sdk: openai.AsyncOpenAI = chat.sdk()
        self._reached = False

    @property
    def server(self) -> str:
        """The server's address."""
        return str(self._sdk.base_url)

    async def upload(self, file: IO[bytes]) -> str:
        """Send a file of requests; its id."""
        from openai.types import FileObject

        async def ask() -> FileObject:
            file.seek(0)
            return await self._sdk.files.create(file=("pmem.jsonl", file, "application/jsonl"), purpose="batch")

        return (await self._patiently(ask, FileObject)).id

    async def create(self, file: str) -> str:
        """Begin a batch on an uploaded file; its id. Where it isn't known whether the server has begun one, it is
        looked for before it is asked for again: one file never becomes two batches."""
        from openai.types import Batch

        sent = False
        client = self._sdk.with_options(max_retries=0)

        async def ask() -> Batch:
            nonlocal sent
            if sent and (found := await self._listed(file, time.time())):
                return found
            sent = True
            url: Any = self._terms.url
            return await client.batches.create(input_file_id=file, endpoint=url, completion_window=WINDOW)

        return (await self._patiently(ask, Batch)).id

    async def find(self, file: str, made: float) -> str | None:
        """The batch that was begun on a file at about that time (Unix seconds), if there is one."""
        from openai.types import Batch

        async def ask() -> Batch | None:
            return await self._listed(file, made)

        found = await self._patiently(ask, (Batch, type(None)))
        return found.id if found else None

    async def _listed(self, file: str, made: float) -> "Batch | None":
        async for batch in self._sdk.batches.list(limit=100):  # the newest first
            if batch.input_file_id == file:
                return batch
            if batch.created_at < made - HOUR:  # clocks differ
                break
        return None

    async def ended(self, id: str, note: Callable[[str], None]) -> "Batch | None":
        """Wait until a batch has ended; None if the server doesn't know it. `note` is told each change."""
        import openai
        from openai.types import Batch

        pause, longest = self._terms.poll
        told = ""

        async def ask() -> Batch | None:
            try:
                return await self._sdk.batches.retrieve(id)
            except openai.NotFoundError:
                return None

        while True:
            batch = await self._patiently(ask, (Batch, type(None)))
            if batch is None:
                return None
            if (now := _progress(batch)) != told:
                note(now)
                told = now
            if batch.status in ENDED:
                return batch
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, longest)

    async def content(self, file: str) -> bytes | None:
        """A file of results; None if the server doesn't have it any more."""
        import openai

        async def ask() -> bytes | None:
            try:
                return (await self._sdk.files.content(file)).content
            except openai.NotFoundError:
                return None

        return await self._patiently(ask, (bytes, type(None)))

    async def delete(self, file: str) -> None:
        """Remove a file that isn't needed any more, if the server lets us."""
        import contextlib

        import openai

        with contextlib.suppress(openai.APIError, ValueError):
            await self._sdk.files.delete(file)

    async def close(self) -> None:
        """Close the connections."""
        await self._sdk.close()

    # ---- faults -----------------------------------------------------------------------------------------------

    async def _patiently(self, ask: Callable[[], Awaitable[Answer]], kind: type | tuple[type, ...]) -> Answer:
        """Ask until there is an answer of that kind; BackendError if there can't be one, or not in time."""
        import openai

        pause, longest = self._terms.poll
        until: float | None = None
        while True:
            try:
                answer = await ask()
                if not isinstance(answer, kind):  # the package passes on whatever isn't JSON
                    raise Unavailable("the server's reply is not what the Batch API says")
                self._reached = True
                return answer
            except openai.APIStatusError as caught:
                fault = self._meaning(caught)
            except openai.APIError as caught:
                fault = Unavailable(f"no connection to {self.server}: {caught.__cause__ or caught}")
            except ValueError:
                fault = Unavailable(f"the reply of {self.server} is not JSON")
            except Unavailable as caught:
                fault = caught
            until = until or time.monotonic() + self._terms.patience
            if not self._reached or time.monotonic() > until:
                raise BackendError(f"{self._name}: {fault}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    def _meaning(self, caught: "openai.APIStatusError") -> Unavailable:
        """What an error's status means, raised unless another attempt may mend it."""
        status = caught.status_code
        if status in (404, 405, 501) and not self._reached:
            raise BackendError(
                f"{self._name}: {self.server} has no batches (it answers {status}); --batch-out writes a file for "
                "`vllm run-batch` instead"
            )
        fault = self._chat.refusal(status, caught.response.headers, caught.response.content, Request([]))
        if isinstance(fault, ModelError):
            raise BackendError(fault.message)
        if isinstance(fault, Unavailable):
            return fault
        raise fault


def _progress(batch: "Batch") -> str:
    counts = batch.request_counts
    done = f", {counts.completed + counts.failed:,} of {counts.total:,} done" if counts and counts.total else ""
    return batch.status.replace("_", " ") + done
