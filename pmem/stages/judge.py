"""`pmem judge`: votes on each question, for every check."""

from typing import TYPE_CHECKING, Any

import click

from pmem.backends.model import Model
from pmem.cluster.options import spread_options
from pmem.dataset.votes import NEEDS, Setup, judged
from pmem.dataset.wording import LONGEST, SHORTEST
from pmem.errors import RecordError
from pmem.models import model_options
from pmem.prompts import Prompts
from pmem.stream.options import OUTPUT, seed_option, stream_options
from pmem.stream.pipe import Pipe

if TYPE_CHECKING:
    from pmem.dataset.calibration import Calibration


class _Amount(click.ParamType[float]):
    """A share of the questions, or a number of them."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            amount = float(value)
        except ValueError:
            amount = 0.0
        if not (0 < amount < 1 or (amount >= 1 and amount.is_integer())):
            self.fail(f"{value!r} is neither a share above 0 and below 1 nor a whole number.", param, ctx)
        return amount


@click.command(epilog="Example: pmem judge questions.jsonl -m openai:gpt-5 --votes 5 | pmem filter")
@stream_options()
@spread_options
@model_options()
@seed_option
@click.option("--votes", type=click.IntRange(min=1), default=3, show_default=True, help="Votes for each check.")
@click.option("--longest", type=click.FloatRange(min=1), default=LONGEST, show_default=True,
              help="Most characters of the right option, relative to the longest other one.")  # fmt: skip
@click.option("--shortest", type=click.FloatRange(0, 1), default=SHORTEST, show_default=True,
              help="Fewest characters of the right option, relative to the shortest other one.")  # fmt: skip
@click.option("--calibrate", type=_Amount(), metavar="N|SHARE",
              help="Judge the first N questions, or a share of all, with faults put in, too.")  # fmt: skip
@click.option("--calibration", type=OUTPUT, help="Write what --calibrate found here (JSON).")
def command(
    pipe: Pipe,
    model: Model,
    prompts: Prompts,
    seed: int,
    votes: int,
    longest: float,
    shortest: float,
    calibrate: float | None,
    calibration: str | None,
) -> None:
    """Vote on each question: does it pass every check?

    Six checks: blind (can it be answered without the history? asked four times, the right option once in each
    position), leak, gold, distractors (option by option), form, harm. Every vote is kept in the record with its
    reason; a reply that can't be read is the verdict `unclear`, which never counts as a pass. `pmem filter` decides.

    --calibrate tells how far the votes can be trusted: of questions that are drawn from the input, copies with a
    wrong option as the right one, a query that gives the answer away, an artefact, or a right option of tell-tale
    length are judged as well, and only counted. Doubles the calls for those questions.
    """
    if calibration and not calibrate:
        raise click.UsageError("--calibration is for what --calibrate finds")
    if calibrate and (pipe.elsewhere or pipe.shard):
        raise click.UsageError("--calibrate counts over all questions in one process: not with --ray or --shard")
    setup = Setup(model, prompts, votes, longest, shortest)
    tried = _calibration(calibrate, setup, seed) if calibrate else None

    async def make(qa: dict[str, Any], _items: list[str] | None) -> dict[str, Any]:
        if not qa["options"] or not qa["gold"] or not qa["case"]:
            raise RecordError(
                "a question without options and case can't be judged", reason="schema", pointer="/options"
            )
        for name in NEEDS[qa["case"]]:
            if not qa[name]:
                message = f"a question of case {qa['case']} can't be judged without it"
                raise RecordError(message, reason="schema", pointer=f"/{name}")
        return await (tried.judged(qa) if tried else judged(qa, setup))

    if tried:
        pipe.ending = lambda: _write(tried, pipe, calibration)
    pipe.run(make, reads="qa", writes="qa")


def _calibration(amount: float, setup: Setup, seed: int) -> "Calibration":
    from pmem.audit import need_extra

    need_extra("--calibrate")
    from pmem.dataset.calibration import Calibration

    return Calibration(amount, setup, seed)


def _write(tried: "Calibration", pipe: Pipe, path: str | None) -> None:
    """Tell what was found: at the end on stderr, and to a file."""
    from pmem.dataset.calibration import text

    found = tried.document()
    pipe.closing = lambda: text(found)
    if path:
        pipe.document(path, found)
