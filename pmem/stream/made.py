"""What a stage takes and gives beside single records: groups of neighbours, and what it made of one input."""

from collections.abc import AsyncIterator, Awaitable
from typing import Any, NamedTuple

from pmem.errors import ModelError, RecordError
from pmem.stream.source import Entry, Record, Torn


class Failure(NamedTuple):
    """A part of a record that could not be made: its name among the record's items, and why."""

    item: str
    fault: RecordError


class Made(NamedTuple):
    """What a stage makes of one record or group: records, parts that failed, and parts left out on purpose.

    dropped: (record that explains itself, reason) pairs for --dropped.
    """

    records: list[Record]
    failures: list[Failure] = []  # noqa: RUF012 - never written to
    dropped: list[tuple[Record, str]] = []  # noqa: RUF012


class Group(NamedTuple):
    """Neighbouring records with the same key, and the items asked for (None: all)."""

    records: list[Record]
    items: list[str] | None = None


async def gathered(parts: dict[str, Awaitable[Record]]) -> Made:
    """The records of all parts (item -> what makes it), made at once; where the model failed for one, a failure."""
    import asyncio

    async def attempt(item: str, making: Awaitable[Record]) -> Record | Failure:
        try:
            return await making
        except ModelError as fault:
            return Failure(item, fault)

    results = await asyncio.gather(*(attempt(item, making) for item, making in parts.items()))
    failures = [result for result in results if isinstance(result, Failure)]
    return Made([result for result in results if not isinstance(result, Failure)], failures)


async def grouped(batches: AsyncIterator[list[Any]], key: str) -> AsyncIterator[list[Any]]:
    """Batches of entries to batches of groups: lists of neighbours with equal `key`; a torn line is on its own."""
    group: list[Entry] = []
    async for batch in batches:
        done: list[Any] = []
        for entry in batch:
            if isinstance(entry, Torn):
                if group:
                    done.append(group)
                    group = []
                done.append(entry)
            elif group and group[0].record[key] == entry.record[key]:
                group.append(entry)
            else:
                if group:
                    done.append(group)
                group = [entry]
        yield done
    if group:
        yield [group]
