"""`pmem report`: results as one page for a browser."""

import click

from pmem.report.comparison_text import paper
from pmem.report.groups import asked
from pmem.report.page.build import page
from pmem.report.page.questions import Questions
from pmem.report.summary import Summary, strangers
from pmem.stream.options import INPUT, stream_options
from pmem.stream.pipe import Pipe
from pmem.stream.source import records

USUAL = ("kind", "case", "scenario", "updated", "owner", "distance")


@click.command(epilog="Example: pmem report results.jsonl --questions questions.jsonl -o report.html")
@stream_options()
@click.option("--questions", type=INPUT, help="The questions that were asked: their text, what they rest on and where.")
@click.option(
    "--by",
    metavar="LABEL,...",
    help=f"Breakdown: a figure for each.  [default: {', '.join(USUAL)}; where these don't differ, each "
    "label with 2 to 20 values]",
)
@click.option("--title", "heading", help="Heading of the page.")
@click.option("--paper", "beside", is_flag=True, help="Put the PersonaMem-v2 paper's figures into the figures.")
def command(pipe: Pipe, questions: str | None, by: str | None, heading: str | None, beside: bool) -> None:
    """Results as one page to look through in a browser.

    The page is one file that needs no network: accuracy with intervals as figures, a list of questions to sort and
    filter, and each question with its options, the answers of every run and the votes on them. Nothing that a model
    wrote can run in it. Rejects of the run can be given with the results.
    """
    known = {qa["id"]: qa for qa in records((questions,), "qa")} if questions else {}
    shown = Questions(known)
    counted = Summary(asked(by), USUAL)
    for record in pipe.records(reads="result error usage"):
        counted.count(record)
        if record["type"] == "result":
            shown.add(record)
    if not shown.runs:  # nothing comes of nothing
        pipe.write(b"")
        return
    pipe.notes.append(lambda: strangers(counted.columns.values(), counted.by))
    pipe.print(page(counted.figures(), shown, heading=heading, paper=paper() if beside else None))
