"""The pipe of a command: it reads, checks, runs the stage's function, checks again, writes, and says what happened."""

import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click
import orjson

from pmem import check, errors
from pmem.errors import Deferred, InputError, PmemError, RecordError
from pmem.stream.folder import Folder
from pmem.stream.interrupts import two_at_most, unbroken
from pmem.stream.made import Group, Made, Outcome, as_line, bytes_of, grouped, outcome
from pmem.stream.progress import Progress, seconds
from pmem.stream.sink import Sink, Spool, Unwritten
from pmem.stream.source import CHUNK, Chunks, Entry, Reader, Record, Torn

NEWLINE = orjson.OPT_APPEND_NEWLINE


if TYPE_CHECKING:
    from typing import Protocol

    class Attached(Protocol):
        """Something that lives as long as the run: a model, a file of histories."""

        def report(self) -> str: ...

        async def close(self) -> None: ...


class Pipe:
    """One command's run over its input. Made by `stream_options`.

    attached: models and files, closed and reported at the end; notes: what else the summary line says; closing: text
    before it; ending: what remains to be done once all records are through, before outputs are complete (not where some
    are left for later, nor under a plan); usage: a file for `used`, the records of what was asked of each model;
    batch_out: a file for calls that are left for another time; later: records that need some of these; plan: where it
    is set, nothing is written but what it says at the end, of a run without calls; folder: in the place of the output,
    where a command makes files; others: outputs beside it; shape: how `run` writes a record;
    epilogue: what it writes after the last; most_bytes: of records in work, where they are large and stay long;
    exhausted: whether all input has been read.
    """

    def __init__(
        self,
        stage: str,
        files: tuple[str, ...] = (),
        *,
        output: str | None = None,
        rejects: str | None = None,
        dropped: str | None = None,
        limit: int | None = None,
        quiet: bool = False,
        progress: bool = False,
    ) -> None:
        self.stage = stage
        self.files = files
        self.output, self.rejects, self.dropped = output, rejects, dropped
        self.limit = limit
        self.quiet, self.progress = quiet, progress
        self.jobs = 1
        self.attached: list[Attached] = []
        self.notes: list[Callable[[], str]] = []
        self.closing: Callable[[], str] | None = None
        self.ending: Callable[[], None] | None = None
        self.usage: str | None = None
        self.used: list[Callable[[], Record]] = []
        self.plan: Callable[[], str] | None = None
        self.shape: Callable[[Record], bytes] = as_line
        self.epilogue: Callable[[], Iterable[Record]] = tuple
        self.most_bytes: int | None = None
        self.exhausted = False
        self.batch_out: str | None = None
        self.folder: Folder | None = None
        self.others: list[Sink] = []
        self.spool: Spool | None = None
        self.later = 0
        self.counts = {"in": 0, "out": 0, "dropped": 0, "rejected": 0}

    # ---- what stages call -------------------------------------------------------------------------------------

    def run(
        self,
        make: Callable[[Record, list[str] | None], Awaitable[Record | Made]],
        *,
        reads: str,
        writes: str,
        parse: Callable[[bytes], Record] | None = None,
    ) -> None:
        """Map every record through `make(record, items)`, concurrently, in order.

        items: None for the whole record, or the parts to make where a reject was fed in again.
        """

        async def one(entry: Entry) -> Record | Made:
            return await make(entry.record, entry.items)

        self._start(reads.split(), parse)
        self._drive(lambda batches: batches, one, writes)

    def run_groups(self, make: Callable[[Group], Awaitable[Made]], *, key: str, reads: str, writes: str) -> None:
        """Map every group of neighbours that share `key` through `make`, concurrently, in order."""

        async def one(entries: list[Entry]) -> Made:
            items: list[str] | None = []
            for entry in entries:
                items = None if items is None or entry.items is None else [*items, *entry.items]
            return await make(Group([entry.record for entry in entries], items and sorted(set(items))))

        self._start(reads.split(), None)
        self._drive(lambda batches: grouped(batches, key), one, writes)

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
            with two_at_most(), Spool() if again else nullcontext() as self.spool:
                for file, number, lines in self._batches():
                    self._sift_batch(file, number, lines, keep)
                for line in self.spool or ():
                    assert again
                    made = again(line)
                    if isinstance(made, str):
                        self._drop(orjson.loads(line), made)
                    else:
                        self.out.write(made + b"\n")
            self._finish()
        except BaseException as fault:
            self._stopped(fault)

    def _sift_batch(self, file: str, number: int, lines: list[bytes], keep: Callable[[Record], str | None]) -> None:
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
            self._pass_on(kept)
        self.bar.advance(counts["in"] - before)

    def _pass_on(self, lines: list[bytes]) -> None:
        with unbroken():
            if lines:
                (self.spool or self.out).write(b"\n".join(lines) + b"\n", len(lines))
            self.out.flush()

    def run_twice(
        self, look: Callable[[Record], None], decide: Callable[[], Callable[[Record], Record | str]], *, reads: str
    ) -> None:
        """Show each record to `look`, then make each into what goes out, or drop it for the reason given.

        decide: called once all have been seen, for what makes them. Between the two ways the records lie in a
        temporary file. `look` may refuse a record (RecordError).
        """
        import tempfile

        self._start([reads], None)
        try:
            with two_at_most(), tempfile.TemporaryFile() as seen:
                for entry in (entry for batch in self._entries() for entry in batch):
                    self._look(entry, look, seen)
                seen.seek(0)
                make = decide()
                while lines := seen.readlines(CHUNK):
                    self._make_batch(lines, make)
            self._finish()
        except BaseException as fault:
            self._stopped(fault)

    def _make_batch(self, lines: list[bytes], make: Callable[[Record], Record | str]) -> None:
        """Write what `make` makes of the records of some lines."""
        kept = []
        for record in map(orjson.loads, lines):
            made = make(record)
            if isinstance(made, str):
                self._drop(record, made)
            else:
                kept.append(orjson.dumps(made))
        self._pass_on(kept)
        self.bar.advance(len(lines))

    def _look(self, entry: Entry | Torn, look: Callable[[Record], None], seen: IO[bytes]) -> None:
        """Show a record and put it by, or reject it."""
        if isinstance(entry, Torn):
            self._reject(entry.entry, entry.fault)
            return
        try:
            look(entry.record)
        except RecordError as fault:
            self._reject(entry, fault)
            return
        seen.write(orjson.dumps(entry.record, option=NEWLINE))

    def also(self, path: str) -> Sink:
        """One more file to write, which comes to be with the others when all is done."""
        self.others.append(self._sink(path))
        return self.others[-1]

    def take(self, entries: Iterable[Entry | Torn], make: Callable[[Entry], Made], *, writes: str) -> None:
        """Map what a reader of another format yields (parsed items with their places) through `make`, in order."""
        self._start([], None)
        valid = check.validator(writes)
        try:
            with two_at_most():
                for entry in itertools.islice(entries, self.limit):
                    self.counts["in"] += 1
                    self._write(self._taken(entry, make, writes, valid))
                    self.out.flush()
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
        self.notes.append(lambda: f"{sink.count:,} {kind} record{'s' * (sink.count != 1)} to {path}")
        return lambda record: sink.write(orjson.dumps(record, option=NEWLINE))

    def fill(self, folder: Folder, put: Callable[[Record], None], end: Callable[[], None], *, reads: str) -> None:
        """Hand every record to `put`, which writes it into the folder; then `end`, and the folder is whole."""
        self.folder = folder
        self._start(reads.split(), None)
        try:
            with two_at_most():
                for batch in self._entries():
                    for entry in batch:
                        self._put(entry, put)
                        self.bar.advance()
                end()
            self._finish()
        except BaseException as fault:
            self._stopped(fault)

    def _put(self, entry: Entry | Torn, put: Callable[[Record], None]) -> None:
        if isinstance(entry, Torn):
            self._reject(entry.entry, entry.fault)
            return
        try:
            put(entry.record)
        except RecordError as fault:
            self._reject(entry, fault)
        else:
            self.out.count += 1

    def records(self, *, reads: str) -> Iterator[Record]:
        """The checked records, one by one, for a command that ends with `print`: tables, pages."""
        self._start(reads.split(), None)
        for batch in self._entries():
            for entry in batch:
                if isinstance(entry, Torn):
                    self._reject(entry.entry, entry.fault)
                else:
                    yield entry.record

    def answer(self, make: Callable[[str], Awaitable[str]]) -> None:
        """Map all input, as one text, to one text; nothing comes of nothing."""
        import asyncio

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
                for one in self.attached:
                    await one.close()

        self._start([], None)
        del self.counts["in"], self.counts["out"]
        try:
            with two_at_most():
                said = asyncio.run(run())
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

    # ---- the run ----------------------------------------------------------------------------------------------

    def _start(self, reads: list[str], parse: Callable[[bytes], Record] | None) -> None:
        self.began = time.perf_counter()
        self.reader = Reader(tuple(reads), parse)
        self.chunks = Chunks(self.files)
        self.out = self.folder or self._sink(self.output)
        self.rejected = self._sink(self.rejects) if self.rejects else None
        self.left_out = self._sink(self.dropped) if self.dropped else None
        self.told = self._sink(self.usage) if self.usage else None
        self.calls = self._sink(self.batch_out) if self.batch_out else None
        self.bar = Progress(self.stage, self.progress, self.quiet)

    def _sink(self, path: str | None) -> Sink:
        return Unwritten() if self.plan else Sink(path)

    def _batches(self) -> Iterator[tuple[str, int, list[bytes]]]:
        """Batches of lines as of Chunks, up to the limit of records; blank lines are none."""
        if self.limit is None:
            yield from self.chunks
            return
        left = self.limit
        for file, number, lines in self.chunks if left else ():
            taken = []
            for line in lines:
                if line and not line.isspace():
                    if left == 0:
                        break
                    left -= 1
                taken.append(line)
            yield file, number, taken
            if left == 0:
                return

    def _entries(self) -> Iterator[list[Entry | Torn]]:
        for file, number, lines in self._batches():
            batch = list(self.reader.entries(file, number, lines))
            self.counts["in"] += len(batch)
            yield batch
        self.exhausted = True

    def _drive(
        self,
        arrange: Callable[[AsyncIterator[list[Any]]], AsyncIterator[list[Any]]],
        make: Callable[[Any], Awaitable[Record | Made]],
        writes: str,
    ) -> None:
        import asyncio
        import gc

        # Records in work are many small objects, and hardly any form a cycle: looking for those as often as Python
        # does by default would take a tenth of a run's time.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        try:
            with asyncio.Runner() as runner:
                with unbroken():  # a loop that is half made can't be closed
                    runner.get_loop()
                runner.run(self._pump(arrange, make, writes))
            self._finish()
        except BaseException as fault:
            self._stopped(fault)

    async def _pump(
        self,
        arrange: Callable[[AsyncIterator[list[Any]]], AsyncIterator[list[Any]]],
        make: Callable[[Any], Awaitable[Record | Made]],
        writes: str,
    ) -> None:
        from contextlib import aclosing

        from pmem.stream.window import directly, from_thread, in_order

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
                refused = [entry.entry if isinstance(entry, Torn) else entry for entry in entries]
                return Outcome(rejected=[(entry, fault, None) for entry in refused])

        source = (from_thread if self.chunks.blocking else directly)(self._entries())
        window = in_order(
            arrange(source),
            attempt,
            2 * self.jobs,
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
                for one in self.attached:
                    await one.close()

    def _write(self, result: Outcome) -> None:
        if result.lines:
            self.out.write(result.lines, result.number)
        for record, reason in result.dropped:
            self._drop(record, reason)
        for entry, fault, items in result.rejected:
            self._reject(entry, fault, items)
        self.later += result.later
        self.bar.advance()

    def put_off(self, call: bytes) -> None:
        """Write a call, as a line, that is left for another time."""
        assert self.calls
        self.calls.write(call)

    # ---- what doesn't go on -----------------------------------------------------------------------------------

    def _reject(self, entry: Entry, fault: RecordError, items: list[str] | None = None) -> None:
        told = f"{entry.file}:{entry.number}: {fault}" + (f" ({', '.join(items)})" if items else "")
        if self.rejected is None:
            raise InputError(f"{self.stage}: {told}; with --rejects FILE the run goes on without it")
        if not self.quiet:
            self.bar.say(f"pmem {self.stage}: {told}")
        self.counts["rejected"] += 1
        error = {
            "type": "error",
            "stage": self.stage,
            "file": entry.file,
            "line": entry.number,
            "reason": fault.reason,
            "message": fault.message,
            "pointer": fault.pointer,
            "call": fault.call,
            "items": items or entry.items,
            "record": entry.record,
            "raw": None,
        }
        try:
            written = orjson.dumps(error, option=NEWLINE) if entry.record else b""
        except orjson.JSONEncodeError:  # it reads values nested deeper than it writes
            written = b""
        if not written:
            raw = entry.line.decode("utf-8", "backslashreplace")
            written = orjson.dumps({**error, "record": None, "raw": raw}, option=NEWLINE)
        self.rejected.write(written)

    def _drop(self, record: Record, reason: str) -> None:
        self.counts["dropped"] += 1
        if self.left_out is None:
            return
        empty = dict.fromkeys(("file", "line", "pointer", "call", "items", "raw"))
        head = {"type": "error", "stage": self.stage, "reason": "dropped", "message": reason}
        self.left_out.write(orjson.dumps({**head, **empty, "record": record}, option=NEWLINE))

    # ---- the end ----------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        if self.ending and not (self.later or self.plan):
            self.ending()
        for sink in self._sinks():
            if self.later and sink is not self.calls:
                sink.leave()  # complete or not at all
            else:
                sink.commit()
        self._write_usage()
        self._say_summary()
        if self.plan:
            stdout = Sink(None)
            stdout.write(self.plan().encode() + b"\n")
            stdout.commit()
        if self.later:
            raise SystemExit(errors.LEFT)
        if self.counts["rejected"]:
            raise SystemExit(errors.REJECTED)

    def _write_usage(self) -> None:
        """What was asked is worth knowing, and true, however the run ended."""
        told, self.told = self.told, None
        if told:
            for used in self.used:
                told.write(orjson.dumps(used(), option=NEWLINE))
            told.commit()

    def _stopped(self, fault: BaseException) -> NoReturn:
        self.bar.close()
        if not isinstance(fault, SystemExit):
            for sink in self._sinks():
                sink.leave()
        if isinstance(fault, KeyboardInterrupt | PmemError):
            self._say_summary("interrupted: " if isinstance(fault, KeyboardInterrupt) else "stopped: ")
        try:
            self._write_usage()
        except PmemError as second:  # what ended the run is what counts
            second.show()
        raise fault

    def _sinks(self) -> Iterable[Sink]:
        return [*self.others, *(sink for sink in (self.out, self.rejected, self.left_out, self.calls) if sink)]

    def _say_summary(self, begin: str = "") -> None:
        self.bar.close()
        if self.quiet:
            return
        if self.closing and (text := self.closing()):
            click.echo(text, err=True)
        if self.plan:
            begin = f"planned, nothing asked or written: {begin}"
            self.counts["dropped"] = 0  # made up, as is what would go out
            self.counts.pop("out", None)
        if "out" in self.counts:
            self.counts["out"] = self.out.count
        shown = [f"{self.counts[key]:,} {key}" for key in ("in", "out") if key in self.counts]
        shown += [f"{self.counts[key]:,} {key}" for key in ("dropped", "rejected") if self.counts[key]]
        shown += [f"{self.later:,} left for later"] if self.later else []
        said = [model.report() for model in self.attached] + [note() for note in self.notes]
        parts = [text for text in (", ".join(shown), *said) if text]
        click.echo(f"pmem {self.stage}: {begin}{'; '.join([*parts, seconds(self.began)])}", err=True)
