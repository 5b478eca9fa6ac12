"""The interface of every backend: a request in, a completion out.

A backend makes one attempt at one call. Caching, single flight, limits of rate and cost, new attempts after faults and
the checks of structured replies stand around it, once for all backends: `calls.py` and `model.py`.
"""

from typing import Any, NamedTuple, Protocol

import orjson

Message = dict[str, Any]  # {"role": "system" | "user" | "assistant", "content": str or content parts}


class Prefix(NamedTuple):
    """A history that many calls begin with, kept as it will be sent.

    raw: its messages as a JSON array's bytes, `[{"role":...},...]`; id: the history's id.
    """

    id: str
    raw: bytes


class Request(NamedTuple):
    """One call. `messages` follow those of `prefix`, where there is one.

    step: what kind of call it is, "stage/step", for statistics; raw: `messages` as a JSON array's bytes; key: the
    reply's key in the cache, 32 bytes that stand for all that determines it. Model fills in all three.
    """

    messages: list[Message]
    prefix: Prefix | None = None
    schema: dict[str, Any] | None = None  # JSON Schema that the reply must satisfy; None: free text
    seed: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    call: str = ""  # call id, "stage/record id/step/n": for recorded answers, logs and rejects
    step: str = ""
    raw: bytes = b""
    key: bytes = b""
    thinking: bool | None = None  # whether to reason first; None: the model's own choice
    shared: str | None = None  # without a prefix: a name for what the first message begins with as in other calls

    @property
    def beginning(self) -> str | None:
        """A name for what the request begins with as others do: they are best computed together, by one server."""
        return self.prefix.id if self.prefix else self.shared

    @property
    def size(self) -> int:
        """Bytes of all its messages."""
        return len(self.raw) + (len(self.prefix.raw) if self.prefix else 0)


class Usage(NamedTuple):
    """Tokens of one call, as the backend counts them; `cached` is part of `prompt`, `reasoning` of `completion`."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0


PLANNED = "planned"
"""How a reply ends that was made up for a plan."""


class Completion(NamedTuple):
    """What the model said. `finish`: "stop", "length", "refusal" or what the server named; PLANNED: nobody said it."""

    text: str
    usage: Usage = Usage()
    finish: str = "stop"


def stored(reply: Completion) -> bytes:
    """A completion as the cache keeps it."""
    return orjson.dumps([reply.text, [*reply.usage], reply.finish])


def unstored(value: bytes) -> Completion:
    """A completion from the cache."""
    text, usage, finish = orjson.loads(value)
    return Completion(text, Usage(*usage), finish)


class Likelihood(NamedTuple):
    """Log-likelihood of one continuation: natural log, summed over its tokens, and how many they are."""

    logprob: float
    tokens: int


class Unavailable(Exception):
    """An attempt failed in a way that another may not.

    wait: seconds that the server asked to wait; busy: it turned the call away for now, since there are too many;
    reached: whether what answered is known to be a model server (a wrong address is not worth many attempts);
    adapted: the next attempt has another form, so that this one doesn't count.
    """

    adapted = False

    def __init__(self, why: str, *, wait: float | None = None, busy: bool = False, reached: bool = True) -> None:
        super().__init__(why)
        self.wait, self.busy, self.reached = wait, busy, reached


class Backend(Protocol):
    """A model. Errors: Unavailable for this attempt only, ModelError for this call, BackendError for every call."""

    cacheable: bool
    """Whether replies go through the response cache."""

    def identify(self) -> dict[str, Any]:
        """What of the backend determines a reply (kind, model name, a local directory's fingerprint): part of the
        cache key, never of any output; no credentials."""
        ...

    async def complete(self, request: Request) -> Completion:
        """Answer one request."""
        ...

    async def likelihood(self, request: Request, texts: list[str]) -> list[Likelihood]:
        """Log-likelihood of each text as the assistant's whole reply to `request.messages`."""
        ...

    async def close(self) -> None:
        """Release connections, threads, memory."""
        ...
