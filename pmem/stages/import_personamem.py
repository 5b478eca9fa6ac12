"""`pmem import personamem-v2`: rows become questions; linked histories and personas become records, too."""

from pathlib import Path

import click

from pmem.formats.personamem_v2 import layout
from pmem.formats.personamem_v2.labels import Labels
from pmem.formats.personamem_v2.rows import Importer
from pmem.stream.config import OwnOption
from pmem.stream.options import INPUT, OUTPUT, SOURCES, seed_option, stream_options
from pmem.stream.pipe import Pipe
from pmem.stream.progress import counted


@click.command(
    epilog="Example: pmem import personamem-v2 PersonaMem-v2/ --histories histories.jsonl --personas personas.jsonl"
    " -o questions.jsonl"
)
@stream_options(files=SOURCES)
@click.option("--histories", cls=OwnOption, type=OUTPUT, help="Put the history records here.")
@click.option("--personas", cls=OwnOption, type=OUTPUT, help="Put the persona records here.")
@click.option("--labels", type=INPUT, help="Published labels in the place of pmem's own list of them.")
@seed_option
def command(pipe: Pipe, histories: str | None, personas: str | None, labels: str | None, seed: int) -> None:
    """Questions, histories and personas of PersonaMem-v2.

    Reads CSV tables of 27 columns, or a data set's FOLDER: all of benchmark/text and benchmark/multimodal. Writes a
    question for each row. Histories and raw persona files are looked for where the rows link to them, from the data
    set's root, or beside the table; a question names only histories that are there. The system message of a history,
    which tells the persona, goes to its field `system`, never into the messages. What a record has no field for is
    kept in its labels, so that `pmem export personamem-v2` gives it back. Options are put into a drawn order.
    """
    importer = Importer(
        Labels(Path(labels) if labels else None),
        seed=seed,
        put_history=pipe.beside(histories, "history") if histories else None,
        put_persona=pipe.beside(personas, "persona") if personas else None,
    )

    def note() -> str:
        missing = len(importer.missing)
        return f"{counted(missing, 'linked file')} not found" if missing else ""

    pipe.notes.append(note)
    pipe.take(layout.rows(pipe.files), importer, writes="qa")
