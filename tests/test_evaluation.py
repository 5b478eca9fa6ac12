"""What a model sees of the past, in which order it is asked, and how its answers are judged."""

import asyncio
import random
import signal
import subprocess
import time
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
import pytest

from pmem.backends.base import Completion, Request, Usage
from pmem.backends.openai import OpenAIBackend
from pmem.cli import main
from pmem.errors import ModelError, RecordError
from pmem.evaluation.past import Past
from pmem.evaluation.photos import Photos
from pmem.reward import open_ended
from tests.command import PMEM, asking, lines, pmem, records, sample, start
from tests.stub import Stub

LETTERS = "ABCD"


def history(number: int, *, turns: int = 3, words: int = 5, system: str | None = None) -> dict[str, Any]:
    messages = [
        {"role": role, "content": f"{role} {number}.{turn} " + "said " * words}
        for turn in range(turns)
        for role in ("user", "assistant")
    ]
    return {**sample("history"), "id": f"h-{number:016x}", "system": system, "sessions": [], "messages": messages}


def question(number: int, of: int) -> dict[str, Any]:
    qa = sample("qa")
    place = {**next(iter(qa["histories"].values())), "id": f"h-{of:016x}"}
    return {**qa, "id": f"q-{number:016x}", "query": f"Question {number}?", "histories": {"32k": place}}


def files(folder: Path, *, histories: int = 5, each: int = 6) -> None:
    (folder / "h.jsonl").write_bytes(lines(history(n) for n in range(histories)))
    (folder / "q.jsonl").write_bytes(lines(question(n, n // each) for n in range(histories * each)))


def evaluated(folder: Path, *more: str, server: str = "http://localhost:1/v1") -> list[dict[str, Any]]:
    """Results of `pmem eval` in this process."""
    command = ["eval", str(folder / "q.jsonl"), "--histories", str(folder / "h.jsonl"), "-m", "openai:stub", "-q"]
    command += ["--no-cache", "--base-url", server, "-o", str(folder / "out.jsonl"), *more]
    main(command, standalone_mode=False)
    return records((folder / "out.jsonl").read_bytes())


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Requests in the order in which they are sent; each is answered after a time of its own."""
    found: list[Request] = []
    draw = random.Random(5)

    async def complete(_: OpenAIBackend, request: Request) -> Completion:
        found.append(request)
        await asyncio.sleep(draw.uniform(0, 0.01))
        return Completion("Answer: B", Usage(10, 0, 5, 3))

    monkeypatch.setattr(OpenAIBackend, "complete", complete)
    return found


# ---- order -------------------------------------------------------------------------------------------------------


def prefixes(requests: list[Request]) -> list[str]:
    """The histories of calls, one for each stretch of calls on the same."""
    return [name for name, _ in groupby(one.prefix.id for one in requests if one.prefix)]


@pytest.mark.parametrize("jobs", ["1", "16", "128"])
def test_questions_on_one_history_follow_each_other(tmp_path: Path, sent: list[Request], jobs: str) -> None:
    files(tmp_path, histories=20, each=25)
    found = evaluated(tmp_path, "-j", jobs)
    assert len(sent) == len(found) == 500
    assert prefixes(sent) == [f"h-{n:016x}" for n in range(20)]
    assert [one["qa_id"] for one in found] == [f"q-{n:016x}" for n in range(500)]


@pytest.mark.parametrize("jobs", ["1", "16", "128"])
def test_other_contexts_and_orders_of_options_come_between_without_harm(
    tmp_path: Path, sent: list[Request], jobs: str
) -> None:
    files(tmp_path)
    found = evaluated(tmp_path, "-j", jobs, "--context", "full", "--context", "none", "--permutations", "3")
    assert len(sent) == len(found) == 30 * 2 * 3
    assert prefixes(sent) == [f"h-{n:016x}" for n in range(5)]
    assert len({one.prefix.raw for one in sent if one.prefix}) == 5
    shown = [(one["qa_id"], one["context"], one["permutation"]) for one in found]
    assert shown == [(f"q-{n:016x}", context, p) for n in range(30) for context in ("full", "none") for p in range(3)]


def test_questions_out_of_order_are_noticed(
    tmp_path: Path, sent: list[Request], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "h.jsonl").write_bytes(lines(history(n) for n in range(3)))
    (tmp_path / "q.jsonl").write_bytes(lines(question(n, of) for n, of in enumerate((0, 0, 1, 0, 2, 2, 1))))
    command = ["eval", str(tmp_path / "q.jsonl"), "--histories", str(tmp_path / "h.jsonl"), "-m", "openai:stub"]
    command += ["--no-cache", "--base-url", "http://localhost:1/v1", "-o", str(tmp_path / "out")]
    main(command, standalone_mode=False)
    said = capsys.readouterr().err
    assert "not in the order of their 3 histories" in said and "an earlier one 2 times" in said
    assert len(sent) == 7
    (tmp_path / "q.jsonl").write_bytes(lines(question(n, n // 2) for n in range(6)))
    main(command, standalone_mode=False)
    assert "order" not in capsys.readouterr().err


def two_windows(folder: Path, *, personas: int = 4, each: int = 6) -> None:
    """Questions about personas, each with a history of 32k and one of 128k (the odd numbers)."""
    (folder / "h.jsonl").write_bytes(lines(history(n) for n in range(2 * personas)))
    asked = []
    for n in range(personas * each):
        of = 2 * (n // each)
        place = question(n, of)["histories"]["32k"]
        large = {**place, "id": f"h-{of + 1:016x}", "filler_tokens": 100_000}
        asked.append({**question(n, of), "histories": {"128k": large, "32k": place}})
    (folder / "q.jsonl").write_bytes(lines(asked))


@pytest.mark.parametrize("jobs", ["1", "16", "128"])
@pytest.mark.parametrize("windows", [["--window", "32k", "--window", "128k"], ["--window", "all"]])
def test_histories_follow_each_other_in_several_windows(
    tmp_path: Path, sent: list[Request], jobs: str, windows: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    two_windows(tmp_path)
    found = evaluated(tmp_path, "-j", jobs, *windows, "--context", "full", "--context", "none", "--permutations", "2")
    assert prefixes(sent) == [f"h-{n:016x}" for n in range(8)]
    assert len(sent) == len(found) == 24 * 3 * 2
    shown = Counter((one["qa_id"], one["context"], one["window"], one["permutation"]) for one in found)
    assert set(shown.values()) == {1}
    assert shown == Counter(
        (f"q-{n:016x}", context, window, order)
        for n in range(24)
        for context, window in (("full", "32k"), ("full", "128k"), ("none", None))
        for order in range(2)
    )
    assert [one["history_id"] for one in found if one["window"]] == [f"h-{n:016x}" for n in range(8) for _ in range(12)]
    assert "order" not in capsys.readouterr().err


def test_a_window_that_one_question_lacks(tmp_path: Path, sent: list[Request]) -> None:
    """It costs that question's answers in that window, and what was rejected can be fed in again."""
    two_windows(tmp_path, personas=2, each=3)
    asked = records((tmp_path / "q.jsonl").read_bytes())
    del asked[1]["histories"]["128k"]
    (tmp_path / "q.jsonl").write_bytes(lines(asked))
    both = ["--window", "32k", "--window", "128k", "--rejects", str(tmp_path / "rejects.jsonl")]
    with pytest.raises(SystemExit, match="3"):
        evaluated(tmp_path, *both)
    found, (rejected,) = [records((tmp_path / name).read_bytes()) for name in ("out.jsonl", "rejects.jsonl")]
    assert len(found) == 11 and rejected["items"] == ["full-128k"]
    assert "no history of window 128k; it has: 32k" in rejected["message"]
    rejected["record"]["histories"] = question(1, 1)["histories"] | {"128k": question(1, 1)["histories"]["32k"]}
    (tmp_path / "q.jsonl").write_bytes(lines([rejected]))
    assert [one["window"] for one in evaluated(tmp_path, *both)] == ["128k"]


def test_questions_on_one_memory_share_it(tmp_path: Path, sent: list[Request]) -> None:
    """The memory stands first, in the same message as the question, and names what the calls have in common."""
    files(tmp_path, histories=4, each=5)
    kept = [
        {**sample("memory"), "id": f"m-{n:016x}", "history_id": f"h-{n:016x}", "chunk": 1, "chunks": 1,
         "text": f"# About\n- Number {n}."}
        for n in range(4)
    ]  # fmt: skip
    (tmp_path / "m.jsonl").write_bytes(lines(kept))
    memory = ["--context", "memory", "--memories", str(tmp_path / "m.jsonl"), "--permutations", "2", "-j", "8"]
    found = evaluated(tmp_path, *memory)
    assert [name for name, _ in groupby(one.beginning for one in sent)] == [one["id"] for one in kept]
    assert len(found) == 40 and {one["memory_id"] for one in found} == {one["id"] for one in kept}
    for name, ones in groupby(sent, key=lambda one: one.beginning):
        texts = [one.messages[0]["content"] for one in ones]
        head, memory_text = "What you have noted about me", next(one["text"] for one in kept if one["id"] == name)
        first = texts[0][: texts[0].index("</memory>") + len("</memory>\n\n")]
        assert first.startswith(head) and memory_text in first
        assert len(texts) == 10 and all(text.startswith(first + "Question ") for text in texts)


def test_memories_are_made_once_for_each_history_and_as_memdump_makes_them(tmp_path: Path, sent: list[Request]) -> None:
    files(tmp_path, histories=6, each=5)
    (tmp_path / "h.jsonl").write_bytes(lines(history(n, turns=8, words=600) for n in range(6)))
    made = evaluated(tmp_path, "--context", "memory", "-j", "2", "--max-tokens", "16")
    updates = [one for one in sent if one.call.startswith("memdump/")]
    assert [one.call for one in sorted(updates, key=lambda one: one.call)] == [
        f"memdump/h-{n:016x}/{chunk}/0" for n in range(6) for chunk in (1, 2)
    ]
    assert {one.max_tokens for one in updates} == {None}, "a limit of answers is not one of memories"
    assert len(sent) == 12 + 30 == 12 + len({one.key for one in sent if one not in updates})
    main(["memdump", str(tmp_path / "h.jsonl"), "-m", "openai:stub", "-q", "--no-cache", "--base-url",
          "http://localhost:1/v1", "-o", str(tmp_path / "m.jsonl")], standalone_mode=False)  # fmt: skip
    memories = ["--context", "memory", "--memories", str(tmp_path / "m.jsonl")]
    assert evaluated(tmp_path, "-j", "2", "--max-tokens", "16", *memories) == made


def test_many_histories_are_remembered_at_once_though_questions_follow_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path, histories=8, each=40)
    (tmp_path / "h.jsonl").write_bytes(lines(history(n, turns=8, words=600) for n in range(8)))
    running, most = 0, 0

    async def complete(_: OpenAIBackend, request: Request) -> Completion:
        nonlocal running, most
        update = request.call.startswith("memdump/")
        running += update
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= update
        return Completion("Answer: B", Usage(10, 0, 5, 3))

    monkeypatch.setattr(OpenAIBackend, "complete", complete)
    evaluated(tmp_path, "--context", "memory", "-j", "8", "--limit", "320")
    assert most > 4  # of 8: answers come between


def test_questions_whose_memory_fails_are_rejected_and_cost_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path, histories=3, each=4)
    asked = []

    async def complete(_: OpenAIBackend, request: Request) -> Completion:
        asked.append(request.call)
        if "user 1.0" in str(request.messages) and request.call.startswith("memdump/"):
            raise ModelError("the server is in no mood")
        return Completion("Answer: B", Usage(10, 0, 5, 3))

    monkeypatch.setattr(OpenAIBackend, "complete", complete)
    with pytest.raises(SystemExit) as ended:
        evaluated(tmp_path, "--context", "memory", "--rejects", str(tmp_path / "rejects.jsonl"), "--retries", "0")
    assert ended.value.code == 3
    refused = records((tmp_path / "rejects.jsonl").read_bytes())
    assert [one["record"]["id"] for one in refused] == [f"q-{n:016x}" for n in range(4, 8)]
    assert {(one["items"][0], "in no mood" in one["message"]) for one in refused} == {("memory-32k", True)}
    assert sum(call.startswith("memdump/") for call in asked) == 3


# ---- permutations ------------------------------------------------------------------------------------------------


def test_the_right_option_stands_in_each_place_once(tmp_path: Path, sent: list[Request]) -> None:
    files(tmp_path, histories=1, each=1)
    qa = question(0, 0)
    found = evaluated(tmp_path, "--permutations", "9")
    assert [one["permutation"] for one in found] == [0, 1, 2, 3]
    assert sorted(one["gold"] for one in found) == list(LETTERS)
    assert (found[0]["options"], found[0]["gold"]) == (qa["options"], qa["gold"])
    assert len({one["id"] for one in found}) == 4
    for one, request in zip(found, sent, strict=True):
        assert one["options"][LETTERS.index(one["gold"])] == qa["answer"]
        assert sorted(one["options"]) == sorted(qa["options"])
        assert one["correct"] == (one["gold"] == "B") and one["choice"] == "B"
        assert all(f"{letter}. {text}" in request.messages[-1]["content"]
                   for letter, text in zip(LETTERS, one["options"], strict=True))  # fmt: skip


def reports(folder: Path) -> list[bytes]:
    """The page and the table of a run's results."""
    page = pmem("report", "out.jsonl", "--questions", "q.jsonl", "-o", "report.html", folder=folder)
    table = pmem("eval", "--summary", "--format", "json", "out.jsonl", folder=folder)
    assert page.status == table.status == 0, page.err + table.err
    return [(folder / "report.html").read_bytes(), table.out]


def test_kill_9_costs_no_second_call(tmp_path: Path, stub: Stub) -> None:
    """With permutations: several calls of one question, some of them committed when it was killed."""
    files(tmp_path, histories=4, each=5)
    command = ["eval", "q.jsonl", "--histories", "h.jsonl", *asking(stub), "-o", "out.jsonl", "--permutations", "4"]
    wanted = pmem(*command, "--cache", "other", folder=tmp_path)
    assert wanted.status == 0, wanted.err
    result, summed_up = (tmp_path / "out.jsonl").read_bytes(), reports(tmp_path)
    (tmp_path / "out.jsonl").unlink()
    stub.restart(latency=60)
    child = start(*PMEM, *command, "--cache", "cache", "-j", "4", folder=tmp_path, stdin=subprocess.DEVNULL)
    while stub.counts()["requests"] < 23:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not (tmp_path / "out.jsonl").exists()
    time.sleep(0.2)
    killed = stub.counts()["requests"]
    assert pmem(*command, "--cache", "cache", folder=tmp_path).status == 0
    assert (tmp_path / "out.jsonl").read_bytes() == result and reports(tmp_path) == summed_up
    counts = stub.counts()
    assert counts["repeats"] <= 4 and counts["requests"] == 80 + counts["repeats"] and killed < 80


# ---- what is shown -----------------------------------------------------------------------------------------------


def test_settings_are_recorded(tmp_path: Path, sent: list[Request]) -> None:
    files(tmp_path, histories=1, each=1)
    plain = evaluated(tmp_path)[0]
    assert "settings" not in plain and plain["reply_tokens"] == 5 and plain["reasoning_tokens"] == 3
    given = evaluated(tmp_path, "--temperature", "0.5", "--max-tokens", "64", "--no-thinking")[0]
    assert given["settings"] == {"temperature": 0.5, "max_tokens": 64, "thinking": False}
    assert given["id"] != plain["id"]
    assert [one.thinking for one in sent] == [None, False]


def test_a_history_is_cut_alike_for_all_its_questions(tmp_path: Path, sent: list[Request]) -> None:
    """So that a server has to compute what is left once only, however long each question is."""
    (tmp_path / "h.jsonl").write_bytes(lines([history(0, turns=40, words=20)]))
    asked = [{**question(n, 0), "query": "Why? " * (1 + 7 * n)} for n in range(8)]
    (tmp_path / "q.jsonl").write_bytes(lines(asked))
    found = evaluated(tmp_path, "--truncate", "oldest", "--context-length", "2000", "--max-tokens", "100")
    raws = {one.prefix.raw for one in sent if one.prefix}
    assert len(raws) == 1
    left = orjson.loads(raws.pop())
    assert left == history(0, turns=40, words=20)["messages"][-len(left) :] and left[0]["role"] == "user"
    assert len({one["truncated_tokens"] for one in found}) == 1 and found[0]["truncated_tokens"] > 0


def test_nothing_is_cut_off_from_what_fits(tmp_path: Path, sent: list[Request]) -> None:
    files(tmp_path, histories=1, each=1)
    found = evaluated(tmp_path, "--truncate", "middle", "--context-length", "100000")
    assert found[0]["truncated_tokens"] == 0
    assert sent[0].prefix and sent[0].prefix.id == f"h-{0:016x}"


class Word:
    """A tokenizer for which a word is a token."""

    def encode(self, text: str) -> list[int]:
        return [0] * len(text.split())


@pytest.fixture
def past(monkeypatch: pytest.MonkeyPatch) -> Past:
    """Four turns of 20, 30, 40 and 50 tokens (each message has 4 beside its words), and a system message of 10."""
    monkeypatch.setattr("pmem.evaluation.past.tokenizer", lambda _: Word())
    sizes = ((6, 6), (11, 11), (16, 16), (21, 21))
    messages = [{"role": role, "content": f"{turn} " + "w " * (words - 1)}
                for turn, pair in enumerate(sizes) for role, words in zip(("user", "assistant"), pair, strict=True)]  # fmt: skip
    record = {"id": "h-1", "persona": None, "system": "one two three four five six", "sessions": []}
    return Past(orjson.dumps(messages), record, "words", Photos())


@pytest.mark.parametrize(
    ("how", "room", "with_system", "turns"),
    [
        ("oldest", 140, False, [0, 1, 2, 3]),
        ("oldest", 139, False, [1, 2, 3]),
        ("oldest", 119, False, [2, 3]),
        ("oldest", 89, False, [3]),
        ("oldest", 49, False, []),
        ("oldest", 149, True, [1, 2, 3]),
        ("oldest", 150, True, [0, 1, 2, 3]),
        ("middle", 139, False, [0, 1, 3]),  # 50 of 69 in front; then 50 of the 89 that are left, 40 more don't fit
        ("middle", 110, False, [0, 1, 3]),
        ("middle", 99, False, [0, 3]),
        ("middle", 39, False, []),
        ("middle", 49, False, [0]),
    ],
)
def test_whole_turns_are_cut(past: Past, how: str, room: int, with_system: bool, turns: list[int]) -> None:
    shown = past.cut(room, how, with_system=with_system)
    said = orjson.loads(shown.prefix.raw)
    system = [one for one in said if one["role"] == "system"]
    assert bool(system) == with_system and said[: len(system)] == system
    kept = said[len(system) :]
    assert [int(one["content"][0]) for one in kept if one["role"] == "user"] == turns
    assert [one["role"] for one in kept] == ["user", "assistant"] * len(turns)
    of_turns = sum(20 + 10 * turn for turn in turns)
    assert shown.tokens == of_turns + 10 * with_system <= room
    assert shown.left_out == 140 - of_turns


def test_the_system_message_stands_first(past: Past) -> None:
    whole = past.whole(with_system=True)
    assert orjson.loads(whole.raw)[0] == {"role": "system", "content": "one two three four five six"}
    assert orjson.loads(whole.raw)[1:] == orjson.loads(past.whole(with_system=False).raw)
    assert whole.id != past.whole(with_system=False).id


def test_results_say_whether_a_system_message_was_shown(tmp_path: Path, sent: list[Request]) -> None:
    (tmp_path / "h.jsonl").write_bytes(lines([history(0, system="Ana bakes."), history(1)]))
    (tmp_path / "q.jsonl").write_bytes(lines([question(0, 0), question(1, 1)]))
    found = evaluated(tmp_path, "--with-system")
    assert found[0]["settings"] == {"with_system": True} and "settings" not in found[1]
    assert sent[0].prefix and b"Ana bakes." in sent[0].prefix.raw


# ---- judging -----------------------------------------------------------------------------------------------------


def votes(verdicts: str) -> list[dict[str, Any]]:
    return [{"verdict": {"p": "pass", "f": "fail", "u": "unclear"}[one]} for one in verdicts]


@pytest.mark.parametrize(
    ("cast", "passes", "decided", "disputed"),
    [
        ("ppp", True, True, False),
        ("ppf", True, True, True),
        ("pff", False, True, True),
        ("pf", False, True, True),  # a tie is no majority
        ("ppu", True, True, False),
        ("pfu", False, False, True),  # it would have passed, had the third said so
        ("ffu", False, True, False),
        ("pu", False, False, False),
        ("puuf", False, False, True),
        ("u", False, False, False),
    ],
)
def test_a_majority_decides(cast: str, passes: bool, decided: bool, disputed: bool) -> None:
    found = votes(cast)
    assert open_ended.passes(found) == passes
    assert open_ended.decided(found) == decided
    assert open_ended.disputed(found) == disputed


def test_what_a_reply_is_judged_by() -> None:
    qa, imported = sample("qa"), sample("qa-imported")
    assert open_ended.rubric(qa) == open_ended.CASE
    assert open_ended.rubric(imported) == open_ended.REFERENCE
    assert open_ended.rubric({**qa, "preference": None}) == open_ended.REFERENCE
    assert open_ended.rubric({**qa, "case": "updated", "previous": None}) == open_ended.REFERENCE
    assert open_ended.rubric({**qa, "case": "sensitive", "secret": None}) == open_ended.REFERENCE
    assert open_ended.rubric({**imported, "labels": {"abstention": "yes"}}) == open_ended.ABSTENTION
    with pytest.raises(RecordError, match="nothing to judge by"):
        open_ended.rubric({**imported, "answer": " "})
