"""Questions of random words, without any bias or with one that was planted: what an audit is tried on."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from pmem.audit.corpus import Layout
from pmem.audit.cues import Places
from tests.command import sample

CASES = ("own", "updated", "forgotten", "other", "sensitive")
BIASES = ("length", "position", "odd one out", "generic", "overlap", "words")
SECRET = {"id": "p-0000000000000000/x01", "kind": "phone_number", "value": "+1 202 555 0143"}
WORDS = 4_000
"""Different words, which occur as often as Zipf's law says."""


def questions(
    number: int,
    personas: int,
    *,
    bias: str | None = None,
    points: float = 10,
    cases: tuple[str, ...] = CASES,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Questions with four options each, which are drawn alike; the right one is then picked at random.

    bias: in so many of them that the cheater who knows it is right `points` more often than 25% of the time, the
    right option is the longest, stands first, is unlike the others, has frequent words only, repeats words of the
    query, or holds the word "wtell". Words are equally long, so that no bias brings another one of length with it.
    """
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, WORDS + 1)
    drawn = iter(rng.choice(WORDS, size=number * 160, p=weights / weights.sum()))
    base = sample("qa")
    for place in range(number):
        query = [next(drawn) for _ in range(12)]
        options = [[next(drawn) for _ in range(int(rng.integers(22, 32)))] for _ in range(4)]
        gold = int(rng.integers(4))
        if rng.random() < points / 75 and bias:
            gold = _plant(bias, options, gold, query, rng)
        texts = [" ".join("wtell" if word < 0 else f"w{word:04}" for word in words) for words in options]
        yield {
            **base,
            "id": f"q-{place:016x}",
            "persona_id": f"p-{int(rng.integers(personas)):016x}",
            "case": (case := cases[int(rng.integers(len(cases)))]),
            "previous": base["preference"] if case == "updated" else None,
            "secret": SECRET if case == "sensitive" else None,
            "query": " ".join(f"w{word:04}" for word in query),
            "answer": texts[gold],
            "distractors": [{"text": text, "made": "generic"} for letter, text in enumerate(texts) if letter != gold],
            "options": texts,
            "gold": "ABCD"[gold],
        }


def _plant(bias: str, options: list[list[int]], gold: int, query: list[int], rng: np.random.Generator) -> int:
    """Make the bias hold; where the right option then is."""
    if bias == "position":
        options[0], options[gold] = options[gold], options[0]
        return 0
    if bias == "length":
        longest = max(range(4), key=lambda one: len(options[one]))
        options[gold], options[longest] = options[longest], options[gold]
        options[gold].extend(options[gold][:3])
    elif bias == "odd one out":
        for one in range(4):
            if one != gold:
                options[one][:10] = options[(gold + 1) % 4][:10]
    elif bias == "generic":
        options[gold][:] = [int(word) for word in rng.integers(0, 20, len(options[gold]))]
    elif bias == "overlap":
        options[gold][:10] = query[:10]
    else:
        options[gold][0] = -1
    return gold


def drawn(
    number: int, personas: int, *, habit: float = 0, cues: tuple[str, ...], seed: int
) -> tuple[Layout, dict[str, Places]]:
    """Where right options stand in questions without any bias: all that an audit's rules go by, without the texts.

    habit: how often a persona's right options have the rank that this persona has for a habit. Habits are spread
    evenly, so that there is no bias over personas, but questions of one persona depend on each other.
    """
    rng = np.random.default_rng(seed)
    persona = rng.integers(personas, size=number)

    def ranks() -> np.ndarray[Any, Any]:
        usual = rng.integers(4, size=personas)[persona]
        return np.where(rng.random(number) < habit, usual, rng.integers(4, size=number))

    measured = rng.permutation(personas) % 2 == 0
    case = rng.integers(len(CASES), size=number)
    four = np.full(number, 4)
    layout = Layout(four, ranks(), persona, case, measured[persona], list(CASES))
    return layout, {cue: Places(ranks(), np.ones(number, int)) for cue in cues}
