"""Histories: full, in order, whole, evenly spread, the same in every window; held by code of their own."""

import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmem.dataset.chains import Part, chains, chosen
from pmem.dataset.depth import filler_before
from pmem.dataset.filler import Pool
from pmem.dataset.histories import Setup, Window, histories
from pmem.draws import Draw
from pmem.errors import RecordError
from tests.check_histories import check, uniformity
from tests.command import lines, pmem, sample

Record = dict[str, Any]
PERSONA = "p-00000000000000aa"


def messages(words: int) -> list[Record]:
    """A turn; " word" is one token of o200k_base, a message has 4 more."""
    return [{"role": "user", "content": " word" * words}, {"role": "assistant", "content": " yes"}]


def conversation(number: int, words: int = 20, after: list[int] = [], *, persona: str = PERSONA) -> Record:  # noqa: B006
    own = {
        "id": f"c-{number:016x}",
        "persona_id": persona,
        "after": [f"c-{one:016x}" for one in after],
        "messages": messages(words),
    }
    return {**sample("conversation"), **own}


def dialogue(number: int, words: int) -> Record:
    return {**sample("filler"), "id": f"f-{number:016x}", "messages": messages(words)}


def setup(filler: list[Record], *budgets: int, seed: int = 0) -> Setup:
    windows = [Window(str(budget), budget) for budget in budgets]
    return Setup(windows, Pool(filler, "o200k_base"), "o200k_base", seed)


@st.composite
def personas(draw: st.DrawFn) -> list[Record]:
    """Up to nine conversations, each of which may rest on some of those before it, in any order of the input."""
    count = draw(st.integers(1, 9))
    made = []
    for number in range(count):
        earlier = st.lists(st.integers(0, number - 1), max_size=2, unique=True) if number else st.just([])
        made.append(conversation(number, draw(st.integers(1, 60)), draw(earlier) if draw(st.booleans()) else []))
    return draw(st.permutations(made))


FILLER = st.lists(st.integers(1, 80), max_size=30).map(lambda sizes: [dialogue(*one) for one in enumerate(sizes)])


@given(personas(), FILLER, st.integers(20, 300), st.integers(0, 400), st.integers(0, 9))
def test_histories_are_sound_and_full(
    told: list[Record], filler: list[Record], small: int, more: int, seed: int
) -> None:
    try:
        made = histories(told, setup(filler, small, small + more, seed=seed)).histories
    except RecordError as fault:
        assert fault.reason == "limit"
        return
    assert check([*told, *filler], made).faults == []
    sizes = {one["id"]: len(one["messages"][0]["content"].split()) + 1 + 2 * 4 for one in filler}
    for history in made:
        unused = sizes.keys() - {one["id"] for one in history["sessions"]}
        room = history["budget"] - history["tokens"]
        assert all(sizes[own] > room for own in unused)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), st.integers(10, 300))
def test_as_full_as_any_choice_makes_it(sizes: list[int], budget: int) -> None:
    one_each = chains([Part(conversation(*one), one[1]) for one in enumerate(sizes)])
    choice = chosen(one_each, budget)
    best = max(
        sum(some)
        for count in range(len(sizes) + 1)
        for some in itertools.combinations(sizes, count)
        if sum(some) <= budget
    )
    taken = sum(chain.tokens for chain in choice.taken)
    assert taken == best or 0.97 * budget <= taken <= best
    assert len(choice.taken) + len(choice.left_out) == len(sizes)


def test_what_fits_is_taken_in_the_drawn_order() -> None:
    parts = [Part(conversation(n), tokens) for n, tokens in enumerate([50, 30, 30, 15, 3])]
    choice = chosen(chains(parts), 100)
    assert [chain.tokens for chain in choice.taken] == [50, 30, 15, 3]  # 98: the second 30 doesn't fit
    assert choice.left_out[0][1] == "its 30 tokens (with what belongs to it) don't fit the 2 that are left"
    assert [chain.tokens for chain in chosen(chains(parts[:4]), 93).taken] == [50, 30]  # no choice comes nearer


def test_the_last_gap_is_worth_another_choice() -> None:
    parts = [Part(conversation(n), tokens) for n, tokens in enumerate([40, 50, 58, 60])]
    assert [chain.tokens for chain in chosen(chains(parts), 100).taken] == [40, 60]  # in drawn order: 40 and 50


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(0, 500), st.integers(0, 99))
def test_filler_goes_on_until_nothing_fits(words: list[int], room: int, seed: int) -> None:
    filler = [dialogue(*one) for one in enumerate(words)]
    pool = Pool([*filler, *filler[:3]], "o200k_base")
    assert pool.repeated == len(filler[:3])
    taken = pool.fill(room, Draw(seed, "h", "filler"))
    left = room - sum(one.tokens for one in taken)
    ids = {one.id for one in taken}
    assert left >= 0 and len(ids) == len(taken)
    assert all(words[n] + 9 > left for n, one in enumerate(filler) if one["id"] not in ids)


def test_every_dialogue_is_as_likely_to_be_drawn() -> None:
    pool = Pool([dialogue(number, 11) for number in range(40)], "o200k_base")
    drawn = Counter(one.id for seed in range(2000) for one in pool.fill(100, Draw(seed, "h", "filler")))
    assert sum(drawn.values()) == 2000 * 5  # of 20 tokens each
    assert len(drawn) == 40 and all(abs(count - 250) < 5 * 250**0.5 for count in drawn.values())
    first = Counter(pool.fill(100, Draw(seed, "h", "filler"))[0].id for seed in range(2000))
    assert len(first) == 40 and all(count < 2 * 50 for count in first.values())


def test_conversations_stand_at_every_depth_alike() -> None:
    """In a window that filler completes: tokens, not ranks; changes and forget requests come later by themselves."""
    filler = [dialogue(number, 3 + number % 30) for number in range(400)]
    run = setup(filler, 700, 3000)
    depths = []
    for person in range(300):
        persona = f"p-{person:016x}"
        told = [conversation(30 * person + n, 15 + n, persona=persona) for n in range(12)]
        told += [conversation(30 * person + 20, 20, [30 * person], persona=persona)]
        found = check([*told, *filler], histories(told, run).histories, recount=9)
        assert not found.faults
        depths += found.depths["3000"]
    assert len(depths) == 300 * 13
    assert uniformity(depths)[0] < 0.01
    assert uniformity([depth**1.1 for depth in depths])[0] > 0.03  # it would see a lean towards the start


@given(st.lists(st.integers(1, 90), min_size=1, max_size=12), st.integers(0, 3000), st.integers(0, 99))
def test_conversations_have_filler_before_them_as_far_as_there_is_any(sizes: list[int], filler: int, seed: int) -> None:
    before = filler_before(sizes, sum(sizes) + filler, Draw(seed, "h", "depth"))
    assert len(before) == len(sizes)
    assert before == sorted(before) and before[0] >= 0 and before[-1] <= filler


def test_where_there_is_room_each_stands_in_a_stretch_of_its_own() -> None:
    for seed in range(50):
        before = filler_before([1] * 10, 100_010, Draw(seed, "h", "depth"))
        middles = [filler + place + 0.5 for place, filler in enumerate(before)]
        assert [int(middle / 10_001) for middle in middles] == list(range(10))


def test_a_circle_is_named() -> None:
    circle = [conversation(1, after=[3]), conversation(2, after=[1]), conversation(3, after=[2]), conversation(4)]
    with pytest.raises(RecordError) as caught:
        histories(circle, setup([], 1000))
    said = caught.value.message.removeprefix("conversations wait for each other: ").split(" -> ")
    assert said[0] == said[-1] and len(said) == 4
    after = {one["id"]: one["after"] for one in circle}
    assert all(later in after[own] for own, later in itertools.pairwise(said))  # each waits for the next
    with pytest.raises(RecordError, match="c-0000000000000007 -> c-0000000000000007"):
        histories([conversation(7, after=[7])], setup([], 1000))


def test_a_long_chain_takes_no_longer_than_its_length() -> None:
    told = [conversation(n, 1, [n - 1] if n else []) for n in range(5000)]
    assert len(chains([Part(one, 10) for one in reversed(told)])[0].parts) == 5000


def test_the_check_finds_what_is_wrong(tmp_path: Path) -> None:
    told = [conversation(1), conversation(2, after=[1]), conversation(3)]
    filler = [dialogue(n, 5) for n in range(9)]
    small, large = histories(told, setup(filler, 110, 200)).histories

    def faults(**change: Any) -> str:
        return " ".join(check([*told, *filler], [small, {**large, **change}]).faults)

    assert not faults()
    assert "budget 9" in faults(budget=9)
    assert "too early" in faults(sessions=large["sessions"][::-1])
    assert "tears the chain" in faults(sessions=[s for s in large["sessions"] if s["id"] != told[0]["id"]])
    assert "back in time" in faults(sessions=[*large["sessions"][:-1], {**large["sessions"][-1], "date": "1999-01-01"}])
    assert "changes" in faults(messages=large["messages"][::-1])
    assert "messages of no session" in faults(messages=[*large["messages"], *messages(1)])
    assert "differs" in faults(sessions=large["sessions"][3:])
    for name, records in {"c": told, "h": [small, {**large, "tokens": 1}], "f": filler}.items():
        (tmp_path / name).write_bytes(lines(records))
    script = [sys.executable, str(Path(__file__).with_name("check_histories.py")), "c", "h", "f"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "has 1" in done.stdout.replace(large["id"], "")


def test_conversations_and_filler_cant_both_be_on_standard_input(tmp_path: Path) -> None:
    ran = pmem("assemble", "--filler", "-", folder=tmp_path, input=lines([conversation(1)]))
    assert ran.status == 2 and "standard input is where the conversations come from" in ran.err
    (tmp_path / "c").write_bytes(lines([conversation(1)]))
    ran = pmem("assemble", "c", "--filler", "-", "--window", "100", folder=tmp_path, input=lines([dialogue(1, 9)]))
    assert ran.status == 0 and [one["what"] for one in ran.records[0]["sessions"]].count("filler") == 1


def test_a_message_of_a_million_characters_is_counted(tmp_path: Path) -> None:
    long = conversation(1)
    long["messages"][0]["content"] = "x" * 1_000_000
    (tmp_path / "c").write_bytes(lines([conversation(2, persona="p-00000000000000bb")]))
    (tmp_path / "f").write_bytes(lines([{**dialogue(1, 9), "messages": long["messages"]}]))
    ran = pmem("assemble", "--rejects", "r", folder=tmp_path, input=lines([long]))
    assert ran.status == 3 and "<stdin>:1: no conversation of p-00000000000000aa fits the window 32k" in ran.err
    ran = pmem("assemble", "c", "--filler", "f", folder=tmp_path)
    assert ran.status == 0 and ran.records[0]["filler_tokens"] == 0


@pytest.mark.parametrize("sizes", [["0"], ["32m"], ["1_000"], ["9" * 20], ["32k", "32000"]])
def test_sizes_of_windows(sizes: list[str], tmp_path: Path) -> None:
    ran = pmem("assemble", *(word for size in sizes for word in ("--window", size)), folder=tmp_path)
    assert ran.status == 2 and ("is no size such as 32k" in ran.err or "of the same size" in ran.err)


def test_filler_that_is_none_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(lines([conversation(1)]))
    (tmp_path / "f").write_bytes(lines([dialogue(1, 9)]) + b'{"type":"filler"\n')
    ran = pmem("assemble", "c", "--filler", "f", folder=tmp_path)
    assert (ran.status, ran.out) == (1, b"") and "f:2: not JSON" in ran.err
    ran = pmem("assemble", "c", "--filler", "c", folder=tmp_path)
    assert ran.status == 1 and "c:1: /type: expected a filler record, found a conversation record" in ran.err
