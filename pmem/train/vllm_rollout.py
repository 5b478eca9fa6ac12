"""Replies of the policy as it stands, made by vLLM: one engine, in processes of its own, for all of a run's samplers.

The engine starts with the model's files. Whenever the policy has been changed since, its weights are saved as a
checkpoint into a temporary folder, from which vLLM's workers read them into the running engine (`vllm_worker.py`), and
what the engine's prefix cache holds of the old ones is dropped.
"""

import asyncio
import itertools
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from pmem.backends.vllm import arguments
from pmem.backends.vllm_engine import Engine, Refused, generated
from pmem.errors import BackendError, PmemError, first_line
from pmem.train.policy import Policy
from pmem.train.rollout import Prompt, Reply, Sampler, reply_of

T = TypeVar("T")

GPU_SHARE = 0.3
"""Of a GPU's memory, which the engine shares with training. On a CPU its cache has a size of its own."""


class PolicyEngine:
    """vLLM's engine with the policy's weights.

    name: of the model that the policy began as; context: most tokens of prompt and reply together, if fewer than the
    model can take. Starts at the first call. Errors: BackendError where it can't be started, or has died, or vLLM
    refuses weights or a request; PmemError where weights can't be saved.
    """

    def __init__(self, policy: Policy, name: str, context: int | None = None) -> None:
        self.policy, self.context = policy, min(policy.loaded.context, context or policy.loaded.context)
        settings = {
            "dtype": "bfloat16" if policy.bfloat16 else "float32",
            "max_model_len": self.context,
            "worker_extension_cls": "pmem.train.vllm_worker.Taking",
            "gpu_memory_utilization": GPU_SHARE if policy.device.type == "cuda" else None,
        }
        self._name, self._engine = name, Engine(name, lambda: arguments(name, settings))
        self._numbers = itertools.count()
        self._changes = 0  # the policy's, when it had the engine's weights

    async def run(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """What `work(llm)` returns, in the engine's thread, once the engine has the policy's weights."""
        if self._changes != self.policy.changes:
            await self._load()
        return await self._engine.run(work)

    async def generated(self, llm: Any, prompt: list[int], sampling: Any) -> Any:
        """vLLM's output for the token ids; in the engine's thread."""
        try:
            return await generated(llm, prompt, sampling, next(self._numbers))
        except Refused as fault:
            raise BackendError(f"vllm model '{self._name}': {fault}") from fault

    async def _load(self) -> None:
        """Give the engine the policy's weights."""
        changes = self.policy.changes
        with tempfile.TemporaryDirectory(prefix="pmem-weights-") as folder:
            try:
                self.policy.model.save_pretrained(folder)
            except Exception as fault:  # a full disk comes as OSError, SafetensorError or RuntimeError
                why = f"weights for vLLM can't be written (TMPDIR says where): {first_line(fault)}"
                raise PmemError(f"{folder}: {why}") from None
            await self._engine.run(lambda llm: self._reload(llm, folder))
        self._changes = changes

    async def _reload(self, llm: Any, folder: str) -> None:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            await llm.collective_rpc("take_weights", args=(folder,))
        except EngineDeadError:
            raise
        except Exception as fault:
            why = f"doesn't take the policy's weights: {first_line(fault)}"
            raise BackendError(f"vllm model '{self._name}' {why}") from fault
        if not await llm.reset_prefix_cache():
            raise BackendError(f"vllm model '{self._name}' keeps what it has computed with other weights")

    def report(self) -> str:
        """Nothing to tell at the end."""
        return ""

    async def close(self) -> None:
        """End the engine and its processes."""
        await asyncio.to_thread(self._engine.close)


class VLLMSampler(Sampler):
    """As `Sampler`, by vLLM: replies to one prompt share its prefix cache. A reply depends on its seed, and in its
    rounding on what is computed beside it. Errors: as of `check`, and of `PolicyEngine`."""

    def __init__(self, engine: PolicyEngine, *, limit: int, temperature: float = 1.0) -> None:
        super().__init__(engine.policy, limit=limit, temperature=temperature)
        self._engine, self.context = engine, engine.context

    def sample(
        self, prompts: Sequence[Prompt], finished: Callable[[int, int, Reply], None], temperature: float | None = None
    ) -> None:
        """`sampled`, where no event loop runs."""
        asyncio.run(self.sampled(prompts, finished, temperature))

    async def sampled(
        self, prompts: Sequence[Prompt], finished: Callable[[int, int, Reply], None], temperature: float | None = None
    ) -> None:
        """As `Sampler.sample`; `finished` is called in the engine's thread. What is being made goes when this is
        cancelled."""
        for prompt in prompts:
            self.check(prompt)
        warm = self.temperature if temperature is None else temperature

        async def work(llm: Any) -> None:
            async def made(number: int, n: int) -> None:
                finished(number, n, await self._made(llm, prompts[number].ids, prompts[number].seeds[n], warm))

            places = [(number, n) for number, prompt in enumerate(prompts) for n in range(len(prompt.seeds))]
            await asyncio.gather(*(made(*place) for place in places))

        await self._engine.run(work)

    async def _made(self, llm: Any, prompt: list[int], seed: int, temperature: float) -> Reply:
        from vllm.sampling_params import SamplingParams

        stop = sorted(self._policy.loaded.stop)
        sampling = SamplingParams(
            temperature=temperature, seed=seed, max_tokens=self.limit, stop_token_ids=stop, detokenize=False
        )
        (made,) = (await self._engine.generated(llm, prompt, sampling)).outputs
        return reply_of(self._policy, prompt, list(made.token_ids), ended=made.finish_reason == "stop")
