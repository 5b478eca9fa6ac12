"""`pmem chat`: one answer with a memory in view, to try it out."""

from pathlib import Path

import click

from pmem.backends.model import Model
from pmem.draws import fingerprint
from pmem.errors import InputError
from pmem.memory.files import of_markdown
from pmem.models import model_options
from pmem.prompts import Prompts
from pmem.prompts.replies import user
from pmem.stream.options import INPUT, seed_option, stream_options
from pmem.stream.pipe import Pipe
from pmem.stream.source import records


@click.command(epilog="Example: echo 'What shall I cook tonight?' | pmem chat --memory memories/ana.md -m openai:gpt-5")
@stream_options()
@model_options()
@seed_option
@click.option("--memory", "file", type=INPUT, required=True, help="USER.md or USER.json, or a file of memory records.")
@click.option("--user", "user_id", help="Whose memory, where the file holds several.")
def command(pipe: Pipe, model: Model, prompts: Prompts, seed: int, file: str, user_id: str | None) -> None:
    """Answer one message with a memory in view.

    The message is all that stands in FILE or on stdin; the answer goes to stdout.
    """
    memory = (
        of_markdown(Path(file).read_text(encoding="utf-8"))[0] if file.endswith(".md") else _recorded(file, user_id)
    )
    block = prompts.render("memory/block", memory=memory or "(nothing yet)")

    async def answer(question: str) -> str:
        prompt = prompts.render("memory/chat", block=block, question=question)
        return (await model.chat(user(prompt), call=f"chat/{fingerprint(question)}/answer")).text

    pipe.answer(answer)


def _recorded(file: str, user_id: str | None) -> str:
    """The text of a user's last memory in a file of records."""
    texts = {record["user_id"]: str(record["text"]) for record in records((file,), "memory")}
    if user_id is None and len(texts) == 1:
        return next(iter(texts.values()))
    if user_id is None or user_id not in texts:
        whose = ", ".join([*texts][:5]) + ", ..." * (len(texts) > 5)
        asked = f"no memory of {user_id}" if user_id else "memories of several users; say --user"
        raise InputError(f"{file}: {asked}; there are: {whose or 'none'}")
    return texts[user_id]
