"""The pipe of a command: the ways in which records go through it."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import nullcontext
from operator import itemgetter
from typing import Any, TypeGuard

import orjson

from pmem import check
from pmem.errors import Deferred, PmemError, RecordError
from pmem.stream.folder import Folder
from pmem.stream.interrupts import in_loop, two_at_most, unbroken
from pmem.stream.made import Group, Made, Outcome, bytes_of, entries_of, grouped, outcome
from pmem.stream.progress import counted
from pmem.stream.run import NEWLINE, Run
from pmem.stream.shard import Shard, of_shard
from pmem.stream.sink import Sink, Spool
from pmem.stream.source import Entry, Record, Torn

Arrange = Callable[[AsyncIterator[list[Any]]], AsyncIterator[list[Any]]]
"""What makes of batches of entries the batches of what is worked on."""


class Pipe(Run):
    """One command's run over its input. Made by `stream_options`."""

    def run(
        self,
        make: Callable[[Record, list[str] | None], Awaitable[Record | Made]],
        *,
        reads: str,
        writes: str,
        parse: Callable[[bytes], Record] | None = None,
        arrange: Arrange | None = None,
    ) -> None:
        """Map every record through `make(record, items)`, concurrently, in order.

        items: None for the whole record, or the parts to make where a reject was fed in again. arrange: puts the
        entries into another order; one may be passed on several times, each with other items.
        """

        async def one(entry: Entry) -> Record | Made:
            return await make(entry.record, entry.items)

        self._start(reads.split(), parse)
        self._drive(arrange or (lambda batches: batches), one, writes)

    def run_groups(self, make: Callable[[Group], Awaitable[Made]], *, key: str, reads: str, writes: str) -> None:
        """Map every group of neighbours that share `key` through `make`, concurrently, in order."""

        async def one(entries: list[Entry]) -> Made:
            items: list[str] | None = []
            for entry in entries:
                items = None if items is None or entry.items is None else [*items, *entry.items]
            return await make(Group([entry.record for entry in entries], items and sorted(set(items))))

        self._start(reads.split(), None)
        self._drive(lambda batches: grouped(batches, itemgetter(key)), one, writes)

    def sift(
        self,
        keep: Callable[[Record], str | None],
        *,
        reads: str,
        again: Callable[[bytes], bytes | str] | None = None,
    ) -> None:
        """Pass on, byte for byte, each record for which `keep` gives None; drop the others for the reason it gives.

        again: asked about each kept line, in their order, once all have been read: the line to pass on, or a reason.
        """
        self._start([reads], None)
        try:
            with two_at_most(), Spool() if again else nullcontext() as spool:
                for file, number, lines in self._batches():
                    self._sift_batch(file, number, lines, keep, spool or self.out)
                if again and spool:
                    self._again(spool, again)
            self._finish()
        except BaseException as fault:
            self._stopped(fault)

    def _sift_batch(
        self, file: str, number: int, lines: list[bytes], keep: Callable[[Record], str | None], to: Sink | Spool
    ) -> None:
        """Pass on what `keep` keeps of some lines."""
        loads, counts, kind = orjson.loads, self.counts, self.reader.reads[0]
        valid = check.validator(kind)
        kept: list[bytes] = []
        before = counts["in"]
        try:
            for place, line in enumerate(lines, number):
                try:
                    record = loads(line)
                    sound = record["type"] == kind and valid(record)
                except (ValueError, KeyError, TypeError):
                    sound = False
                if not sound:  # the slow way says what is wrong, or unwraps a reject that came in again
                    if not line or line.isspace():
                        continue
                    entry = self.reader.entry(line, file, place)
                    if isinstance(entry, Torn):
                        counts["in"] += 1
                        self._reject(entry.entry, entry.fault)
                        continue
                    record, line = entry.record, orjson.dumps(entry.record)
                counts["in"] += 1
                reason = keep(record)
                if reason is None:
                    kept.append(line)
                else:
                    self._drop(record, reason)
        finally:  # what stood before a faulty line goes out, however the input was cut into batches
            with unbroken():
                if kept:
                    to.write(b"\n".join(kept) + b"\n", len(kept))
                self.out.flush()
        self.bar.advance(counts["in"] - before)

    def _again(self, spool: Spool, make: Callable[[bytes], bytes | str]) -> None:
        """Write what `make` makes of each line that was put aside; where it gives a reason, drop the record."""
        for line in spool:
            made = make(line)
            if isinstance(made, str):
                self._drop(orjson.loads(line), made)
            else:
                with unbroken():
                    self.out.write(made + b"\n")

    def run_twice(
        self, look: Callable[[Record], None], decide: Callable[[], Callable[[Record], Record | str]], *, reads: str
    ) -> None:
        """Show each record to `look`, then make each into what goes out, or drop it for the reason given.

        decide: called once all have been seen, for what makes them. Between the two ways the records lie in a
        temporary file. `look` may refuse a record (RecordError).
        """
        self._start([reads], None)
        try:
            with two_at_most(), Spool() as seen:
                for entry in (entry for batch in self._entries() for entry in batch):
                    if self._offered(entry, look):
                        seen.write(orjson.dumps(entry.record, option=NEWLINE))
                make = decide()

                def made(line: bytes) -> bytes | str:
                    self.bar.advance()
                    out = make(orjson.loads(line))
                    return out if isinstance(out, str) else orjson.dumps(out)

                self._again(seen, made)
            self._finish()
        except BaseException as fault:
            self._stopped(fault)

    def _offered(self, entry: Entry | Torn, take: Callable[[Record], None]) -> TypeGuard[Entry]:
        """Whether `take` takes the record; where it refuses it (RecordError), or there is none, it is rejected."""
        if isinstance(entry, Torn):
            self._reject(entry.entry, entry.fault)
            return False
        try:
            take(entry.record)
        except RecordError as fault:
            self._reject(entry, fault)
            return False
        return True

    def also(self, path: str) -> Sink:
        """One more file to write, which comes to be with the others when all is done."""
        self.others.append(self._sink(path))
        return self.others[-1]

    def document(self, path: str, found: dict[str, Any]) -> None:
        """One more file, of a single JSON document."""
        self.also(path).write(orjson.dumps(found, option=orjson.OPT_INDENT_2 | NEWLINE))

    def take(
        self,
        entries: Iterable[Entry | Torn],
        make: Callable[[Entry], Made],
        *,
        writes: str,
        gathered: Callable[[], Iterable[Iterable[bytes]]] = tuple,
    ) -> None:
        """Map what a reader of another format yields (parsed items with their places) through `make`, in order.

        gathered: called once all have been read, where a record is made of many items: each as the pieces of its line.
        """
        self._start([], None)
        valid = check.validator(writes)
        try:
            with two_at_most():
                for entry in itertools.islice(entries, self.limit):
                    self.counts["in"] += 1
                    self._write(self._taken(entry, make, writes, valid))
                    self.out.flush()
                for pieces in gathered():
                    with unbroken():
                        for number, piece in enumerate(pieces):
                            self.out.write(piece, int(number == 0))
            self._finish()
        except BaseException as fault:
            self._stopped(fault)

    def _taken(
        self, entry: Entry | Torn, make: Callable[[Entry], Made], writes: str, valid: Callable[[Any], bool]
    ) -> Outcome:
        if isinstance(entry, Torn):
            return Outcome(rejected=[(entry.entry, entry.fault, None)])
        try:
            return outcome(make(entry), [entry], self.stage, writes, valid)
        except RecordError as fault:
            return Outcome(rejected=[(entry, fault, None)])

    def beside(self, path: str, kind: str) -> Callable[[Record], None]:
        """How to write records of another type to a file of their own, complete or not at all like the output."""
        sink = self.also(path)
        self.notes.append(lambda: f"{counted(sink.count, f'{kind} record')} to {path}")
        return lambda record: sink.write(orjson.dumps(record, option=NEWLINE))

    def fill(self, folder: Folder, put: Callable[[Record], None], end: Callable[[], None], *, reads: str) -> None:
        """Hand every record to `put`, which writes it into the folder; then `end`, and the folder is whole."""
        self.folder = folder
        self._start(reads.split(), None)
        try:
            with two_at_most():
                for batch in self._entries():
                    for entry in batch:
                        self.out.count += self._offered(entry, put)
                        self.bar.advance()
                end()
            self._finish()
        except BaseException as fault:
            self._stopped(fault)

    def records(self, *, reads: str) -> Iterator[Record]:
        """The checked records, one by one, for a command that ends with `print`: tables, pages."""
        self._start(reads.split(), None)
        for batch in self._entries():
            for entry in batch:
                if isinstance(entry, Torn):
                    self._reject(entry.entry, entry.fault)
                else:
                    yield entry.record

    def gather(self, work: Callable[[list[Record]], Awaitable[None]], *, reads: str) -> None:
        """Hand all records at once to `work`, which writes lines of its own with `tell`."""

        async def run() -> None:
            try:
                await work([entry.record for batch in self._entries() for entry in batch if self._whole(entry)])
            finally:
                await self._close()

        self._start(reads.split(), None)
        try:
            with two_at_most():
                in_loop(run)
            self._finish()
        except BaseException as fault:
            self._stopped(fault)

    def _whole(self, entry: Entry | Torn) -> TypeGuard[Entry]:
        return self._offered(entry, lambda record: None)

    def tell(self, line: bytes) -> None:
        """Write a line that can be read at once."""
        with unbroken():
            self.out.write(line)
            self.out.flush()

    def answer(self, make: Callable[[str], Awaitable[str]]) -> None:
        """Map all input, as one text, to one text; nothing comes of nothing."""

        async def run() -> str:
            try:
                lines = [line for _, _, lines in self._batches() for line in lines]
                text = b"\n".join(lines).decode("utf-8", "replace").strip()
                return await make(text) if text else ""
            except Deferred:
                self.later += 1
                return ""
            except RecordError as fault:
                raise PmemError(f"{self.stage}: {fault}") from None
            finally:
                await self._close()

        self._start([], None)
        del self.counts["in"], self.counts["out"]
        try:
            with two_at_most():
                said = in_loop(run)
            if said:
                self.out.write(said.encode() + b"\n")
            self._finish()
        except BaseException as fault:
            self._stopped(fault)

    def print(self, text: str) -> None:
        """Write text (if there is any) instead of records, and end the run."""
        self.say(text)
        self._finish()

    def write(self, content: bytes) -> None:
        """Write content as it is instead of records, and end the run."""
        del self.counts["out"]
        self.out.write(content)
        self._finish()

    def say(self, text: str) -> None:
        """Write text, if there is any, instead of records."""
        self.counts.pop("out", None)
        if text:
            self.out.write(text.encode() + b"\n")

    def put_off(self, call: bytes) -> None:
        """Write a call, as a line, that is left for another time."""
        assert self.calls
        self.calls.write(call)

    # ---- many at once -----------------------------------------------------------------------------------------

    def _drive(
        self,
        arrange: Arrange,
        make: Callable[[Any], Awaitable[Record | Made]],
        writes: str,
    ) -> None:
        import gc

        # Records in work are many small objects, and hardly any form a cycle: looking for those as often as Python
        # does by default would take a tenth of a run's time.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        try:
            in_loop(lambda: self._pump(arrange, self._attempting(make, writes)))
            self._finish()
        except BaseException as fault:
            self._stopped(fault)

    def _attempting(
        self, make: Callable[[Any], Awaitable[Record | Made]], writes: str
    ) -> Callable[[Any], Coroutine[Any, Any, Outcome]]:
        """What makes an outcome of an item: of an entry, of a torn line, or of a group of entries."""
        valid = check.validator(writes)

        async def attempt(item: Any) -> Outcome:
            entries = item if isinstance(item, list) else [item]
            try:
                if isinstance(item, Torn):
                    raise item.fault
                made = await make(item)
                made = made if isinstance(made, Made) else Made([made])
                return outcome(made, entries, self.stage, writes, valid, self.shape)
            except Deferred:
                return Outcome(later=True)
            except RecordError as fault:
                return Outcome(rejected=[(entry, fault, None) for entry in entries_of(item)])

        return attempt

    async def _of_shard(self, items: AsyncIterator[list[Any]], shard: Shard) -> AsyncIterator[list[Any]]:
        """The items of a shard, among all records of the input; others count as if they weren't there."""
        total = sum(1 for _, _, lines in self._batches() for line in lines if line and not line.isspace())
        async for kept, left_out in of_shard(items, shard, total):
            self.counts["in"] -= left_out
            yield kept

    async def _pump(
        self,
        arrange: Arrange,
        attempt: Callable[[Any], Coroutine[Any, Any, Outcome]],
    ) -> None:
        from contextlib import aclosing

        from pmem.stream.window import directly, from_thread, in_order

        items = arrange((from_thread if self.chunks.blocking else directly)(self._entries()))
        if self.shard:
            items = self._of_shard(items, self.shard)
        if self.elsewhere and not self.plan:
            window = self.elsewhere.outcomes(items, self.out.flush)
        else:
            window = in_order(
                items,
                attempt,
                2 * self.jobs * self.ahead,
                self.out.flush,
                weigh=bytes_of,
                weigh_result=Outcome.weight,
                most_bytes=self.most_bytes,
            )
        with two_at_most():
            try:
                async with aclosing(window) as done:
                    async for result in done:
                        self._write(result)
                for record in () if self.plan or self.later else self.epilogue():
                    self.out.write(self.shape(record))
            finally:
                await self._close()
