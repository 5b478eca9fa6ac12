"""What a model is shown before a question, as options that evaluation and training share."""

from collections.abc import Callable
from pathlib import Path

import click

from pmem.evaluation.photos import Photos
from pmem.evaluation.question import FORMS
from pmem.evaluation.remembering import Remembering
from pmem.evaluation.scenes import OF_HISTORY, Scenes, View
from pmem.memory.loop import MOST
from pmem.memory.memories import CHUNK
from pmem.prompts import Prompts
from pmem.stream.lookup import Lookup, finished
from pmem.stream.options import bundle, histories_option, images_option
from pmem.stream.pipe import Pipe
from pmem.tokens import DEFAULT

AHEAD = 64
"""Times as many questions as usual are begun while memories are made: a history's chunks follow each other, so that
many histories have to be in work."""
CONTEXTS = ("full", "memory", "rag", "snippet", "none")

shown_options = bundle(
    histories_option,
    click.option("--memories", type=click.Path(),
                 help="memory: file of memory records (without it, eval has the model make them of --histories)."),
    click.option("--top-k", type=click.IntRange(min=1), default=10, show_default=True,
                 help="rag: past turns to show, by BM25."),
    click.option("--with-system", is_flag=True,
                 help="full, memory, rag: first the system message that an imported history began with."),
    click.option("--truncate", type=click.Choice(["oldest", "middle"]),
                 help="full: leave out turns there, if --context-length demands it."),
    click.option("--tokenizer", default=DEFAULT, show_default=True, metavar="NAME",
                 help="Counts the tokens for --context-length."),
    images_option("Where images are whose paths stand in messages."),
    click.option("--images-as-text", is_flag=True, help="Show captions in place of images (for models that see none)."),
)  # fmt: skip

written_options = bundle(
    click.option("--chunk-tokens", type=click.IntRange(min=20), default=CHUNK, show_default=True,
                 help="Most tokens of chats read at once."),
    click.option("--memory-tokens", type=click.IntRange(min=20), default=MOST, show_default=True,
                 help="Most tokens of a memory (in training, of a reply that updates it, too)."),
    click.option("--memory-style", type=click.Choice(["bullets", "prose"]), default="bullets", show_default=True,
                 help="Which of the two prompts for memories to use."),
    click.option("--evidence/--no-evidence", default=True, show_default=True,
                 help="Ask which messages each statement of a memory rests on."),
)  # fmt: skip
"""How memories are written."""

reply_form_option = click.option(
    "--reply-form", type=click.Choice(FORMS), default=FORMS[0], show_default=True,
    help="Replies asked for: thoughts as text and the answer's line; thoughts between <think> tags first; "
         "or the line alone.")  # fmt: skip


def open_scenes(
    pipe: Pipe,
    prompts: Prompts,
    contexts: tuple[str, ...],
    *,
    context_length: int | None,
    reply: int | None,
    remember: Callable[[Lookup], Remembering] | None = None,
    histories: str | None,
    memories: str | None,
    top_k: int,
    with_system: bool,
    truncate: str | None,
    tokenizer: str,
    images: str | None,
    images_as_text: bool,
) -> Scenes:
    """What is shown of the past, by the options; usage error if they don't go together.

    context_length: most tokens of prompt and reply; reply: of the reply, if a limit is set; remember: makes
    memories where none are given.
    """
    for context in contexts:
        if context in ("full", "rag") and not histories:
            raise click.UsageError(f"--context {context} needs --histories FILE (or choose --context snippet or none)")
    if "memory" in contexts and not (memories or (histories and remember)):
        instead = ", or --histories FILE to make them of" if remember else ""
        raise click.UsageError(f"--context memory needs --memories FILE{instead}")
    if with_system and not (histories and any(context in OF_HISTORY for context in contexts)):
        raise click.UsageError(f"--with-system needs --histories FILE and a context of {', '.join(OF_HISTORY)}")
    if truncate and context_length is None:
        raise click.UsageError("--truncate needs --context-length N: the tokens that the model can take")
    if truncate and "full" not in contexts:
        raise click.UsageError("--truncate is for --context full")
    if "rag" in contexts:
        from pmem.evaluation.retrieval import require_extra

        require_extra()
    past = Lookup(Path(histories), "history") if histories else None
    kept: Lookup | Remembering | None = None
    if memories:
        kept = Lookup(Path(memories), "memory", key=finished, named="finished memory of")
    elif past and remember and "memory" in contexts:
        kept = remember(past)
        pipe.ahead = AHEAD
    pipe.attached += [one for one in (kept, past) if one]
    photos = Photos(Path(images) if images else None, as_text=images_as_text)
    view = View(top_k, with_system, context_length, truncate, tokenizer, photos)
    return Scenes(view, prompts, histories=past, memories=kept, reply=reply)
