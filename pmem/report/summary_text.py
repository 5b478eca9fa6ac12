"""The figures of a summary as text, Markdown or JSON."""

from collections.abc import Iterable
from typing import Any

import orjson

from pmem.backends.usage import dollars
from pmem.report.rows import Row, escaped, markdown, text
from pmem.report.runs import Run, title

Figures = dict[str, Any]
FORMATS = ("text", "markdown", "json")
NAMES = {
    "forget_compliance": "forget requests heeded",
    "forgotten_used": "forgotten things used",
    "secrets_told": "secrets told",
}


def rendered(figures: Figures, form: str) -> str:
    """The summary in one of FORMATS."""
    if form == "json":
        return orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode()
    table, mark = (markdown, escaped) if form == "markdown" else (text, str)
    runs = figures["runs"]
    parts = [*_results(runs, table, mark)] if runs else ["no results"]
    if figures["usage"]:
        parts.append(_usage(figures["usage"], table))
    parts += _notes(figures)
    return "\n\n".join(parts)


def share(found: Figures | None) -> str:
    """`62% [46, 76] of 40`; a dash where there is nothing."""
    if not found or found["share"] is None:
        return "-"
    low, high = 100 * found["low"], 100 * found["high"]
    return f"{found['share']:4.0%} [{low:2.0f}, {high:3.0f}] of {found['answers']}"


def _results(runs: list[Figures], table: Any, mark: Any) -> list[str]:
    common = title([Run(*(run[field] for field in Run._fields)) for run in runs])
    parts = [mark(common), table([run["name"] for run in runs], run_rows(runs))]
    for run in runs:
        positions = run["positions"]
        if positions and positions["permutations"] > 1:
            named = f" ({run['name']})" if len(runs) > 1 else ""
            parts.append(_positions(positions, named, table, mark))
    parts.append(_legend(runs))
    return parts


def run_rows(runs: list[Figures], more: Iterable[Row] = ()) -> list[Row]:
    """Everything that runs are told by, a column for each. more: rows to go before the breakdown."""
    return [*_head(runs), *_rest(runs), *more, *_errors(runs), *_groups(runs)]


def _head(runs: list[Figures]) -> list[Row]:
    rows = [Row("all", [share(run["accuracy"]) for run in runs])]
    if any(run["unparsed"] for run in runs):
        rows.append(Row("unparsed (wrong)", [f"{run['unparsed']:,}" for run in runs]))
    if any(run["accuracy"]["personas"] != run["accuracy"]["answers"] for run in runs):
        rows.append(Row("personas", [f"{run['accuracy']['personas']:,}" for run in runs]))
    return rows


def _rest(runs: list[Figures]) -> list[Row]:
    """Rates of their own, and tokens: as far as the results tell them."""
    rows = [Row(NAMES[name], [share(run[name]) for run in runs]) for name in NAMES if any(run[name] for run in runs)]
    if any(run["prompt_tokens"] for run in runs):
        for name, key in (("tokens in, mean", "prompt_tokens"), ("tokens out, mean", "reply_tokens")):
            rows.append(Row(name, [_number(run[key]) for run in runs]))
        points = [run["points_per_1000_tokens"] for run in runs]
        rows.append(Row("points per 1,000 tokens in", ["-" if one is None else f"{one:,.2f}" for one in points]))
    return rows


def _errors(runs: list[Figures]) -> list[Row]:
    kinds = sorted({kind for run in runs for kind in run["errors"]})
    if not kinds:
        return []
    head = Row("wrong answers", [], head=True)
    return [head, *(Row(kind, [part_of(run["errors"], kind) for run in runs]) for kind in kinds)]


def _groups(runs: list[Figures]) -> list[Row]:
    rows = []
    for label in runs[0]["by"]:
        rows.append(Row(f"by {label}", [], head=True))
        values = dict.fromkeys(value for run in runs for value in run["by"][label])
        rows += [Row(value, [share(run["by"][label].get(value)) for run in runs]) for value in values]
    return rows


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def part_of(counts: dict[str, int], key: str) -> str:
    """The share of a kind among wrong answers that are sorted: `33% of 9`."""
    whole = sum(counts.values())
    return f"{counts.get(key, 0) / whole:4.0%} of {whole}" if whole else "-"


def _positions(found: Figures, named: str, table: Any, mark: Any) -> str:
    letters = found["letters"]
    rows = [
        Row("right options", [f"{one['right_options']:.0%}" for one in letters.values()]),
        Row("choices", [f"{one['choices']:.0%}" for one in letters.values()]),
        Row("accuracy, if right there", [share(one["accuracy"]) for one in letters.values()]),
    ]
    said = f"Position of options, in {found['permutations']} orders{named}"
    if found["same_option"] is not None:
        said += f": {found['same_option']:.0%} of questions get the same option chosen in each"
    return f"{mark(said)}\n\n{table(list(letters), rows)}"


def _legend(runs: list[Figures]) -> str:
    parts = ["accuracy, 95% interval in percent (personas taken as independent, not answers), number of answers"]
    chances = [run["chance"] for run in runs if run["chance"]]
    if chances:
        low, high = min(chances), max(chances)
        parts.append(f"guessing gives {low:.0%}" + (f" to {high:.0%}" if f"{low:.0%}" != f"{high:.0%}" else ""))
    return "; ".join(parts)


def _usage(usage: list[Figures], table: Any) -> str:
    columns = [
        "calls",
        "from cache",
        "repeated",
        "given up",
        "tokens in",
        "cached",
        "tokens out",
        "reasoning",
        "latency",
        "cost",
    ]
    rows = []
    for one in usage:
        keys = ("calls", "from_cache", "repeated", "failed", "prompt_tokens", "cached_tokens", "completion_tokens")
        counts = [f"{one[key]:,}" for key in (*keys, "reasoning_tokens")]
        seconds = one.get("latency_seconds")
        counts.append("-" if seconds is None else f"{seconds:.2f} s")
        cost = "unknown" if one["cost_usd"] is None else dollars(one["cost_usd"])
        name = f"{one['stage']}: {one['model']}" + (" as judge" if one["role"] == "judge" else "")
        rows.append(Row(name, [*counts, cost]))
    return str(table(columns, rows))


def _notes(figures: Figures) -> list[str]:
    notes = []
    failed = sum(figures["failed"].values())
    if failed:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in figures["failed"].items())
        notes.append(f"Not answered, and in no figure above: {failed:,} ({reasons}).")
    if figures["repeated"]:
        notes.append(f"Results that came twice and count once: {figures['repeated']:,}.")
    return notes
