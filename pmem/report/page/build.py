"""The page's parts put together: one file without anything from elsewhere, in which no text of a record can run."""

from html import escape
from pathlib import Path
from typing import Any

from pmem.report.page.charts import chart, legend
from pmem.report.page.questions import Questions
from pmem.report.rows import Row
from pmem.report.runs import ALIASES, title
from pmem.report.standalone import standalone
from pmem.report.summary_text import run_rows
from pmem.stream.progress import counted

Figures = dict[str, Any]


def page(figures: Figures, questions: Questions, *, heading: str | None, paper: Figures | None) -> str:
    """The whole page. figures: of `Summary`, over the same results; paper: the paper's, to be shown beside them."""
    runs = figures["runs"]
    names = [run["name"] for run in runs]
    shown = questions.shown()
    subject = title(questions.runs)
    return standalone(
        Path(__file__).parent,
        {"runs": names, "questions": shown},
        base=True,
        heading=escape(heading or "Evaluation"),
        subject=escape(subject),
        counts=f"{len(shown):,} questions · {counted(len(runs), 'run')}",
        legend=legend(names, paper=bool(paper)),
        charts="".join(_charts(runs, paper)),
        table=_table(names, run_rows(runs)),
        notes="".join(f"<p>{escape(note)}</p>" for note in _notes(figures)),
    )


def _charts(runs: list[Figures], paper: Figures | None) -> list[str]:
    chances = {run["chance"] for run in runs if run["chance"]}
    chance = chances.pop() if len(chances) == 1 else None
    overall: dict[str, list[Figures | None]] = {"all questions": [run["accuracy"] for run in runs]}
    drawn = [chart("Accuracy", overall, chance, {})]
    for label in runs[0]["by"] if runs else []:
        values = dict.fromkeys(value for run in runs for value in run["by"][label])
        rows = {_words(value): [run["by"][label].get(value) for run in runs] for value in values}
        known = {_words(one["value"]): one for one in paper["groups"] if one["label"] == label} if paper else {}
        drawn.append(chart(f"Accuracy by {_words(ALIASES.get(label, label))}", rows, chance, known))
    rates = {"forget requests heeded": "forget_compliance", "forgotten things used": "forgotten_used",
             "secrets told": "secrets_told"}  # fmt: skip
    found = {name: [run[key] for run in runs] for name, key in rates.items() if any(run[key] for run in runs)}
    if found:
        drawn.append(chart("Forgetting and secrets", found, None, {}))
    if any(run["positions"] and run["positions"]["permutations"] > 1 for run in runs):
        drawn += _positions([run["positions"] for run in runs], chance)
    return drawn


def _positions(found: list[Figures | None], chance: float | None) -> list[str]:
    """How often each letter is chosen, and the accuracy where the right option stands there."""
    letters = sorted({letter for one in found if one for letter in one["letters"]})
    there = {letter: [one["letters"].get(letter) if one else None for one in found] for letter in letters}
    chosen = {f"{letter} chosen": [_plain_share(one) for one in runs] for letter, runs in there.items()}
    accuracy = {f"right one is {letter}": [one and one["accuracy"] for one in runs] for letter, runs in there.items()}
    return [
        chart("How often each position is chosen", chosen, chance, {}),
        chart("Accuracy by the right option's position", accuracy, chance, {}),
    ]


def _plain_share(letter: Figures | None) -> Figures | None:
    """How often a letter was chosen, as a share without an interval."""
    if letter is None:
        return None
    return {"share": letter["choices"], "low": letter["choices"], "high": letter["choices"]}


def _words(label: str) -> str:
    return label.replace("_", " ")


def _table(names: list[str], rows: list[Row]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    lines = []
    for row in rows:
        if row.head:
            lines.append(
                f'<tr><th scope="rowgroup" colspan="{len(names) + 1}" class="head">{escape(row.name)}</th></tr>'
            )
        else:
            cells = "".join(f"<td>{escape(' '.join(cell.split()))}</td>" for cell in row.cells)
            lines.append(f'<tr><th scope="row">{escape(_words(row.name))}</th>{cells}</tr>')
    return f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _notes(figures: Figures) -> list[str]:
    notes = ["Intervals are 95% and take personas as independent, not answers. What could not be read counts as wrong."]
    if any(run["chance"] for run in figures["runs"]):
        notes.append("The dashed line is what guessing gives.")
    failed = sum(figures["failed"].values())
    if failed:
        notes.append(f"Not answered, and in no figure: {failed:,}.")
    return notes
