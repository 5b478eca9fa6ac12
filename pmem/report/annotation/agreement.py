"""How annotators answered, and how far they agree beyond chance.

Cohen's kappa is scikit-learn's, as the mean over pairs of annotators; Fleiss' kappa is statsmodels'. Both are undefined
where everybody gave one and the same answer: agreement by chance would be complete as well. Then none is given, with
the reason, since neither 0 (no agreement) nor 1 (proof of agreement) would be true.
"""

from collections import Counter
from itertools import combinations, starmap
from typing import Any, NamedTuple

from pmem.columns import aligned
from pmem.errors import MissingExtra
from pmem.report.annotation.dimensions import UNSURE, Dimension, dimensions
from pmem.report.annotation.filled import Filled
from pmem.stream.progress import counted

Key = dict[str, dict[str, str]]
"""Question id -> dimension -> the record's own answer: the right option's letter, the preference's kind."""
Column = dict[str, str]
"""Question id -> answer to one dimension."""
SAME = "everybody always gave one and the same answer, so chance alone would agree as much"


class Kappa(NamedTuple):
    """A kappa, or None; note: why there is none, or what the value leaves out."""

    value: float | None
    note: str | None = None


class Agreement(NamedTuple):
    """One dimension. answers: all that were given; questions: those that every annotator answered; yes_rates: of each
    annotator among the answers that can be a yes, None where there is none; percent: agreement as a share, the mean
    over pairs of annotators."""

    dimension: str
    answers: int
    questions: int
    counts: dict[str, int]
    yes_rate: float | None
    yes_rates: list[float | None]
    percent: float | None
    cohen: Kappa
    fleiss: Kappa


def agreements(sheets: list[Filled], key: Key | None = None) -> list[Agreement]:
    """Each dimension. "Can't tell" is an answer like others, and no yes.

    key: makes the best answer a yes or a no, and the kind a yes for the yes-rate; agreement on kinds stays one on
    the kinds that annotators named. Without it these two dimensions have no yes-rate.
    """
    try:
        import sklearn.metrics  # noqa: F401
        import statsmodels.stats.inter_rater  # noqa: F401
    except ImportError:
        raise MissingExtra("annotate --agreement", "report") from None
    return [_agreement(one, sheets, key) for one in dimensions()]


def _agreement(dimension: Dimension, sheets: list[Filled], key: Key | None) -> Agreement:
    columns = [_column(dimension, sheet, key) for sheet in sheets]
    marks = [_marks(dimension, column, key) for column in columns]
    every = [mark for own in marks for mark in own]
    shared = [question for question in columns[0] if all(question in column for column in columns)]
    pairs = [pair for pair in starmap(_pair, combinations(columns, 2)) if pair]
    shares = [sum(one == other for one, other in pair) / len(pair) for pair in pairs]
    return Agreement(
        dimension.name,
        sum(map(len, columns)),
        len(shared),
        dict(sorted(Counter(answer for column in columns for answer in column.values()).items())),
        sum(every) / len(every) if every else None,
        [sum(own) / len(own) if own else None for own in marks],
        sum(shares) / len(shares) if shares else None,
        _cohen(pairs) if len(sheets) > 1 else Kappa(None, "it takes two sheets"),
        _fleiss([[column[question] for column in columns] for question in shared], len(sheets)),
    )


def _column(dimension: Dimension, sheet: Filled, key: Key | None) -> Column:
    """A sheet's answers to a dimension; letters as yes or no where it is known which is right."""
    given = {question: own[dimension.name] for question, own in sheet.answers.items() if dimension.name in own}
    if dimension.answers != "letter" or key is None:
        return given
    right = {question: key[question][dimension.name] for question in given}
    return {
        question: answer if answer == UNSURE else "yes" if answer == right[question] else "no"
        for question, answer in given.items()
    }


def _marks(dimension: Dimension, column: Column, key: Key | None) -> list[bool]:
    """Which answers count as yes, of those that can."""
    if dimension.answers == "kind":
        known = {} if key is None else {question: key[question].get(dimension.name) for question in column}
        return [answer == known[question] for question, answer in column.items() if known.get(question)]
    if dimension.answers == "letter" and key is None:
        return []
    return [answer == "yes" for answer in column.values()]


def _pair(one: Column, other: Column) -> list[tuple[str, str]]:
    """What two annotators answered to the questions that both did."""
    return [(answer, other[question]) for question, answer in one.items() if question in other]


def _cohen(pairs: list[list[tuple[str, str]]]) -> Kappa:
    from sklearn.metrics import cohen_kappa_score

    if not pairs:
        return Kappa(None, "no question answered by two")
    varied = [pair for pair in pairs if len({answer for both in pair for answer in both}) > 1]
    if not varied:
        return Kappa(None, SAME)
    found = [float(cohen_kappa_score(*zip(*pair, strict=True))) for pair in varied]
    left_out = len(pairs) - len(varied)
    note = f"over {len(varied)} of {len(pairs)} pairs; in the others, {SAME}" if left_out else None
    return Kappa(sum(found) / len(found), note)


def _fleiss(table: list[list[str]], annotators: int) -> Kappa:
    """table: the answers of all annotators to each question that all of them answered."""
    from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

    if annotators < 2:
        return Kappa(None, "it takes two sheets")
    if not table:
        return Kappa(None, "no question answered by all")
    answers = sorted({answer for row in table for answer in row})
    if len(answers) == 1:
        return Kappa(None, SAME)
    counts, _ = aggregate_raters([[answers.index(answer) for answer in row] for row in table], n_cat=len(answers))
    return Kappa(float(fleiss_kappa(counts, method="fleiss")))


def as_json(sheets: list[Filled], found: list[Agreement]) -> dict[str, Any]:
    """For machines: figures as shares from 0 to 1 with six digits."""
    rounded = [
        _rounded({**one._asdict(), "cohen": one.cohen._asdict(), "fleiss": one.fleiss._asdict()}) for one in found
    ]
    return {"sheets": [one.file for one in sheets], "questions": len(sheets[0].answers), "dimensions": rounded}


def text(sheets: list[Filled], found: list[Agreement]) -> str:
    """The table, and beneath it why a kappa is missing and which answers were given where these aren't yes or no."""
    rows = [["", "answers", "yes", "by annotator", "agreement", "Cohen's kappa", "Fleiss' kappa", "questions"]]
    for one in found:
        rates = [rate for rate in one.yes_rates if rate is not None]
        by = f"{min(rates):.0%} to {max(rates):.0%}" if rates else "n/a"
        shares = ["n/a" if share is None else f"{share:.0%}" for share in (one.yes_rate, one.percent)]
        kappas = ["n/a" if kappa.value is None else f"{kappa.value:.2f}" for kappa in (one.cohen, one.fleiss)]
        rows.append([one.dimension, f"{one.answers:,}", shares[0], by, shares[1], *kappas, f"{one.questions:,}"])
    number = len(sheets[0].answers)
    title = f"{counted(len(sheets), 'annotator')}, {counted(number, 'question')}"
    notes = _notes(found)
    return "\n".join([title, "", *aligned(rows, left=1), *([""] if notes else []), *notes])


def _notes(found: list[Agreement]) -> list[str]:
    """Why kappas are missing or leave something out, and how answers spread where they aren't all yes or no."""
    reasons: dict[str, list[str]] = {}
    for one in found:
        for name, kappa in (("Cohen's kappa", one.cohen), ("Fleiss' kappa", one.fleiss)):
            if kappa.note:
                said = f"{name}{' n/a' if kappa.value is None else ''}: {kappa.note}"
                reasons.setdefault(said, []).append(one.dimension)
    lines = [f"{said} ({', '.join(names)})" for said, names in reasons.items()]
    for one in found:
        if set(one.counts) - {"yes", "no"}:
            lines.append(f"{one.dimension}: {', '.join(f'{answer} {count:,}' for answer, count in one.counts.items())}")
    return lines


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value
