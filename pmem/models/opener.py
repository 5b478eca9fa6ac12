"""Opens the models of a run by its options: backend, cache, limits, price; for batches or a plan, what stands in."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pmem.backends.opening import REMOTE, Judging, backend_of, price_for
from pmem.stream.pipe import Pipe

if TYPE_CHECKING:
    from pmem.backends.base import Backend
    from pmem.backends.batch_ways import Ways
    from pmem.backends.cache import Cache
    from pmem.backends.calls import Calls, Limits
    from pmem.backends.model import Model
    from pmem.backends.plan import Plan
    from pmem.backends.usage import Tally

_RECORDS = 10_000
"""In work at once with --batch, as far as the window's bytes allow: they make the batches large."""
OF_THE_MODEL = ("max_tokens", "temperature", "thinking", "context_length")
"""Settings that don't go for judges."""


def _anywhere(name: str) -> str:
    """A model's name that means the same in any folder."""
    from pmem.backends.local_model import SMOLLM2, locate

    kind, _, where = name.partition(":")
    if kind in ("local", "vllm") and where != SMOLLM2:
        found = locate(where)
        return f"{kind}:{found.resolve()}" if isinstance(found, Path) else name
    return f"{kind}:{Path(where).resolve()}" if kind == "recorded" and Path(where).exists() else name


class Opener:
    """Opens the models of one run by its options."""

    def __init__(self, pipe: Pipe, seed: int, **settings: Any) -> None:
        from pmem.backends.usage import Budget

        self._pipe, self._seed, self._settings = pipe, seed, settings
        budget = pipe.shared_budget or (lambda: Budget(settings["max_cost"]))
        self._budget = budget() if settings["max_cost"] else None
        self.plans: list[Plan] = []
        batched = any(settings[name] for name in ("batch", "batch_out", "batch_in")) and not settings["plan"]
        if settings["plan"] and (settings["batch_out"] or settings["batch_in"]):
            raise click.UsageError("--plan asks nothing, and reads no replies: not with --batch-out or --batch-in")
        self._ways = self._batches() if batched else None

    def model(self, name: str, role: str, urls: tuple[str, ...]) -> "Model":
        """The named model, which lives as long as the run and is reported at its end."""
        from pmem.backends.cache import Cache, path_of
        from pmem.backends.calls import Limits
        from pmem.backends.model import Model
        from pmem.backends.usage import Tally

        given = self._settings
        backend = self._backend(name, urls)
        unswitched = name.startswith(("azure:", "recorded:")) or getattr(backend, "hosted", False)
        if role == "model" and given["thinking"] is not None and unswitched:
            raise click.UsageError(f"--thinking and --no-thinking are not for {name}, which has no such switch")
        cached = backend.cacheable and not given["no_cache"]
        file, cache = path_of(given["cache"]), None
        if cached and (file.exists() or not given["plan"]):
            cache = self._pipe.shared_cache() if self._pipe.shared_cache else Cache(file)
        limits = Limits(given["jobs"], given["retries"] + 1, given["rpm"], given["tpm"], self._budget)
        in_batches = bool(given["batch"] or given["batch_out"])
        price = price_for(name, backend, given["prices"], batch=in_batches)
        if self._ways and cache and name.startswith(REMOTE):
            backend, limits = self._ways.around(name, backend, cache, limits)
        sampling = {key: given[key] if role == "model" else None for key in OF_THE_MODEL}
        tally = Tally(name, role, price)
        calls = None
        if given["plan"]:
            backend, calls = self._planning(backend, tally, limits, cache, cacheable=cached)
        made = Model(name, backend, cache=cache, limits=limits, calls=calls, tally=tally, seed=self._seed, **sampling)
        self._pipe.attached.append(made)
        self._pipe.used.append(lambda: tally.record(self._pipe.stage))
        return made

    def judges(self, names: Iterable[str], urls: tuple[str, ...]) -> "tuple[Model, ...]":
        """The named judging models, each once."""
        each = dict.fromkeys(names)
        if urls and not each:
            raise click.UsageError("--judge-base-url is for the models named by --judge-model")
        return tuple(self.model(name, "judge", urls) for name in each)

    def _planning(
        self, real: "Backend", tally: "Tally", limits: "Limits", cache: "Cache | None", *, cacheable: bool
    ) -> "tuple[Backend, Calls]":
        """What stands in for a model and its calls where nothing is to be asked."""
        from pmem.backends.plan import Plan
        from pmem.backends.planning import PlannedCalls, PlanningBackend, Sizes

        kind = tally.name.partition(":")[0]
        plan = Plan(tally.name, tally.role, tally.price, limits, server=kind in ("openai", "azure"))
        self.plans.append(plan)
        sizes = Sizes(exact=kind == "azure" or getattr(real, "hosted", False))
        backend = PlanningBackend(real, tally.name, sizes, cacheable=cacheable, cache=cache)
        return backend, PlannedCalls(plan, backend)

    def judging(self, names: Iterable[str], urls: tuple[str, ...]) -> Judging:
        """What opens the judges again in another process, wherever that runs."""
        from pmem.backends.cache import path_of

        given = self._settings
        named = {"judges": tuple(map(_anywhere, dict.fromkeys(names))), "urls": urls, "seed": self._seed}
        cache = str(path_of(given["cache"]).resolve())
        prices = given["prices"] and str(Path(given["prices"]).resolve())
        return Judging.of({**given, "cache": cache, "prices": prices, "most": given["max_cost"], **named})

    def refuse_for_training(self) -> None:
        """Usage error for ways of asking that training can't wait for."""
        for name in ("plan", "batch", "batch_out", "batch_in"):
            if self._settings[name]:
                raise click.UsageError(f"--{name.replace('_', '-')} is not for training: replies are judged at once")

    def planned(self) -> str:
        """The plan as a table."""
        from pmem.report.planned import text

        return text(self._pipe.stage, self.plans, self._settings["max_cost"], batch=self._settings["batch"])

    def all_open(self) -> None:
        """Usage error if options apply to none of the models; else say what is to be known before the run."""
        given, pipe = self._settings, self._pipe
        if not (self._ways and pipe.attached):
            return
        if not self._ways.used:
            raise click.UsageError("--batch, --batch-out and --batch-in are for openai: and azure: models")
        notes = ["--rpm and --tpm don't apply to batches"] if given["batch"] and (given["rpm"] or given["tpm"]) else []
        for note in [*notes, *self._ways.found()] if not pipe.quiet else []:
            click.echo(f"pmem {pipe.stage}: {note}", err=True)

    def _batches(self) -> "Ways":
        """What --batch, --batch-out and --batch-in ask for."""
        from pmem.backends.batch_ways import Ways

        given, pipe = self._settings, self._pipe
        if given["batch"] and given["batch_out"]:
            raise click.UsageError("--batch sends calls, --batch-out writes them to a file: choose one")
        if given["no_cache"]:
            raise click.UsageError("--batch, --batch-out and --batch-in need the response cache: not with --no-cache")
        if given["batch"]:
            pipe.jobs = _RECORDS // 2

        def say(text: str) -> None:
            if not pipe.quiet:
                pipe.bar.say(f"pmem {pipe.stage}: {text}")

        ways = Ways(
            batch=given["batch"],
            poll=given["batch_poll"],
            out=given["batch_out"],
            replies=given["batch_in"],
            write=pipe.put_off,
            say=say,
        )
        pipe.notes.append(ways.note)
        return ways

    def _backend(self, name: str, urls: tuple[str, ...]) -> "Backend":
        given = self._settings
        return backend_of(name, urls, given, asks_nothing=bool(given["plan"] or given["batch_out"]))
