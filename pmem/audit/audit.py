"""The audit: every strategy tuned on one half of the personas, measured on the other; in all questions and by case."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pmem.audit import learnt, rules
from pmem.audit.corpus import Corpus, Flags, Floats, Ints, Layout
from pmem.audit.cues import Places, cues, places, words
from pmem.audit.measure import Gain, adjusted, distinct, gain, overall, verdict

ALL = "all"
BLIND = "blind model"


class Terms(NamedTuple):
    """margin: the gain over chance, as a share, that must be ruled out; the least in each half to judge by."""

    margin: float = 0.05
    min_questions: int = 100
    min_personas: int = 20


class Finding(NamedTuple):
    """One strategy in the questions of one case (or all). questions, personas: those measured; chance: a guesser's
    accuracy; gain: None where there are too few; p: adjusted; tuned: the rule that tuning chose."""

    case: str
    strategy: str
    tuned: str | None
    questions: int
    personas: int
    chance: float
    gain: Gain | None
    p: float | None
    verdict: str


class Answers(NamedTuple):
    """A blind model's answers, per question: the credit at least and at most (they differ where a reply couldn't be
    read), NaN for questions that were not asked."""

    least: Floats
    most: Floats


class Trial(NamedTuple):
    """A measurement before p-values are adjusted."""

    finding: Finding
    p: float | None


def audited(corpus: Corpus, terms: Terms, blind: Answers | None = None) -> list[Finding]:
    """Every strategy on the collected questions."""
    layout = corpus.layout()
    if not len(layout.options):
        return []
    weighed = words(corpus)
    values = cues(corpus, layout, weighed)
    at = {name: places(value, layout.gold) for name, value in values.items()}
    rows = learnt.features(weighed, values, layout)
    trials = list(ruled(layout, at, terms))
    for case, inside in strata(layout):
        for strategy, features in rows.items():
            trials.append(_learnt(case, strategy, layout, inside, features, terms))
        if blind:
            trials.append(_blind(case, layout, inside & layout.measured, blind, terms))
    return judged(sorted(trials, key=lambda trial: _order(layout, trial.finding.case)), terms)


def strata(layout: Layout) -> Iterator[tuple[str, Flags]]:
    """All questions, then those of each case; a case that has all of them isn't looked at twice."""
    everything = np.ones(len(layout.options), bool)
    yield ALL, everything
    for case in sorted(layout.cases):
        inside = layout.case == layout.cases.index(case)
        if not inside.all():
            yield case, inside


def strata_of_sizes(layout: Layout) -> Iterator[tuple[str, int, Ints]]:
    """Case, number of options, and the numbers of its questions; every question is in one."""
    for case in [*sorted(layout.cases), None]:
        inside = layout.case == (layout.cases.index(case) if case else -1)
        for count in np.unique(layout.options[inside]).tolist():
            yield case or "no case", count, np.flatnonzero(inside & (layout.options == count))


def _order(layout: Layout, case: str) -> int:
    return [ALL, *sorted(layout.cases)].index(case)


def ruled(layout: Layout, at: dict[str, Places], terms: Terms) -> Iterator[Trial]:
    """The strategies that take an option by its rank."""
    everywhere = rules.placed(at, layout)
    for case, inside in strata(layout):
        tuning, measured = inside & ~layout.measured, inside & layout.measured
        for strategy in rules.STRATEGIES:
            if not _enough(layout, tuning, measured, terms):
                yield _too_few(case, strategy, layout, measured)
                continue
            rule = rules.tuned(strategy, everywhere, layout, tuning)
            yield _measured(case, strategy, f"{rule.rank} by {rule.cue}", layout, measured, rule.right)


def _learnt(case: str, strategy: str, layout: Layout, inside: Flags, features: object, terms: Terms) -> Trial:
    tuning, measured = inside & ~layout.measured, inside & layout.measured
    if not _enough(layout, tuning, measured, terms):
        return _too_few(case, strategy, layout, measured)
    return _measured(case, strategy, None, layout, measured, learnt.right(features, layout, tuning, measured))


def _blind(case: str, layout: Layout, measured: Flags, answers: Answers, terms: Terms) -> Trial:
    """A reply that couldn't be read counts as right for the upper bound, as wrong for all else."""
    if not _enough(layout, measured, measured, terms):
        return _too_few(case, BLIND, layout, measured)
    trial = _measured(case, BLIND, None, layout, measured, answers.least)
    most = gain(answers.most[measured] - 1 / layout.options[measured], layout.persona[measured])
    assert trial.finding.gain
    return trial._replace(finding=trial.finding._replace(gain=trial.finding.gain._replace(high=most.high)))


def _enough(layout: Layout, tuning: Flags, measured: Flags, terms: Terms) -> bool:
    return all(
        half.sum() >= terms.min_questions and distinct(layout.persona[half]) >= terms.min_personas
        for half in (tuning, measured)
    )


def _too_few(case: str, strategy: str, layout: Layout, measured: Flags) -> Trial:
    return Trial(_finding(case, strategy, None, layout, measured, None), None)


def _measured(case: str, strategy: str, tuned: str | None, layout: Layout, on: Flags, right: Floats) -> Trial:
    found = gain(right[on] - 1 / layout.options[on], layout.persona[on])
    return Trial(_finding(case, strategy, tuned, layout, on, found), found.p)


def _finding(case: str, strategy: str, tuned: str | None, layout: Layout, on: Flags, found: Gain | None) -> Finding:
    chance = float(np.mean(1 / layout.options[on])) if on.any() else 0.0
    personas = distinct(layout.persona[on])
    return Finding(case, strategy, tuned, int(on.sum()), personas, chance, found, None, "inconclusive")


def judged(trials: list[Trial], terms: Terms) -> list[Finding]:
    """Verdicts, once all p-values are known."""
    ps = iter(adjusted([trial.p for trial in trials if trial.p is not None]))
    found = []
    for finding, p in trials:
        if p is None or finding.gain is None:
            found.append(finding)
            continue
        corrected = next(ps)
        found.append(finding._replace(p=corrected, verdict=verdict(finding.gain, corrected, terms.margin)))
    return found


def conclusion(findings: list[Finding]) -> str:
    """The whole audit's verdict."""
    return overall([finding.verdict for finding in findings])
