"""`pmem memdump`: what chats reveal about each user, as a short text that is kept up to date."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from pmem import tokens
from pmem.backends.model import Model
from pmem.cluster.options import spread_options
from pmem.errors import RecordError
from pmem.memory.files import file_name, save
from pmem.memory.loop import form_of, unbroken
from pmem.memory.memories import Remembered, Setup, memories
from pmem.memory.previous import Previous, PreviousFile, previous
from pmem.models import model_options
from pmem.prompts import Prompts
from pmem.shown import written_options
from pmem.stream.made import Made, as_line
from pmem.stream.options import seed_option, stream_options
from pmem.stream.pipe import Pipe
from pmem.turns import turn

Record = dict[str, Any]

IN_WORK = 160 << 20
"""Bytes of histories in work: a user's stays until the last chunk, and 64 of 128k tokens are to be in work at once."""

LATER = 1 << 60
"""Turns after those of all records: whoever waits since before goes first."""


@click.command(
    epilog="Examples: pmem memdump histories.jsonl -m openai:gpt-5 -o memories.jsonl; pmem memdump tonight.jsonl "
    "-m openai:gpt-5 --previous memories --format md"
)
@stream_options(drops=True)
@spread_options
@model_options()
@seed_option
@click.option("--format", "shape", type=click.Choice(["jsonl", "md", "prompt"]), default="jsonl", show_default=True,
              help="Records; pages to read and edit (see --into); or text for an assistant's prompt.")  # fmt: skip
@click.option("--into", type=click.Path(file_okay=False), metavar="DIR",
              help="Write USER.md and USER.json here, whatever --format says (for md: in memories).")  # fmt: skip
@click.option("--previous", "before", type=click.Path(), metavar="FILE|DIR",
              help="Go on from these memories, records or edited pages: read only what is new.")  # fmt: skip
@click.option("--window", help="Of histories in several windows, only those of this one (the others are dropped).")
@click.option("--trace", is_flag=True, help="A record for each chunk instead of the last only (for `pmem memlog`).")
@written_options
@click.option("--redact", is_flag=True, help="Mask private details in what is sent to the model.")
@click.option("--tokenizer", default=tokens.DEFAULT, show_default=True, help="What both are counted with.")
def command(
    pipe: Pipe,
    model: Model,
    prompts: Prompts,
    seed: int,
    shape: str,
    into: str | None,
    before: str | None,
    window: str | None,
    trace: bool,
    memory_style: str,
    evidence: bool,
    redact: bool,
    chunk_tokens: int,
    memory_tokens: int,
    tokenizer: str,
) -> None:
    """Histories to memories: what chats reveal about a user.

    The chats are read in chunks, in order; after each the memory is written anew, from that chunk and the memory
    before it alone, without any question in view. Private details and what the user asks to forget don't stay in it,
    whatever the model writes. One record for each history: the last memory.
    """
    if trace and shape != "jsonl":
        raise click.UsageError("--trace gives records: not with --format md or prompt (--into DIR writes pages beside)")
    tokens.tokenizer(tokenizer)
    form = form_of(prompts, tokenizer, memory_style, memory_tokens, evidence)
    setup = Setup(form, chunk_tokens, redact, prompts.provenance("memdump", model.name, seed, form.names))
    folder = Path(into or "memories") if into or shape == "md" else None
    if before and not os.path.exists(before) and before not in (str(folder), pipe.output):
        raise click.UsageError(f"--previous: no file or folder '{before}'")  # where it is the output: the first night
    past = previous(Path(before)) if before else None
    if pipe.shard and isinstance(past, PreviousFile):
        raise click.UsageError("--previous FILE carries over who has no new memory: not with --shard (a folder can)")
    if pipe.elsewhere and (folder or past) and window is None:
        raise click.UsageError("--ray with pages or --previous needs --window: of each user, one history is read")
    dump = _Dump(pipe, model, setup, past, folder, trace, window)
    pipe.most_bytes = IN_WORK
    shapes: dict[str, Callable[[Record], bytes]]
    shapes = {"jsonl": as_line, "md": dump.page_name, "prompt": partial(_block, prompts)}
    pipe.shape = shapes[shape]
    if not pipe.plan:
        pipe.notes.append(dump.note)
    pipe.noted = dump.noted
    if dump.previous:
        pipe.attached.append(dump.previous)
        pipe.epilogue = dump.carried_over
    pipe.run(dump.made, reads="history", writes="memory")


class _Dump:
    """One run: the previous memories, the folder of pages, and counts of what was noteworthy."""

    def __init__(
        self,
        pipe: Pipe,
        model: Model,
        setup: Setup,
        before: Previous | None,
        folder: Path | None,
        trace: bool,
        window: str | None,
    ) -> None:
        self._pipe, self._model, self._setup, self._folder, self._trace = pipe, model, setup, folder, trace
        self._window = window
        self.previous = before
        self._first: dict[str, str] = {}  # of users with one memory that counts: the history that it is made of
        self._counts: Counter[str] = Counter()

    async def made(self, history: Record, _items: list[str] | None) -> Made:
        """The memories of a history's user: all, or the last."""
        if self._window not in (None, history["window"]):
            return Made([], dropped=[(history, f"window {history['window']}")])
        user_id = history["user_id"]
        if self._folder or self.previous:
            self._only_one(history)
        before = self.previous.of(user_id, history["id"]) if self.previous else None

        async def ask(messages: list[Record], number: int, left: int) -> str:
            if self._pipe.exhausted:  # who has most to read goes first, so that all end together; before, the oldest,
                turn.set(LATER - left)  # so that users end one by one and new ones begin
            reply = await self._model.chat(messages, call=f"memdump/{history['id']}/{number}", step="update")
            return unbroken(reply.text, cut=reply.finish == "length")

        found: list[Record] = []
        counts: Counter[str] = Counter()
        async for one in memories(history, before, ask, self._setup):
            counts.update(_counted(one))
            found = [*found, one.record] if self._trace else [one.record]
        for record in found:
            record["chunks"] = found[-1]["chunk"]
        if found and self._folder and not self._pipe.plan:
            save(found[-1], self._folder)
        return Made(found, noted=(user_id if found else None, counts))

    def noted(self, of_user: tuple[str | None, Counter[str]]) -> None:
        """A user's new memory is in the output; how it came about."""
        user_id, counts = of_user
        self._counts.update(counts)
        if user_id is not None and self.previous:
            self.previous.written(user_id)

    def _only_one(self, history: Record) -> None:
        """RecordError at a user's second history: they have one page, and one memory to go on with, so that what was
        read in one of the two would be lost."""
        user_id, own = history["user_id"], f"{history['id']} (window {history['window']})"
        first = self._first.setdefault(user_id, own)
        if first != own:
            raise RecordError(
                f"a second history of user {user_id}, {own} after {first}, and one memory to keep: choose a window with"
                " --window; of several logs, give each a run of its own, one after the other, with --previous",
                reason="limit",
                pointer="/user_id",
            )

    def carried_over(self) -> Iterator[Record]:
        """The previous memories of users that have no new one."""
        for record in self.previous.others() if self.previous else ():
            if self._folder:
                save(record, self._folder)
            yield record

    def note(self) -> str:
        """For the summary line."""
        counts = self._counts
        said = [f"{counts['chunks']:,} chunks read, {counts['trimmed']:,} memories trimmed"]
        told = (
            ("known", "messages known already"),
            ("edited", "edited by hand"),
            ("private", "entries with private details left out"),
            ("forgotten", "entries on what is to be forgotten left out"),
        )
        return ", ".join([*said, *(f"{counts[key]:,} {text}" for key, text in told if counts[key])])

    def page_name(self, memory: Record) -> bytes:
        """The path of a memory's page, as a line."""
        assert self._folder
        return f"{self._folder / file_name(memory['user_id'])}.md\n".encode()


def _counted(one: Remembered) -> Counter[str]:
    """What was noteworthy about one step."""
    counts = Counter({"edited": int(one.record["edited"]), "known": one.known})
    if one.step:
        step = one.step
        counts += Counter(chunks=1, trimmed=step.trimmed, private=step.private, forgotten=step.forgotten)
    return counts


def _block(prompts: Prompts, memory: Record) -> bytes:
    """A memory as a block for an assistant's prompt, ended by an empty line."""
    return (prompts.render("memory/block", memory=memory["text"] or "(nothing yet)") + "\n\n").encode()
