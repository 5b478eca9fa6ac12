"""What is asked of a question: once for each context, window and order of its options; and in which order."""

from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from pmem.evaluation.question import turned, windows
from pmem.evaluation.scenes import OF_HISTORY
from pmem.stream.made import grouped
from pmem.stream.source import Entry, Torn

ALL = "all"
"""Stands for all windows that a question has."""


class Plan(NamedTuple):
    """windows: names of the histories to show (none: the smallest that a question has; ALL: each of them);
    permutations: orders of the options, at most one for each of a question's options."""

    mode: str
    contexts: tuple[str, ...]
    windows: tuple[str, ...]
    permutations: int


class Take(NamedTuple):
    """A question as it is asked once. window: None where the context needs no history; options, gold: in the order
    that `permutation` makes; call: without its number."""

    qa: dict[str, Any]
    context: str
    window: str | None
    permutation: int
    options: list[str]
    gold: str
    call: str

    @property
    def item(self) -> str:
        """Its name among the parts of a record."""
        window = f"-{self.window}" if self.window else ""
        return self.context + window + (f"-order{self.permutation}" if self.permutation else "")


def takes(qa: dict[str, Any], items: list[str] | None, plan: Plan) -> list[Take]:
    """All that is asked of a question, or what `items` names of it. Windows that it doesn't have are among it."""
    orders = min(plan.permutations, len(qa["options"] or ())) if plan.mode == "mcq" else 1
    found = [
        _take(qa, plan.mode, context, window, order)
        for context in plan.contexts
        for window in (_windows(qa, plan.windows) if context in OF_HISTORY else [None])
        for order in range(orders)
    ]
    return found if items is None else [take for take in found if take.item in items]


def _windows(qa: dict[str, Any], wanted: tuple[str, ...]) -> list[str]:
    if wanted and ALL not in wanted:
        return [*wanted]
    own = windows(qa) or ["32k"]
    return own if wanted else own[:1]


def _take(qa: dict[str, Any], mode: str, context: str, window: str | None, permutation: int) -> Take:
    options, gold = turned(qa, permutation)
    call = f"eval/{qa['id']}/{mode}-{context}" + (f"-{window}" if window else "")
    return Take(qa, context, window, permutation, options, gold, call)


def by_history(plan: Plan) -> Callable[[AsyncIterator[list[Any]]], AsyncIterator[list[Any]]]:
    """Arranges questions so that calls on one history follow each other, though each is asked about several.

    Neighbours that have the same histories are passed on once for each window, with the parts that belong to it: all
    of them about the first, then all about the second.
    """

    async def arranged(batches: AsyncIterator[list[Any]]) -> AsyncIterator[list[Any]]:
        async for groups in grouped(batches, _histories):
            yield [one for group in groups for one in _by_window(group, plan)]

    return arranged


def _histories(qa: dict[str, Any]) -> Any:
    return [one["id"] for one in qa["histories"].values()] or qa["id"]


def _by_window(group: list[Entry] | Torn, plan: Plan) -> list[Entry | Torn]:
    if isinstance(group, Torn):
        return [group]
    passes: dict[str | None, list[Entry | Torn]] = {}
    for entry in group:
        asked = takes(entry.record, entry.items, plan)
        first = next((take.window for take in asked if take.window), None)
        parts: dict[str | None, list[str]] = {}
        for take in asked:
            parts.setdefault(take.window or first, []).append(take.item)
        for window, items in parts.items() or [(None, None)]:
            passes.setdefault(window, []).append(entry if len(parts) < 2 else entry._replace(items=items))
    return [entry for entries in passes.values() for entry in entries]
