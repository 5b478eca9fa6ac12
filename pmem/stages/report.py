"""`pmem report`: results, or memories, as one page for a browser."""

from collections.abc import Iterable
from itertools import chain
from typing import Any

import click

from pmem.errors import InputError
from pmem.stream.options import INPUT, stream_options
from pmem.stream.pipe import Pipe
from pmem.stream.source import records

Record = dict[str, Any]
USUAL = ("kind", "case", "scenario", "updated", "owner", "distance")
MIXED = "report: results and memories come together: a page shows either; make one of each"


@click.command(
    epilog="Examples: pmem report results.jsonl --questions questions.jsonl -o report.html | "
    "pmem report trace.jsonl --histories histories.jsonl -o memory.html"
)
@stream_options()
@click.option("--questions", type=INPUT,
              help="Of results: the questions that were asked: their text, what they rest on and where.")  # fmt: skip
@click.option("--histories", type=INPUT, multiple=True,
              help="Of memories: the chats that they were made from, so that a statement opens with the messages it "
              "rests on. Repeat it for several nights.")  # fmt: skip
@click.option("--by", metavar="LABEL,...",
              help=f"Of results: breakdown, a figure for each.  [default: {', '.join(USUAL)}; where these don't "
              "differ, each label with 2 to 20 values]")  # fmt: skip
@click.option("--title", "heading", help="Heading of the page.")
@click.option("--paper", "beside", is_flag=True,
              help="Of results: put the PersonaMem-v2 paper's figures into the figures.")  # fmt: skip
def command(
    pipe: Pipe, questions: str | None, histories: tuple[str, ...], by: str | None, heading: str | None, beside: bool
) -> None:
    """Results, or memories, as one page to look through in a browser.

    The page is one file that needs no network. Of results: accuracy with intervals as figures, a list of questions to
    sort and filter, and each question with its options, the answers of every run and the votes on them. Rejects of the
    run can be given with the results. Of memories (best of `pmem memdump --trace`): a timeline for each user, on which
    statements come, change and go, each with the messages that it rests on. Nothing that a model wrote can run in it.
    """
    found = pipe.records(reads="result error usage memory")
    ahead: list[Record] = []  # rejects and usage that come before it is clear what they go with
    for record in found:
        ahead.append(record)
        if record["type"] in ("result", "memory"):
            break
    told = chain(ahead, found)
    if ahead and ahead[-1]["type"] == "memory":
        if questions or by or beside:
            raise click.UsageError("--questions, --by and --paper are for results; these are memories")
        pipe.print(_memories(told, histories, heading))
    elif ahead and ahead[-1]["type"] == "result":
        if histories:
            raise click.UsageError("--histories is for memories; these are results")
        pipe.print(_results(pipe, told, questions, by, heading, beside))
    else:  # nothing comes of nothing
        pipe.write(b"")


def _results(
    pipe: Pipe, found: Iterable[Record], questions: str | None, by: str | None, heading: str | None, beside: bool
) -> str:
    from pmem.report.comparison_text import paper
    from pmem.report.groups import asked
    from pmem.report.page.build import page
    from pmem.report.page.questions import Questions
    from pmem.report.summary import Summary, strangers

    shown = Questions({qa["id"]: qa for qa in records((questions,), "qa")} if questions else {})
    counted = Summary(asked(by), USUAL)
    for record in found:
        if record["type"] == "memory":
            raise InputError(MIXED)
        counted.count(record)
        if record["type"] == "result":
            shown.add(record)
    pipe.notes.append(lambda: strangers(counted.columns.values(), counted.by))
    return page(counted.figures(), shown, heading=heading, paper=paper() if beside else None)


def _memories(found: Iterable[Record], histories: tuple[str, ...], heading: str | None) -> str:
    from pmem.report.cited import words
    from pmem.report.timeline.build import page
    from pmem.report.timeline.tracks import Tracks

    tracks = Tracks()
    for record in found:
        if record["type"] == "result":
            raise InputError(MIXED)
        if record["type"] == "memory":
            tracks.add(record)
    shown = tracks.all()
    return page(shown, words(histories, tracks.cited()) if histories else None, heading=heading)
