"""The mix of kinds and cases in each part of a data set, as a table."""

from collections import Counter
from collections.abc import Iterable, Mapping


def mix(whole: Iterable[Counter[str]], parts: Mapping[str, Counter[str]], personas: Mapping[str, int]) -> str:
    """Shares of each cell in the whole and in each part, with the numbers of questions and personas.

    whole: questions by cell, persona by persona; parts: part -> questions by cell; personas: part -> how many.
    """
    every: Counter[str] = Counter()
    count = 0
    for one in whole:
        every.update(one)
        count += 1
    if not every:
        return ""
    columns = {"all": every, **parts}
    width = max(12, *map(len, every))
    lines = [f"{'':<{width}}" + "".join(f" {name:>9}" for name in columns)]
    lines.append(_row("questions", width, (f"{cells.total():,}" for cells in columns.values())))
    lines.append(_row("personas", width, (f"{n:,}" for n in (count, *personas.values()))))
    for cell in sorted(every):
        shares = (f"{cells[cell] / cells.total():.1%}" if cells.total() else "-" for cells in columns.values())
        lines.append(_row(cell, width, shares))
    return "\n".join(lines)


def _row(name: str, width: int, values: Iterable[str]) -> str:
    return f"{name:<{width}}" + "".join(f" {value:>9}" for value in values)
