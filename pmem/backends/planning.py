"""A run without calls (`--plan`): replies are made up, and what they would have taken is noted.

Replies in the cache are used as they are, so that what follows from them is planned exactly. Nothing is written.
"""

from collections.abc import Awaitable, Callable
from statistics import fmean
from typing import Any, NamedTuple

import orjson

from pmem import tokens
from pmem.backends.base import PLANNED, Backend, Completion, Likelihood, Request, Usage
from pmem.backends.cache import Cache
from pmem.backends.calls import TOKENS_PER_BYTE, Asked, Calls, Limits, Said
from pmem.backends.made_up import Shape, assumed, made_up, shape_of
from pmem.backends.plan import Plan
from pmem.backends.replies import decoded
from pmem.backends.usage import Tally


class Sizes:
    """Tokens of texts and prompts, before anybody has been asked: by o200k_base for the models that have it
    (`exact`), else a quarter of the bytes. Images are not counted."""

    def __init__(self, *, exact: bool) -> None:
        self._exact = exact
        self._prefixes: dict[str, float] = {}  # a history's tokens by its id: many questions share it

    def text(self, text: str) -> float:
        """Tokens of a text."""
        return tokens.count(text) if self._exact else len(text.encode()) * TOKENS_PER_BYTE

    def prompt(self, request: Request) -> float:
        """Tokens of a request's messages and its prefix."""
        size = self._messages(request.messages)
        if prefix := request.prefix:
            if prefix.id not in self._prefixes:
                self._prefixes[prefix.id] = self._messages(orjson.loads(prefix.raw))
            size += self._prefixes[prefix.id]
        return size

    def _messages(self, messages: list[dict[str, Any]]) -> float:
        return sum(self.text(tokens.text_of(message["content"])) + tokens.MESSAGE_OVERHEAD for message in messages)


class _Earlier(NamedTuple):
    """Earlier replies of a step: how many, what they look like, tokens per character of them (None: the server doesn't
    tell) and tokens of the reasoning before each."""

    replies: int
    shape: Shape
    rate: float | None
    reasoning: float


class PlanningBackend:
    """Stands in for a model. `real` determines the cache's keys, and is asked for nothing else.

    cacheable: whether the run would keep replies; cache: the file's, if it is there already.
    """

    def __init__(self, real: Backend, name: str, sizes: Sizes, *, cacheable: bool, cache: Cache | None) -> None:
        self.real, self.name, self.sizes = real, name, sizes
        self.cacheable, self._cache = cacheable, cache
        self._assumed = assumed()
        self._earlier: dict[str, _Earlier] = {}

    def identify(self) -> dict[str, Any]:
        """The real one's."""
        return self.real.identify()

    async def complete(self, request: Request) -> Completion:
        """A reply that nobody gave, as long as earlier ones to calls of its step or, without any, as assumed."""
        earlier = self.earlier(request)
        text = made_up(request.schema, self._shape(request, earlier), name=_name(request), seed=request.key)
        size = self.sizes.text(text) if earlier.rate is None else earlier.reasoning + earlier.rate * len(text)
        size = min(size, request.max_tokens or size)
        return Completion(text, Usage(completion=round(size)), PLANNED)

    def earlier(self, request: Request) -> _Earlier:
        """The replies in the cache to calls of the request's step."""
        if request.step not in self._earlier:
            self._earlier[request.step] = self._looked_up(request)
        return self._earlier[request.step]

    def _looked_up(self, request: Request) -> _Earlier:
        found = self._cache.earlier(self.name, request.step) if self._cache else []
        pairs = [(value, reply.usage) for reply in found if (value := _value(reply.text, request.schema))]
        told = [(len(_compact(value)), usage) for value, usage in pairs if usage.completion]
        rate = None
        if told:
            rate = sum(usage.completion - usage.reasoning for _, usage in told) / sum(size for size, _ in told)
        reasoning = fmean(usage.reasoning for _, usage in told) if told else 0.0
        return _Earlier(len(pairs), shape_of((value for value, _ in pairs), _name(request)), rate, reasoning)

    def _shape(self, request: Request, earlier: _Earlier) -> Shape:
        otherwise = self._assumed.get(request.schema["title"] if request.schema else _name(request), Shape({}, {}))
        return Shape(otherwise.texts | earlier.shape.texts, otherwise.lists | earlier.shape.lists)

    async def likelihood(self, request: Request, texts: list[str]) -> list[Likelihood]:
        """As if all texts were equally likely."""
        return [Likelihood(0.0, 1) for _ in texts]

    async def close(self) -> None:
        """Release the real one."""
        await self.real.close()


class PlannedCalls(Calls):
    """Notes calls in a plan instead of making them."""

    def __init__(self, plan: Plan, backend: PlanningBackend) -> None:
        super().__init__(Tally(plan.name, plan.role, plan.price), None, Limits())
        self._plan, self._backend = plan, backend
        self._made: set[bytes] = set()  # begins of keys: a second call like one before would find its reply stored

    def found(self, request: Request, value: bytes | None) -> None:
        """It needs no call; the reply tells how many tokens the prompt had."""
        self._plan.step(request.step).known += 1
        told = decoded(value).usage.prompt if value else 0
        if told:
            self._plan.calibrate(counted=self._backend.sizes.prompt(request), told=told)

    async def make(self, request: Request, ask: Callable[[], Awaitable[Asked[Said]]]) -> Said:
        """The made-up reply, noted as a call unless the same has been."""
        said, _, usage = await ask()
        short = request.key[:8]
        if self._backend.cacheable and short in self._made:
            self.found(request, None)
            return said
        self._made.add(short)
        self._plan.call(
            request.step,
            prompt=self._backend.sizes.prompt(request),
            completion=usage.completion,
            earlier=self._backend.earlier(request).replies,
        )
        return said


def _name(request: Request) -> str:
    """What a free text is called in shapes: "mcq" for the step "eval/mcq-full-32k"."""
    return request.step.partition("/")[2].partition("-")[0]


def _value(text: str | None, schema: dict[str, Any] | None) -> Any:
    """A stored reply as JSON or, without a schema, as it is; None if it is no such thing."""
    if schema is None or text is None:
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _compact(value: Any) -> str:
    """A reply without the spaces that a model may put into its JSON: as long as made-up ones are."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
