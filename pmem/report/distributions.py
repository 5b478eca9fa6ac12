"""Counts of a stream's fields and sizes. What is kept grows with the number of different values and personas only."""

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from pmem.report.facts import HIDDEN, Facts, Fields

NONE = "(none)"
ORDINAL = ("depth", "gold")
"""Fields whose values are shown in their own order instead of the commonest first."""

By = tuple[str, ...]
"""Fields whose values are counted together."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How a size is spread over the things that have it. total: None for percentages, which don't add up."""

    count: int
    min: float
    median: float
    mean: float
    max: float
    total: float | None


class Section:
    """Counts of one kind of record, or of a part of records."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.personas: Counter[str] = Counter()
        self._fields: dict[str, Counter[str]] = {}
        self._sizes: dict[str, Counter[float]] = {}

    def add(self, one: Facts) -> None:
        """Count one thing."""
        self.count += 1
        if one.persona_id:
            self.personas[one.persona_id] += 1
        for name, value in one.fields.items():
            counter = self._fields.get(name)
            if counter is None:
                counter = self._fields[name] = Counter()
            counter.update(_values(value))
        for name, size in one.sizes.items():
            if name not in self._sizes:
                self._sizes[name] = Counter()
            self._sizes[name][size] += 1

    def known(self) -> set[str]:
        """All fields that were seen."""
        return set(self._fields)

    def fields(self) -> dict[str, list[tuple[str, int]]]:
        """Field -> (value, count), the commonest first. A field that nothing has is left out."""
        shown = {
            name: counter for name, counter in self._fields.items() if name not in HIDDEN and set(counter) - {NONE}
        }
        return {name: ordered(name, counter) for name, counter in shown.items()}

    def sizes(self) -> dict[str, Counter[float]]:
        """Size -> how often each value came."""
        per_persona: dict[str, Counter[float]] = {}
        if len(self.personas) < sum(self.personas.values()):
            per_persona["per_persona"] = Counter(self.personas.values())
        return per_persona | self._sizes

    def spreads(self) -> dict[str, Spread]:
        """Size -> its spread."""
        return {name: spread(counts, adds_up="percent" not in name) for name, counts in self.sizes().items()}


class Distributions:
    """Counts what records give to count, section by section; `by`: sets of fields that are counted together as well."""

    def __init__(self, by: Iterable[By] = ()) -> None:
        self.sections: dict[str, Section] = {}
        self.crossed: dict[By, dict[str, Counter[By]]] = {fields: {} for fields in by}

    def count(self, one: Facts) -> None:
        """Note one thing."""
        if one.section not in self.sections:
            self.sections[one.section] = Section(one.section)
        self.sections[one.section].add(one)
        have: Fields = (one.above or {}) | one.fields if self.crossed else {}
        for names, found in self.crossed.items():
            if any(name in one.fields for name in names) and all(name in have for name in names):
                combinations = itertools.product(*(_values(have[name]) for name in names))
                found.setdefault(one.section, Counter()).update(combinations)

    def unknown(self) -> list[str]:
        """Fields to count by that no record had."""
        known = set().union(*(section.known() for section in self.sections.values()))
        return sorted({name for names in self.crossed for name in names} - known)

    def as_json(self) -> dict[str, Any]:
        """All of it, for machines: counts of every value, spreads, and cross counts as lists of values with a count."""
        sections = [
            {
                "section": section.name,
                "count": section.count,
                "personas": len(section.personas) or None,
                "fields": {name: dict(values) for name, values in section.fields().items()},
                "sizes": {name: asdict(found) for name, found in section.spreads().items()},
            }
            for section in self.sections.values()
        ]
        crossed = [
            {"by": names, "section": section, "counts": [[*values, count] for values, count in ranked(counts)]}
            for names, found in self.crossed.items()
            for section, counts in found.items()
        ]
        return {"sections": sections, "by": crossed}


def spread(counts: Counter[float], *, adds_up: bool = True) -> Spread:
    """The spread of a size from how often each of its values came; the median is that of all things, one by one."""
    number = sum(counts.values())
    values = sorted(counts)
    total = sum(value * counts[value] for value in values)
    middle = (_at(values, counts, (number - 1) // 2) + _at(values, counts, number // 2)) / 2
    return Spread(number, values[0], middle, total / number, values[-1], total if adds_up else None)


def ranked(counts: Counter[By]) -> list[tuple[By, int]]:
    """Combinations of values, the commonest first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def ordered(name: str, counter: Counter[str]) -> list[tuple[str, int]]:
    """Values of a field: the commonest first, or in their own order."""
    if name in ORDINAL:
        return sorted(counter.items(), key=lambda item: _natural(item[0]))
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))


def _at(values: list[float], counts: Counter[float], place: int) -> float:
    """The value at a place (from 0) of all in order."""
    for value in values:
        place -= counts[value]
        if place < 0:
            return value
    raise IndexError("there are fewer")


def _values(value: str | list[str] | None) -> list[str]:
    return [NONE] if value is None else value if isinstance(value, list) else [value]


def _natural(value: str) -> list[tuple[int, str]]:
    """A key that sorts 5 before 10."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", value)]
