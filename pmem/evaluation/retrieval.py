"""Retrieval: the past turns that have most to do with a question, by BM25 (the package bm25s)."""

import importlib.util
import re
import unicodedata
from typing import Any

from pmem.errors import MissingExtra
from pmem.prompts import describe
from pmem.tokens import text_of

# A word goes on over marks, which \w leaves out: most vowels of South and South-East Asia are such.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
WORD = re.compile(rf"[\w{_MARKS}]+")
# Scripts without spaces between words, and Korean, which puts endings right behind them.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
UNSPACED = re.compile(f"([{_UNSPACED}]+)")


def words(text: str) -> list[str]:
    """A text's words for a search, in small letters. Where a script has no spaces: pairs of characters, and each Han
    character, which may be a word."""
    found: list[str] = []
    for word in WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        for part in (word,) if word.isascii() else UNSPACED.split(word):
            if len(part) > 1 and UNSPACED.match(part):
                found += [part[n : n + 2] for n in range(len(part) - 1)]
                found += [one for one in part if "\u3400" <= one <= "\u9fff"]
            elif part:
                found.append(part)
    return found


def require_extra() -> None:
    """MissingExtra unless bm25s is installed; doesn't import it."""
    if not importlib.util.find_spec("bm25s"):
        raise MissingExtra("--context rag", "rag")


class Index:
    """The turns of one history, ready to be searched. A turn begins with a message of the user, or with a session."""

    def __init__(self, messages: list[dict[str, Any]], sessions: list[dict[str, Any]]) -> None:
        import bm25s

        dates = {session["start"]: session["date"] for session in sessions}
        starts = [n for n, one in enumerate(messages) if n == 0 or one["role"] == "user" or n in dates]
        turns = [messages[start:end] for start, end in zip(starts, [*starts[1:], len(messages)], strict=True)]
        date: str | None = None
        self._passages: list[str] = []
        for start, turn in zip(starts, turns, strict=True):
            date = dates.get(start, date)
            self._passages.append((f"[{date}]\n" if date else "") + describe.transcript(turn))
        texts = [[word for message in turn for word in words(text_of(message["content"]))] for turn in turns]
        self._ranked = bm25s.BM25() if any(texts) else None
        if self._ranked:
            self._ranked.index(texts, show_progress=False)

    def best(self, query: str, k: int) -> list[str]:
        """The k turns that match a query best, in order of time, each with its session's date.

        Of equals the later ones; fewer than k only where there are fewer.
        """
        asked = words(query)
        scores = [0.0] * len(self._passages)
        if self._ranked and asked:
            scores = self._ranked.get_scores(asked).tolist()
        found = sorted(range(len(scores)), key=lambda n: (scores[n], n), reverse=True)[:k]
        return [self._passages[n] for n in sorted(found)]
