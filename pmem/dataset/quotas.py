"""How many questions are wanted of each kind and case, which survivors are too many, and what lacks a question.

A file of quotas (TOML). Each number is both what is wanted and the most that is kept; what isn't named has no limit.
What a finer quota still lacks is reserved in a coarser one: within a total, common kinds leave room for rare ones.

    total = 25_000
    per_preference = 1     # questions about one preference or secret (default: 1)
    [case]                 # of each option case
    own = 12_500
    [kind]                 # of each kind of preference, over all cases
    health = 2_500
    [own]                  # of a kind within a case
    health = 1_000
    [persona]              # the same, for each persona by itself
    total = 30
    [persona.case]
    sensitive = 2
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pmem.dataset.targets import item_of
from pmem.records import Case, Kind

CASES, KINDS = get_args(Case), get_args(Kind)
SPARE = 1.5
"""So many times as many questions are owed as would do if as many survived as before."""

Cell = tuple[str | None, str | None]
"""A case and a kind; None stands for any."""


class Quotas(NamedTuple):
    """What a file of quotas says: numbers of questions by cell, over all and for each persona."""

    wanted: dict[Cell, int]
    of_a_persona: dict[Cell, int]
    per_preference: int = 1


class _Scope(NamedTuple):
    """Quotas of all questions or of each persona's, and which lie within which."""

    wanted: dict[Cell, int]
    finer: dict[Cell, list[list[Cell]]]

    @classmethod
    def of(cls, wanted: dict[Cell, int]) -> "_Scope":
        return cls(wanted, {cell: _finer(wanted, cell) for cell in wanted})


@dataclass(slots=True)
class _Asked:
    """What has become of the questions about one target."""

    persona_id: str
    case: str
    kind: str
    asked: int = 0
    kept: int = 0


def load(path: Path) -> Quotas:
    """The quotas of a file; ValueError, on one line with the file's name, where it can't be used."""
    import tomllib

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as fault:
        raise ValueError(f"{path}: not a TOML file: {fault}") from None
    try:
        each = _number("per_preference", table.pop("per_preference", 1))
        of_a_persona = _cells(_table("persona", table.pop("persona", {}), "total", "case", "kind", *CASES), "persona.")
        wanted = _cells(_table("the file", table, "total", "case", "kind", "persona", "per_preference", *CASES), "")
        _fit(wanted, "")
        _fit(of_a_persona, "persona.")
    except ValueError as fault:
        raise ValueError(f"{path}: {fault}") from None
    return Quotas(wanted, of_a_persona, max(each, 1))


def _cells(table: dict[str, Any], place: str) -> dict[Cell, int]:
    cells: dict[Cell, int] = {}
    for name, value in table.items():
        at = f"{place}{name}"
        if name == "total":
            cells[None, None] = _number(at, value)
        elif name == "case":
            cells |= {(case, None): _number(f"{at}.{case}", n) for case, n in _table(at, value, *CASES).items()}
        else:
            case = None if name == "kind" else name
            cells |= {(case, kind): _number(f"{at}.{kind}", n) for kind, n in _table(at, value, *KINDS).items()}
    return cells


def _finer(wanted: dict[Cell, int], cell: Cell) -> list[list[Cell]]:
    """The quotas within a cell, those by case, by kind and by both each in a list: they share the same questions."""
    within = [one for one in wanted if one != cell and all(a in (None, b) for a, b in zip(cell, one, strict=True))]
    ways = {(one[0] is None, one[1] is None) for one in within}
    return [[one for one in within if (one[0] is None, one[1] is None) == way] for way in sorted(ways)]


def _fit(wanted: dict[Cell, int], place: str) -> None:
    """ValueError where the quotas within one add up to more than it."""
    for cell, most in wanted.items():
        for finer in _finer(wanted, cell):
            if (together := sum(wanted[one] for one in finer)) > most:
                named = ", ".join(map(name, finer))
                raise ValueError(f"{place}{name(cell)}: {most} questions, fewer than {together} for {named}")


def _table(place: str, value: Any, *known: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: expected a table, found {value!r}")
    if stranger := next((name for name in value if name not in known), None):
        raise ValueError(f"{place} has no key '{stranger}'; there are: {', '.join(known)}")
    return value


def _number(place: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{place}: expected a number of questions, found {value!r}")
    return value


class Count:
    """The questions of a stream, counted as they come. Holds numbers and ids, never a record."""

    def __init__(self, quotas: Quotas) -> None:
        self.quotas = quotas
        self._of_all, self._of_each = _Scope.of(quotas.wanted), _Scope.of(quotas.of_a_persona)
        self._kept: Counter[tuple[str | None, Cell]] = Counter()  # of a persona, and of all (None)
        self._seen: Counter[Cell] = Counter()
        self._passed: Counter[Cell] = Counter()
        self._targets: dict[str, _Asked] = {}
        self._ids: set[int] = set()
        self._personas: set[str] = set()

    def fell(self, qa: dict[str, Any]) -> None:
        """Note a question that failed a check."""
        self._note(qa)

    def surplus(self, qa: dict[str, Any]) -> str | None:
        """Note a question that passed every check. None if it is to be kept, else what there is enough of."""
        target = self._note(qa)
        cells, persona = _cells_of(qa), qa["persona_id"]
        self._passed.update(cells)
        own_id = int(qa["id"][2:], 16)
        if own_id in self._ids:
            return "the same question was kept before"
        if target and target.kept >= self.quotas.per_preference:
            return f"enough about {item_of(qa)}"
        if full := self._full(cells, persona):
            return f"no room for more of {full}"
        self._ids.add(own_id)
        self._kept.update((whose, cell) for whose in {persona, None} for cell in cells)
        if target:
            target.kept += 1
        return None

    def _note(self, qa: dict[str, Any]) -> _Asked | None:
        self._seen.update(_cells_of(qa))
        persona, item = qa["persona_id"], item_of(qa)
        if persona:
            self._personas.add(persona)
        if not (persona and item and qa["case"] and qa["preference"]):
            return None  # an imported question of which too little is known to ask another one
        found = self._targets.setdefault(item, _Asked(persona, qa["case"], qa["preference"]["kind"]))
        found.asked += 1
        return found

    def _full(self, cells: list[Cell], persona: str | None) -> str | None:
        """The first quota of the cells that has no room, in words: what finer ones of others lack is theirs."""
        for scope in (self._of_all, self._of_each):
            whose = persona if scope is self._of_each else None
            if scope is self._of_each and not persona:
                continue
            for cell in cells:
                if cell in scope.wanted and self._room(scope, whose, cell, cells) <= 0:
                    return f"{name(cell)} of one persona" if whose else name(cell)
        return None

    def _room(self, scope: "_Scope", whose: str | None, cell: Cell, cells: list[Cell]) -> int:
        def lacks(one: Cell) -> int:
            return max(scope.wanted[one] - self._kept[whose, one], 0)

        reserved = [sum(lacks(one) for one in finer if one not in cells) for finer in scope.finer[cell]]
        return scope.wanted[cell] - self._kept[whose, cell] - max(reserved, default=0)

    def owed(self) -> list[dict[str, Any]]:
        """What lacks a surviving question while a quota that it counts for is unmet and none is full.

        In the order in which it was first seen. Where less will do, what has been asked about least often comes first.
        """
        any_quota = bool(self.quotas.wanted or self.quotas.of_a_persona)
        room = {cell: self._to_ask(cell) for cell in self.quotas.wanted}
        lacking = [(item, one) for item, one in self._targets.items() if one.kept < self.quotas.per_preference]
        chosen = set()
        for item, one in sorted(lacking, key=lambda pair: pair[1].asked):
            cells = _all_cells(one.case, one.kind)
            named = [cell for cell in cells if cell in self.quotas.wanted]
            if any_quota and not (named or any(cell in self.quotas.of_a_persona for cell in cells)):
                continue
            if self._full(cells, one.persona_id) or any(room[cell] <= 0 for cell in named):
                continue
            for cell in named:
                room[cell] -= 1
            chosen.add(item)
        return [_owed(item, one) for item, one in lacking if item in chosen]

    def _to_ask(self, cell: Cell) -> int:
        """How many questions are likely to bring what a quota lacks, by the share that survived so far."""
        missing = self.quotas.wanted[cell] - self._kept[None, cell]
        return ceil(SPARE * missing * (self._seen[cell] + 2) / (self._passed[cell] + 1))

    def rows(self, owed: list[dict[str, Any]]) -> Iterator[tuple[str, int, int, int]]:
        """Each quota: its name, how many questions are wanted, kept, and owed. One of a persona is added up."""
        asked = Counter(cell for one in owed for cell in _all_cells(one["case"], one["kind"]))
        for cell, wanted in self.quotas.wanted.items():
            yield name(cell), wanted, self._kept[None, cell], asked[cell]
        for cell, wanted in self.quotas.of_a_persona.items():
            kept = sum(self._kept[persona, cell] for persona in self._personas)
            yield f"{name(cell)}, each persona", wanted * len(self._personas), kept, asked[cell]


def name(cell: Cell) -> str:
    """A cell in words: "total", "own", "health", "own health"."""
    return " ".join(part for part in cell if part) or "total"


def _all_cells(case: str | None, kind: str | None) -> list[Cell]:
    """The cells that a question counts for; without a case or a kind, fewer."""
    return list(dict.fromkeys([(None, None), (case, None), (None, kind), (case, kind)]))


def _cells_of(qa: dict[str, Any]) -> list[Cell]:
    return _all_cells(qa["case"], qa["preference"]["kind"] if qa["preference"] else None)


def _owed(item: str, one: _Asked) -> dict[str, Any]:
    return {
        "type": "owed",
        "id": item,
        "persona_id": one.persona_id,
        "case": one.case,
        "kind": one.kind,
        "asked": one.asked,
    }
