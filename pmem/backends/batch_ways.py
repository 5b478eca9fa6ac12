"""How calls are made that are not made one by one: in batches (`--batch`), or by way of files (`--batch-out/-in`)."""

from collections.abc import Callable
from typing import Any

from pmem.backends.base import Backend
from pmem.backends.batch_lines import CHAT
from pmem.backends.batch_offline import AnsweredBackend, CallFile, PutOffBackend, Replies
from pmem.backends.cache import Cache
from pmem.backends.calls import Limits

CALLS = 100_000
"""In flight at once in batches: two full files."""
LONGEST_POLL = 60.0


class Ways:
    """Of all models of a run.

    batch, poll: whether calls go in batches, and the seconds between two looks at one, at first; out: the name of the
    file of calls; write: takes a line of it; replies: files of replies; say: tells the user something while it runs.
    used: whether this applies to any model.
    """

    def __init__(
        self,
        *,
        batch: bool,
        poll: float,
        out: str | None,
        replies: tuple[str, ...],
        write: Callable[[bytes], None],
        say: Callable[[str], None],
    ) -> None:
        self.used = False
        self._batch, self._poll, self._out, self._say = batch, poll, out, say
        self._calls = CallFile(write)
        self._replies = Replies(replies) if replies else None

    def around(self, name: str, chat: Any, cache: Cache, limits: Limits) -> tuple[Backend, Limits]:
        """A model's backend, and what holds its calls back."""
        self.used = True
        backend: Backend = chat
        url = CHAT if name.startswith("openai:") else CHAT.removeprefix("/v1")
        if self._batch:
            from pmem.backends.batch import BatchBackend
            from pmem.backends.batch_provider import Terms

            quiet = min(Terms.quiet, self._poll)  # whoever looks often is in a hurry
            terms = Terms(url=url, poll=(self._poll, max(self._poll, LONGEST_POLL)), quiet=quiet)
            backend = BatchBackend(name, chat, cache, terms=terms, say=self._say)
            limits = limits._replace(jobs=CALLS, rpm=None, tpm=None)
        elif self._out:
            backend = PutOffBackend(chat, self._calls, url)
            limits = limits._replace(rpm=None, tpm=None, budget=None)
        if self._replies:
            self._replies.unless(cache.get)
            backend = AnsweredBackend(chat, self._replies, backend)
        return backend, limits

    def found(self) -> list[str]:
        """What stands in the files of replies, as a line for people."""
        return [f"--batch-in: {self._replies.found()}"] if self._replies else []

    def note(self) -> str:
        """For the summary line: replies that came to nothing, calls that are left and what to do with them."""
        parts = [self._replies.unused() if self._replies else ""]
        if left := len(self._calls):
            file = self._out
            parts.append(
                f"{left:,} calls in {file}: have them answered (vllm run-batch -i {file} -o REPLIES --model NAME), "
                "then run this again with --batch-in REPLIES"
            )
        return "; ".join(part for part in parts if part)
