"""A comparison as text or Markdown, and beside the paper's figures."""

import tomllib
from pathlib import Path
from typing import Any

import orjson

from pmem.backends.usage import dollars
from pmem.report.rows import Row, escaped, markdown, text
from pmem.report.runs import Run, title
from pmem.report.summary_text import part_of, run_rows, share

Figures = dict[str, Any]


def paper() -> Figures:
    """The paper's figures, as they stand in paper.toml."""
    return tomllib.loads(Path(__file__).with_name("paper.toml").read_text(encoding="utf-8"))


def rendered(figures: Figures, form: str, *, beside: Figures | None = None) -> str:
    """The comparison in one of `summary_text.FORMATS`. beside: the paper's figures, to be shown too."""
    if form == "json":
        told = {**figures, "paper": beside} if beside else figures
        return orjson.dumps(told, option=orjson.OPT_INDENT_2).decode()
    table, mark = (markdown, escaped) if form == "markdown" else (text, str)
    runs = figures["runs"]
    names = [run["name"] for run in runs]
    parts = [mark(title([Run(*(run[field] for field in Run._fields)) for run in runs])), table(names, _sides(runs))]
    parts += [mark(note) for note in _left_out(figures)]
    pairs = figures["differences"]
    parts += [mark(f"Difference to {names[0]}, in points"), table([pair["second"] for pair in pairs], _pairs(pairs))]
    parts.append(
        "95% intervals and p by Student's t, with personas taken as independent, not questions. McNemar's p takes"
        " questions as independent."
    )
    groups = sum(len(values) for values in pairs[0]["by"].values())
    if groups > 1:
        chance = f"{0.05 * groups * len(pairs):.1f}"
        parts.append(
            f"With {groups * len(pairs)} groups, {chance} are expected to have p < 0.05 where nothing differs."
        )
    if beside:
        parts += [mark(f"Beside the paper's figures, in percent: {beside['source']}"), _beside(beside, runs, table)]
    return "\n\n".join(parts)


def _sides(runs: list[Figures]) -> list[Row]:
    more = []
    if any(run["cost_usd"] is not None for run in runs):
        more.append(Row("cost", ["-" if run["cost_usd"] is None else dollars(run["cost_usd"]) for run in runs]))
    return run_rows(runs, more)


def _left_out(figures: Figures) -> list[str]:
    left = [f"{run['name']} has {run['not_shared']:,} more" for run in figures["runs"] if run["not_shared"]]
    failed = [f"{count:,} in {file}" for file, count in figures["failed"].items()]
    notes = [f"On the {figures['questions']:,} questions that all runs answered; {', '.join(left)}."] if left else []
    return notes + ([f"Not answered, and in no figure: {', '.join(failed)}."] if failed else [])


def _pairs(pairs: list[Figures]) -> list[Row]:
    rows = [Row("all", [_gap(pair) for pair in pairs])]
    if any(pair["mcnemar_p"] is not None for pair in pairs):
        rows.append(Row("right only here : only there", [_only(pair) for pair in pairs]))
    for label in pairs[0]["by"]:
        rows.append(Row(f"by {label}", [], head=True))
        values = dict.fromkeys(value for pair in pairs for value in pair["by"][label])
        rows += [Row(value, [_gap(pair["by"][label].get(value)) for pair in pairs]) for value in values]
    return rows


def _gap(found: Figures | None) -> str:
    """`+3.1 [-2.0, +8.2] p 0.23 of 589`."""
    if found is None:
        return "-"
    mean, low, high = (100 * found[key] for key in ("mean", "low", "high"))
    p = "p < 0.001" if found["p"] < 0.001 else f"p {found['p']:.3f}"
    return f"{mean:+5.1f} [{low:+6.1f}, {high:+6.1f}] {p} of {found['questions']}"


def _only(pair: Figures) -> str:
    if pair["mcnemar_p"] is None:
        return "-"
    p = "p < 0.001" if pair["mcnemar_p"] < 0.001 else f"p {pair['mcnemar_p']:.3f}"
    return f"{pair['only_second']} : {pair['only_first']}, McNemar's {p}"


def _beside(found: Figures, runs: list[Figures], table: Any) -> str:
    dash = ["-"] * len(runs)
    rows = [Row("overall", [], head=True)]
    for mode, words in (("mcq", "multiple choice"), ("open", "open-ended")):
        rows += [Row(f"{one['name']}, {words}", [f"{one[mode]:.1f}", *dash]) for one in found["models"]]
        ours = [share(run["accuracy"]) if run["mode"] == mode else "-" for run in runs]
        rows += [Row(f"here, {words}", ["-", *ours])] if ours != dash else []
    for one in found["changes"]:
        told = ", ".join(
            f"{one[mode]:+.1f} {words}" for mode, words in (("mcq", "mc"), ("open", "open")) if mode in one
        )
        rows.append(Row(one["name"], [told, *dash]))
    rows.append(Row("groups, over six models", [], head=True))
    for one in found["groups"]:
        ours = [share(run["by"].get(one["label"], {}).get(one["value"])) for run in runs]
        rows.append(Row(f"{one['label']} {one['value']}", [f"{one['mean']:.1f} ± {one['deviation']:.1f}", *ours]))
    rows.append(Row("wrong answers, GPT-5-Chat", [], head=True))
    for kind, part in found["errors"].items():
        ours = [part_of(run["errors"], kind) for run in runs]
        rows.append(Row(kind, [f"{part:.1f}", *ours]))
    return str(table(["paper", *(run["name"] for run in runs)], rows))
