"""Big records looked up by id, in a file that may still be growing."""

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from pmem.errors import InputError, RecordError
from pmem.stream import lookup
from pmem.stream.lookup import Lookup, finished
from tests.command import lines, peak, sample


def history(number: int, words: int = 5) -> dict[str, Any]:
    messages = [
        {"role": "user", "content": f'{number} "messages":[ {"wörd " * words}'},
        {"role": "assistant", "content": "ok }]"},
    ]
    return {**sample("history"), "id": id_of(number), "messages": messages}


def id_of(number: int) -> str:
    return f"h-{number:016x}"


def found(path: Path, *ids: str) -> list[Any]:
    """The messages under each id, all asked for at once; or the fault."""

    async def ask() -> list[Any]:
        table = Lookup(path, "history")
        got = await asyncio.gather(*(table.messages(one) for one in ids), return_exceptions=True)
        await table.close()
        return [orjson.loads(one) if isinstance(one, bytes) else one for one in got]

    return asyncio.run(ask())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "PATIENCE", 0.2)
    monkeypatch.setattr(lookup, "POLL", 0.01)


def test_records_are_found_in_any_order(tmp_path: Path) -> None:
    records = [history(n, words=n * 50) for n in range(8)]
    path = tmp_path / "h.jsonl"
    path.write_bytes(lines(records))
    order = [5, 0, 7, 7, 3, 0]
    assert found(path, *map(id_of, order)) == [records[n]["messages"] for n in order]


def spaced(record: dict[str, Any]) -> bytes:
    import json

    return json.dumps(record, ensure_ascii=True).encode()


FORMS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "as pmem writes it": orjson.dumps,
    "with spaces": spaced,
    "messages first": lambda r: orjson.dumps({"messages": r["messages"], **r}),
    "messages in the middle": lambda r: orjson.dumps(dict(sorted(r.items()))),
    "spaces after messages": lambda r: orjson.dumps(r)[:-1] + b" }  ",
    "a line end of Windows": lambda r: orjson.dumps(r) + b"\r",
    "with its hash": lambda r: orjson.dumps(vouched(dict(r))),
    "with a hash of other bytes": lambda r: spaced(vouched(dict(r))),
    "with something after its messages": lambda r: orjson.dumps({**vouched(dict(r)), "labels": {"a": "b"}}),
    "pretty escapes": lambda r: orjson.dumps(r).replace("ö".encode(), b"\\u00f6"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "with a byte order mark"])
@pytest.mark.parametrize("end", [b"\n", b"", b"\n\n \n"], ids=["ended", "no newline at the end", "blank lines"])
def test_a_record_is_found_however_it_is_written(
    tmp_path: Path, impatient: None, form: str, mark: bytes, end: bytes
) -> None:
    path = tmp_path / "h.jsonl"
    path.write_bytes(mark + b"\n".join(FORMS[form](history(n)) for n in range(3)) + end)
    assert found(path, id_of(2), id_of(0), id_of(1)) == [history(n)["messages"] for n in (2, 0, 1)]


def test_the_messages_are_passed_on_as_bytes(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_bytes(lines([history(1)]))

    async def raw() -> bytes:
        table = Lookup(path, "history")
        try:
            return await table.messages(id_of(1))
        finally:
            await table.close()

    assert asyncio.run(raw()) == orjson.dumps(history(1)["messages"])


def vouched(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the hash of its messages, as `pmem assemble` writes it."""
    messages = record.pop("messages")
    digest = hashlib.sha256(orjson.dumps(messages)).hexdigest()
    return {**record, "messages_sha256": digest, "messages": messages}


def test_messages_known_by_their_hash_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    odd = vouched({**history(1), "messages": ["no message at all"]})  # a reader of messages would refuse it
    path.write_bytes(lines([odd, vouched(history(2))]))
    assert found(path, id_of(2), id_of(1)) == [history(2)["messages"], ["no message at all"]]


def test_a_hash_of_other_messages_vouches_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    edited = {**vouched(history(1)), "messages": history(2)["messages"]}
    path.write_bytes(lines([edited, {**vouched(history(3)), "messages": ["no message at all"]}]))
    messages, fault = found(path, id_of(1), id_of(3))
    assert messages == history(2)["messages"]  # edited by hand, but a good history
    assert isinstance(fault, InputError) and "h.jsonl:2: /messages/0" in fault.message


def test_what_stands_beside_the_messages_is_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_bytes(lines([{**vouched(history(1)), "tokens": "many"}]))
    (fault,) = found(path, id_of(1))
    assert isinstance(fault, InputError) and "h.jsonl:1: /tokens" in fault.message


def test_of_two_records_with_one_id_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    other = {**history(1), "messages": history(5)["messages"]}
    path.write_bytes(lines([history(1), other, history(2)]))
    for order in ((1, 2, 1), (2, 1, 1)):
        assert found(path, *map(id_of, order)) == [history(n)["messages"] for n in order]


def test_a_missing_record_fails_alone_after_some_patience(tmp_path: Path, impatient: None) -> None:
    path = tmp_path / "h.jsonl"
    path.write_bytes(lines([history(1)]))
    began = time.monotonic()
    fault, messages = found(path, id_of(9), id_of(1))
    assert 0.15 < time.monotonic() - began < 2
    assert isinstance(fault, RecordError) and fault.message == f"{path} holds no history {id_of(9)}"
    assert messages == history(1)["messages"]


def test_a_growing_file_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"  # isn't there yet
    data = lines(history(n, words=2000) for n in range(4))

    def grow() -> None:
        time.sleep(0.2)
        with path.open("ab", 0) as file:
            for start in range(0, len(data), 5000):  # in the middle of lines, too
                file.write(data[start : start + 5000])
                time.sleep(0.02)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        got = found(path, *map(id_of, range(4)))
    finally:
        writer.join()
    assert got == [history(n, words=2000)["messages"] for n in range(4)]


def test_a_line_that_is_torn_for_good_is_not_there(tmp_path: Path, impatient: None) -> None:
    path = tmp_path / "h.jsonl"
    path.write_bytes(lines([history(1)]) + orjson.dumps(history(2))[:-20])
    messages, fault = found(path, id_of(1), id_of(2))
    assert messages == history(1)["messages"] and isinstance(fault, RecordError)


def test_a_faulty_line_stops_the_run_with_its_place(tmp_path: Path, impatient: None) -> None:
    path = tmp_path / "h.jsonl"
    no_window = {key: value for key, value in history(2).items() if key != "window"}
    for line, why in (
        (b"no json", "not JSON"),
        (orjson.dumps(sample("qa")), "expected a history record, found a qa record"),
        (b"[1]", "expected a history record"),
        (orjson.dumps(no_window), "expected a property 'window'"),
    ):
        path.write_bytes(lines([history(1)]) + b"\n" + line + b"\n" + lines([history(3)]))
        first, last = found(path, id_of(1), id_of(3))
        assert first == history(1)["messages"]
        assert isinstance(last, InputError) and last.message.startswith(f"{path}:3: ") and why in last.message


def test_what_cannot_be_looked_up_in(tmp_path: Path, impatient: None) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "h.jsonl.gz").write_bytes(b"")
    for name in ("pipe", "folder", "h.jsonl.gz"):
        (fault,) = found(tmp_path / name, id_of(1))
        assert isinstance(fault, InputError) and "plain file" in fault.message
    (fault,) = found(tmp_path / "gone", id_of(1))
    assert isinstance(fault, InputError) and fault.message.endswith("gone: can't be read: no such file")


def test_many_histories_are_not_kept_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    with path.open("wb") as file:
        for number in range(200):
            file.write(lines([history(number, words=40_000)]))  # 240 KB each, 48 MB together
    code = (
        "import asyncio\nfrom pathlib import Path\nfrom pmem.stream.lookup import Lookup\n"
        "async def run():\n    table = Lookup(Path('h.jsonl'), 'history')\n"
        "    for n in range(int(sys.argv[1])): assert len(await table.messages(f'h-{n:016x}')) > 200_000\n"
        "asyncio.run(run())"
    )
    few = peak(code, "30", folder=tmp_path)  # more than what is kept at hand
    assert peak(code, "200", folder=tmp_path) - few < 5


# ---- the rest of a record, and other keys ------------------------------------------------------------------------


def looked_up(table: Lookup, *keys: str) -> list[Any]:
    async def ask() -> list[Any]:
        got = await asyncio.gather(*(table.record(one) for one in keys), return_exceptions=True)
        await table.close()
        return list(got)

    return asyncio.run(ask())


@pytest.mark.parametrize("vouched", [True, False])
def test_a_record_without_its_messages(tmp_path: Path, vouched: bool) -> None:
    record = history(3)
    if vouched:
        said = orjson.dumps(record["messages"])
        record = {**record, "messages_sha256": hashlib.sha256(said).hexdigest(), "messages": record.pop("messages")}
    path = tmp_path / "h.jsonl"
    path.write_bytes(lines([history(1), record, dict(reversed(history(4).items()))]))
    rest = {name: value for name, value in record.items() if name != "messages"}
    found = looked_up(Lookup(path, "history"), id_of(3), id_of(4))
    assert found[0] == rest and found[1]["id"] == id_of(4) and "messages" not in found[1]


def test_a_memory_is_found_by_its_history_once_it_is_finished(tmp_path: Path, impatient: None) -> None:
    def memory(number: int, of: int, chunk: int) -> dict[str, Any]:
        return {**sample("memory"), "id": f"m-{number:016x}", "history_id": id_of(of), "chunk": chunk, "chunks": 2}

    path = tmp_path / "m.jsonl"
    path.write_bytes(lines([memory(1, 1, 1), memory(2, 1, 2), memory(3, 2, 1), memory(4, 1, 2)]))
    table = Lookup(path, "memory", key=finished, named="finished memory of")
    found = looked_up(table, id_of(1), id_of(2))
    assert found[0] == memory(2, 1, 2)
    assert isinstance(found[1], RecordError) and f"holds no finished memory of {id_of(2)}" in found[1].message
