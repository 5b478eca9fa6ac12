"""The options of every command that calls a model, as one decorator that hands the command its Model and prompts."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pmem.backends.opening import KINDS
from pmem.models.opener import OF_THE_MODEL, Opener
from pmem.stream.options import OUTPUT, Command, bundle
from pmem.stream.pipe import Pipe

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
            opener = Opener(pipe, seed, **settings)
            if trained:
                given["model"], given["sampling"] = model, {name: settings[name] for name in (*OF_THE_MODEL, "dtype")}
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
