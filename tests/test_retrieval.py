"""Past turns found by BM25, in many languages."""

import math
from typing import Any

import pytest

from pmem.evaluation.retrieval import Index, words


def said(*turns: str) -> list[dict[str, Any]]:
    return [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn.split("|"), strict=False)
    ]


def sessions(*starts: tuple[int, str | None]) -> list[dict[str, Any]]:
    return [{"start": start, "date": date} for start, date in starts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Café's menu, no. 12!", ["the", "café", "s", "menu", "no", "12"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("我喜欢喝茶", ["我喜", "喜欢", "欢喝", "喝茶", "我", "喜", "欢", "喝", "茶"]),
        ("茶", ["茶"]),
        ("コーヒーを2杯", ["コー", "ーヒ", "ヒー", "ーを", "2", "杯"]),
        ("커피를 좋아해요", ["커피", "피를", "좋아", "아해", "해요"]),
        ("ชอบกาแฟ", ["ชอ", "อบ", "บก", "กา", "าแ", "แฟ"]),
        ("हिन्दी में चाय", ["हिन्दी", "में", "चाय"]),
        ("أحب القهوة", ["أحب", "القهوة"]),
        ("iPhone手机", ["iphone", "手机", "手", "机"]),
        ("ＡＢＣ", ["abc"]),
        ("¿? … !", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("What coffee do I like?", 0),
        ("我该喝什么茶？", 1),
        ("커피는 어디서?", 2),
        ("चाय कहाँ मिलती है", 3),
        ("Welches Brot?", 4),
    ],
)
def test_the_turn_that_fits_is_found(query: str, number: int) -> None:
    turns = ["I like coffee, black|Noted.", "我喜欢绿茶|好的", "커피는 부산에서 마셨어요|네", "मुझे चाय पसंद है|ठीक है",
             "Ich esse dunkles Brot|Gut."]  # fmt: skip
    assert Index(said(*turns), []).best(query, 1)[0].startswith("User: " + turns[number].split("|")[0])


def test_turns_come_in_order_of_time_with_their_dates() -> None:
    messages = said("tea tea tea|yes", "bread|no", "tea|maybe", "soup|sure")
    index = Index(messages, sessions((0, "2025-01-02"), (4, "2025-03-04"), (6, None)))
    assert index.best("tea", 2) == ["[2025-01-02]\nUser: tea tea tea\n\nAssistant: yes",
                                    "[2025-03-04]\nUser: tea\n\nAssistant: maybe"]  # fmt: skip
    assert index.best("soup", 1) == ["User: soup\n\nAssistant: sure"]  # its session has no date
    assert len(index.best("tea", 99)) == 4


def test_of_equals_the_later_ones() -> None:
    index = Index(said("a tea|x", "b tea|x", "c tea|x"), [])
    assert [one[6] for one in index.best("tea", 2)] == ["b", "c"]
    assert [one[6] for one in index.best("nothing of it", 2)] == ["b", "c"]
    assert [one[6] for one in index.best("?!", 1)] == ["c"]


def test_a_history_without_words() -> None:
    assert Index(said("?|!", "…|."), []).best("tea", 1) == ["User: …\n\nAssistant: ."]


def test_user_messages_without_a_reply_are_turns() -> None:
    messages = [{"role": "user", "content": "Forget the tea."}, {"role": "user", "content": "And the soup?"}]
    assert Index(messages, []).best("tea", 1) == ["User: Forget the tea."]


def test_ranks_are_those_of_bm25() -> None:
    """Against the formula, by hand: k1 1.5, b 0.75, Lucene's idf."""
    turns = ["tea bread soup|ok", "tea tea|ok", "soup soup soup bread tea milk salt|ok", "bread|ok"]
    texts = [words(turn.replace("|", " ")) for turn in turns]
    mean = sum(map(len, texts)) / len(texts)

    def score(text: list[str], query: list[str]) -> float:
        total = 0.0
        for term in query:
            df = sum(term in one for one in texts)
            idf = math.log(1 + (len(texts) - df + 0.5) / (df + 0.5))
            tf = text.count(term)
            total += idf * tf / (tf + 1.5 * (0.25 + 0.75 * len(text) / mean))
        return total

    for query in ("tea", "soup", "bread", "tea soup", "salt bread"):
        best = max(range(4), key=lambda n: score(texts[n], words(query)))
        assert Index(said(*turns), []).best(query, 1)[0].startswith(f"User: {turns[best].split('|')[0]}"), query
