"""THE parser of a model's choice, against a table of replies that a careful person has read."""

import time
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmem.choices import letter, without_thinking
from tests.choices_cases import CASES, COUNTED, UNREAD

FRAGMENTS = [
    "Answer:",
    "answer is",
    "I choose",
    "\\boxed{",
    "}",
    "A",
    "B",
    "a",
    "(C)",
    "E",
    "or",
    "not",
    "if",
    "wait",
    "no,",
]
FRAGMENTS += [
    " ",
    "\n",
    ".",
    "?",
    "**",
    "-",
    "<think>",
    "</think>",
    "option",
    "is the best",
    "it's quiet",
    "\u00a0",
    "：",
]
ROWS = [(group, reply, expected) for group, rows in CASES.items() for reply, expected in rows]


def test_the_table_is_large_enough() -> None:
    assert len(ROWS) >= 150
    assert sum(expected is None for _, _, expected in ROWS) >= 50


@pytest.mark.parametrize(("group", "reply", "expected"), ROWS, ids=[f"{g}-{r[:30]!r}" for g, r, _ in ROWS])
def test_reads_what_a_careful_person_reads(group: str, reply: str, expected: str | None) -> None:
    assert letter(reply) == expected


@pytest.mark.parametrize("file", ["parser_replies.jsonl", "parser_replies_later.jsonl"])
def test_replies_of_a_small_model_are_read_as_a_person_read_them(file: str) -> None:
    """Labelled by reading, before the parser was run on them (see docs/evaluation.md for what it then got wrong)."""
    rows = [orjson.loads(line) for line in (Path(__file__).parent / file).read_bytes().splitlines()]
    assert [row for row in rows if letter(row["reply"]) != row["label"]] == []
    assert len(rows) >= 100 and sum(row["label"] is not None for row in rows) >= 20


def test_replies_that_vllm_made_are_read_as_far_as_that_can_be() -> None:
    """Labelled in the same way. Six are left as they were read: texts of one option that break off, and replies that
    name two; what to put down for these is a matter of taste."""
    file = Path(__file__).parent / "parser_replies_vllm.jsonl"
    rows = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    otherwise = [number for number, row in enumerate(rows, 1) if letter(row["reply"]) != row["label"]]
    assert len(rows) == 72 and otherwise == [9, 10, 12, 39, 43, 61]


@pytest.mark.parametrize(("reply", "count", "expected"), COUNTED)
def test_only_letters_of_options_count(reply: str, count: int, expected: str | None) -> None:
    assert letter(reply, count) == expected


@pytest.mark.parametrize(("reply", "expected"), UNREAD)
def test_what_is_left_unread_is_not_misread(reply: str, expected: str) -> None:
    assert letter(reply) in (None, expected)


@given(st.text() | st.lists(st.sampled_from(FRAGMENTS)).map("".join), st.integers(0, 10))
def test_never_raises_and_stays_in_range(reply: str, count: int) -> None:
    assert letter(reply, count) in {None, *"ABCDEFGHIJ"[:count]}


@given(
    st.text(alphabet=st.characters(exclude_categories=("L", "Cs"), exclude_characters="<>[]")), st.sampled_from("ABCD")
)
def test_a_last_line_with_the_answer_is_found_after_anything(before: str, expected: str) -> None:
    assert letter(f"{before}\n\nAnswer: {expected}") == expected


@given(
    st.lists(st.sampled_from([one for one in FRAGMENTS if "think" not in one])).map(" ".join), st.text("ABanswer:\n ")
)
def test_thoughts_do_not_matter(said: str, thought: str) -> None:
    assert letter(f"<think>{thought}</think>{said}") == letter(said) == letter(f"{thought}</think>{said}")


@pytest.mark.parametrize(
    "text",
    [
        "answer " * 15_000,
        "I choose option " * 6_000,
        "A" * 100_000,
        "\\boxed{" * 15_000,
        "<think>" * 15_000,
        "(B) " * 25_000,
        "Answer: A\n" * 10_000,
        "B\n" * 50_000,
        " \n" * 50_000,
        "The user likes quiet places, and I'd say that the answer isn't obvious. " * 1_400,
    ],
    ids=["answer", "choose", "A", "boxed", "think", "(B)", "answers", "lines", "blank", "prose"],
)
def test_a_long_reply_takes_no_time(text: str) -> None:
    began = time.process_time()
    letter(text)
    assert time.process_time() - began < 0.5


def test_thinking_is_taken_away() -> None:
    assert without_thinking("<think>Answer: A</think>Answer: B") == "Answer: B"
    assert without_thinking("Answer: A</think>Answer: B") == "Answer: B"
    assert without_thinking("<think>Answer: A") == ""


WORDS = st.sampled_from(
    ["Answer: B", "Answer: D", "answer:", "B", "C", "(D)", "a", "A", "I", "I'd say", "choose", "the best", "option", "is",
     "not", "wait", "Plain words.", "B.", "user", "either", "if", "A quiet place", "option A", "so"]
)  # fmt: skip


@given(
    st.lists(st.lists(WORDS, min_size=1, max_size=6).map(" ".join), max_size=4),
    st.sampled_from("ABCDEJ"),
    st.booleans(),
)
def test_the_usual_reply_is_read_as_any_other(lines: list[str], last: str, ends: bool) -> None:
    """The short cut for replies that end as they were asked to gives what the long way gives."""
    reply = "\n".join([*lines, f"Answer: {last}"]) + "\n" * ends
    assert letter(reply) == letter(reply + "\u200b")  # something unseen: the long way
