"""verl without a GPU: a platform plug-in, for tests and for learning how verl works. Never active unless asked for.

(Loaded by verl where VERL_PLATFORM=cpu and VERL_USE_EXTERNAL_MODULES names this module: `--preset cpu`.) Ranks are
processes that speak gloo. The "GPUs" that verl asks ray for are made up by `ray_init.num_gpus`. VERL_ENGINE_DEVICE=cuda
lets verl find its FSDP engine, which it keeps for GPUs though nothing in it needs one.

Two things in torch have to give way: it refuses "cpu:gloo,cpu:gloo", which is what verl's "cpu and accelerator" comes
to here; and FSDP's offloading pins memory, for which there has to be an accelerator.
"""

import contextlib
import types
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed
from torch.distributed.fsdp import CPUOffloadPolicy
from verl.plugin.platform import PlatformBase, PlatformRegistry


class _Device(types.ModuleType):
    """torch.cpu with what verl calls on torch.cuda besides. There is one device, and nothing to wait for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)

    def is_available(self) -> bool:
        return True

    def current_device(self) -> str:
        return "cpu"

    def device_count(self) -> int:
        return 1

    def get_device_name(self, *_: Any) -> str:
        return "CPU"

    def get_rng_state(self, *_: Any) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, *_: Any) -> None:
        torch.set_rng_state(state)

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def _nothing(self, *_: Any) -> None: ...

    set_device = synchronize = empty_cache = ipc_collect = reset_peak_memory_stats = _nothing

    def memory_allocated(self, *_: Any) -> int:
        import psutil

        return int(psutil.Process().memory_info().rss)

    memory_reserved = max_memory_allocated = max_memory_reserved = memory_allocated

    def mem_get_info(self, *_: Any) -> tuple[int, int]:
        import psutil

        memory = psutil.virtual_memory()
        return memory.available, memory.total


@PlatformRegistry.register(platform="cpu")
class Cpu(PlatformBase):  # type: ignore[misc]
    """The platform "cpu"; found by its name only, never by looking for hardware."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _Device("pmem_cpu_device")

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return False

    def current_device(self) -> Any:
        return "cpu"  # what verl moves tensors to

    def device_count(self) -> int:
        return 1

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False

    @contextlib.contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def cudart(self) -> None: ...

    def _nothing(self, *_: Any) -> None: ...

    set_device = synchronize = set_allocator_settings = empty_cache = profiler_start = profiler_stop = _nothing


_init_process_group = torch.distributed.init_process_group
_init_offload = CPUOffloadPolicy.__init__


def _grouped(backend: Any = None, *args: Any, **kwargs: Any) -> Any:
    if isinstance(backend, str):
        backend = ",".join(dict.fromkeys(backend.split(",")))
    return _init_process_group(backend, *args, **kwargs)


def _offloaded(self: Any, pin_memory: bool = True) -> None:
    _init_offload(self, pin_memory=False)


torch.distributed.init_process_group = _grouped
CPUOffloadPolicy.__init__ = _offloaded
