"""Result records to a table: accuracy with intervals, run by run, broken down by labels."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from pmem.report.intervals import wilson

Run = tuple[str, str, str, str, str]  # model, mode, context, window, scoring


class Tally(NamedTuple):
    """Right answers among all answers; unparsed ones are among the wrong."""

    right: int = 0
    answers: int = 0
    unparsed: int = 0

    def plus(self, result: dict[str, Any]) -> "Tally":
        """With one more result."""
        return Tally(self.right + result["correct"], self.answers + 1, self.unparsed + (not result["parsed"]))

    def cell(self) -> str:
        """`62% [46, 76] of 40`."""
        if not self.answers:
            return "-"
        low, high = wilson(self.right, self.answers)
        return f"{self.right / self.answers:4.0%} [{100 * low:2.0f}, {100 * high:3.0f}] of {self.answers}"


class Summary:
    """Counts results; then draws the table."""

    def __init__(self, by: Iterable[str]) -> None:
        self.by = list(by)
        self.runs: dict[Run, Tally] = {}
        self.groups: dict[str, dict[str, dict[Run, Tally]]] = {label: {} for label in self.by}

    def count(self, result: dict[str, Any]) -> None:
        """Note one result."""
        run = (result["model"], result["mode"], result["context"], result["window"] or "", result["scoring"])
        self.runs[run] = self.runs.get(run, Tally()).plus(result)
        for label in self.by:
            value = result["labels"].get(label, "(none)")
            group = self.groups[label].setdefault(value, {})
            group[run] = group.get(run, Tally()).plus(result)

    def text(self) -> str:
        """The table: accuracy, 95% interval, number of answers; a column per run."""
        if not self.runs:
            return "no results"
        runs = list(self.runs)
        heads = [_head(run, runs) for run in runs]
        rows: list[list[str]] = [["", *heads], ["all", *(self.runs[run].cell() for run in runs)]]
        if any(tally.unparsed for tally in self.runs.values()):
            rows.append(["unparsed (wrong)", *(str(self.runs[run].unparsed) for run in runs)])
        for label in self.by:
            rows.append([f"by {label}", *("" for _ in runs)])
            for value, group in sorted(self.groups[label].items()):
                rows.append([f"  {value}", *(group.get(run, Tally()).cell() for run in runs)])
        widths = [max(len(row[column]) for row in rows) for column in range(len(runs) + 1)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        note = "accuracy, 95% Wilson interval in percent, number of answers"
        chance = "; guessing gives 25%" if any(run[1] == "mcq" for run in runs) else ""
        return "\n".join([_title(runs), "", *lines, "", note + chance])


def _title(runs: list[Run]) -> str:
    """What all runs have in common."""
    same = [values[0] for values in zip(*runs, strict=True) if len(set(values)) == 1 and values[0]]
    return " | ".join(same) or "results"


def _head(run: Run, runs: list[Run]) -> str:
    """What tells a run from the others; its context, where nothing does."""
    columns = list(zip(*runs, strict=True))
    differing = [value for value, column in zip(run, columns, strict=True) if len(set(column)) > 1]
    return " ".join(value for value in differing if value) or run[2]
