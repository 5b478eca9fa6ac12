"""The interface of every backend: a request in, a completion out.

A backend does one attempt at one call as well as it can (its own transport retries included). Caching, single flight,
the limit of calls in flight, validation of structured replies and their retries stand around it, once for all
backends, in `model.py`.
"""

from typing import Any, NamedTuple, Protocol

Message = dict[str, Any]  # {"role": "system" | "user" | "assistant", "content": str or content parts}


class Prefix(NamedTuple):
    """A history that many calls begin with, kept as it will be sent.

    raw: its messages as a JSON array's bytes, `[{"role":...},...]`; id: the history's id.
    """

    id: str
    raw: bytes


class Request(NamedTuple):
    """One call. `messages` follow those of `prefix`, where there is one."""

    messages: list[Message]
    prefix: Prefix | None = None
    schema: dict[str, Any] | None = None  # JSON Schema that the reply must satisfy; None: free text
    seed: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    call: str = ""  # call id, "stage/record id/step/n": for recorded answers, logs and rejects


class Usage(NamedTuple):
    """Tokens of one call, as the backend counts them."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0


class Completion(NamedTuple):
    """What the model said. `finish`: "stop", "length", "refusal" or what the server named."""

    text: str
    usage: Usage = Usage()
    finish: str = "stop"


class Likelihood(NamedTuple):
    """Log-likelihood of one continuation: natural log, summed over its tokens, and how many they are."""

    logprob: float
    tokens: int


class Backend(Protocol):
    """A model. Errors: ModelError for this call only, BackendError when no call can succeed."""

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
