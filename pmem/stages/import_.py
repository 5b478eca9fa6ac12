"""`pmem import`: other people's data as records. The formats are in `pmem/formats/`."""

import click

from pmem.stream.group import LazyGroup, Member

MEMBERS = {
    "filler": Member("pmem.stages.import_filler", "Problems, programs and chats to filler dialogues."),
    "personamem-v2": Member("pmem.stages.import_personamem", "Questions, histories and personas of PersonaMem-v2."),
    "personamem-v1": Member("pmem.stages.import_personamem_v1", "Questions and histories of PersonaMem, version 1."),
    "longmemeval": Member("pmem.stages.import_longmemeval", "Questions and histories of LongMemEval."),
    "locomo": Member("pmem.stages.import_locomo", "Questions and histories of LoCoMo."),
    "prefeval": Member("pmem.stages.import_prefeval", "Questions and histories of PrefEval."),
    "chatgpt": Member("pmem.stages.import_chatgpt", "The chats of ChatGPT's data export to a history."),
    "claude": Member("pmem.stages.import_claude", "The chats of Claude's data export to histories."),
    "sharegpt": Member("pmem.stages.import_sharegpt", "ShareGPT's conversations to histories."),
    "messages": Member("pmem.stages.import_messages", "Chats to histories."),
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
