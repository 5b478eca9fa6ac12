"""`pmem export personamem-v2`: questions as rows, with the histories and personas that they name."""

from pathlib import Path

import click

from pmem.formats.personamem_v2.labels import Labels
from pmem.formats.personamem_v2.writing import Writer
from pmem.stream.folder import Folder
from pmem.stream.options import INPUT, TO_FOLDER, stream_options
from pmem.stream.pipe import Pipe
from pmem.stream.progress import counted
from pmem.stream.source import records


@click.command(
    epilog="Example: pmem export personamem-v2 questions.jsonl --histories histories.jsonl --personas personas.jsonl"
    " -o PersonaMem-mine"
)
@stream_options(to=TO_FOLDER)
@click.option("--histories", type=INPUT, help="History records; those that questions name are written.")
@click.option("--personas", type=INPUT, help="Persona records; those that questions name are written.")
@click.option("--labels", type=INPUT, help="Published labels in the place of pmem's own list of them.")
@click.option("--force", is_flag=True, help="Set a folder that is already there aside, as FOLDER.old.")
def command(pipe: Pipe, histories: str | None, personas: str | None, labels: str | None, force: bool) -> None:
    """A folder in the layout of PersonaMem-v2.

    Reads questions; writes benchmark/text and benchmark/multimodal with a CSV table of 27 columns for each split
    (unsplit.csv for questions of none), histories as data/chat_history_32k and 128k, and raw persona files. Imported
    rows come out as they went in. Without --histories or --personas, the columns about them are empty, unless the
    questions were imported. docs/formats.md tells which column comes from which field.
    """
    assert pipe.output
    writer = Writer(folder := Folder(pipe.output, force=force), Labels(Path(labels) if labels else None))
    if personas:
        writer.personas(records((personas,), "persona"), personas)
    if histories:
        writer.histories(records((histories,), "history"), histories)

    def note() -> str:
        left = [f"{name} ({counted(count, 'question')})" for name, count in sorted(writer.left_out.items())]
        return f"windows left out: {', '.join(left)}" if left else ""

    pipe.notes.append(note)
    pipe.fill(folder, writer.question, writer.end, reads="qa")
