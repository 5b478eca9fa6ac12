"""An audit's findings as a table for people, and as JSON for programs."""

from typing import Any

import pmem
from pmem.audit.audit import ALL, Finding, Terms, conclusion
from pmem.audit.measure import LEVEL
from pmem.columns import aligned
from pmem.stream.progress import counted

MARKS = {"pass": "pass", "fail": "FAIL", "inconclusive": "open"}


def document(findings: list[Finding], terms: Terms, *, seed: int, about: dict[str, Any]) -> dict[str, Any]:
    """Everything that was found. `about`: what was read and left out. Accuracies and bounds are shares."""
    return {
        "verdict": conclusion(findings),
        "pmem": pmem.__version__,
        "seed": seed,
        "level": LEVEL,
        **terms._asdict(),
        **about,
        "findings": [_entry(finding) for finding in findings],
    }


def _entry(finding: Finding) -> dict[str, Any]:
    gain, chance = finding.gain, finding.chance
    numbers = (gain.mean, gain.low, gain.high) if gain else (None, None, None)
    accuracy, low, high = (None if one is None else round(min(max(one + chance, 0), 1), 6) for one in numbers)
    return {
        "case": finding.case,
        "strategy": finding.strategy,
        "rule": finding.tuned,
        "questions": finding.questions,
        "personas": finding.personas,
        "chance": round(chance, 6),
        "accuracy": accuracy,
        "low": low,
        "high": high,
        "p": None if finding.p is None else float(f"{finding.p:.4g}"),
        "verdict": finding.verdict,
    }


def text(found: dict[str, Any]) -> str:
    """The document as a table: a row per strategy, a column per case; then what failed, in words."""
    entries = found["findings"]
    cases = list(dict.fromkeys(one["case"] for one in entries))
    strategies = list(dict.fromkeys(one["strategy"] for one in entries))
    by_place = {(one["case"], one["strategy"]): one for one in entries}
    sizes = {one["case"]: one for one in entries}
    rows = [["", *cases], ["questions", *(f"{sizes[case]['questions']:,}" for case in cases)]]
    rows.append(["personas", *(f"{sizes[case]['personas']:,}" for case in cases)])
    rows += [[name, *(_cell(by_place[case, name]) for case in cases)] for name in strategies]
    lines = aligned(rows)
    legend = (
        f"accuracy, and the most that it may be (one-sided 95%), in percent. pass: that is less than "
        f"{100 * found['margin']:g} points over chance."
    )
    return "\n".join([*(lines if entries else []), *([legend] if entries else []), *_said(found)])


def _cell(entry: dict[str, Any]) -> str:
    if entry["accuracy"] is None:
        return "too few"
    return f"{100 * entry['accuracy']:.1f} <{100 * entry['high']:.1f} {MARKS[entry['verdict']]}"


def _said(found: dict[str, Any]) -> list[str]:
    """The conclusion and its reasons."""
    failed = [one for one in found["findings"] if one["verdict"] == "fail"]
    unsure = [one for one in found["findings"] if one["verdict"] == "inconclusive"]
    lines = [""]
    for one in failed:
        where = "" if one["case"] == ALL else f" of case {one['case']}"
        rule = f" ({one['rule']})" if one["rule"] else ""
        lines.append(
            f"fails: {one['strategy']}{rule} is right in {one['accuracy']:.1%} of {one['questions']:,} questions"
            f"{where}, chance is {one['chance']:.1%}; p = {one['p']:.2g}"
        )
    few = sorted({one["case"] for one in unsure if one["accuracy"] is None})
    if few:
        least = f"{found['min_questions']:,} questions of {found['min_personas']:,} personas"
        lines.append(f"too few to judge by (each half needs {least}): {', '.join(few)}")
    open_ = sum(one["accuracy"] is not None for one in unsure)
    if open_:
        lines.append(f"neither passed nor failed: {counted(open_, 'measurement')}; more questions would decide")
    if not found["findings"]:
        lines = ["no questions with options to audit"]
    return [*lines, f"verdict: {found['verdict']}"]
