"""`pmem filter`: keeps the questions that pass every check."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from pmem.dataset import quotas
from pmem.dataset.verdicts import BLIND_RIGHT, CHECKS, MAJORITY, fallen
from pmem.report.quotas import unmet
from pmem.stream.options import OUTPUT, seed_option, stream_options
from pmem.stream.pipe import Pipe

if TYPE_CHECKING:
    from pmem.audit.balancer import Balancer


class Survival:
    """How many questions fell at which check; the last one may be "quota"."""

    def __init__(self, checks: tuple[str, ...]) -> None:
        self.read = 0
        self.first = dict.fromkeys(checks, 0)  # the first check that a question fell at
        self.any = dict.fromkeys(checks, 0)
        self.examples: dict[str, tuple[str, str, str]] = {}  # check -> id, query, reason

    def count(self, qa: dict[str, Any], faults: list[tuple[str, str]]) -> None:
        """Note one question."""
        self.read += 1
        for number, (check, why) in enumerate(faults):
            self.first[check] += number == 0
            self.any[check] += 1
            if number == 0:
                self.examples.setdefault(check, (qa["id"], qa["query"], why))

    def table(self, explain: bool) -> str:
        """The survival table, with one example of each check's victims if asked for."""
        lines = [f"{'check':<12} {'fell here':>9} {'failed it':>9} {'left':>9}", f"{'questions':<12} {self.read:>29,}"]
        left = self.read
        for check in self.first:
            left -= self.first[check]
            lines.append(f"{check:<12} {self.first[check]:>9,} {self.any[check]:>9,} {left:>9,}")
            if explain and check in self.examples:
                own_id, query, why = self.examples[check]
                lines.append(f"    for example {own_id} ({why}): {query}")
        share = f" ({left / self.read:.0%})" if self.read else ""
        return "\n".join([*lines, f"{'kept':<12} {left:>29,}{share}"])


def _quotas(_ctx: click.Context, _param: click.Parameter, path: str | None) -> quotas.Quotas | None:
    try:
        return quotas.load(Path(path)) if path else None
    except ValueError as fault:
        raise click.BadParameter(str(fault)) from None


def majorities_of(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> dict[str, float]:
    """CHECK=SHARE of each --majority-of."""
    found = {}
    for one in given:
        check, _, share = one.partition("=")
        if check not in CHECKS[1:]:
            hint = "; the blind tries have --blind-right" if check == "blind" else ""
            raise click.BadParameter(f"'{check}' is none of {', '.join(CHECKS[1:])}{hint}.")
        try:
            found[check] = float(share)
        except ValueError:
            raise click.BadParameter(f"'{one}' names no share: expected {check}=0.8, say.") from None
        if not 0 <= found[check] < 1:
            raise click.BadParameter(f"{one}: a share is from 0 to less than 1 (more than it must pass).")
    return found


@click.command(epilog="Example: pmem filter judged.jsonl --dropped dropped.jsonl --explain -o questions.jsonl")
@stream_options(drops=True)
@click.option("--blind-right", type=click.IntRange(min=0), default=BLIND_RIGHT, show_default=True,
              help="At most so many of the four blind tries may be right.")  # fmt: skip
@click.option("--majority", type=click.FloatRange(0, 1, max_open=True), default=MAJORITY, show_default=True,
              help="More than this share of a check's votes must pass.")  # fmt: skip
@click.option("--majority-of", multiple=True, callback=majorities_of, metavar="CHECK=SHARE",
              help="--majority of one check, e.g. leak=0.8 (repeatable).")  # fmt: skip
@click.option("--quota", type=click.Path(exists=True, dir_okay=False), callback=_quotas,
              help="Keep as many as this file wants of each kind and case (TOML; docs/data.md).")  # fmt: skip
@click.option("--owed", type=OUTPUT, help="Write here what lacks a surviving question, for `pmem qa --only`.")
@click.option(
    "--balance", is_flag=True, help="Even out, on half of the personas, what `pmem audit` finds (see its docs)."
)
@seed_option
@click.option("--explain", is_flag=True, help="Show one example question for each check that something fell at.")
def command(
    pipe: Pipe,
    blind_right: int,
    majority: float,
    majority_of: dict[str, float],
    quota: quotas.Quotas | None,
    owed: str | None,
    balance: bool,
    seed: int,
    explain: bool,
) -> None:
    """Keep the questions that pass every check.

    Reads judged questions; passes on, unchanged, those that pass all six checks by the votes in the record. What
    falls goes to --dropped with its reasons (the exit status stays 0), and a table on stderr shows how many fell
    where: `fell here` counts a question at its first failed check, `failed it` at every one.

    With --quota what there is enough of falls, too, in the order of the input; so give the questions of all rounds of
    asking, the earliest first. Quotas that are not met are listed at the end. --owed names every preference and secret
    that lacks a surviving question (with --quota: while a quota is unmet that it counts for, and none is full).

    --balance: of the kept ones, on one half of the personas (by seed), drops questions until the right option's rank
    by length, by words of the query, by likeness to the others and by commonness of words is even in each case, puts
    right options evenly on letters, and marks what it touched with the label `balanced`. `pmem audit` then reads the
    other half.
    """
    if balance and (quota or owed):
        raise click.UsageError("--balance is for what quotas have left: filter once more, without --quota and --owed")
    survival = Survival((*CHECKS, "quota") if quota else CHECKS)
    count = quotas.Count(quota or quotas.Quotas({}, {})) if quota or owed else None
    lacking: list[dict[str, Any]] = []
    sink = pipe.also(owed) if owed else None
    balancer = _balancer(seed) if balance else None

    def keep(qa: dict[str, Any]) -> str | None:
        faults = fallen(qa, blind_right=blind_right, majority=majority, majority_of=majority_of)
        if count and faults:
            count.fell(qa)
        elif count and (surplus := count.surplus(qa)) and quota:
            faults = [("quota", surplus)]
        survival.count(qa, faults)
        if balancer and not faults:
            balancer.note(qa)
        return "; ".join(f"{check}: {why}" for check, why in faults) if faults else None

    def take_stock() -> None:
        lacking.extend(count.owed() if count else ())
        if sink:
            sink.write(b"".join(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in lacking), len(lacking))

    def said() -> str:
        table = survival.table(explain) if survival.read else ""
        parts = [table, unmet(count.rows(lacking)) if count and table else "", balancer.report() if balancer else ""]
        return "\n\n".join(part for part in parts if part)

    if count:
        pipe.ending = take_stock
        pipe.notes.append(lambda: f"{len(lacking):,} owed")
    pipe.closing = said
    pipe.sift(keep, reads="qa", again=balancer.again if balancer else None)


def _balancer(seed: int) -> "Balancer":
    from pmem.audit import need_extra

    need_extra("--balance")
    from pmem.audit.balancer import Balancer

    return Balancer(seed)
