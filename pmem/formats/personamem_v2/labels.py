"""The map between pmem's labels and the published ones (`lists/labels.toml`, or a file that replaces it)."""

from pathlib import Path

from pmem import check, lists
from pmem.errors import InputError, RecordError

TABLES = ("kind", "case", "scenario", "who", "preferences", "secret")


class Labels:
    """Published labels by pmem's, and the other way round, for each table of the file."""

    def __init__(self, path: Path | None = None) -> None:
        self._name = str(path or "labels.toml")
        try:
            self._written = lists.labels(path)
        except (OSError, ValueError) as fault:
            raise InputError(str(fault)) from None
        self._read: dict[str, dict[str, str]] = {}
        for table in TABLES:
            known = _own_labels(table)
            self._read[table] = {}
            for own, published in self._table(table).items():
                if own not in known:
                    raise InputError(f"{self._name}: {table}.{own}: no label of pmem; there are: {', '.join(known)}")
                if not isinstance(published, list) or not all(isinstance(one, str) and one for one in published):
                    raise InputError(f"{self._name}: {table}.{own}: expected a list of published labels")
                self._read[table] |= dict.fromkeys(published, own)

    def _table(self, name: str) -> dict[str, list[str]]:
        table = self._written.get(name)
        if not isinstance(table, dict):
            raise InputError(f"{self._name}: the table [{name}] is missing")
        return table

    def knows(self, table: str, published: str) -> bool:
        """Whether a published label stands in a table."""
        return published in self._read[table]

    def own(self, table: str, published: str) -> str:
        """pmem's label for a published one, which has to be there."""
        return self._read[table][published]

    def column(self, column: str, published: str, *tables: str) -> tuple[str, str] | None:
        """The table and pmem's label for what stands in a column; None for an empty cell.

        RecordError where no table knows it.
        """
        if not published:
            return None
        for table in tables:
            if published in self._read[table]:
                return table, self._read[table][published]
        known = ", ".join(label for table in tables for label in self._read[table])
        raise RecordError(
            f"unknown label '{check.plain(published, 60)}'; known are {known} (--labels FILE adds others)",
            reason="schema",
            pointer=f"/{column}",
        )

    def published(self, table: str, own: str) -> str:
        """The published label to write for pmem's."""
        written = self._table(table).get(own)
        if not written:
            raise RecordError(f"{self._name} has no published label for {table} '{own}'", reason="schema")
        return written[0]


def _own_labels(table: str) -> list[str]:
    schema = check.schema("qa")
    shapes = schema["$defs"]
    found = {
        "kind": shapes["preference"]["properties"]["kind"],
        "preferences": shapes["preference"]["properties"]["kind"],
        "case": schema["properties"]["case"],
        "scenario": schema["properties"]["scenario"],
        "who": shapes["owner"]["properties"]["who"],
        "secret": shapes["secret"]["properties"]["kind"],
    }[table]
    return [label for label in found["enum"] if label is not None]
