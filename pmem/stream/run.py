"""One command's run: its input as checked entries, its outputs, what is rejected or dropped, and how it ends."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import click
import orjson

from pmem import errors
from pmem.errors import InputError, PmemError, RecordError
from pmem.stream.folder import Folder
from pmem.stream.made import Outcome, as_line
from pmem.stream.progress import Progress, seconds
from pmem.stream.shard import Shard
from pmem.stream.sink import Sink, Unwritten
from pmem.stream.source import Chunks, Entry, Reader, Record, Torn

NEWLINE = orjson.OPT_APPEND_NEWLINE


if TYPE_CHECKING:
    from typing import Protocol

    class Attached(Protocol):
        """Something that lives as long as the run: a model, a file of histories."""

        def report(self) -> str: ...

        async def close(self) -> None: ...

    class Elsewhere(Protocol):
        """Other processes that make what this one reads and writes."""

        def outcomes(
            self, source: AsyncIterator[list[Any]], before_waiting: Callable[[], None]
        ) -> AsyncGenerator[Outcome, None]:
            """What is made of all items, in their order; as `in_order` yields it."""
            ...


class Run:
    """What all of a pipe's ways have in common: `_start`, entries, `_write`, and `_finish` or `_stopped`.

    attached: models and files, closed and reported at the end; notes: what else the summary line says; closing: text
    before it; ending: what remains to be done once all records are through, before outputs are complete (not where some
    are left for later, nor under a plan); usage: a file for `used`, the records of what was asked of each model;
    batch_out: a file for calls that are left for another time; later: records that need some of these; plan: where it
    is set, nothing is written but what it says at the end, of a run without calls; folder: in the place of the output,
    where a command makes files; others: outputs beside it; shape: how `run` writes a record;
    epilogue: what it writes after the last; most_bytes: of records in work, where they are large and stay long;
    exhausted: whether all input has been read; ahead: times as many records in work as usual; shard: the part of it to
    make, if not all; elsewhere: where records are made, if not in this process; shared_cache, shared_budget: give what
    other processes of the same run share; noted: takes what a stage noted of each record, in the order of the output.
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
        self.ahead = 1
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
        self.shard: Shard | None = None
        self.elsewhere: Elsewhere | None = None
        self.shared_cache: Callable[[], Any] | None = None
        self.shared_budget: Callable[[], Any] | None = None
        self.noted: Callable[[Any], None] = lambda _noted: None
        self.batch_out: str | None = None
        self.folder: Folder | None = None
        self.others: list[Sink] = []
        self.later = 0
        self.counts = {"in": 0, "out": 0, "dropped": 0, "rejected": 0}

    # ---- its input --------------------------------------------------------------------------------------------

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

    # ---- what goes on, and what doesn't ------------------------------------------------------------------------

    def _write(self, result: Outcome) -> None:
        if result.lines:
            self.out.write(result.lines, result.number)
        for record, reason in result.dropped:
            self._drop(record, reason)
        for entry, fault, items in result.rejected:
            self._reject(entry, fault, items)
        self.later += result.later
        if result.noted is not None:
            self.noted(result.noted)
        self.bar.advance()

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

    async def _close(self) -> None:
        """Close what lives as long as the run."""
        for one in self.attached:
            await one.close()

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
