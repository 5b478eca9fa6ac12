"""Quotas as a table."""

from collections.abc import Iterable


def unmet(rows: Iterable[tuple[str, int, int, int]]) -> str:
    """The quotas that are not met, each with how many questions are wanted, kept and owed; "" without quotas.

    rows: name, wanted, kept, owed of every quota.
    """
    every = list(rows)
    lacking = [row for row in every if row[2] < row[1]]
    if not every:
        return ""
    if not lacking:
        return f"all {len(every)} quotas are met" if len(every) > 1 else "the quota is met"
    width = max(12, *(len(row[0]) for row in lacking))
    head = f"{'unmet quota':<{width}} {'wanted':>9} {'got':>9} {'owed':>9}"
    return "\n".join([head, *(f"{row[0]:<{width}} {row[1]:>9,} {row[2]:>9,} {row[3]:>9,}" for row in lacking)])
