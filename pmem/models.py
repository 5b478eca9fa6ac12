"""The options of every command that calls a model, as one decorator that hands the command its Model and prompts."""

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pmem.backends.opening import KINDS, REMOTE, Judging, backend_of
from pmem.stream.options import OUTPUT, Command, bundle
from pmem.stream.pipe import Pipe

if TYPE_CHECKING:
    from pmem.backends.base import Backend
    from pmem.backends.batch_ways import Ways
    from pmem.backends.cache import Cache
    from pmem.backends.calls import Calls, Limits
    from pmem.backends.model import Model
    from pmem.backends.plan import Plan
    from pmem.backends.usage import Tally

_MODEL_HELP = f"{KINDS}; openai: is any compatible server."


class Finite(click.FloatRange):
    """Floats, but neither inf nor nan: a limit of nan would hold for nothing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if number - number != 0:
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


POSITIVE = Finite(min=0, min_open=True)
_FILE = click.Path(exists=True, dir_okay=False)
_RECORDS = 10_000
"""In work at once with --batch, as far as the window's bytes allow: they make the batches large."""
_OF_THE_MODEL = ("max_tokens", "temperature", "thinking", "context_length")
"""Settings that don't go for judges."""
_SETTINGS = (
    click.option("--base-url", multiple=True, metavar="URL", help="Server of an openai: model (repeatable)."),
    click.option("-j", "--jobs", type=click.IntRange(min=1), default=16, show_default=True, help="Calls in flight."),
    click.option("--rpm", type=POSITIVE, help="Most requests a minute, for each model."),
    click.option("--tpm", type=POSITIVE, help="Most tokens a minute, of prompts and replies, for each model."),
    click.option(
        "--retries",
        type=click.IntRange(min=0),
        default=7,
        show_default=True,
        help="Repeated attempts at a call that the server failed to answer.",
    ),
    click.option("--timeout", type=POSITIVE, metavar="SECONDS", help="For one attempt at a call (default: 600)."),
    click.option("--max-tokens", type=click.IntRange(1, 2**31), help="Limit of each reply (default: the model's own)."),
    click.option("--temperature", type=Finite(min=0), help="For sampling (default: the model's own)."),
    click.option(
        "--thinking/--no-thinking",
        default=None,
        help="Whether the model reasons first, where its chat template has that switch (default: the model's own).",
    ),
    click.option("--plan", is_flag=True, help="Ask and write nothing; say what the run would take."),
    click.option("--batch", is_flag=True, help="openai:, azure: in the server's batches: within a day, for less."),
    click.option(
        "--batch-poll",
        type=POSITIVE,
        default=5,
        show_default=True,
        metavar="SECONDS",
        help="Between two looks at a batch, at first; up to a minute later.",
    ),
    click.option("--batch-out", type=OUTPUT, help="Write calls here, as for vllm run-batch, instead of making them."),
    click.option("--batch-in", type=_FILE, multiple=True, help="Take replies to such calls from here (repeatable)."),
    click.option("--max-cost", type=POSITIVE, metavar="USD", help="Stop before the run costs more."),
    click.option("--prices", type=_FILE, help="Your own table of prices (TOML; see docs/models.md)."),
    click.option("--usage", type=OUTPUT, help="Write calls, tokens and cost by model and role here."),
    click.option("--cache", type=click.Path(dir_okay=False), help="Response cache (default: in the user's cache)."),
    click.option("--no-cache", is_flag=True, help="Ask anew each time; a run that breaks off starts over."),
    click.option(
        "--prompts",
        type=click.Path(exists=True, file_okay=False),
        help="Folder with prompts that replace pmem's own of the same name.",
    ),
    click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="local:, vllm: of weights."),
    click.option(
        "--context-length",
        type=click.IntRange(min=1),
        help="Most tokens of prompt and reply together: of a vllm: model, of what eval asks.",
    ),
    click.option(
        "--tensor-parallel",
        type=click.IntRange(min=1),
        help="vllm: GPUs that share each layer.",
    ),
    click.option("--gpu-memory", type=click.FloatRange(0, 1, min_open=True), help="vllm: share of it to use."),
)
_JUDGE = (
    click.option("--judge-model", metavar="KIND:NAME", help="Model that judges."),
    click.option("--judge-base-url", multiple=True, metavar="URL", help="Its server (repeatable)."),
)
_JUDGES = (
    click.option(
        "--judge-model", multiple=True, metavar="KIND:NAME", help="Model that judges open-ended replies (repeatable)."
    ),
    click.option("--judge-base-url", multiple=True, metavar="URL", help="Server of the judges (repeatable)."),
)


def model_options(
    *, judge: bool = False, judges: bool = False, optional: bool = False, trained: bool = False
) -> Callable[[Command], Command]:
    """Give the command a `model` and `prompts`.

    With judge=True also a `judge`: the judging model, or None; with judges=True `judges`: any number of them.
    optional: the command does without a model in some uses; then `model` is None where none was named.
    trained: `model` is the name only, since it is not asked but trained; `sampling` holds the settings that go for it,
    `judging` what opens the judges elsewhere.
    Goes below `stream_options` and above the command's own options; the command also takes `seed`.
    """

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def with_model(pipe: Pipe, seed: int, model: str | None, prompts: str | None, **given: Any) -> None:
            from pmem.prompts import Prompts

            settings = {name: given.pop(name) for name in _NAMES if name not in ("prompts",)}
            judging = {name: given.pop(name) for name in ("judge_model", "judge_base_url") if judge or judges}
            pipe.jobs, pipe.usage = settings["jobs"], settings["usage"]
            pipe.batch_out = settings["batch_out"]
            opener = _Opener(pipe, seed, **settings)
            if trained:
                given["model"], given["sampling"] = model, {name: settings[name] for name in (*_OF_THE_MODEL, "dtype")}
                given["judging"] = opener.judging(judging["judge_model"], judging["judge_base_url"])
                opener.refuse_for_training()
            else:
                given["model"] = opener.model(model, "model", settings["base_url"]) if model else None
            if judges:
                given["judges"] = opener.judges(judging["judge_model"], judging["judge_base_url"])
            elif judge:
                named = filter(None, [judging["judge_model"]])
                given["judge"] = next(iter(opener.judges(named, judging["judge_base_url"])), None)
            opener.all_open()
            if settings["plan"]:
                if not opener.plans:
                    raise click.UsageError("--plan needs a model: -m KIND:NAME")
                pipe.plan = opener.planned
            elif settings["no_cache"] and not pipe.quiet:
                click.echo(f"pmem {pipe.stage}: --no-cache: if this run breaks off, its calls are lost", err=True)
            function(pipe=pipe, seed=seed, prompts=Prompts(Path(prompts) if prompts else None), **given)

        made: Command = bundle(
            click.option("-m", "--model", metavar="KIND:NAME", required=not optional, help=_MODEL_HELP),
            *_SETTINGS,
            *(_JUDGES if judges else _JUDGE if judge else ()),
        )(with_model)
        return made

    return decorate


def _names() -> list[str]:
    """The parameters of _SETTINGS."""

    @bundle(*_SETTINGS)
    def of_no_command() -> None: ...

    return [option.name for option in reversed(of_no_command.__click_params__)]  # type: ignore[attr-defined]


_NAMES = _names()


class _Opener:
    """Opens the models of one run by its options."""

    def __init__(self, pipe: Pipe, seed: int, **settings: Any) -> None:
        from pmem.backends.usage import Budget

        self._pipe, self._seed, self._settings = pipe, seed, settings
        self._budget = Budget(settings["max_cost"]) if settings["max_cost"] else None
        self.plans: list[Plan] = []
        batched = any(settings[name] for name in ("batch", "batch_out", "batch_in")) and not settings["plan"]
        if settings["plan"] and (settings["batch_out"] or settings["batch_in"]):
            raise click.UsageError("--plan asks nothing, and reads no replies: not with --batch-out or --batch-in")
        self._ways = self._batches() if batched else None

    def model(self, name: str, role: str, urls: tuple[str, ...]) -> "Model":
        """The named model, which lives as long as the run and is reported at its end."""
        from pmem.backends.cache import Cache, default_path
        from pmem.backends.calls import Limits
        from pmem.backends.model import Model
        from pmem.backends.usage import Tally

        given = self._settings
        backend = self._backend(name, urls)
        unswitched = name.startswith(("azure:", "recorded:")) or getattr(backend, "hosted", False)
        if role == "model" and given["thinking"] is not None and unswitched:
            raise click.UsageError(f"--thinking and --no-thinking are not for {name}, which has no such switch")
        cached = backend.cacheable and not given["no_cache"]
        file = Path(given["cache"]) if given["cache"] else default_path()
        cache = Cache(file) if cached and (file.exists() or not given["plan"]) else None
        limits = Limits(given["jobs"], given["retries"] + 1, given["rpm"], given["tpm"], self._budget)
        price = self._price(name, backend)
        if self._ways and cache and name.startswith(REMOTE):
            backend, limits = self._ways.around(name, backend, cache, limits)
        sampling = {key: given[key] if role == "model" else None for key in _OF_THE_MODEL}
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
        """What opens the judges again in another process."""
        named = {"judges": tuple(dict.fromkeys(names)), "urls": urls, "seed": self._seed}
        return Judging.of({**self._settings, "most": self._settings["max_cost"], **named})

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

    def _price(self, name: str, backend: "Backend") -> Any:
        from pmem.backends.prices import FREE, price_of

        if not name.startswith(REMOTE):
            return FREE
        rest = name.partition(":")[2]
        table = Path(self._settings["prices"]) if self._settings["prices"] else None
        in_batches = bool(self._settings["batch"] or self._settings["batch_out"])
        return price_of(rest, table, hosted=backend.hosted, batch=in_batches)  # type: ignore[attr-defined]
