"""`pmem converse`: a persona's preferences become conversations."""

from pathlib import Path
from typing import Any

import click

from pmem.backends.model import Model
from pmem.cluster.options import spread_options
from pmem.dataset.conversations import Album, Setup, conversations
from pmem.dataset.implicitness import Judging
from pmem.models import model_options
from pmem.prompts import Prompts
from pmem.stream.made import Made
from pmem.stream.options import images_option, seed_option, stream_options
from pmem.stream.pipe import Pipe


@click.command(epilog="Example: pmem converse personas.jsonl -m openai:gpt-5 -o conversations.jsonl")
@stream_options()
@spread_options
@model_options(judge=True)
@seed_option
@click.option("--implicitness", type=click.IntRange(min=0), default=0, show_default=True, metavar="VOTES",
              help="Votes on each: can the preference be inferred, and is it not stated? 0 asks for none.")  # fmt: skip
@click.option("--attempts", type=click.IntRange(min=1), default=3, show_default=True,
              help="How often a conversation is written before it is rejected for these votes.")  # fmt: skip
@images_option("Images for photo queries, with manifest.jsonl: file, caption, topics (see docs/data.md).")
@click.option("--embed-images", is_flag=True, help="Put images into messages whole, not their paths.")
@click.option("--images-as-text", is_flag=True, help="Put captions into messages, not images.")
def command(
    pipe: Pipe,
    model: Model,
    judge: Model | None,
    prompts: Prompts,
    seed: int,
    implicitness: int,
    attempts: int,
    images: str | None,
    embed_images: bool,
    images_as_text: bool,
) -> None:
    """Personas to conversations that show one preference each.

    In every conversation the user wants something else done (an email polished, a text translated, a question
    answered), and the preference shows only between the lines. Scenario, length, languages and the place of a secret
    are drawn; updates and forget requests are conversations of their own, which name what must come before them.

    A conversation that states its preference, or holds a private detail that wasn't made up for it, is asked for
    again. With --implicitness judges (--judge-model, else the model itself) vote on each, too.
    """
    if judge and not implicitness:
        raise click.UsageError("--judge-model votes only with --implicitness VOTES")
    album = _album(images, embed=embed_images, as_text=images_as_text)
    setup = Setup(model, prompts, seed, Judging(judge or model, prompts, implicitness), attempts, album)

    async def make(persona: dict[str, Any], items: list[str] | None) -> Made:
        return await conversations(persona, items, setup)

    pipe.run(make, reads="persona", writes="conversation")


def _album(folder: str | None, *, embed: bool, as_text: bool) -> Album | None:
    """The images of a run."""
    from pmem.images import manifest

    if embed and as_text:
        raise click.UsageError("--embed-images and --images-as-text: choose one")
    if folder is None:
        if embed or as_text:
            raise click.UsageError("--embed-images and --images-as-text need --images DIR")
        return None
    form = "url" if embed else "words" if as_text else "path"
    return Album(Path(folder), manifest(Path(folder)), form)
