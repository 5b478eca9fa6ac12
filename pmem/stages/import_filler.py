"""`pmem import filler`: problems, programs and chats of public data sets become dialogues that fill a window."""

from collections import Counter
from typing import Any

import click

from pmem import tokens
from pmem.formats.filler import FORMATS, Seen, filler, format_of, parse
from pmem.stream.config import OwnOption
from pmem.stream.made import Made
from pmem.stream.options import seed_option, stream_options
from pmem.stream.pipe import Pipe


@click.command(
    epilog="Example: pmem import filler gsm8k.jsonl HumanEval.jsonl --dropped repeated.jsonl -o filler.jsonl"
)
@stream_options(drops=True)
@click.option("--from", cls=OwnOption, type=click.Choice(list(FORMATS)),
              help="What every line is (else its keys tell).")  # fmt: skip
@click.option("--source", cls=OwnOption, help="Name of the data set, for the records (else the format's).")
@seed_option
def command(pipe: Pipe, source: str | None, seed: int, **given: str | None) -> None:
    """Problems, programs and chats to filler dialogues.

    Reads JSON lines of GSM8K (question, answer), HumanEval (prompt, canonical_solution), QuixBugs (buggy, correct) or
    chats (messages). A problem becomes a dialogue of a user and an assistant about it: phrases and follow-up questions
    are drawn, what is said comes from the line. Chats stay as they are, but for a system message before and an
    unanswered end. Lines that came before, exactly or but for case, spacing and punctuation, go to --dropped.
    """
    form = given["from"]  # a word of Python's own
    seen = Seen()
    made: Counter[str] = Counter()
    size = 0

    async def make(row: dict[str, Any], _items: list[str] | None) -> Made:
        nonlocal size
        name = form or format_of(row)
        record = filler(row, name=name, source=source or name, seed=seed)
        count = tokens.count_messages(record["messages"])
        if reason := seen.again(row, name):
            return Made([], dropped=[(row, reason)])
        made[record["domain"]] += 1
        size += count
        return Made([record])

    def note() -> str:
        kinds = ", ".join(f"{count:,} {domain}" for domain, count in sorted(made.items()))
        said = [f"{kinds}: {size:,} tokens ({tokens.DEFAULT})"] if made else []
        if seen.exact or seen.normal:
            said.append(f"repeated: {seen.exact:,} exactly, {seen.normal:,} nearly")
        return "; ".join(said)

    pipe.notes.append(note)
    pipe.run(make, reads="filler", writes="filler", parse=parse)
