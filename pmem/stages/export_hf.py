"""`pmem export hf`: questions, histories and personas as a Hugging Face dataset folder."""

from pathlib import Path
from typing import Any

import click
import orjson

from pmem.check import plain
from pmem.errors import InputError
from pmem.formats.hugging_face.writing import Writer
from pmem.stream.folder import Folder
from pmem.stream.options import INPUT, TO_FOLDER, stream_options
from pmem.stream.pipe import Pipe
from pmem.stream.source import records


@click.command(epilog="Example: pmem export hf questions.jsonl --histories histories.jsonl -o my-dataset")
@stream_options(to=TO_FOLDER)
@click.option("--histories", type=INPUT, help="History records; those that questions name are written.")
@click.option("--personas", type=INPUT, help="Persona records; those that questions name are written.")
@click.option("--audit", type=INPUT, help="What `pmem audit` found, as JSON, for the card.")
@click.option("--title", help="Name of the data set on its card (default: the folder's).")
@click.option("--force", is_flag=True, help="Set a folder that is already there aside, as FOLDER.old.")
def command(
    pipe: Pipe, histories: str | None, personas: str | None, audit: str | None, title: str | None, force: bool
) -> None:
    """A Hugging Face dataset folder with its card.

    Reads questions; writes data/SPLIT.jsonl (unsplit.jsonl for questions of none), histories/WINDOW.jsonl,
    personas.jsonl and README.md, whose header names files and columns, so that `datasets.load_dataset` loads the folder
    as it is: configs `questions`, `histories`, `personas`. The card has counts, how the records were made, the audit,
    and a datasheet with [places] that only you can fill in.
    """
    assert pipe.output
    found = _audit(audit) if audit else None
    folder = Folder(pipe.output, force=force)
    writer = Writer(folder)

    def end() -> None:
        if histories:
            writer.histories(records((histories,), "history"), histories)
        if personas:
            writer.personas(records((personas,), "persona"))
        writer.card(plain(title or folder.target.name), found)

    pipe.fill(folder, writer.question, end, reads="qa")


def _audit(name: str) -> dict[str, Any]:
    try:
        found = orjson.loads(Path(name).read_bytes())
    except orjson.JSONDecodeError as fault:
        raise InputError(f"{name}: not JSON: {fault}") from None
    if not isinstance(found, dict):
        raise InputError(f"{name}: expected a JSON object, as `pmem audit` writes it")
    return found
