"""`pmem memdump` as a user runs it: many users at once, killed and started again, pages edited, real histories."""

import hashlib
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pmem.memory.files import as_markdown, file_name, of_markdown
from pmem.stages.memdump import IN_WORK
from pmem.stream.made import bytes_of
from pmem.stream.source import Entry
from pmem.stream.window import MOST_BYTES, in_order
from tests.command import PMEM, asking, lines, pmem, records, sample, start, wait_for
from tests.memory_model import history, of_messages
from tests.stub import Stub, running

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
REPLY = """
import hashlib
def reply(body):
    return "- " + hashlib.sha256(repr(body["messages"]).encode()).hexdigest()
"""
CHAT = [f"Message {n} about boats, tea and the weather." for n in range(6)]


@pytest.fixture(scope="module")
def hashing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    """A server whose reply is a hash of all that it is sent."""
    file = tmp_path_factory.mktemp("stub") / "reply.py"
    file.write_text(REPLY)
    with running(reply=file) as stub:
        yield stub


@pytest.fixture
def server(hashing: Stub) -> Stub:
    hashing.reset()
    return hashing


def people(count: int, chats: int = 4) -> bytes:
    """Histories of so many users, of several chunks of 150 tokens each."""
    return lines(
        history(*[[f"User {n}, chat {chat}. {text}" for text in CHAT] for chat in range(chats)], number=n, user=f"u{n}")
        for n in range(count)
    )


def dump(stub: Stub, *more: Any) -> list[Any]:
    return ["memdump", *asking(stub), "--chunk-tokens", "150", *more]


# ---- many users ---------------------------------------------------------------------------------------------------


def test_one_memory_for_each_user_in_order_whatever_jobs(server: Stub, tmp_path: Path) -> None:
    outs = []
    for jobs in ("1", "16"):
        ran = pmem(*dump(server, "-j", jobs, "--no-cache", "-q"), folder=tmp_path, input=people(10))
        assert ran.status == 0
        outs.append(ran.out)
    assert outs[0] == outs[1]
    assert [one["user_id"] for one in records(outs[0])] == [f"u{n}" for n in range(10)]
    assert all(one["chunk"] == one["chunks"] > 3 for one in records(outs[0]))


def test_users_are_in_flight_together_to_the_end(tmp_path: Path) -> None:
    """12 users of equal length, 4 at once: with the oldest first to the end, the last ones would be alone; with whoever
    has most to read first, no call is wasted (12 * chunks / 4 rounds of the latency, and a little)."""
    with running(latency=150) as slow:
        began = time.perf_counter()
        assert pmem(*dump(slow, "--no-cache"), folder=tmp_path).status == 0  # what a start takes on this machine now
        start = time.perf_counter() - began
        began = time.perf_counter()
        ran = pmem(*dump(slow, "-j", "4", "--no-cache"), folder=tmp_path, input=people(12))
        took = time.perf_counter() - began
        counts = slow.counts()
    chunks = sum(one["chunks"] for one in ran.records)
    assert counts["in_flight_max"] == 4
    assert counts["requests"] == chunks
    assert took < 0.15 * chunks / 4 * 1.6 + 2 * start


def test_64_histories_of_128k_tokens_may_be_in_work_at_once() -> None:
    """A user's history stays until its last chunk: by the usual bound, 35 would be the most. (bench/memory.py runs it.)"""
    history_bytes = 128_000 * 5  # of JSON: English has about 4.5 bytes a token
    assert 64 * bytes_of([Entry({}, b" " * history_bytes, "", 1)]) < IN_WORK < 2 * MOST_BYTES * 2


def test_the_bound_of_records_in_work_is_the_commands_own() -> None:
    import asyncio

    most = 0
    running_now = 0

    async def work(_: int) -> int:
        nonlocal most, running_now
        running_now += 1
        most = max(most, running_now)
        await asyncio.sleep(0.01)
        running_now -= 1
        return 0

    async def items() -> AsyncIterator[list[int]]:
        yield list(range(20))

    async def run(most_bytes: int | None) -> None:
        weighed = in_order(items(), work, 10, lambda: None, weigh=lambda _: 10, most_bytes=most_bytes)
        assert [one async for one in weighed] == [0] * 20

    asyncio.run(run(30))
    assert most == 3
    asyncio.run(run(None))
    assert most == 10


def _reply(folder: Path) -> Path:
    file = folder / "reply.py"
    file.write_text(REPLY)
    return file


def test_killed_and_started_again(tmp_path: Path) -> None:
    input = tmp_path / "histories.jsonl"
    input.write_bytes(people(20))
    with running(latency=30, reply=_reply(tmp_path)) as slow:
        whole = pmem(*dump(slow, "-j", "8", "--no-cache", "-q", input), folder=tmp_path)
        calls = slow.counts()["requests"]
        slow.reset()
        again = [*dump(slow, "-j", "8", "-q", input, "-o", "out.jsonl", "--into", "pages")]
        child = start(*PMEM, *again, folder=tmp_path)
        wait_for(lambda: slow.counts()["requests"] > calls // 2, 30)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert not (tmp_path / "out.jsonl").exists()
        assert pmem(*again, folder=tmp_path).status == 0
        assert slow.counts()["requests"] <= calls + 8
    assert (tmp_path / "out.jsonl").read_bytes() == whole.out
    assert len([*(tmp_path / "pages").glob("*.md")]) == 20


def test_a_user_whose_model_fails_keeps_the_memory_of_before(server: Stub, tmp_path: Path) -> None:
    first = pmem(*dump(server, "-q", "-o", "first.jsonl"), folder=tmp_path, input=people(2, 1))
    assert first.status == 0
    with running(stall_if="User 1, chat 1", stall=5, reply=_reply(tmp_path)) as half:
        options = ["--previous", "first.jsonl", "--rejects", "rejects.jsonl", "--timeout", "0.5", "--retries", "0"]
        ran = pmem(*dump(half, *options), folder=tmp_path, input=people(2, 2), hurried=True)
        assert ran.status == 3
        assert [(one["user_id"], one["chunk"] > 1) for one in ran.records] == [("u0", True), ("u1", False)]
        (tmp_path / "second.jsonl").write_bytes(ran.out)
        half.restart(reply=_reply(tmp_path))
        retried = ["--previous", "second.jsonl", tmp_path / "rejects.jsonl"]
        after = pmem(*dump(half, *retried), folder=tmp_path)
    assert [one["user_id"] for one in after.records] == ["u1", "u0"]
    once = pmem(*dump(server, "-q"), folder=tmp_path, input=people(2, 2))
    assert {one["user_id"]: len(one["read"]) for one in after.records} == {
        one["user_id"]: len(one["read"]) for one in once.records
    }


def test_batches_take_a_night_for_each_chunk(server: Stub, tmp_path: Path) -> None:
    """Each run leaves one call a user for later, since the next rests on its reply."""
    out = [*dump(server, "--batch-out", "calls.jsonl", "-o", "out.jsonl")]
    ran = pmem(*out, folder=tmp_path, input=people(3))
    assert ran.status == 4
    assert len((tmp_path / "calls.jsonl").read_bytes().splitlines()) == 3


def test_a_plan_foresees_the_calls(server: Stub, tmp_path: Path) -> None:
    planned = pmem(*dump(server, "--plan", "--into", "pages"), folder=tmp_path, input=people(3))
    made = pmem(*dump(server), folder=tmp_path, input=people(3))
    calls = sum(one["chunks"] for one in made.records)
    assert f"total {calls:>18,}" in planned.out.decode() or f" {calls} " in planned.out.decode()
    assert not (tmp_path / "pages").exists()


# ---- pages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "user", ["ana", "Ana", "../../etc/passwd", "con", "a/b", "ana.", "", "名前", "x" * 300, ".hid", "a\nb"]
)
def test_file_names_are_safe_and_nobody_elses(user: str) -> None:
    name = file_name(user)
    assert name and not set(name) & set('/\\:*?"<>| \n') and not name.startswith(".") and len(name) < 100
    assert name.lower() == name != file_name(user + "x")


def test_a_page_is_read_as_it_was_written() -> None:
    memory = sample("memory") | {"user_id": "ana --> x\nb"}
    assert of_markdown(as_markdown(memory)) == (memory["text"], memory["id"])
    assert of_markdown(as_markdown(memory | {"text": ""})) == ("", memory["id"])
    assert of_markdown("\ufeff# My title\r\n\r\n- tea\r\n") == ("# My title\n\n- tea", None)


def test_night_after_night_with_the_same_command(server: Stub, tmp_path: Path) -> None:
    night = [*dump(server, "--previous", "memories", "--format", "md")]
    first = pmem(*night, folder=tmp_path, input=people(2, 1))
    assert first.out == b"memories/u0.md\nmemories/u1.md\n", first.err
    page = tmp_path / "memories" / "u0.md"
    page.write_text(page.read_text() + "\n- Plays the cello\n")
    (tmp_path / "memories" / "u1.md").unlink()  # all of it is to be forgotten
    asked = server.counts()["requests"]
    assert pmem(*night, folder=tmp_path, input=people(2, 1)).status == 0
    assert server.counts()["requests"] == asked
    assert "Plays the cello" in page.read_text() and "Nothing yet" in (tmp_path / "memories" / "u1.md").read_text()
    pmem(*night, folder=tmp_path, input=people(2, 2))
    kept = orjson.loads((tmp_path / "memories" / "u0.json").read_bytes())
    assert "- Plays the cello" in page.read_text()
    assert [one["text"] for one in kept["entries"] if one.get("edited")] == ["Plays the cello"]


def test_a_page_older_than_its_record_is_no_edit(server: Stub, tmp_path: Path) -> None:
    night = [*dump(server, "--previous", "memories", "--format", "md", "-q")]
    pmem(*night, folder=tmp_path, input=people(1, 1))
    page = tmp_path / "memories" / "u0.md"
    old = page.read_text()
    pmem(*night, folder=tmp_path, input=people(1, 2))
    new = page.read_text()
    page.write_text(old)  # as if killed between the two files
    pmem(*night, folder=tmp_path, input=people(1, 2))
    assert page.read_text() == new != old


def test_night_after_night_in_one_file_of_records(server: Stub, tmp_path: Path) -> None:
    night = [*dump(server, "--previous", "memories.jsonl", "-o", "memories.jsonl", "-q")]
    for input in (people(3, 1), people(1, 2), b""):
        assert pmem(*night, folder=tmp_path, input=input).status == 0
    kept = records((tmp_path / "memories.jsonl").read_bytes())
    assert [one["user_id"] for one in kept] == ["u0", "u1", "u2"]
    assert [len(one["read"]) for one in kept] == [2, 1, 1]


def test_memories_that_are_carried_over_get_pages(server: Stub, tmp_path: Path) -> None:
    pmem(*dump(server, "-q", "-o", "old.jsonl"), folder=tmp_path, input=people(2, 1))
    ran = pmem(*dump(server, "--previous", "old.jsonl", "--format", "md"), folder=tmp_path, input=people(1, 2))
    assert ran.out == b"memories/u0.md\nmemories/u1.md\n"
    assert all((tmp_path / name).exists() for name in ran.out.decode().split())


def windows(user: str = "ana") -> bytes:
    """Two histories of one user, of different chats, and one of another user."""
    short = history(*[[f"Chat {chat}. {text}" for text in CHAT] for chat in range(2)], number=1, user=user)
    long = history(*[[f"Other {chat}. {text}" for text in CHAT] for chat in range(4)], number=2, user=user)
    return lines([short | {"window": "32k"}, long | {"window": "128k"}, history(CHAT, number=3, user="bo") | {"window": "32k"}])  # fmt: skip


@pytest.mark.parametrize(
    "pages", [["--format", "md"], ["--into", "memories"], ["--previous", "out.jsonl", "-o", "out.jsonl"]]
)
def test_no_second_history_of_a_user_takes_the_place_of_the_first(
    server: Stub, tmp_path: Path, pages: list[str]
) -> None:
    ran = pmem(*dump(server, *pages), folder=tmp_path, input=windows())
    assert ran.status == 1 and "a second history of user ana" in ran.err and "--window" in ran.err
    assert "h-0000000000000002 (window 128k) after h-0000000000000001 (window 32k)" in ran.err
    ran = pmem(*dump(server, *pages, "--rejects", "second.jsonl"), folder=tmp_path, input=windows())
    assert ran.status == 3 and "2 out, 1 rejected" in ran.err
    kept = tmp_path / ("out.jsonl" if "-o" in pages else "memories/ana.json")
    first = records(kept.read_bytes())[0]
    assert first["history_id"] == "h-0000000000000001"
    more = pages if "--previous" in pages else [*pages, "--previous", "memories"]
    assert pmem(*dump(server, *more, "second.jsonl"), folder=tmp_path).status == 0  # as of several logs: one by one
    second = records(kept.read_bytes())[0]
    assert second["history_id"] == "h-0000000000000002" and len(second["read"]) == 6
    assert second["chunk"] > first["chunk"]


def test_one_window_of_several(server: Stub, tmp_path: Path) -> None:
    ran = pmem(*dump(server, "--format", "md", "--window", "32k", "--dropped", "left.jsonl"), folder=tmp_path, input=windows())  # fmt: skip
    assert ran.status == 0 and ran.out == b"memories/ana.md\nmemories/bo.md\n" and "1 dropped" in ran.err
    assert [one["message"] for one in records((tmp_path / "left.jsonl").read_bytes())] == ["window 128k"]
    both = pmem(*dump(server), folder=tmp_path, input=windows())  # records are of histories: two are two
    assert [one["history_id"][-1] for one in both.records] == ["1", "2", "3"]


# ---- real histories ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not DATA.exists(), reason="no ../shared/data")
def test_real_histories(server: Stub, tmp_path: Path) -> None:
    """PersonaMem-v2, v1 and LoCoMo: a memory for each, of as many chunks as 32k tokens make, whatever the jobs."""
    read = _real()
    ran = pmem("memdump", *asking(server), "--trace", "--no-cache", folder=tmp_path, input=lines(read))
    assert ran.status == 0, ran.err
    by_user: dict[str, int] = {}
    for one in ran.records:
        by_user[one["user_id"]] = by_user.get(one["user_id"], 0) + 1
    assert set(by_user) == {one["user_id"] for one in read}
    assert (by_user["v2"], by_user["v1-0"], by_user["locomo-0"]) == (7, 6, 3)
    text = hashlib.sha256(ran.out).hexdigest()
    again = pmem("memdump", *asking(server), "--trace", "--no-cache", "-j", "1", folder=tmp_path, input=lines(read))
    assert hashlib.sha256(again.out).hexdigest() == text


def _real() -> list[dict[str, Any]]:
    v2 = orjson.loads(next((DATA / "personamem_v2").glob("chat_history*.json")).read_bytes())["chat_history"]
    found = [("v2", v2)]
    for number, line in enumerate((DATA / "personamem_v1_32k" / "histories_messages.jsonl").read_bytes().splitlines()):
        sessions = orjson.loads(line)["sessions"]
        found.append((f"v1-{number}", [message for session in sessions for message in session["messages"]]))
    for number, one in enumerate(orjson.loads((DATA / "locomo" / "locomo10_3conv.json").read_bytes())):
        talk = one["conversation"]
        turns = [
            turn for key in talk if key.startswith("session_") and isinstance(talk[key], list) for turn in talk[key]
        ]
        speaker = talk["speaker_a"]
        said = [{"role": "user" if t["speaker"] == speaker else "assistant", "content": t["text"]} for t in turns]
        found.append((f"locomo-{number}", said))
    clean = [(user, [_plain(m) for m in messages if m["role"] != "system"]) for user, messages in found]
    return [of_messages(messages, number=n, user=user) for n, (user, messages) in enumerate(clean)]


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    return {"role": message["role"], "content": message["content"]}
