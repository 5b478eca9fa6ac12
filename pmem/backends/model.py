"""A model as stages see it: a backend with the cache, single flight, patient calls, and checked replies."""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from copy import copy
from typing import Any, NamedTuple

import orjson

from pmem import check
from pmem.backends.base import (
    PLANNED,
    Backend,
    Completion,
    Likelihood,
    Message,
    Prefix,
    Request,
    Usage,
    stored,
    unstored,
)
from pmem.backends.cache import Cache
from pmem.backends.calls import Asked, Calls, Limits, Said
from pmem.backends.usage import Tally
from pmem.draws import canonical, seed_for
from pmem.errors import ModelError

RETRIES = 3
"""How often an invalid reply is asked for again."""
KEPT_PREFIXES = 64
"""Hash states of the latest histories."""


class Invalid(Exception):
    """Raised by a stage's own check of a parsed reply, with the reason."""


class _Abandoned(Exception):
    """The call that others wait for was cancelled: one of them must ask anew."""


class NoValidReply(ModelError):
    """The model answered every time, and no answer was valid."""


class Reply(NamedTuple):
    """A reply that passed its checks. `parsed` is the JSON value where a schema was given; finish: as in Completion."""

    text: str
    parsed: Any
    usage: Usage
    finish: str = "stop"


class _Form(NamedTuple):
    """What calls with the same schema have in common: the schema (kept alive), its check, its part of cache keys."""

    schema: dict[str, Any] | None
    valid: Callable[[Any], bool]
    key: bytes


class Model:
    """`await model.chat(...)` and `await model.likelihood(...)`."""

    def __init__(
        self,
        name: str,
        backend: Backend,
        *,
        cache: Cache | None,
        limits: Limits = Limits(),  # noqa: B008 - it is immutable
        calls: Calls | None = None,
        tally: Tally | None = None,
        seed: int = 0,
        max_tokens: int | None = None,
        temperature: float | None = None,
        thinking: bool | None = None,
        context_length: int | None = None,
    ) -> None:
        """thinking: whether to reason first, for models with that switch; context_length: tokens of prompt and reply
        together, for stages that keep to it (None: the model's own)."""
        self.name = name
        self.backend = backend
        self.cache = cache if backend.cacheable else None
        self.seed = seed
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.thinking = thinking
        self.context_length = context_length
        self.tally = tally or Tally(name)
        self._calls = calls or Calls(self.tally, self.cache, limits)
        self._in_flight: dict[bytes, asyncio.Future[Any]] = {}
        self._prefixes: dict[str, Any] = {}
        self._forms: dict[int, _Form] = {}
        self._seeds: dict[tuple[int, int], int] = {}

    def without_limit(self) -> "Model":
        """The same model, its replies as long as they come: for texts that a limit of answers isn't meant for."""
        free = copy(self)
        free.max_tokens, free._forms = None, {}
        return free

    async def chat(
        self,
        messages: list[Message],
        *,
        call: str,
        n: int = 0,
        step: str | None = None,
        prefix: Prefix | None = None,
        shared: str | None = None,
        schema: dict[str, Any] | None = None,
        accept: Callable[[Any], None] | None = None,
    ) -> Reply:
        """One reply.

        call: "stage/record/step", to which the sample number `n` is added; step: its name in statistics, if not the
        last part of `call`; shared: as in Request; schema: JSON Schema of the reply, checked; accept: the stage's own
        check of the parsed reply (of the text, without a schema), raising Invalid. An invalid reply is asked for again
        up to RETRIES times, then NoValidReply says what was wrong with it.
        """
        why = ""
        raw = orjson.dumps(messages)
        form = self._form(schema)
        for attempt in range(RETRIES + 1):
            request = Request(
                messages,
                prefix,
                schema,
                self._seed(n, attempt),
                self.max_tokens,
                self.temperature,
                f"{call}/{n}.{attempt}" if attempt else f"{call}/{n}",
                _step(call, step),
                raw,
                self._key(raw, prefix, form, b"%d.%d" % (n, attempt)),
                self.thinking,
                shared,
            )
            try:
                completion = await self._completion(request)
            except ModelError as fault:  # a new one: identical calls in flight share the fault, not the call's id
                before = f" (the reply before it was invalid: {why})" if why else ""
                raise ModelError(fault.message + before, call=request.call, reason=fault.reason) from None
            try:
                return Reply(completion.text, _parsed(completion, form, accept), completion.usage, completion.finish)
            except Invalid as fault:
                why = str(fault)
                self.tally.invalid += 1
        raise NoValidReply(f"{self.name}: no valid reply in {RETRIES + 1} attempts: {why}", call=f"{call}/{n}")

    async def likelihood(
        self,
        messages: list[Message],
        texts: list[str],
        *,
        call: str,
        step: str | None = None,
        prefix: Prefix | None = None,
        shared: str | None = None,
    ) -> list[Likelihood]:
        """Log-likelihood of each text as the whole reply to `messages` (BackendError where a backend can't)."""
        raw = orjson.dumps(messages)
        key = self._key(raw, prefix, self._form(None), b"likelihood" + orjson.dumps(texts))
        request = Request(
            messages,
            prefix,
            call=f"{call}/0",
            step=_step(call, step),
            raw=raw,
            key=key,
            thinking=self.thinking,
            shared=shared,
        )

        async def ask() -> Asked[list[Likelihood]]:
            found = await self.backend.likelihood(request, texts)
            return Asked(found, orjson.dumps([[*one] for one in found]), Usage())

        return await self._once(request, ask, _likelihoods)

    async def _completion(self, request: Request) -> Completion:
        async def ask() -> Asked[Completion]:
            said = await self.backend.complete(request)
            return Asked(said, stored(said), said.usage)

        return await self._once(request, ask, unstored)

    async def _once(
        self, request: Request, ask: Callable[[], Awaitable[Asked[Said]]], stored_as: Callable[[bytes], Said]
    ) -> Said:
        """What the model says to a request: from the cache, from an identical call in flight, or by asking."""
        key = request.key
        if self.cache and (value := self.cache.get(key)) is not None:
            self._calls.found(request, value)
            return stored_as(value)
        if (running := self._in_flight.get(key)) is not None:
            self._calls.found(request, None)
            with contextlib.suppress(_Abandoned):
                said: Said = await asyncio.shield(running)
                return said
            return await self._once(request, ask, stored_as)
        running = self._in_flight[key] = asyncio.get_running_loop().create_future()
        try:
            said = await self._calls.make(request, ask)
            running.set_result(said)
            return said
        except BaseException as fault:
            running.set_exception(_Abandoned() if isinstance(fault, asyncio.CancelledError) else fault)
            running.exception()  # nobody else may be waiting for it
            raise
        finally:
            del self._in_flight[key]

    def _key(self, raw: bytes, prefix: Prefix | None, form: _Form, rest: bytes) -> bytes:
        """SHA-256 of all that determines the reply; a prefix's part of it is computed once."""
        if prefix:
            state = self._prefixes.get(prefix.id)
            if state is None:
                if len(self._prefixes) >= KEPT_PREFIXES:
                    self._prefixes.clear()
                state = self._prefixes[prefix.id] = hashlib.sha256(memoryview(prefix.raw)[:-1])
            digest = state.copy()
            digest.update(b"," + raw[1:])
        else:
            digest = hashlib.sha256(raw)
        digest.update(form.key)
        digest.update(rest)
        return bytes(digest.digest())

    def _form(self, schema: dict[str, Any] | None) -> _Form:
        """Stages keep their schemas, so that each is compiled and hashed once."""
        form = self._forms.get(id(schema))
        if form is None or form.schema is not schema:
            if len(self._forms) > 256:
                self._forms.clear()
            settings = [self.backend.identify(), schema, self.max_tokens, self.temperature, self.seed]
            settings += [self.thinking] if self.thinking is not None else []  # else the key is that of earlier versions
            valid = check.compiled(schema) if schema is not None else bool
            form = self._forms[id(schema)] = _Form(schema, valid, canonical(settings))
        return form

    def _seed(self, n: int, attempt: int) -> int:
        """A seed of 31 bits, which servers take, for a sample and the attempt at it."""
        if (n, attempt) not in self._seeds:
            self._seeds[n, attempt] = seed_for(self.seed, "", f"sample {n}.{attempt}") >> 32
        return self._seeds[n, attempt]

    def report(self) -> str:
        """What the model was asked, for the summary line."""
        return self.tally.report()

    async def close(self) -> None:
        """Release the backend and the cache."""
        try:
            await self.backend.close()
        finally:
            if self.cache:
                self.cache.close()


def _likelihoods(value: bytes) -> list[Likelihood]:
    return [Likelihood(*pair) for pair in orjson.loads(value)]


def _step(call: str, step: str | None) -> str:
    """The name under which replies to calls like this one are counted: "judge/blind"."""
    parts = call.split("/")
    return f"{parts[0]}/{step or parts[-1]}"


def _parsed(completion: Completion, form: _Form, accept: Callable[[Any], None] | None) -> Any:
    """The reply as a JSON value (None without a schema); Invalid with the reason if it fails a check."""
    if completion.finish == "refusal":
        raise Invalid(f"the model refused: {completion.text[:100]!r}")
    value: Any = None
    if form.schema is not None:
        if completion.finish == "length":
            raise Invalid("cut off at the limit of tokens (--max-tokens)")
        try:
            value = orjson.loads(completion.text)
        except orjson.JSONDecodeError as fault:
            raise Invalid(f"not JSON: {fault}: {completion.text[:60]!r}") from None
        if not form.valid(value):
            raise Invalid(str(check.first_fault(form.schema, value)))
    if accept and completion.finish != PLANNED:
        accept(completion.text if form.schema is None else value)
    return value
