"""Ids and random draws."""

import os
import re
import subprocess
import sys
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmem.draws import Draw, canonical, make_id, seed_for

SEED, BELOW, ID = 1748820419505645420, [173, 51, 115, 474, 842], "q-84857d140b2cb418"
STREAM = (
    "from pmem.draws import *; d = Draw(7, 'p-1', 'x'); print(d.shuffled('abcdef'), d.below(1000), make_id('q', 1))"
)


def test_streams_never_change() -> None:
    """Written down once: whoever changes these changes every data set that was made before."""
    draw = Draw(7, "p-1", "x")
    assert seed_for(7, "p-1", "x") == SEED
    assert [draw.below(1000) for _ in range(5)] == BELOW
    assert make_id("q", "p-1", 3) == ID


def test_every_kind_of_draw_keeps_its_stream() -> None:
    draw = Draw(7, "p-0123456789abcdef", "demo")
    assert [draw.below(1000) for _ in range(6)] == [554, 840, 999, 286, 636, 49]
    assert (draw.between(1, 6), draw.chance(0.5), draw.pick("abcdef")) == (5, False, "e")
    assert draw.weighted({"a": 1, "b": 2, "c": 3}) == "b"
    assert draw.shuffled(range(8)) == [3, 0, 2, 5, 1, 6, 7, 4]
    assert draw.sample(range(8), 3) == [6, 0, 4]


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(), st.lists))
def test_an_id_is_its_prefix_and_16_hex_digits(part: object) -> None:
    made = make_id("q", part)
    assert re.fullmatch(r"q-[0-9a-f]{16}", made)
    assert made == make_id("q", part) != make_id("q", part, part)


def test_seed_record_and_purpose_each_make_another_stream() -> None:
    assert len({seed_for(*one) for one in [(1, "r", "x"), (2, "r", "x"), (1, "s", "x"), (1, "r", "y")]}) == 4


def test_without_a_weight_nothing_is_drawn() -> None:
    with pytest.raises(ValueError, match="no weight"):
        Draw(1, "r", "x").weighted({"a": 0, "b": 0})


def test_draws_do_not_depend_on_the_hash_seed() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", STREAM], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1


def test_key_order_does_not_matter() -> None:
    assert canonical({"b": 1, "a": [2, {"d": 3, "c": 4}]}) == canonical({"a": [2, {"c": 4, "d": 3}], "b": 1})


def test_shuffles_are_uniform() -> None:
    """Chi-square over the 24 orders of four items; 49.7 is the 99.9% point at 23 degrees of freedom."""
    count = 24_000
    draw = Draw(1, "r", "shuffle")
    seen = Counter("".join(draw.shuffled("abcd")) for _ in range(count))
    expected = count / 24
    assert set(seen) == {"".join(order) for order in permutations("abcd")}
    assert sum((found - expected) ** 2 / expected for found in seen.values()) < 49.7


def test_weights_hold() -> None:
    draw = Draw(1, "r", "weights")
    seen = Counter(draw.weighted({"a": 1, "b": 3, "never": 0}) for _ in range(20_000))
    assert set(seen) == {"a", "b"}
    assert abs(seen["b"] / 20_000 - 0.75) < 0.015


@given(st.integers(), st.lists(st.integers(), max_size=20), st.integers(0, 25))
def test_samples_are_parts_without_repetition(seed: int, items: list[int], k: int) -> None:
    taken = Draw(seed % 2**60, "r", "sample").sample(items, k)
    assert len(taken) == min(k, len(items))
    assert not Counter(taken) - Counter(items)


@given(st.integers(0, 10**6), st.integers(-50, 50), st.integers(0, 50))
def test_between_includes_both_ends(seed: int, low: int, width: int) -> None:
    assert low <= Draw(seed, "r", "between").between(low, low + width) <= low + width
