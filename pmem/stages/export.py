"""`pmem export`: records in other people's layouts. The formats are in `pmem/formats/`."""

import click

from pmem.stream.group import LazyGroup, Member

MEMBERS = {
    "personamem-v2": Member("pmem.stages.export_personamem", "A folder in the layout of PersonaMem-v2."),
    "hf": Member("pmem.stages.export_hf", "A Hugging Face dataset folder with its card."),
    "lm-eval": Member("pmem.stages.export_lm_eval", "Questions as a task of lm-evaluation-harness."),
    "inspect": Member("pmem.stages.export_inspect", "Results as evaluation logs of inspect-ai."),
    "csv": Member("pmem.stages.export_csv", "Results as a table of comma-separated values."),
    "parquet": Member("pmem.stages.export_parquet", "Results as a table in a parquet file."),
}


@click.group(
    cls=LazyGroup,
    members=MEMBERS,
    epilog="Example: pmem export personamem-v2 questions.jsonl --histories histories.jsonl -o PersonaMem-mine",
)
def command() -> None:
    """Write records in other people's layouts.

    Each layout is a command of its own, which reads questions or results.
    """
