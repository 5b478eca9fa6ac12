"""Answers by the values of labels: those that were asked for, or else those that say something of what was asked."""

from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy

from pmem.report.runs import ALIASES, NONE, OF_ANSWERS, Result, persona_of, value_of
from pmem.report.tally import Tally

USUAL = ("kind", "scenario", "owner")
"""What tables are broken down by, unasked, as far as questions have it."""
MOST = 20
"""Values of a label that is none of these, and shown unasked: of other data sets, say."""


def asked(by: str | None) -> list[str] | None:
    """The labels of an option --by; None if it wasn't given."""
    return None if by is None else list(dict.fromkeys(label.strip() for label in by.split(",") if label.strip()))


def unasked(values: Mapping[str, Collection[str]], usual: Iterable[str] = USUAL) -> list[str]:
    """What to show of labels with their values where nothing was asked for: the usual ones that occur; of questions
    that these don't tell apart, each other label that does."""
    found = [name for label in usual if (name := ALIASES.get(label, label)) in values]
    if any(len(values.get(label, ())) > 1 for label in USUAL):
        return found
    return found + sorted(label for label, known in values.items() if 2 <= len(known) <= MOST and label not in found)


class Groups:
    """Tallies of one run's answers, by label and value."""

    def __init__(self, by: list[str] | None) -> None:
        """by: the labels to count; None: whatever comes, as long as it has few values. known: all labels that came."""
        self._open = by is None
        self._by: dict[str, dict[str, Tally]] = {label: {} for label in by or ()}
        self._all = Tally()
        self._crowded: set[str] = set()
        self.known: set[str] = set()

    def add(self, result: Result) -> None:
        """One more result."""
        persona, right = persona_of(result), result["correct"]
        self.known |= result["labels"].keys()
        if self._open:
            for label in result["labels"].keys() - self._by.keys() - self._crowded - OF_ANSWERS:
                self._by[label] = {NONE: deepcopy(self._all)} if self._all else {}
        for label, groups in self._by.items():
            groups.setdefault(value_of(result, label), Tally()).add(persona, right)
        if self._open:
            self._all.add(persona, right)
            self._crowded |= {label for label, groups in self._by.items() if len(groups) > MOST}
            self._by = {label: groups for label, groups in self._by.items() if label not in self._crowded}

    def values(self) -> dict[str, set[str]]:
        """The labels that are counted, with their values."""
        return {label: set(groups) for label, groups in self._by.items()}

    def of(self, label: str) -> dict[str, Tally]:
        """The answers by the values of a label; all under `NONE` if it never came."""
        return self._by.get(ALIASES.get(label, label)) or self._by.get(label) or {NONE: self._all}
