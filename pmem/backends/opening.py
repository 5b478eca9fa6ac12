"""Opening models by name: in a command by its options, or again in another process by the same settings."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from pmem.backends.base import Backend
    from pmem.backends.model import Model
    from pmem.backends.prices import Price

KINDS = "openai:NAME, azure:DEPLOYMENT, vllm:NAME, local:NAME-or-path or recorded:FILE"
REMOTE = ("openai:", "azure:")


def backend_of(
    name: str, urls: tuple[str, ...], settings: Mapping[str, Any], *, asks_nothing: bool = False
) -> "Backend":
    """The backend that a name stands for; usage error if it stands for none.

    settings: timeout, dtype, tensor_parallel, context_length, gpu_memory.
    """
    kind, _, rest = name.partition(":")
    if rest and kind == "openai":
        from pmem.backends.openai import OpenAIBackend

        return OpenAIBackend(rest, urls, timeout=settings["timeout"], keyless=asks_nothing)
    if rest and kind == "azure":
        from pmem.backends.azure import AzureBackend

        return AzureBackend(rest, urls, timeout=settings["timeout"], keyless=asks_nothing)
    if rest and kind == "recorded":
        from pmem.backends.recorded import RecordedBackend

        return RecordedBackend(rest)
    if rest and kind == "local":
        from pmem.backends.local import LocalBackend

        return LocalBackend(rest, dtype=settings["dtype"])
    if rest and kind == "vllm":
        from pmem.backends.vllm import VLLMBackend

        return VLLMBackend(
            rest,
            tensor_parallel=settings["tensor_parallel"] or 1,
            dtype=settings["dtype"],
            context=settings["context_length"],
            gpu_memory=settings["gpu_memory"],
        )
    raise click.UsageError(f"no model '{name}': expected {KINDS}")


def price_for(name: str, backend: "Backend", prices: str | None, *, batch: bool = False) -> "Price | None":
    """What a model's tokens cost; None where nobody knows. prices: a table of the user's own."""
    from pathlib import Path

    from pmem.backends.prices import FREE, price_of

    if not name.startswith(REMOTE):
        return FREE
    table = Path(prices) if prices else None
    return price_of(name.partition(":")[2], table, hosted=getattr(backend, "hosted", False), batch=batch)


class Judging(NamedTuple):
    """What opens a command's judges again in another process; plain values. most: of --max-cost."""

    judges: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    seed: int = 0
    jobs: int = 16
    retries: int = 7
    rpm: float | None = None
    tpm: float | None = None
    most: float | None = None
    prices: str | None = None
    cache: str | None = None
    no_cache: bool = False
    timeout: float | None = None
    dtype: str | None = None
    tensor_parallel: int | None = None
    context_length: int | None = None
    gpu_memory: float | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Judging":
        """From a mapping that may hold more."""
        known = {name: given[name] for name in cls._fields if name in given}
        return cls(**{**known, "judges": tuple(known.get("judges", ())), "urls": tuple(known.get("urls", ()))})


def judges_of(judging: Judging) -> "tuple[Model, ...]":
    """The judges, opened."""
    from pmem.backends.cache import Cache, path_of
    from pmem.backends.calls import Limits
    from pmem.backends.model import Model
    from pmem.backends.usage import Budget, Tally

    budget = Budget(judging.most) if judging.most else None
    limits = Limits(judging.jobs, judging.retries + 1, judging.rpm, judging.tpm, budget)

    def one(name: str) -> "Model":
        backend = backend_of(name, judging.urls, judging._asdict())
        keeps = backend.cacheable and not judging.no_cache
        cache = Cache(path_of(judging.cache)) if keeps else None
        price = price_for(name, backend, judging.prices)
        return Model(name, backend, cache=cache, limits=limits, tally=Tally(name, "judge", price), seed=judging.seed)

    return tuple(map(one, judging.judges))
