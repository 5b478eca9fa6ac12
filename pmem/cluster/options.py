"""The options that spread a command's records: over jobs (`--shard`), over workers on a Ray cluster (`--ray`)."""

import functools
import importlib.util
import re
from typing import TYPE_CHECKING, Any

import click

from pmem.errors import MissingExtra
from pmem.stream.options import Command, bundle
from pmem.stream.pipe import Pipe
from pmem.stream.shard import Shard, ShardType
from pmem.stream.source import may_block

if TYPE_CHECKING:
    from pmem.stream.run import Run

ADDRESS = re.compile(r"auto|local|[\w.\-]+:\d+|\[[\da-fA-F:]+\]:\d+")
_BATCHES = ("batch", "batch_out", "batch_in")
_OPTIONS = (
    click.option("--shard", type=ShardType(), metavar="K/N", help="Make only the Kth of N parts of the input."),
    click.option(
        "--ray",
        is_flag=False,
        flag_value="auto",
        metavar="[HOST:PORT]",
        help="Make the records in workers on this Ray cluster (else the one that runs here, else one of its own).",
    ),
    click.option(
        "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="ray: each with a model of its own."
    ),
    click.option(
        "--gpus-per-worker",
        type=click.FloatRange(min=0),
        default=0,
        show_default=True,
        help="ray: GPUs that each worker has to itself.",
    ),
)


def spread_options(function: Command) -> Command:
    """Make only a part of the pipe's records, or make them elsewhere, if `--shard` or `--ray` says so.

    Goes between `stream_options` and `model_options`.
    """

    @functools.wraps(function)
    def with_workers(
        pipe: Pipe, shard: Shard | None, ray: str | None, workers: int, gpus_per_worker: float, **rest: Any
    ) -> None:
        pipe.shard = shard
        if shard and any(map(may_block, pipe.files or ("-",))):
            raise click.UsageError("--shard reads its input twice: name files, not a pipe")
        if ray is not None:
            pipe.elsewhere = _spread(pipe, ray, workers, gpus_per_worker)
        elif workers > 1 or gpus_per_worker:
            raise click.UsageError("--workers and --gpus-per-worker are for --ray")
        function(pipe=pipe, **rest)

    made: Command = bundle(*_OPTIONS)(with_workers)
    return made


def _spread(pipe: "Run", address: str, workers: int, gpus: float) -> Any:
    ctx = click.get_current_context()
    if not ADDRESS.fullmatch(address):
        raise click.UsageError(
            f"--ray '{address}': expected HOST:PORT of a Ray cluster, auto or local; before a FILE, write --ray=auto"
        )
    if any(ctx.params[name] for name in _BATCHES):
        raise click.UsageError("--batch, --batch-out and --batch-in leave the work to a server: not with --ray")
    if not importlib.util.find_spec("ray"):
        raise MissingExtra("--ray", "ray")
    from pmem.cluster.driver import Cluster
    from pmem.cluster.worker import Job

    return Cluster(pipe, Job.of(ctx, workers), address, workers, gpus)
