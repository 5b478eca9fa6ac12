"""Replies without a GPU: pmem's own decoder behind verl's interface of inference servers (`rollout.name=pmem_cpu`).

(Loaded by verl where VERL_USE_EXTERNAL_MODULES names this module: `--preset cpu`.) A server is a ray actor with the
model and one thread that decodes; calls that come together are decoded together, each prompt's beginning is computed
once. After each update the trainer's leading rank sends it the weights through ray's object store.
"""

import asyncio
import itertools
import os
from typing import Any, NamedTuple

import ray
import torch
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.config import HFModelConfig
from verl.workers.rollout import base
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry, TokenOutput

from pmem.backends.local_decode import Decoder, Row
from pmem.backends.local_model import Loaded
from pmem.draws import seed_for

NAME = "pmem_cpu"
GATHER = 0.02
"""Seconds in which a first batch forms."""


class _Call(NamedTuple):
    row: Row
    done: "asyncio.Future[Row]"


class Server:
    """The ray actor. Methods are verl's."""

    def __init__(self, config: Any, model_config: Any, rank: int) -> None:
        from transformers import AutoModelForCausalLM

        made = omega_conf_to_dataclass(model_config, dataclass_type=HFModelConfig)
        model = AutoModelForCausalLM.from_config(made.hf_config).float().eval()
        stop = model.generation_config.eos_token_id
        ends = {made.tokenizer.eos_token_id, *(stop if isinstance(stop, list) else [stop])} - {None}
        context = model.config.get_text_config().max_position_embeddings
        self._model, self._limit = model, int(config.response_length)
        self._decoder = Decoder(Loaded(model, made.tokenizer, context, frozenset(ends)), int(config.max_num_seqs))
        self._seed, self._rank, self._numbers = int(config.seed), rank, itertools.count()
        self._waiting: list[_Call] = []
        self._running: list[_Call] = []
        self._task: asyncio.Task[None] | None = None
        self._step: int | None = None

    async def generate(
        self, prompt_ids: list[int], sampling_params: dict[str, Any], request_id: str, **_: Any
    ) -> TokenOutput:
        """A reply, with the token that ended it. Calls are numbered as they come, and seeded by their numbers."""
        limit = min(int(sampling_params.get("max_tokens") or self._limit), self._limit)
        seed = seed_for(self._seed, f"rank {self._rank}", f"train/verl/{next(self._numbers)}")
        row = Row(list(prompt_ids), limit, float(sampling_params["temperature"]), seed)
        call = _Call(row, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._decode())
        await call.done
        ids = [*row.out, row.ended] if row.finish == "stop" else row.out
        versions = {"global_steps": self._step, "min_global_steps": self._step, "max_global_steps": self._step}
        return TokenOutput(token_ids=ids, stop_reason="completed", extra_fields=versions)

    async def _decode(self) -> None:
        await asyncio.sleep(GATHER)
        try:
            while self._waiting or self._running:
                while self._waiting and self._decoder.room(self._waiting[0].row):
                    call = self._waiting.pop(0)
                    await asyncio.to_thread(self._join, call.row)
                    self._running.append(call)
                finished = await asyncio.to_thread(self._advance)
                for call in [call for call in self._running if call.row in finished]:
                    self._running.remove(call)
                    call.done.set_result(call.row)
        except Exception as fault:
            for call in [*self._waiting, *self._running]:
                call.done.set_exception(fault)
            self._waiting, self._running = [], []
            self._decoder.clear()

    def _join(self, row: Row) -> None:
        with torch.inference_mode():
            self._decoder.join(row)

    def _advance(self) -> list[Row]:
        with torch.inference_mode():
            return self._decoder.step()

    async def load(self, weights: dict[str, torch.Tensor], step: int | None) -> None:
        """Take the trainer's weights. ValueError: they are of another model."""
        missing, strange = self._model.load_state_dict(weights, strict=False)
        self._model.tie_weights()
        if strange or any("lm_head" not in name for name in missing):
            raise ValueError(f"weights of another model: missing {missing}, unknown {strange}")
        self._decoder.clear()
        self._step = step

    async def _nothing(self, *_: Any, **__: Any) -> None: ...

    wake_up = sleep = clear_kv_cache = release_kv_cache = resume_kv_cache = _nothing
    abort_all_requests = resume_generation = start_profile = stop_profile = _nothing


class Replica(RolloutReplica):  # type: ignore[misc]
    """Starts a server."""

    async def launch_servers(self) -> None:
        actor = ray.remote(Server).options(name=_name(self.replica_rank), num_cpus=0, max_concurrency=1000)
        server = actor.remote(self.config, self.model_config, self.replica_rank)
        await server.wake_up.remote()
        self.servers, self._server_handle, self._server_address = [server], server, _name(self.replica_rank)


class Adapter(base.BaseRollout):  # type: ignore[misc]
    """In a trainer's rank: sends weights to the server."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, replica_rank: int = -1) -> None:
        super().__init__(config, model_config, device_mesh)
        ranks = self.config.tensor_model_parallel_size * self.config.data_parallel_size
        rank = int(os.environ["RANK"])
        self.replica_rank = rank // ranks if replica_rank < 0 else replica_rank
        self.is_leader_rank = rank % ranks == 0

    async def resume(self, tags: list[str]) -> None: ...

    async def release(self) -> None: ...

    async def update_weights(self, weights: Any, global_steps: int | None = None, **_: Any) -> None:
        whole = {name: one.detach().float().cpu().clone() for name, one in weights}  # all ranks put it together
        if self.is_leader_rank:
            await ray.get_actor(_name(self.replica_rank)).load.remote(whole, global_steps)


def _name(rank: int) -> str:
    return f"{NAME}_server_{rank}"


RolloutReplicaRegistry.register(NAME, lambda: Replica)
base._ROLLOUT_REGISTRY[NAME, "async"] = f"{__name__}.Adapter"
