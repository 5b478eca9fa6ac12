"""The options of every command that calls a model, as one decorator that hands the command its Model and prompts."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pmem.backends.base import Backend
from pmem.stream.options import Command, bundle
from pmem.stream.pipe import Pipe

_MODEL_HELP = "openai:NAME (any compatible server), local:NAME-or-path, vllm:NAME-or-path, recorded:FILE."
_SETTINGS = (
    click.option("--base-url", multiple=True, metavar="URL", help="Server of an openai: model (repeatable)."),
    click.option("-j", "--jobs", type=click.IntRange(min=1), default=16, show_default=True, help="Calls in flight."),
    click.option("--max-tokens", type=click.IntRange(min=1), help="Limit of each reply (default: the model's own)."),
    click.option("--temperature", type=click.FloatRange(min=0), help="For sampling (default: the model's own)."),
    click.option("--cache", type=click.Path(dir_okay=False), help="Response cache (default: in the user's cache)."),
    click.option("--no-cache", is_flag=True, help="Ask anew each time; a run that breaks off starts over."),
    click.option(
        "--prompts",
        type=click.Path(exists=True, file_okay=False),
        help="Folder with prompts that replace pmem's own of the same name.",
    ),
)
_JUDGE = (
    click.option("--judge-model", metavar="KIND:NAME", help="Model that judges open-ended replies."),
    click.option("--judge-base-url", multiple=True, metavar="URL", help="Its server (repeatable)."),
)


def backend(name: str, base_urls: tuple[str, ...]) -> Backend:
    """The backend of a `KIND:NAME`; a usage error if there is no such kind."""
    kind, _, rest = name.partition(":")
    if rest and kind == "openai":
        from pmem.backends.openai import OpenAIBackend

        return OpenAIBackend(rest, base_urls)
    if rest and kind == "recorded":
        from pmem.backends.recorded import RecordedBackend

        return RecordedBackend(rest)
    if rest and kind == "local":
        from pmem.backends.local import LocalBackend

        return LocalBackend(rest)
    if rest and kind == "vllm":
        from pmem.backends.vllm import VLLMBackend

        return VLLMBackend(rest)
    raise click.UsageError(
        f"no model '{name}': expected openai:NAME, local:NAME-or-path, vllm:NAME-or-path or recorded:FILE"
    )


def model_options(*, judge: bool = False, optional: bool = False) -> Callable[[Command], Command]:
    """Give the command a `model` and `prompts` (with judge=True also a `judge`: the judging model, or None).

    optional: the command does without a model in some uses; then `model` is None where none was named.
    Goes below `stream_options` and above the command's own options; the command also takes `seed`.
    """

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def with_model(
            pipe: Pipe,
            seed: int,
            model: str | None,
            base_url: tuple[str, ...],
            jobs: int,
            max_tokens: int | None,
            temperature: float | None,
            cache: str | None,
            no_cache: bool,
            prompts: str | None,
            judge_model: str | None = None,
            judge_base_url: tuple[str, ...] = (),
            **rest: Any,
        ) -> None:
            from pmem.backends.cache import Cache, default_path
            from pmem.backends.model import Model
            from pmem.prompts import Prompts

            def opened(name: str, urls: tuple[str, ...], **settings: Any) -> Model:
                used = backend(name, urls)
                replies = Cache(Path(cache) if cache else default_path()) if used.cacheable and not no_cache else None
                made = Model(name, used, jobs=jobs, cache=replies, seed=seed, **settings)
                pipe.attached.append(made)
                return made

            pipe.jobs = jobs
            asked = opened(model, base_url, max_tokens=max_tokens, temperature=temperature) if model else None
            if judge:
                rest["judge"] = opened(judge_model, judge_base_url) if judge_model else None
            if no_cache and not pipe.quiet:
                click.echo(f"pmem {pipe.stage}: --no-cache: if this run breaks off, its calls are lost", err=True)
            function(pipe=pipe, model=asked, seed=seed, prompts=Prompts(Path(prompts) if prompts else None), **rest)

        made: Command = bundle(
            click.option("-m", "--model", metavar="KIND:NAME", required=not optional, help=_MODEL_HELP),
            *_SETTINGS,
            *(_JUDGE if judge else ()),
        )(with_model)
        return made

    return decorate
