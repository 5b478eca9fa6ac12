"""The run as its command sees it: input goes out in parcels over Ray Data, outcomes come back in order."""

import asyncio
import logging
import os
import pickle
import socket
import threading
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager, redirect_stdout
from typing import Any

from pmem.backends.model import Model
from pmem.cluster.keeper import Keeper, Refused
from pmem.cluster.worker import COLUMN, Job, Parcel, Results, Worker
from pmem.errors import PmemError, first_line
from pmem.stream.made import Outcome, bytes_of
from pmem.stream.progress import counted
from pmem.stream.run import Run
from pmem.stream.window import from_thread

PARCELS = 16
"""Parcels in work at once in each worker: together twice as many records as calls in flight."""
PARCEL_BYTES = 4 << 20
"""Of records as objects: parcels of large records hold fewer."""
AHEAD = 8
"""Parcels that have been read and aren't written yet, for each that is in work: how far others go on beside a slow
record."""
DEATHS = 3
"""How often a record may be in work when a worker dies before it counts as the reason."""
PATIENCE = 10.0
"""Seconds for the first connection to a cluster."""
STORE = 512 << 20
"""Bytes of shared memory of a cluster that is started for the run."""


for name, value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # native code says things on stderr
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a thread that goes on after the end joins no other cluster
}.items():
    os.environ.setdefault(name, value)  # before Ray is imported


class Cluster:
    """Makes the records of a run in workers on a Ray cluster."""

    def __init__(self, run: Run, job: Job, address: str, workers: int, gpus: float) -> None:
        self._run, self._job, self._address, self._workers, self._gpus = run, job, address, workers, gpus
        self._deaths = 0
        run.notes.append(self._note)
        self._size = max(1, min(32, job.jobs * 2 // PARCELS))

    async def outcomes(
        self, source: AsyncIterator[list[Any]], before_waiting: Callable[[], None]
    ) -> AsyncGenerator[Outcome, None]:
        """What workers make of all items, in their order. PmemError: a worker's, or the cluster can't do it."""
        with _plainly(), joined(self._address, self._workers, self._gpus):
            keeper = await self._keeper()
            feeding = asyncio.ensure_future(self._feed(source, keeper))
            try:
                async with aclosing(from_thread(self._results(keeper))) as found:  # type: ignore[type-var]
                    async for number, results in found:
                        for outcome in self._taken(results):
                            yield outcome
                        keeper.done.remote(number)
                        before_waiting()
                await feeding
                self._deaths = await keeper.close.remote()
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)

    def _note(self) -> str:
        """For the summary line."""
        return f"{counted(self._deaths, 'worker')} died and began anew" if self._deaths else ""

    def _taken(self, results: Results) -> Iterator[Outcome]:
        models = [model for model in self._run.attached if isinstance(model, Model)]
        for model, counts in zip(models, results.counts, strict=False):
            model.tally.join(counts)
        yield from results.outcomes
        if results.fault is not None:
            raise PmemError(results.fault)

    async def _keeper(self) -> Any:
        import ray

        most = AHEAD * PARCELS * self._workers
        made = ray.remote(Keeper).options(num_cpus=0, scheduling_strategy=_here())
        keeper = made.remote(self._job.cache, self._job.most_cost, most)
        refused = await keeper.open.remote()
        if isinstance(refused, Refused):
            raise PmemError(refused.message)
        return keeper

    async def _feed(self, source: AsyncIterator[list[Any]], keeper: Any) -> None:
        """Hand all items over. Whatever happens, the workers get to know that no more come."""
        first = 1
        try:
            async for batch in source:
                for items in parcels(batch, self._size):
                    await keeper.put_parcel.remote(pickle.dumps(Parcel(first, items)))
                    first += len(items)
        finally:
            keeper.end.remote()

    def _results(self, keeper: Any) -> Iterator[tuple[int, Results]]:
        """Each parcel's number and results, in order."""
        import ray
        from ray.data import ActorPoolStrategy, DataContext

        context = DataContext.get_current()
        context.execution_options.preserve_order = True
        context.target_max_block_size = 1  # each row is a block, and goes its own way
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        pool = ActorPoolStrategy(
            size=self._workers, max_tasks_in_flight_per_actor=PARCELS, max_concurrent_calls_per_actor=PARCELS
        )
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray means to name this setting otherwise, and doesn't say how
            made = ray.data.read_datasource(_source(keeper), override_num_blocks=1, num_cpus=0).map_batches(
                Worker,
                fn_constructor_args=(self._job, keeper),
                batch_size=None,
                batch_format="pyarrow",
                compute=pool,
                num_cpus=1,
                num_gpus=self._gpus,
                max_task_retries=DEATHS,
            )
        number = 0
        for table in made.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for row in table[COLUMN]:
                yield number, pickle.loads(row.as_py())
                number += 1


def parcels(batch: Iterable[Any], most: int) -> Iterator[list[Any]]:
    """A batch of items in parcels of at most so many."""
    parcel: list[Any] = []
    size = 0
    for item in batch:
        parcel.append(item)
        size += bytes_of(item)
        if len(parcel) >= most or size >= PARCEL_BYTES:
            yield parcel
            parcel, size = [], 0
    if parcel:
        yield parcel


def _source(keeper: Any) -> Any:
    """The keeper's parcels as a Ray Data source: one task that can be run again from the first parcel."""
    import pyarrow as pa
    import ray
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    def read() -> Iterator[Any]:
        number = 0
        while (parcel := ray.get(keeper.parcel.remote(number))) is not None:
            yield pa.table({COLUMN: pa.array([parcel], pa.large_binary())})
            number += 1

    class Parcels(Datasource):  # type: ignore[misc]
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, *_: Any, **__: Any) -> list[Any]:
            return [ReadTask(read, BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None))]

    return Parcels()


def _here() -> Any:
    """On the node where the command runs: its cache and its input are there."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


@contextmanager
def joined(address: str, workers: int, gpus: float) -> Iterator[None]:
    """Within, this process belongs to the cluster. PmemError: it isn't there, or can't hold the workers."""
    import ray

    # Ray prints what befell its workers, some of it only when it is shut down; stdout is for data
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        try:
            with _silent():
                _connect(address, max(workers, os.cpu_count() or 1))
            there = ray.cluster_resources()
            for what, needed in (("CPU", workers), ("GPU", workers * gpus)):
                if needed > (has := there.get(what, 0.0)):
                    what = counted(int(needed), what) if needed == int(needed) else f"{needed:g} {what}s"
                    who = f"{counted(workers, 'worker')} need{'s' * (workers == 1)}"
                    raise PmemError(f"--ray: {who} {what}, and the cluster has {has:g}")
            yield
        except BaseException:
            threading.excepthook = lambda _fault: None  # of Ray Data's threads, which the end takes by surprise
            raise
        finally:
            ray.shutdown()


@contextmanager
def _plainly() -> Iterator[None]:
    """Ray's own errors as one line."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError:
        raise  # a fault of pmem's own
    except ray.exceptions.RayError as fault:
        raise PmemError(
            f"the cluster gave up: {first_line(fault)} The same command goes on from what the cache holds."
        ) from None


def _connect(address: str, cpus: int) -> None:
    """Join a cluster; or start one on this machine, which ends with the run."""
    import ray

    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    where = (os.environ.get("RAY_ADDRESS") or address) if address == "auto" else address
    if where != "local":
        try:
            if where != "auto" and "://" not in where:  # Ray itself would try for minutes
                host, _, port = where.rpartition(":")
                socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
            ray.init(address=where, **quiet)
            return
        except (OSError, ValueError) as fault:  # or ConnectionError, with its reason behind it
            if where != "auto":
                hint = "where it asks for a token, set RAY_AUTH_MODE=token"
                why = first_line(fault.__cause__ or fault)
                raise PmemError(f"--ray: no Ray cluster answers at {where}: {why} ({hint})") from None
    ray.init(address="local", num_cpus=cpus, object_store_memory=STORE, **quiet)


@contextmanager
def _silent() -> Iterator[None]:
    """Within, what native code writes to stderr goes nowhere: it announces its own level of logging."""
    real = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(real, 2)
        os.close(real)
        os.close(nowhere)
