"""Which run a result belongs to, whom it is about, and how it is labelled."""

import re
from typing import Any, NamedTuple

Result = dict[str, Any]
FIELDS = ("window", "permutation", "context", "model", "mode", "scoring", "gold", "choice", "parsed", "error_category")
"""Fields of a result that tables can be broken down by, beside its labels."""
OF_ANSWERS = {"chosen", "secret_told"}
"""Labels that tell what an answer did; all others tell of its question."""
ALIASES = {"distance": "distance_quartile"}
NONE = "(none)"


class Run(NamedTuple):
    """What was asked in which way: the columns of a table."""

    model: str
    mode: str
    context: str
    window: str
    scoring: str
    judge: str
    settings: str


def run_of(result: Result) -> Run:
    """The run of a result."""
    settings = result.get("settings") or {}
    told = ", ".join(_setting(name, value) for name, value in sorted(settings.items()))
    window, judge = result["window"] or "", result["judge_model"] or ""
    return Run(result["model"], result["mode"], result["context"], window, result["scoring"], judge, told)


def _setting(name: str, value: Any) -> str:
    words = name.replace("_", " ")
    return words if value is True else f"no {words}" if value is False else f"{words} {value}"


def persona_of(result: Result) -> str:
    """Whose answers depend on each other: those about one persona, or else on one history, or to one question."""
    return str(result["persona_id"] or result["history_id"] or result["qa_id"])


def value_of(result: Result, label: str) -> str:
    """The value of a label; `window`, `permutation` and other fields of a result can stand for labels too."""
    labels: dict[str, str] = result["labels"]
    for name in (label, ALIASES.get(label, label)):
        if name in labels:
            return labels[name]
    value = result.get(label) if label in FIELDS else None
    if value is None:
        return NONE
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def in_order(value: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Sorts values as people do: 9 before 10, 32k before 128k."""
    parts = [(part, part.isascii() and part.isdecimal()) for part in re.findall(r"[0-9]{1,18}|[^0-9]+", value)]
    return [(not number, int(part) if number else 0, "" if number else part) for part, number in parts], value


def title(runs: list[Run]) -> str:
    """What all runs have in common."""
    told = [_told(run) for run in runs]
    same = [values[0] for values in zip(*told, strict=True) if len(set(values)) == 1 and values[0]]
    return " | ".join(same) or "results"


def heads(runs: list[Run]) -> list[str]:
    """What tells each run from the others; a single one's context."""
    told = [_told(run) for run in runs]
    columns = [set(column) for column in zip(*told, strict=True)]
    named = []
    for run in told:
        differing = [value for value, column in zip(run, columns, strict=True) if len(column) > 1 and value]
        named.append(" ".join(differing) or run.context)
    return named


def _told(run: Run) -> Run:
    """In words that say what they are."""
    return run._replace(judge=f"judged by {run.judge}") if run.judge else run
