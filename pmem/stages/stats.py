"""`pmem stats`: what is in a stream, counted."""

from pathlib import Path
from typing import Any

import click
import orjson

from pmem import tokens
from pmem.check import TYPES
from pmem.errors import PmemError
from pmem.report.distribution_table import text
from pmem.report.distributions import By, Distributions
from pmem.report.facts import facts
from pmem.stream.options import stream_options
from pmem.stream.pipe import Pipe


def _by(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[By]:
    fields = [tuple(name.strip() for name in value.split(",")) for value in values]
    if any(not name for names in fields for name in names):
        raise click.BadParameter("expected names of fields with commas between them")
    return fields


@click.command(
    epilog="Examples: pmem stats questions.jsonl | pmem stats questions.jsonl --by kind,case | "
    "pmem stats histories.jsonl --figures figures"
)
@stream_options()
@click.option("--by", multiple=True, callback=_by, metavar="FIELD[,FIELD]...",
              help="Count combinations of values instead (repeatable); labels.NAME is a label.")  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Show every value of a field, not just the commonest.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every value.")
@click.option("--figures", type=click.Path(file_okay=False), metavar="DIR",
              help="Draw figures as well, as PNG and SVG files in DIR.")  # fmt: skip
@click.option("--tokens", "with_tokens", is_flag=True,
              help="Count tokens where records don't tell them: conversations, filler, questions.")  # fmt: skip
@click.option("--tokenizer", default=tokens.DEFAULT, show_default=True,
              help="What --tokens counts with (or a Hugging Face one).")  # fmt: skip
def command(
    pipe: Pipe,
    by: list[By],
    everything: bool,
    as_json: bool,
    figures: str | None,
    with_tokens: bool,
    tokenizer: str,
) -> None:
    """Count what is in any stream: kinds, topics, tokens.

    Record types may be mixed; each has a table of its own, and so have parts: the preferences of personas, the
    sessions of histories, the votes on questions. Depth is where the middle of a conversation stands in its history.
    An error record counts as an error, not as what it holds.
    """
    if with_tokens:
        tokens.tokenizer(tokenizer)

    def count_tokens(messages: list[dict[str, Any]]) -> int:
        return tokens.count_messages(messages, tokenizer)

    counted = Distributions(by)
    for record in pipe.records(reads=" ".join(TYPES)):
        for one in facts(record, count_tokens if with_tokens else None):
            counted.count(one)
    if counted.sections and (unknown := counted.unknown()):
        known = sorted(set().union(*(section.known() for section in counted.sections.values())))
        raise PmemError(f"stats: --by: no record has {', '.join(unknown)}; there are {', '.join(known)}")
    if figures and counted.sections:
        from pmem.report.figures import draw

        made = draw(counted, Path(figures))
        pipe.notes.append(lambda: f"{made} figures in {figures}")
    if as_json:
        pipe.print(orjson.dumps(counted.as_json(), option=orjson.OPT_INDENT_2).decode())
    else:
        pipe.print(text(counted, everything=everything))
