"""A worker: the same command on the same options, opened but fed parcel by parcel."""

import asyncio
import importlib
import os
import pickle
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import click

import pmem
from pmem.backends.cache import path_of
from pmem.backends.model import Model
from pmem.cluster.keeper import KeptBudget, KeptCache
from pmem.errors import PmemError
from pmem.stream.made import Outcome
from pmem.stream.pipe import Pipe
from pmem.stream.sink import Sink, Unwritten
from pmem.turns import turn

OVER_ALL = ("rpm", "tpm")
"""Settings that hold for all workers together."""
COLUMN = "parcel"
"""Of the tables that Ray Data carries: a pickled Parcel or Results in each row."""


class Parcel(NamedTuple):
    """Some items of input that follow each other, and the place of the first."""

    first: int
    items: list[Any]


class Results(NamedTuple):
    """What a parcel became. counts: of each model since the last results; fault: what ends the run after these."""

    outcomes: list[Outcome]
    counts: list[list[float]]
    fault: str | None = None


class Job(NamedTuple):
    """A command as it was called. module: of the stage; cache: None without one."""

    module: str
    name: str
    params: dict[str, Any]
    folder: str
    version: str
    cache: str | None
    most_cost: float | None
    jobs: int

    @classmethod
    def of(cls, ctx: click.Context, workers: int) -> "Job":
        """The command that is being called, for each of so many workers."""
        given = ctx.params
        shared = {name: given[name] / workers for name in OVER_ALL if given[name]}
        cache = None if given["no_cache"] else str(path_of(given["cache"]).resolve())
        return cls(
            ctx.command.callback.__module__,
            str(ctx.info_name),
            {**given, **shared, "ray": None, "workers": 1, "gpus_per_worker": 0, "quiet": True, "usage": None},
            os.getcwd(),
            pmem.__version__,
            cache,
            given["max_cost"],
            given["jobs"],
        )


class Fed(Pipe):
    """The pipe of a command in a worker: it reads and writes nothing, and tells how records are made."""

    attempt: Callable[[Any], Coroutine[Any, Any, Outcome]]

    def _start(self, *_: Any) -> None:
        pass

    def _sink(self, path: str | None) -> Sink:
        return Unwritten()

    def _drive(self, _arrange: Any, make: Any, writes: str) -> None:
        self.attempt = self._attempting(make, writes)


class Worker:
    """What Ray Data calls with tables of parcels, many at once, in one event loop."""

    def __init__(self, job: Job, keeper: Any) -> None:
        import ray

        self._fault: str | None = None
        self._told: list[list[float]] = []
        own_id = ray.get_runtime_context().get_actor_id()
        ray.get(keeper.joined.remote(own_id))
        try:
            self._pipe = opened(job, keeper, own_id)
            self._told = self._counts()
        except click.ClickException as fault:
            self._fault = f"worker on {os.uname().nodename}: {fault.format_message()}"

    async def __call__(self, table: Any) -> Any:
        """A table with the results of each row's parcel."""
        import pyarrow as pa

        rows = [row.as_py() for row in table[COLUMN]]
        made = [await self._made(pickle.loads(row)) if row else Results([], []) for row in rows]
        return pa.table({COLUMN: pa.array([pickle.dumps(one) for one in made], pa.large_binary())})

    async def _made(self, parcel: Parcel) -> Results:
        if self._fault is not None:
            return Results([], [], self._fault)
        tasks = []
        for number, item in enumerate(parcel.items, parcel.first):
            turn.set(number)  # a task takes it along
            tasks.append(asyncio.ensure_future(self._pipe.attempt(item)))
        outcomes = []
        try:
            for task in tasks:
                outcomes.append(await task)
            fault = None
        except PmemError as caught:
            fault = caught.format_message()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return Results(outcomes, self._news(), fault)

    def _counts(self) -> list[list[float]]:
        return [model.tally.counts() for model in self._pipe.attached if isinstance(model, Model)]

    def _news(self) -> list[list[float]]:
        """What has been counted since the last time."""
        before, self._told = self._told, self._counts()
        return [[now - then for now, then in zip(*pair, strict=True)] for pair in zip(self._told, before, strict=True)]


def opened(job: Job, keeper: Any, worker: str) -> Fed:
    """The pipe of the job's command, whose model asks the keeper for replies and for money."""
    if job.version != pmem.__version__:
        raise PmemError(f"pmem {pmem.__version__} is installed there, {job.version} where the command runs")
    try:
        os.chdir(job.folder)
    except OSError as fault:
        raise PmemError(f"{job.folder}: {fault.strerror}: workers need the folder that the command runs in") from None
    command = importlib.import_module(job.module).command
    made: list[Fed] = []

    def pipe(**options: Any) -> Fed:
        made.append(Fed(**options))
        made[0].shared_cache = (lambda: KeptCache(keeper)) if job.cache else None
        made[0].shared_budget = (lambda: KeptBudget(keeper, worker)) if job.most_cost else None
        return made[0]

    ctx = click.Context(command, info_name=job.name, obj=pipe)
    ctx.params = job.params
    with ctx:
        command.callback(**job.params)
    return made[0]
