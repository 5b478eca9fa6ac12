"""Distributions as text that fits a terminal."""

from collections import Counter
from typing import TypeVar

from pmem.check import plain
from pmem.columns import aligned
from pmem.report.distributions import By, Distributions, Section, Spread, ordered, ranked
from pmem.stream.progress import counted

T = TypeVar("T")

TOP = 12
"""Values of a field that are shown; a line sums up the others."""
WIDTH = 48
"""Characters of a value that are shown."""
WIDEST = 110
"""Characters of a line of cross counts; what would be wider is shown as a list."""
SPREAD = ("min", "median", "mean", "max", "total")


def text(counted: Distributions, *, everything: bool = False) -> str:
    """Every section with its sizes and fields, or the cross counts if any were asked for; "" where nothing came.

    everything: show all values of every field, not just the commonest.
    """
    most = None if everything else TOP
    if not counted.crossed:
        return "\n\n".join(_section(section, most) for section in counted.sections.values())
    parts = []
    for names, found in counted.crossed.items():
        for section, counts in found.items():
            rows = _matrix(names, counts, most) or _list(names, counts, most)
            total = sum(counts.values())
            parts.append("\n".join([f"{section} by {', '.join(names)}: {total:,}", "", *rows]))
    return "\n\n".join(parts)


def _section(section: Section, most: int | None) -> str:
    people = len(section.personas)
    of = f", of {counted(people, 'persona')}" if people else ""
    lines = [f"{section.name}: {section.count:,}{of}"]
    if spreads := section.spreads():
        lines += ["", *_sizes(spreads)]
    for name, values in section.fields().items():
        lines += ["", *_values(name, values, section.count, most)]
    return "\n".join(lines)


def _sizes(spreads: dict[str, Spread]) -> list[str]:
    rows = [["", *SPREAD]]
    rows += [[name, *(_number(getattr(found, key)) for key in SPREAD)] for name, found in spreads.items()]
    return _indented(aligned(rows, left=1), 2)


def _values(name: str, values: list[tuple[str, int]], number: int, most: int | None) -> list[str]:
    """A field's values with their counts and shares of the section; several of one thing may add up to more."""
    shown, rest = _cut(values, most)
    rows = [[_cell(value), f"{count:,}", f"{count / number:.0%}"] for value, count in shown]
    if rest:
        count = sum(count for _, count in rest)
        rows.append([f"and {len(rest):,} more", f"{count:,}", f"{count / number:.0%}"])
    return [f"  {name}", *_indented(aligned(rows, left=1), 4)]


def _matrix(names: By, counts: Counter[By], most: int | None) -> list[str]:
    """The last of several fields across, the others down, with totals; nothing where it gets too wide."""
    if len(names) == 1:
        return []
    across: Counter[str] = Counter()
    down: Counter[By] = Counter()
    for values, count in counts.items():
        across[values[-1]] += count
        down[values[:-1]] += count
    heads = [value for value, _ in ordered(names[-1], across)]
    shown, rest = _cut(ranked(down), most)
    rows = [[*names[:-1], *map(_cell, heads), "total"]]
    for values, total in shown:
        rows.append([*map(_cell, values), *(f"{counts[(*values, head)]:,}" for head in heads), f"{total:,}"])
    blank = [""] * (len(names) - 2)
    if rest:
        sums = [sum(counts[(*values, head)] for values, _ in rest) for head in heads]
        total = sum(count for _, count in rest)
        rows.append([f"and {len(rest):,} more", *blank, *(f"{count:,}" for count in [*sums, total])])
    rows.append(["total", *blank, *(f"{across[head]:,}" for head in heads), f"{sum(down.values()):,}"])
    lines = _indented(aligned(rows, left=len(names) - 1), 2)
    return lines if max(map(len, lines)) <= WIDEST else []


def _list(names: By, counts: Counter[By], most: int | None) -> list[str]:
    """Combinations of values, the commonest first."""
    shown, rest = _cut(ranked(counts), most)
    rows = [[*names, ""], *([*map(_cell, values), f"{count:,}"] for values, count in shown)]
    if rest:
        blank = [""] * (len(names) - 1)
        rows.append([f"and {len(rest):,} more", *blank, f"{sum(count for _, count in rest):,}"])
    return _indented(aligned(rows, left=len(names)), 2)


def _cut(items: list[T], most: int | None) -> tuple[list[T], list[T]]:
    """What is shown, and the rest; a rest of one is shown, too."""
    return (items[:most], items[most:]) if most and len(items) > most + 1 else (items, [])


def _cell(value: str) -> str:
    return plain(value, WIDTH) or '""'


def _number(value: float | None) -> str:
    """With thousands separators; fractions to one digit, small ones to three."""
    if value is None:
        return ""
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1 else f"{value:.3g}"


def _indented(lines: list[str], spaces: int) -> list[str]:
    return [f"{' ' * spaces}{line}" for line in lines]
