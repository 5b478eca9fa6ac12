"""A persona's preferences: what repeats another is dropped with the reason, and nothing stays without a verdict."""

import asyncio
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from pmem.backends.model import Model, NoValidReply
from pmem.dataset.likeness import content_words, likeness
from pmem.dataset.preferences import SAME, Setup, checked, repeated
from pmem.prompts import Prompts
from tests.test_converse import Author, persona, preference

PUBLISHED = Path(__file__).parents[2] / "shared" / "data" / "personamem_v2"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Prefers quiet coffee shops over loud bars.", "Likes quiet coffee shops rather than noisy bars."),
        ("Goes jogging by the river before work.", "Jogs by the river before working."),
        ("Collects old bicycles.", "Her sister is a collector of old bicycles."),
        ("Avoids dairy and gluten.", "Avoids gluten and dairy."),
    ],
)
def test_rewordings_are_alike(one: str, other: str) -> None:
    assert likeness(one, other) == likeness(other, one) >= SAME


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Prefers quiet coffee shops over loud bars.", "Brews coffee in a moka pot at home."),
        ("Spends holidays cycling along rivers with a tent.", "Spends holidays in one rented cottage."),
        ("Prefers tea.", "Avoids meat."),
        ("", ""),
    ],
)
def test_others_are_not(one: str, other: str) -> None:
    assert likeness(one, other) < SAME


def test_likeness_is_the_share_of_words_in_common() -> None:
    assert content_words("She prefers the quiet shops’ corner") == {"quiet", "shop", "corner"}
    assert likeness("quiet shops, corner", "a quiet shop with music") == pytest.approx(2 / 4)


def like(number: int, text: str, **more: Any) -> dict[str, Any]:
    return preference(number, text=text, **more)


def test_a_repetition_is_of_the_same_owner_and_no_update_of_it() -> None:
    first = like(1, "Prefers quiet coffee shops over loud bars.")
    again = like(2, "Likes quiet coffee shops, not loud bars.")
    assert repeated(again, [first]) is first
    assert repeated({**again, "updates": first["id"]}, [first]) is None
    assert repeated({**again, "owner": {"who": "other", "relation": "boss"}}, [first]) is None
    assert repeated({**first, "id": again["id"], "owner": {"who": "other", "relation": "boss"}}, [first]) is first
    assert repeated({**again, "updates": "p-0000000000000001/s09"}, [first]) is first


def setup(verdicts: Any) -> Setup:
    return Setup(Model("author", Author(lambda call, prompt: verdicts), cache=None), Prompts(), 0, {}, 0.0, 0.0, {})


def test_what_repeats_is_dropped_with_the_others_name() -> None:
    preferences = [
        like(1, "Prefers quiet coffee shops over loud bars."),
        like(2, "Likes quiet coffee shops, not loud bars."),
        like(3, "Prefers tea in the garden to any shop.", updates="p-0000000000000001/s02"),
        like(4, "Jogs by the river."),
    ]
    keep = {"verdict": "keep", "with": None, "reason": ""}
    verdicts = {str(n): keep for n in range(1, 5)} | {"4": {"verdict": "harmful", "with": None, "reason": "mud"}}
    kept, dropped = asyncio.run(checked(persona([]), preferences, setup(verdicts)))
    assert kept == preferences[:1]
    assert [reason for _, reason in dropped] == [
        "p-0000000000000001/s02: repetition with p-0000000000000001/s01: nearly the same words",
        "p-0000000000000001/s03: it replaces p-0000000000000001/s02, which was dropped",
        "p-0000000000000001/s04: harmful: mud",
    ]


@pytest.mark.parametrize("verdicts", ["all fine", {}, {"1": {"verdict": "ok", "with": None, "reason": ""}}])
def test_without_a_readable_verdict_on_each_none_is_kept(verdicts: Any) -> None:
    with pytest.raises(NoValidReply):
        asyncio.run(checked(persona([]), [like(1, "Jogs by the river.")], setup(verdicts)))


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the folder of real data is not here")
def test_no_two_preferences_of_a_published_persona_count_as_one() -> None:
    text = (PUBLISHED / "raw_data_250815_143643_persona0.PARTIAL.json").read_text(encoding="utf-8")
    block = json.loads(text)["0"]
    lists = [block[f"{kind}_preferences"] for kind in ("stereotypical", "anti_stereotypical", "neutral")]
    texts = [one for kind in lists for one in kind]
    pairs = list(combinations(texts, 2))
    assert len(pairs) == 3003
    assert max(likeness(*pair) for pair in pairs) < 0.3 < SAME
