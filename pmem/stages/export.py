"""`pmem export`: records in other people's layouts. The formats are in `pmem/formats/`."""

import click

from pmem.stream.group import LazyGroup, Member

MEMBERS = {
    "personamem-v2": Member("pmem.stages.export_personamem", "A folder in the layout of PersonaMem-v2."),
    "hf": Member("pmem.stages.export_hf", "A Hugging Face dataset folder with its card."),
}


@click.group(
    cls=LazyGroup,
    members=MEMBERS,
    epilog="Example: pmem export personamem-v2 questions.jsonl --histories histories.jsonl -o PersonaMem-mine",
)
def command() -> None:
    """Write records in other people's layouts.

    Each layout is a command of its own; it reads questions and makes a folder.
    """
