"""The parts of the pipe: input cut into lines, work in order within a window, output in whole lines."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmem.errors import BackendError, InputError, OutputError, PmemError, RecordError
from pmem.stream import interrupts, source, window
from pmem.stream.interrupts import at_once, two_at_most, unbroken
from pmem.stream.made import grouped
from pmem.stream.sink import Sink
from pmem.stream.source import Chunks, Entry, Reader, Torn
from pmem.stream.window import directly, from_thread, in_order
from tests.command import question, sample

# ---- lines -------------------------------------------------------------------------------------------------------


def numbered(found: Iterator[tuple[str, int, list[bytes]]]) -> list[tuple[int, bytes]]:
    """(line number, line) of every line that isn't empty."""
    return [(n, line) for _, first, lines in found for n, line in enumerate(lines, first) if line]


LINES = st.lists(
    st.sampled_from([b"", b"{}", b'{"a":"\xc3\xa9"}', b"\r", b"\xef\xbb\xbfx", b"\xff", b"a" * 9]), max_size=12
)


@given(LINES, st.booleans(), st.booleans(), st.lists(st.integers(0, 40), max_size=10))
def test_however_bytes_come_the_lines_are_the_same(
    lines: list[bytes], ends: bool, marked: bool, cuts: list[int]
) -> None:
    data = b"\n".join(lines) + b"\n" * ends
    whole = (b"\xef\xbb\xbf" if marked else b"") + data
    at = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[one:other] for one, other in pairwise(at)]
    if not marked and data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    expected = [(n, line) for n, line in enumerate(data.split(b"\n"), 1) if line]
    assert numbered(source.batches("x", filter(None, pieces))) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 18])
@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_the_size_of_reads_makes_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, suffix: str
) -> None:
    monkeypatch.setattr(source, "CHUNK", max(size, 4) if suffix else size)
    data = b"\xef\xbb\xbfone\n\n" + "zwölf\n".encode() * 30 + b"last"
    name = str(tmp_path / f"in{suffix}")
    if suffix == ".gz":
        import gzip

        data_written = gzip.compress(data)
    elif suffix == ".zst":
        import zstandard

        data_written = zstandard.ZstdCompressor().compress(data[:50]) + zstandard.ZstdCompressor().compress(data[50:])
    else:
        data_written = data
    Path(name).write_bytes(data_written)
    assert numbered(iter(Chunks((name, name)))) == numbered([("", 1, data[3:].split(b"\n"))] * 2)  # type: ignore[arg-type]


def test_a_file_that_went_away_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone: can't be read: No such file"):
        list(Chunks((str(tmp_path / "gone"),)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(
    st.binary(max_size=40)
    | JSON.map(orjson.dumps)
    | st.tuples(
        st.sampled_from(["qa", "error", "persona"]), st.dictionaries(st.text(max_size=9), JSON, max_size=3)
    ).map(lambda pair: orjson.dumps({**pair[1], "type": pair[0]}))
    | st.tuples(st.sampled_from(sorted(sample("qa"))), JSON).map(
        lambda pair: orjson.dumps({**sample("qa"), pair[0]: pair[1]})
    )
    | st.tuples(st.sampled_from(sorted(sample("error"))), JSON).map(
        lambda pair: orjson.dumps({**sample("error"), pair[0]: pair[1]})
    )
)
def test_every_line_is_a_record_or_has_one_clear_fault(line: bytes) -> None:
    read = Reader(("qa",)).entry(line, "x", 7)
    if isinstance(read, Torn):
        assert read.fault.message and (read.fault.message + (read.fault.pointer or "")).isprintable()
        assert read.entry.line == line
        assert read.fault.reason in ("json", "type", "schema")
    else:
        assert read.record["type"] == "qa"


# ---- in order ----------------------------------------------------------------------------------------------------


async def batches(*given: list[int]) -> AsyncIterator[list[int]]:
    for batch in given:
        await asyncio.sleep(0)
        yield batch


async def through(
    work: Callable[[int], Any], given: AsyncIterator[list[int]], most: int, flush: Callable[[], None] = lambda: None
) -> list[Any]:
    """Results in the order in which they come out."""
    return [result async for result in in_order(given, work, most, flush)]


@given(st.lists(st.lists(st.integers(0, 3), max_size=6), max_size=6), st.integers(1, 9))
def test_results_come_in_input_order(delays: list[list[int]], most: int) -> None:
    flat = [delay for batch in delays for delay in batch]
    numbers = iter(range(len(flat)))
    given = [[next(numbers) for _ in batch] for batch in delays]

    async def work(number: int) -> int:
        for _ in range(flat[number]):
            await asyncio.sleep(0)
        return number

    assert asyncio.run(through(work, batches(*given), most)) == list(range(len(flat)))


@pytest.mark.parametrize("most", [1, 2, 5])
def test_the_window_bounds_what_is_unfinished(most: int) -> None:
    begun: list[int] = []
    unfinished: set[int] = set()
    counts = []

    async def work(number: int) -> int:
        begun.append(number)
        unfinished.add(number)
        counts.append(len(unfinished))
        await asyncio.sleep(0.001 * (number % 3))
        unfinished.remove(number)
        return number

    done = asyncio.run(through(work, batches(list(range(30)), [30, 31]), most))
    assert done == begun == list(range(32)) and max(counts) == most


def test_a_slow_head_holds_up_the_output_alone() -> None:
    async def run() -> None:
        release = asyncio.Event()
        begun = []

        async def work(number: int) -> int:
            begun.append(number)
            if number == 0:
                await release.wait()
            return number

        async def read() -> list[Any]:
            return await through(work, batches(list(range(100))), 8)

        reading = asyncio.create_task(read())
        for _ in range(500):  # 5 s at most
            await asyncio.sleep(0.01)
            if len(begun) == 100:
                break
        assert begun == list(range(100)) and not reading.done()
        release.set()
        assert await reading == list(range(100))

    asyncio.run(run())


@pytest.mark.parametrize(("item", "result", "most"), [(0, 10_000, 7), (10_000, 0, 4), (40_000, 0, 1)])
def test_bytes_bound_what_is_begun_behind_a_slow_head(
    monkeypatch: pytest.MonkeyPatch, item: int, result: int, most: int
) -> None:
    """item, result: bytes of each; most: how many may be begun where 40,000 are allowed, four at once."""
    monkeypatch.setattr(window, "MOST_BYTES", 40_000)
    monkeypatch.setattr(window, "TASK_BYTES", 0)
    begun = []

    async def run() -> None:
        release = asyncio.Event()

        async def work(number: int) -> int:
            begun.append(number)
            if number == 0 or item:
                await release.wait()
            else:
                await asyncio.sleep(0.0001)
            return number

        async def read() -> list[int]:
            stream = in_order(
                batches(list(range(100))), work, 4, lambda: None, weigh=lambda _: item, weigh_result=lambda _: result
            )
            return [number async for number in stream]

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.05)
        assert 0 < len(begun) <= most
        release.set()
        assert await reading == list(range(100))

    asyncio.run(run())


def test_a_fault_is_raised_in_its_turn() -> None:
    """What stands before it comes out, however much later that is done."""
    out = []

    async def work(number: int) -> int:
        if number == 2:
            raise ZeroDivisionError
        await asyncio.sleep(0.01)
        return number

    async def run() -> None:
        async for number in in_order(batches([0, 1, 2], [3, 4]), work, 4, lambda: None):
            out.append(number)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())
    assert out == [0, 1]


def test_what_stops_the_run_is_not_waited_for() -> None:
    ended: list[int] = []

    async def work(number: int) -> int:
        if number == 5:
            raise BackendError("wrong key")
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(number)
        return number

    began = time.monotonic()
    with pytest.raises(PmemError, match="wrong key"):
        asyncio.run(through(work, batches(list(range(10))), 8))
    assert time.monotonic() - began < 5
    assert sorted(ended) == [0, 1, 2, 3, 4, 6, 7]  # all that were begun, and none left behind


def test_a_source_that_fails_stops_the_run_and_leaves_nothing_behind() -> None:
    async def failing() -> AsyncIterator[list[int]]:
        yield [1, 2]
        raise InputError("torn file")

    async def run() -> None:
        with pytest.raises(InputError, match="torn file"):
            await through(lambda number: asyncio.sleep(30, number), failing(), 4)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_leaving_early_cancels_what_is_in_work() -> None:
    cancelled = []

    async def work(number: int) -> int:
        try:
            await asyncio.sleep(0.001 if number == 0 else 30)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    async def run() -> None:
        stream = in_order(batches([0, 1, 2, 3]), work, 3, lambda: None)
        async for number in stream:
            assert number == 0
            break
        await stream.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    assert cancelled == [1, 2]


def test_output_is_flushed_before_every_wait() -> None:
    """What is done must not sit in a buffer while the next record takes a minute."""

    async def run() -> None:
        written: list[int] = []
        flushed: list[int] = []
        release = asyncio.Event()

        async def work(number: int) -> int:
            if number == 2:
                await release.wait()
            return number

        async def read() -> None:
            async for number in in_order(batches([0, 1, 2, 3]), work, 4, lambda: flushed.append(len(written))):
                written.append(number)

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.02)
        assert flushed[-1] == 2
        release.set()
        await reading

    asyncio.run(run())


def test_a_source_that_pauses_holds_up_no_work() -> None:
    """A pipe's read blocks; the work goes on meanwhile."""
    go_on = threading.Event()

    def slow() -> Iterator[list[int]]:
        yield [1, 2]
        assert go_on.wait(10)
        yield [3]

    async def run() -> None:
        out = []
        async for number in in_order(from_thread(slow()), lambda n: asyncio.sleep(0.001, n), 4, lambda: None):
            out.append(number)
            if number == 2:
                go_on.set()
        assert out == [1, 2, 3]

    asyncio.run(run())


def test_a_fault_in_the_reading_thread_arrives() -> None:
    def faulty() -> Iterator[list[int]]:
        yield [1]
        raise InputError("torn")

    async def run() -> list[list[int]]:
        return [batch async for batch in from_thread(faulty())]

    with pytest.raises(InputError, match="torn"):
        asyncio.run(run())


def test_a_reading_thread_that_never_returns_keeps_nobody() -> None:
    async def run() -> None:
        stream = from_thread(iter(lambda: time.sleep(3600), None))  # type: ignore[arg-type]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.05)  # type: ignore[arg-type]

    asyncio.run(run())


def test_iterating_in_the_loop_itself() -> None:
    async def run() -> list[int]:
        return [one async for one in directly([1, 2])]

    assert asyncio.run(run()) == [1, 2]


@given(st.lists(st.tuples(st.sampled_from("aab-"), st.booleans()), max_size=12))
def test_groups_are_neighbours_however_they_come(marks: list[tuple[str, bool]]) -> None:
    """A torn line stands alone and parts its neighbours; where batches end makes no difference."""
    fault = RecordError("torn", reason="json")
    entries: list[Any] = []
    cut: list[list[Any]] = [[]]
    for number, (key, ends) in enumerate(marks):
        entry = Entry({"k": key}, b"", "x", number)
        entries.append(Torn(entry, fault) if key == "-" else entry)
        cut[-1].append(entries[-1])
        if ends:
            cut.append([])

    async def given() -> AsyncIterator[list[Any]]:
        for batch in cut:
            yield batch

    async def run() -> list[Any]:
        return [group async for batch in grouped(given(), itemgetter("k")) for group in batch]

    groups = asyncio.run(run())
    assert [entry for group in groups for entry in (group if isinstance(group, list) else [group])] == entries
    keys = ["-" if isinstance(group, Torn) else group[0].record["k"] for group in groups]
    assert all(one != other or one == "-" for one, other in pairwise(keys))


# ---- output ------------------------------------------------------------------------------------------------------


def test_a_sink_that_is_left_keeps_the_part(tmp_path: Path) -> None:
    sink = Sink(str(tmp_path / "out"))
    sink.write(b"one\n")
    sink.write(b"two\nthree\n", 2)
    sink.leave()
    assert sink.count == 3
    assert [path.name for path in tmp_path.iterdir()] == ["out.part"]
    assert sink.part.read_bytes() == b"one\ntwo\nthree\n"


def test_a_sink_in_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="can't be written: No such file or directory"):
        Sink(str(tmp_path / "none" / "out"))


def test_ctrl_c_is_held_back_while_lines_are_written() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), unbroken():
        os.kill(os.getpid(), signal.SIGINT)
        reached = True
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with two_at_most(), unbroken():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_of_two_ctrl_cs_that_come_together_one_is_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_: object) -> None:
        raise SystemExit

    taken: list[int] = []
    monkeypatch.setattr(interrupts, "at_once", ended)
    usual = signal.signal(signal.SIGINT, lambda number, _: taken.append(number))
    try:
        with two_at_most():
            handler = signal.getsignal(signal.SIGINT)
            assert callable(handler)
            handler(signal.SIGINT, None)
            with pytest.raises(SystemExit):
                handler(signal.SIGINT, None)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert taken == [signal.SIGINT]


def test_the_first_ctrl_c_is_the_usual_one() -> None:
    try:
        with two_at_most():
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with pytest.raises(KeyboardInterrupt), two_at_most():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is at_once
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_questions_made_for_these_tests_are_sound() -> None:
    from pmem import check

    assert check.validator("qa")(question(3)) and check.validator("qa")(question(3, passes=False))
