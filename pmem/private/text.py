"""A text to be searched, with what is worth knowing about it before any slow look; words that stand beside a value."""

import re
from functools import cached_property

_DIGITS = re.compile(r"[0-9](?:[^\n0-9]{0,2}[0-9]){5}")


class Text:
    """A text; `low`: the same in lower case; `numbers`: whether any number of six digits or more may stand in it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.low = text.lower()

    @cached_property
    def numbers(self) -> bool:
        return _DIGITS.search(self.text) is not None


class Cue:
    """Words that say what the value beside them is.

    hints: texts in lower case (`#` stands for a space between words), at least one of which is in all that `words`, a
    regular expression, can match: they are quick to look for.
    """

    def __init__(self, hints: str, words: str) -> None:
        self.hints = [hint.replace("#", " ") for hint in hints.split()]
        self.words = re.compile(words, re.IGNORECASE)

    def hinted(self, text: Text) -> bool:
        """Whether the words may stand anywhere in the text."""
        return any(hint in text.low for hint in self.hints)

    def beside(self, text: Text, start: int, end: int, *, before: int = 45, after: int = 0) -> bool:
        """Whether they stand within so many characters before or after a value, on its line or the line before."""
        return bool(
            self.words.search(text.text, max(0, start - before), start)
            or (after and self.words.search(text.text, end, end + after))
        )
