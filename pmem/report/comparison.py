"""Several runs side by side, on the questions that all of them have answers to."""

from collections import Counter
from typing import Any

from pmem.errors import InputError
from pmem.report.intervals import LEVEL
from pmem.report.paired import Pair, compared
from pmem.report.runs import Result, Run, heads, in_order, run_of, value_of
from pmem.report.summary import Column, breakdown

Key = tuple[str, Run]
"""The file that a run's results stand in, and the run."""


class Comparison:
    """Gathers the results of files; then compares each run with the first."""

    def __init__(self, by: list[str] | None) -> None:
        """by: the labels to break down by; None: those that come."""
        self.by = by
        self.runs: dict[Key, dict[str, list[Result]]] = {}
        self.columns: dict[Key, Column] = {}
        self.failed: Counter[str] = Counter()
        self.cost: dict[str, float | None] = {}
        self._seen: set[tuple[str, str]] = set()

    def add(self, file: str, record: dict[str, Any]) -> None:
        """Note a record of a file: a result, a failed call (error), what a model cost (usage)."""
        if record["type"] == "error":
            self.failed[file] += len(record["items"] or [None])
        elif record["type"] == "usage":
            earlier, cost = self.cost.get(file, 0.0), record["cost_usd"]
            self.cost[file] = None if earlier is None or cost is None else earlier + cost
        elif (file, record["id"]) not in self._seen:
            self._seen.add((file, record["id"]))
            slim = {key: value for key, value in record.items() if key not in ("reply", "votes", "provenance")}
            self.runs.setdefault((file, run_of(record)), {}).setdefault(record["qa_id"], []).append(slim)

    def figures(self) -> dict[str, Any]:
        """All of it for JSON; InputError if there are not two runs with a question in common."""
        if len(self.runs) < 2:
            raise InputError("compare needs two runs at least: another file, or one with several contexts or models")
        shared = sorted(set.intersection(*(set(asked) for asked in self.runs.values())))
        if not shared:
            raise InputError("no question is in all of these runs: they don't answer the same questions")
        names = self._names()
        self.columns = columns = {key: self._column(key, shared) for key in self.runs}
        labels = breakdown(columns.values(), self.by)
        runs = [
            {**self._told(key, name, shared), **columns[key].figures(labels)}
            for key, name in zip(self.runs, names, strict=True)
        ]
        personas = self._personas(shared)
        first = next(iter(self.runs))
        pairs = [
            {"first": names[0], "second": name, **self._pair(first, key, shared, personas, labels)}
            for key, name in list(zip(self.runs, names, strict=True))[1:]
        ]
        failed = dict(self.failed)
        return {"level": LEVEL, "questions": len(shared), "runs": runs, "failed": failed, "differences": pairs}

    def _names(self) -> list[str]:
        """What tells each run from the others; the file, where that alone does."""
        names = heads([run for _, run in self.runs])
        twice = {name for name, count in Counter(names).items() if count > 1}
        return [
            f"{name} ({file})" if name in twice and len(set(names)) > 1 else file if name in twice else name
            for (file, _), name in zip(self.runs, names, strict=True)
        ]

    def _column(self, key: Key, shared: list[str]) -> Column:
        column = Column(self.by)
        for question in shared:
            for result in self.runs[key][question]:
                column.add(result)
        return column

    def _told(self, key: Key, name: str, shared: list[str]) -> dict[str, Any]:
        alone = sum(file == key[0] for file, _ in self.runs) == 1  # else the cost is that of several runs
        told = {"not_shared": len(self.runs[key]) - len(shared), "cost_usd": self.cost.get(key[0]) if alone else None}
        return {"name": name, "file": key[0], **key[1]._asdict(), **told}

    def _personas(self, shared: list[str]) -> dict[str, str]:
        """Whose answers depend on each other, in whatever context: by question."""
        found = {}
        for question in shared:
            results = [result for asked in self.runs.values() for result in asked[question]]
            known = [one["persona_id"] for one in results] + [one["history_id"] for one in results]
            found[question] = next((name for name in known if name), question)
        return found

    def _pair(
        self, first: Key, second: Key, shared: list[str], personas: dict[str, str], labels: list[str]
    ) -> dict[str, Any]:
        earlier, later = self.runs[first], self.runs[second]
        pairs = {name: Pair(personas[name], _right(earlier[name]), _right(later[name])) for name in shared}
        groups: dict[str, dict[str, list[Pair]]] = {label: {} for label in labels}
        for name in shared:
            for label in labels:
                groups[label].setdefault(value_of(earlier[name][0], label), []).append(pairs[name])
        by = {
            label: {value: compared(found[value]) for value in sorted(found, key=in_order)}
            for label, found in groups.items()
        }
        return {**compared(pairs.values()), "by": by}


def _right(results: list[Result]) -> float:
    right: int = sum(result["correct"] for result in results)
    return right / len(results)
