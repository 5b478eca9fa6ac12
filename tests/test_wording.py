"""What programs refuse in a question's wording."""

from pathlib import Path

import orjson
import pytest

from pmem.dataset import wording

PREFEVAL = Path(__file__).parents[2] / "shared" / "data" / "prefeval"


@pytest.mark.parametrize(
    ("right", "wrong", "tells"),
    [
        (130, (100, 90, 80), False),
        (131, (100, 90, 80), True),
        (56, (100, 90, 80), False),
        (55, (100, 90, 80), True),
        (100, (100, 20, 300), False),  # in between
    ],
)
def test_length(right: int, wrong: tuple[int, ...], tells: bool) -> None:
    assert wording.length_tells("x" * right, ["y" * size for size in wrong]) is tells


def test_form() -> None:
    prose, several, listed = "One plain text.", "First.\n\nSecond.", "- one\n- two"
    assert not wording.form_tells(prose, [prose, several, listed])
    assert not wording.form_tells(listed, [prose, several, listed])
    assert wording.form_tells(listed, [prose, prose, prose])
    assert wording.form_tells(prose, [listed, listed, listed])
    assert wording.form_tells(several, [prose, prose, prose])


@pytest.mark.parametrize(
    "text",
    [
        " \n ", "Sure, take the train.", "Certainly! Here we go.", "**Of course!** Try this.", "Here is a reply: go.",
        "Here’s the plan you asked for:\ngo", "As an AI language model I can't eat.", "Well, as an AI, I'd wait.",
        "Option A: the train", "Reply 2) the train", "answer: the train", "B. The train.", "(c) the train",
        "right: the train", "uses_forgotten: the train", "```\nthe train", "Take {{preference}}", "<think>hm</think>",
    ],
)  # fmt: skip
def test_artefacts_are_found(text: str) -> None:
    assert wording.artefact(text)


@pytest.mark.parametrize(
    "text",
    [
        "Surely the train is best.", "Here is what I would do on Saturday. Start early.", "Reply to them by Friday.",
        "Of course you can do both, one after the other.", "A day in the hills: start at six.", "Option trading is risky.",
        "Dear [name], I write about the flat.", "Take the 9:15: it is quieter.", "The right answer: nobody knows.",
        "Answer her calmly.", "As an aid to memory, write it down.", "A bag. That is all.",
    ],
)  # fmt: skip
def test_plain_texts_are_no_artefacts(text: str) -> None:
    assert wording.artefact(text) is None


def test_leaks_by_words() -> None:
    preference = "Drinks only decaffeinated coffee, ground fresh and poured slowly through a paper filter."
    # drinks, decaffeinated, coffee, ground, fresh, poured, slowly, paper, filter: four are enough
    assert wording.leaked_words("Which paper filters are best for coffee?", preference) == []
    leaked = wording.leaked_words("Which paper filters are best for freshly ground coffee?", preference)
    assert leaked == ["coffee", "filter", "fresh", "ground", "paper"]
    assert wording.leaked_words("Some ideas for homemade pizzas?", "Loves homemade pizza nights") == [
        "homemade", "pizza"]  # fmt: skip
    assert wording.leaked_words("What shall we have for dinner tonight?", "Loves homemade pizza nights") == []
    assert wording.leaked_words("", "") == []


def test_the_published_example_of_a_leak_is_one() -> None:
    """A row of PersonaMem-v2: its query names what is to be forgotten."""
    query = "What are some fun ways to share traditional dance styles during a community festival or cultural fair?"
    assert wording.leaked_words(query, "Participates in cultural dance workshops") == ["cultural", "dance"]


@pytest.mark.skipif(not PREFEVAL.is_dir(), reason="needs the shared data")
def test_real_requests_are_no_leaks() -> None:
    """PrefEval's questions were written to be answerable either way; some name what the preference is about."""
    pairs = set()
    for file in PREFEVAL.rglob("*.json"):
        loaded = orjson.loads(file.read_bytes())
        rows = [row for row in loaded if isinstance(row, dict)] if isinstance(loaded, list) else []
        pairs |= {(row["question"], row["preference"]) for row in rows if {"question", "preference"} <= row.keys()}
    assert len(pairs) > 100
    leaks = [pair for pair in pairs if wording.leaked_words(*pair)]
    assert len(leaks) <= len(pairs) * 0.02, leaks


def test_private_details_are_found_however_they_are_written() -> None:
    assert wording.leaks_value("Call me on 44-7700 900.051!", "+44 7700 900051")
    assert not wording.leaks_value("Call me on 44 7700 900052", "+44 7700 900051")


def test_same_texts() -> None:
    assert wording.same(["Take  the train.", "take the train."])
    assert not wording.same(["Take the train.", "Take a train."])
