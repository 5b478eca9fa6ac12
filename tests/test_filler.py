"""Filler from other people's data: nothing lost without a reason, nothing said that the line doesn't hold."""

import ast
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmem.check import validator
from pmem.draws import Draw
from pmem.errors import RecordError
from pmem.formats import maths, programs
from pmem.formats.filler import Seen, filler, format_of, parse
from tests.command import lines, pmem

DATA = Path(__file__).parents[2] / "shared" / "data"
Record = dict[str, Any]
SUM = {
    "question": "A shelf has 3 rows of 14 jars. 5 jars are empty. How many are full?",
    "answer": "The shelf holds 3 * 14 = <<3*14=42>>42 jars\nSo 42 - 5 = <<42-5=37>>37 jars are full.\n#### 37",
}
FUNCTION = {
    "task_id": "Own/1",
    "prompt": 'def rises(values):\n    """Whether each value is larger than the one before it."""\n',
    "entry_point": "rises",
    "canonical_solution": "    pairs = zip(values, values[1:])\n    found = [a < b for a, b in pairs]\n    return all(found)\n",
    "test": "def check(candidate):\n    assert candidate([1, 2]) == True\n    assert candidate([2, 2]) == False\n",
}
PAIR = {
    "name": "total",
    "language": "python",
    "buggy": 'def total(values):\n    found = 1\n    for one in values:\n        found += one\n    return found\n\n"""\nAdd up.\n"""\n',
    "correct": "def total(values):\n    # from nothing\n    found = 0\n    for one in values:\n        found += one\n    return found\n",
    "testcases": [[[[1, 2]], 3], [[[]], 0]],
}
CHAT = {
    "messages": [
        {"role": "user", "content": "Which moon is the largest?"},
        {"role": "assistant", "content": "Ganymede."},
    ]
}
ROWS = {"gsm8k": SUM, "humaneval": FUNCTION, "quixbugs": PAIR, "messages": CHAT}


def made(row: Record, seed: int = 0) -> Record:
    return filler(row, name=format_of(row), source="test", seed=seed)


def said(record: Record, role: str) -> str:
    return "\n".join(one["content"] for one in record["messages"] if one["role"] == role)


@pytest.mark.parametrize("name", ROWS)
def test_each_format_is_known_by_its_keys(name: str) -> None:
    record = made(ROWS[name])
    assert format_of(ROWS[name]) == name and validator("filler")(record)
    assert record["domain"] == {"gsm8k": "maths", "messages": "general"}.get(name, "code")
    assert [one["role"] for one in record["messages"][:2]] == ["user", "assistant"] and len(record["messages"]) % 2 == 0
    assert made(ROWS[name]) == record
    assert name == "messages" or len({orjson.dumps(made(ROWS[name], seed)["messages"]) for seed in range(20)}) > 15


def test_a_sum_is_told_as_it_was_worked_out() -> None:
    ways = Counter()
    for seed in range(300):
        record = made(SUM, seed)
        user, assistant = said(record, "user"), said(record, "assistant")
        assert SUM["question"] in record["messages"][0]["content"]
        assert "<<" not in assistant and "37 jars are full." in assistant and "42 jars." in assistant
        ways["portions"] += "jars are full" not in record["messages"][1]["content"]
        for wrong in re.findall(r"(?:I get|is|mine is|at some point|I had|give|comes to) (\d+)", user):
            assert wrong not in ("3", "14", "42", "5", "37")
            ways["wrong"] += 1
    assert ways["portions"] > 40 and ways["wrong"] > 40


def test_a_calculation_that_is_wrong_is_never_vouched_for() -> None:
    odd = {**SUM, "answer": "It holds 3 * 14 = <<3*14=45>>45 jars.\nTwo are <<2+=3>>gone.\n<<9**9**9=1>>Big.\n#### 37"}
    for seed in range(100):
        text = said(made(odd, seed), "assistant")
        assert "holds." not in text and "3*14 = 45" not in text


@given(st.text(max_size=60), st.text(max_size=20))
def test_any_answer_is_read_or_refused(answer: str, result: str) -> None:
    try:
        told = maths.problem({"question": "?", "answer": f"{answer}\n#### {result}"})
    except RecordError as fault:
        assert fault.pointer == "/answer"
        return
    assert told.steps and told.answer


def test_a_function_is_written_finished_or_debugged() -> None:
    whole = FUNCTION["prompt"] + FUNCTION["canonical_solution"].rstrip()
    ways = Counter()
    for seed in range(200):
        record = made(FUNCTION, seed)
        first, reply = (one["content"] for one in record["messages"][:2])
        assert whole in reply
        code = first.split("```python\n")[1].split("\n```")[0]
        different = [(a, b) for a, b in zip(code.splitlines(), whole.splitlines(), strict=False) if a != b]
        if different:
            ways["debug"] += 1
            ast.parse(code)
            ((old, new),) = different
            assert f"`{old.strip()}`" in reply and f"`{new.strip()}`" in reply
        else:
            ways["write" if code == FUNCTION["prompt"].rstrip() else "complete"] += 1
    assert min(ways.values()) > 30 and len(ways) == 3


def test_a_bug_is_explained_by_what_differs() -> None:
    for seed in range(50):
        first, reply = (one["content"] for one in made(PAIR, seed)["messages"][:2])
        assert "line 2" in reply.lower() and "`found = 1`" in reply and "`found = 0`" in reply
        assert "def total(values):\n    found = 0\n    for one in values:" in reply  # no comment
        assert "Add up." in first and '"""' not in first
        assert "`total([1, 2])`" in first or "`total([])`" in first


def test_lines_that_are_missing_or_too_many() -> None:
    assert programs.changes("a\n\nb", "a\nb\nc") == [(3, None, "c")]
    assert programs.changes("a\nb\nc", "b\nc") == [(1, "a", None)]
    assert programs.changes("b", "a\nb") == [(0, None, "a")]
    assert programs.changes("a\nb ", "a\n\nb") == []


def test_programs_without_comments() -> None:
    code = "# top\nx = '#'  # end\n\n'''doc\nmore'''\nif x:\n    # inside\n    y = 1\n"
    assert programs.plain(code) == ("x = '#'\n\nif x:\n    y = 1", "doc\nmore")
    assert programs.plain("int x; // no Python") == ("int x; // no Python", "")


@given(st.text(max_size=80))
def test_any_text_may_stand_for_a_program(text: str) -> None:
    code, _ = programs.plain(text)
    programs.changes(code, text)
    programs.with_bug(text, Draw(0, "f", "bug"), after_line=0)


REFUSED: dict[str, tuple[Any, str]] = {
    "unknown": ({"text": "x"}, "the keys (text) are of no known format: gsm8k has question and answer;"),
    "no result": ({"question": "How many?", "answer": "Two."}, "/answer: expected lines of a solution and, last, '#### '"),
    "no steps": ({"question": "How many?", "answer": "#### 2"}, "/answer: expected lines of a solution"),
    "no text": ({"question": " ", "answer": "x\n#### 2"}, "/question: expected text"),
    "number": ({"question": "How many?", "answer": 2}, "/answer: expected text"),
    "no function": ({"prompt": "x = 1", "canonical_solution": "y"}, "/prompt: expected Python"),
    "no Python": ({"prompt": "def f(:", "canonical_solution": "y", "entry_point": "f"}, "/prompt: expected Python"),
    "the same": ({"buggy": "x = 1  # a", "correct": "x = 1"}, "/correct: the two programs differ in comments at most"),
    "no list": ({"messages": "x"}, "/messages: expected a list of messages"),
    "nothing": ({"messages": []}, "/messages: no message of the user has a reply"),
    "no reply": ({"messages": [{"role": "user", "content": "x"}]}, "/messages: no message of the user has a reply"),
    "no message": ({"messages": ["x"]}, "/messages/0: expected a message with role and content"),
    "tool": ({"messages": [*CHAT["messages"], {"role": "tool", "content": "x"}]}, "/messages/2/role: expected a message of the user, found one of tool"),
    "twice": ({"messages": CHAT["messages"][:1] * 2}, "/messages/1/role: expected a message of the assistant, found one of user"),
    "empty": ({"messages": [{"role": "user", "content": ""}, CHAT["messages"][1]]}, "/messages/0/content: expected text of 1 or more characters"),
    "array": ([1], "expected a JSON object"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_and_why(case: str) -> None:
    row, reason = REFUSED[case]
    with pytest.raises(RecordError) as caught:
        made(parse(orjson.dumps(row)))
    assert str(caught.value).startswith(reason)


def test_chats_lose_their_system_message_and_their_unanswered_end() -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        *CHAT["messages"],
        {"role": "user", "content": "And the second?"},
    ]
    assert made({"messages": chat, "id": 7})["messages"] == CHAT["messages"]
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}, {"role": "assistant", "content": "Hi"}]
    assert made({"messages": parts})["messages"] == parts


def test_repeated_lines_are_left_out_and_said(tmp_path: Path) -> None:
    near = {**SUM, "question": SUM["question"].upper().replace(" ", "  ").replace("?", "")}
    other = {**PAIR, "buggy": PAIR["buggy"].replace("1", "2")}  # code: a sign makes a difference
    rows = [SUM, FUNCTION, SUM, near, PAIR, other, CHAT]
    ran = pmem("import", "filler", "--dropped", "d", folder=tmp_path, input=lines(rows))
    assert ran.status == 0 and len(ran.records) == 5
    assert "7 in, 5 out, 2 dropped; 3 code, 1 general, 1 maths: " in ran.err and "1 exactly, 1 nearly" in ran.err
    dropped = [orjson.loads(line) for line in (tmp_path / "d").read_bytes().splitlines()]
    assert [one["record"] for one in dropped] == [SUM, near]
    assert dropped[0]["message"] == "the same question and answer came before"
    assert "the same question came before, but for case" in dropped[1]["message"]


def test_letters_of_other_forms_are_the_same() -> None:
    seen = Seen()
    assert seen.again({"question": "Ｆünf", "answer": "a"}, "gsm8k") is None
    assert seen.again({"question": "fu\u0308nf", "answer": "b"}, "gsm8k")


def test_a_format_can_be_forced(tmp_path: Path) -> None:
    both = {**SUM, **CHAT}
    assert made(both)["domain"] == "maths"
    ran = pmem("import", "filler", "--from", "messages", "--source", "own", folder=tmp_path, input=lines([both]))
    assert ran.records[0]["domain"] == "general" and ran.records[0]["source"] == "own"
    with pytest.raises(RecordError, match="expected a property 'buggy', as quixbugs has"):
        filler(both, name="quixbugs", source="own", seed=0)


def test_settings_are_read(tmp_path: Path) -> None:
    (tmp_path / "pmem.toml").write_text('[import.filler]\nfrom = "messages"\n')
    ran = pmem("import", "filler", folder=tmp_path, input=lines([{**SUM, **CHAT}]))
    assert ran.records[0]["domain"] == "general"
    (tmp_path / "pmem.toml").write_text("[import.other]\nx = 1\n")
    ran = pmem("import", "filler", folder=tmp_path, input=lines([CHAT]))
    assert ran.status == 2 and "[import] has no command 'other'; there are: " in ran.err


PUBLIC = {
    "gsm8k/train_first2500.jsonl": (2500, 0),
    "humaneval/HumanEval.jsonl": (164, 0),
    "quixbugs/pairs_python.jsonl": (40, 1),
    "oasst1_en_validation/conversations_messages.jsonl": (75, 0),
    "oasst1_en_validation/open_assistant_en_100_tree.jsonl": (0, 97),
}
"""File -> rows that become filler, rows that are refused (a pair of equal programs; trees)."""


@pytest.mark.parametrize("file", PUBLIC)
def test_public_data(file: str, tmp_path: Path) -> None:
    if not (DATA / file).exists():
        pytest.skip(f"no {file}")
    ran = pmem("import", "filler", str(DATA / file), "--rejects", "r", folder=tmp_path)
    refused = (tmp_path / "r").read_bytes().splitlines()
    assert (len(ran.records), len(refused)) == PUBLIC[file]
    for record in ran.records:
        assert [one["role"] for one in record["messages"]] == ["user", "assistant"] * (len(record["messages"]) // 2)
        if record["domain"] == "maths":
            text = said(record, "assistant")
            assert "<<" not in text and "####" not in text
            for left, right in re.findall(r"^(?!\d+\. )([\d.+\-*/() ]+) = ([\d.]+)$", text, re.MULTILINE):
                assert abs(exact(left) - Fraction(right)) < Fraction(1, 100), record["id"]


def exact(expression: str) -> Fraction:
    """A calculation's value: by fractions, as the code under test doesn't."""
    numbers = re.sub(r"(\d*\.?\d+\.?)", r"Fraction('\1')", expression)
    return Fraction(eval(numbers, {"Fraction": Fraction, "__builtins__": {}}))
