"""What a stage takes and gives beside single records: groups of neighbours, and what it made of one input."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import orjson

from pmem import check
from pmem.errors import Deferred, ModelError, RecordError
from pmem.stream.source import Entry, Record, Torn

Part = TypeVar("Part")


class Failure(NamedTuple):
    """A part of a record that could not be made: its name among the record's items, and why."""

    item: str
    fault: RecordError


class Made(NamedTuple):
    """What a stage makes of one record or group: records, parts that failed, and parts left out on purpose.

    dropped: (record that explains itself, reason) pairs for --dropped. noted: what the run is to know of it beside
    (`Run.noted`), as plain data: records may be made in other processes.
    """

    records: list[Record]
    failures: list[Failure] = []  # noqa: RUF012 - never written to
    dropped: list[tuple[Record, str]] = []  # noqa: RUF012
    noted: Any = None


Rejected = tuple[Entry, RecordError, list[str] | None]  # what, why, which of its items (None: all)


class Outcome(NamedTuple):
    """What goes out for one input, ready to be written; of the input itself, only what has to be rejected is kept.

    lines: whole lines of `number` records; dropped: as in Made; rejected: what, why, which items;
    later: nothing yet, since a call has been put off; noted: as in Made.
    """

    lines: bytes = b""
    number: int = 0
    dropped: list[tuple[Record, str]] = []  # noqa: RUF012
    rejected: list[Rejected] = []  # noqa: RUF012
    later: bool = False
    noted: Any = None

    def weight(self) -> int:
        """About how many bytes it takes."""
        return len(self.lines) + sum(OBJECTS * len(entry.line) for entry, _, _ in self.rejected)


OBJECTS = 3
"""How much more memory a parsed record takes than its line."""


def entries_of(item: Any) -> list[Entry]:
    """The entries of an item: of a group, or of a line, which may be torn."""
    return item if isinstance(item, list) else [item.entry if isinstance(item, Torn) else item]


def bytes_of(item: Any) -> int:
    """About how many bytes an entry or a group of entries takes while it is in work."""
    return OBJECTS * sum(len(entry.line) for entry in entries_of(item))


def as_line(record: Record) -> bytes:
    """A record as it is written: one line of JSON."""
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def outcome(
    made: Made,
    entries: list[Entry],
    stage: str,
    writes: str,
    valid: Callable[[Any], bool],
    shape: Callable[[Record], bytes] = as_line,
) -> Outcome:
    """What to write for `entries`; they are rejected whole if the stage made something against its own schema."""
    for record in made.records:
        if not valid(record):
            fault = check.first_fault(check.schema(writes), record)
            message = f"{stage} made an invalid {writes} record: {fault.message}"
            error = RecordError(message, reason="internal", pointer=fault.pointer)
            return Outcome(rejected=[(entry, error, None) for entry in entries])
    lines = b"".join([shape(record) for record in made.records])
    failed = [failure.item for failure in made.failures]
    rejected: list[Rejected] = [(entry, made.failures[0].fault, failed) for entry in entries] if failed else []
    return Outcome(lines, len(made.records), made.dropped, rejected, noted=made.noted)


class Group(NamedTuple):
    """Neighbouring records with the same key, and the items asked for (None: all)."""

    records: list[Record]
    items: list[str] | None = None


async def together(parts: Iterable[Awaitable[Part]]) -> list[Part]:
    """What all parts of a record give, made at once.

    If one fails or is put off, the others are made nevertheless, so that their replies are stored or their calls put
    off too, and none is left behind; then the record is put off if any part is, else it fails as its first part did.
    What ends the run ends the parts.
    """
    import asyncio

    async def attempt(making: Awaitable[Part]) -> Part | RecordError | Deferred:
        try:
            return await making
        except (RecordError, Deferred) as fault:
            return fault

    tasks = [asyncio.ensure_future(attempt(making)) for making in parts]
    try:
        made = await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    faults = [result for result in made if isinstance(result, RecordError | Deferred)]
    if faults:
        raise next((fault for fault in faults if isinstance(fault, Deferred)), faults[0])
    return [result for result in made if not isinstance(result, RecordError | Deferred)]


async def gathered(parts: dict[str, Awaitable[Record]]) -> Made:
    """The records of all parts (item -> what makes it), made at once; where the model failed for one, a failure.

    Deferred if a part is put off: a record is made in one go.
    """

    async def attempt(item: str, making: Awaitable[Record]) -> Record | Failure:
        try:
            return await making
        except ModelError as fault:
            return Failure(item, fault)

    if len(parts) == 1:  # needs no task of its own
        results = [await attempt(*part) for part in parts.items()]
    else:
        results = await together(attempt(item, making) for item, making in parts.items())
    failures = [result for result in results if isinstance(result, Failure)]
    return Made([result for result in results if not isinstance(result, Failure)], failures)


async def grouped(batches: AsyncIterator[list[Any]], key: Callable[[Record], Any]) -> AsyncIterator[list[Any]]:
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
            elif group and key(group[0].record) == key(entry.record):
                group.append(entry)
            else:
                if group:
                    done.append(group)
                group = [entry]
        yield done
    if group:
        yield [group]
