"""Text into sentences, and into pieces of a size in tokens; put together again, the pieces are the text."""

import re
from collections.abc import Callable

Count = Callable[[str], int]

END = re.compile(r"[.!?…]+[\"'”’)\]]*\s+|[。！？।॥؟۔]+[”’」』）)]*\s*|\n+")
"""The end of a sentence in Latin, Greek, Cyrillic, Hebrew, Chinese, Japanese, Korean, Indian and Arabic scripts."""
NO_END = re.compile(r"(?:^|[\s(])(?:Dr|Mr|Mrs|Ms|Prof|St|No|vs|e\.g|i\.e|[A-Z])\.\s+\Z")
"""A full stop that belongs to an abbreviation."""
WORD = re.compile(r"\S+\s*|\s+")


def sentences(text: str) -> list[str]:
    """The sentences of a text, with the white space behind each. A script without full stops makes one sentence."""
    found: list[str] = []
    since = 0
    for end in END.finditer(text):
        if not NO_END.search(text, since, end.end()):
            found.append(text[since : end.end()])
            since = end.end()
    return [*found, text[since:]] if since < len(text) else found


def cut(text: str, most: int, count: Count) -> list[str]:
    """Pieces of at most `most` tokens, each as long as may be: cut between sentences, inside a sentence that is too
    long between words, inside such a word between characters."""
    if count(text) <= most:
        return [text]
    parts = [part for sentence in sentences(text) for part in _fitting(sentence, most, count)]
    pieces: list[str] = []
    while parts:
        number = _that_fit(parts, most, count)
        pieces.append("".join(parts[:number]))
        parts = parts[number:]
    return pieces


def _fitting(text: str, most: int, count: Count) -> list[str]:
    if count(text) <= most or len(text) == 1:
        return [text]
    words = WORD.findall(text)
    halves = words if len(words) > 1 else [text[: len(text) // 2], text[len(text) // 2 :]]
    return [part for half in halves for part in _fitting(half, most, count)]


def _that_fit(parts: list[str], most: int, count: Count) -> int:
    """How many parts, put together, are no longer than `most`; at least one."""
    number, size = 1, count(parts[0])
    while number < len(parts) and (size := size + count(parts[number])) <= most:
        number += 1
    while number > 1 and count("".join(parts[:number])) > most:  # tokens of a whole aren't quite those of its parts
        number -= 1
    return number
