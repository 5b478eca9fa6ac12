"""`pmem import`: other people's data as records. The formats are in `pmem/formats/`."""

import click

from pmem.stream.group import LazyGroup, Member

MEMBERS = {
    "filler": Member("pmem.stages.import_filler", "Problems, programs and chats to filler dialogues."),
    "personamem-v2": Member("pmem.stages.import_personamem", "Questions, histories and personas of PersonaMem-v2."),
}


@click.group(
    cls=LazyGroup,
    members=MEMBERS,
    epilog="Example: pmem import personamem-v2 PersonaMem-v2/ --histories histories.jsonl -o questions.jsonl",
)
def command() -> None:
    """Read other people's data as records.

    Each format is a command of its own.
    """
