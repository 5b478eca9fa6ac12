"""A model as stages see it: a backend with the cache, single flight, the limit of calls, and checked replies."""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from pmem import check
from pmem.backends.base import Backend, Completion, Likelihood, Message, Prefix, Request, Usage
from pmem.backends.cache import Cache
from pmem.draws import canonical, seed_for
from pmem.errors import ModelError

RETRIES = 3
"""How often an invalid reply is asked for again."""


class Invalid(Exception):
    """Raised by a stage's own check of a parsed reply, with the reason."""


class _Abandoned(Exception):
    """The call that others wait for was cancelled: one of them must ask anew."""


class NoValidReply(ModelError):
    """The model answered every time, and no answer was valid."""


class Reply(NamedTuple):
    """A reply that passed its checks. `parsed` is the JSON value where a schema was given."""

    text: str
    parsed: Any
    usage: Usage


class Model:
    """`await model.chat(...)` and `await model.likelihood(...)`, at most `jobs` calls in flight."""

    def __init__(
        self,
        name: str,
        backend: Backend,
        *,
        jobs: int,
        cache: Cache | None,
        seed: int = 0,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> None:
        self.name = name
        self.backend = backend
        self.cache = cache if backend.cacheable else None
        self.seed = seed
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.calls = self.hits = self.invalid = 0
        self.usage = Usage()
        self._places = asyncio.Semaphore(jobs)
        self._in_flight: dict[bytes, asyncio.Future[bytes]] = {}
        self._prefixes: dict[str, Any] = {}
        self._valid: dict[int, tuple[Any, Callable[[Any], bool]]] = {}

    async def chat(
        self,
        messages: list[Message],
        *,
        call: str,
        n: int = 0,
        prefix: Prefix | None = None,
        schema: dict[str, Any] | None = None,
        accept: Callable[[Any], None] | None = None,
    ) -> Reply:
        """One reply.

        call: "stage/record/step", to which the sample number `n` is added; schema: JSON Schema of the reply, checked;
        accept: the stage's own check of the parsed reply (of the text, without a schema), raising Invalid. An invalid
        reply is asked for again up to RETRIES times, then ModelError says what was wrong with it.
        """
        why = ""
        for attempt in range(RETRIES + 1):
            request = Request(
                messages,
                prefix,
                schema,
                seed=seed_for(self.seed, "", f"sample {n}.{attempt}") >> 32,  # servers take 31 bits
                max_tokens=self.max_tokens,
                temperature=self.temperature,
                call=f"{call}/{n}" + (f".{attempt}" if attempt else ""),
            )
            try:
                completion = await self._completion(request, call, n, attempt)
            except ModelError as fault:  # a new one: identical calls in flight share the fault, not the call's id
                before = f" (the reply before it was invalid: {why})" if why else ""
                raise ModelError(fault.message + before, call=request.call, reason=fault.reason) from None
            try:
                return Reply(completion.text, self._parsed(completion, schema, accept), completion.usage)
            except Invalid as fault:
                why = str(fault)
                self.invalid += 1
        raise NoValidReply(f"{self.name}: no valid reply in {RETRIES + 1} attempts: {why}", call=f"{call}/{n}")

    async def likelihood(
        self, messages: list[Message], texts: list[str], *, call: str, prefix: Prefix | None = None
    ) -> list[Likelihood]:
        """Log-likelihood of each text as the whole reply to `messages` (BackendError where a backend can't)."""
        request = Request(messages, prefix, call=call)
        key = self._key(request, 0, 0, likelihood=texts)

        async def ask() -> bytes:
            return orjson.dumps([list(one) for one in await self.backend.likelihood(request, texts)])

        return [Likelihood(*pair) for pair in orjson.loads(await self._once(key, call, ask))]

    async def _completion(self, request: Request, call: str, n: int, attempt: int) -> Completion:
        async def ask() -> bytes:
            completion = await self.backend.complete(request)
            self.usage = Usage(*map(sum, zip(self.usage, completion.usage, strict=True)))
            return orjson.dumps([completion.text, list(completion.usage), completion.finish])

        text, usage, finish = orjson.loads(await self._once(self._key(request, n, attempt), call, ask))
        return Completion(text, Usage(*usage), finish)

    async def _once(self, key: bytes, call: str, ask: Callable[[], Any]) -> bytes:
        """The value for a key: from the cache, from an identical call in flight, or by asking."""
        if self.cache and (stored := self.cache.get(key)) is not None:
            self.hits += 1
            return stored
        if (running := self._in_flight.get(key)) is not None:
            self.hits += 1
            with contextlib.suppress(_Abandoned):
                return await asyncio.shield(running)
            return await self._once(key, call, ask)
        running = self._in_flight[key] = asyncio.get_running_loop().create_future()
        try:
            async with self._places:
                self.calls += 1
                value: bytes = await ask()
                if self.cache:  # the place is kept till then: what a crash may lose is at most what was in flight
                    await self.cache.put(key, value, model=self.name, step=_step_of(call))
            running.set_result(value)
            return value
        except BaseException as fault:
            running.set_exception(_Abandoned() if isinstance(fault, asyncio.CancelledError) else fault)
            running.exception()  # nobody else may be waiting for it
            raise
        finally:
            del self._in_flight[key]

    def _key(self, request: Request, n: int, attempt: int, likelihood: list[str] | None = None) -> bytes:
        """SHA-256 of all that determines the reply; a prefix's part of it is computed once."""
        if request.prefix:
            state = self._prefixes.get(request.prefix.id)
            if state is None:
                if len(self._prefixes) > 64:
                    self._prefixes.clear()
                state = self._prefixes[request.prefix.id] = hashlib.sha256(request.prefix.raw[:-1])
            digest = state.copy()
            digest.update(b"," + orjson.dumps(request.messages)[1:])
        else:
            digest = hashlib.sha256(orjson.dumps(request.messages))
        rest = [self._identity, request.schema, request.max_tokens, request.temperature, request.seed, n, attempt]
        digest.update(canonical([*rest, likelihood]))
        return digest.digest()

    @property
    def _identity(self) -> dict[str, Any]:
        return self.backend.identify()

    def _parsed(
        self, completion: Completion, schema: dict[str, Any] | None, accept: Callable[[Any], None] | None
    ) -> Any:
        if completion.finish == "refusal":
            raise Invalid(f"the model refused: {completion.text[:100]!r}")
        value: Any = None
        if schema is not None:
            if completion.finish == "length":
                raise Invalid("cut off at the limit of tokens (--max-tokens)")
            try:
                value = orjson.loads(completion.text)
            except orjson.JSONDecodeError as fault:
                raise Invalid(f"not JSON: {fault}: {completion.text[:60]!r}") from None
            if not self._validator(schema)(value):
                raise Invalid(str(check.first_fault(schema, value)))
        if accept:
            accept(completion.text if schema is None else value)
        return value

    def _validator(self, schema: dict[str, Any]) -> Callable[[Any], bool]:
        known = self._valid.get(id(schema))
        if known is None or known[0] is not schema:
            if len(self._valid) > 256:
                self._valid.clear()
            known = self._valid[id(schema)] = (schema, check.compiled(schema))
        return known[1]

    def report(self) -> str:
        """What the model was asked, for the summary line."""
        if not self.calls and not self.hits:
            return ""
        parts = [f"{self.calls:,} calls to {self.name}"]
        parts += [f"{self.hits:,} from cache"] if self.hits else []
        parts += [f"{self.invalid:,} invalid replies"] if self.invalid else []
        parts += [f"{self.usage.prompt:,} tokens in, {self.usage.completion:,} out"] if self.usage.prompt else []
        return ", ".join(parts)

    async def close(self) -> None:
        """Release the backend and the cache."""
        await self.backend.close()
        if self.cache:
            self.cache.close()


def _step_of(call: str) -> str:
    """stage/record/step -> stage/step."""
    parts = call.split("/")
    return f"{parts[0]}/{parts[-1]}"
