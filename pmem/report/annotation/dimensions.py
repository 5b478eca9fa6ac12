"""What people are asked about a question: the seven dimensions of SYSTEM, section 3, in our own words."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pmem.choices import LETTERS
from pmem.records import Kind

UNSURE = "?"
KINDS: tuple[str, ...] = get_args(Kind)


class Dimension(NamedTuple):
    """One thing to judge. answers: "yes-no", "letter" (of an option) or "kind" (of a preference)."""

    name: str
    title: str
    question: str
    hint: str
    answers: str

    def choices(self) -> list[str]:
        """What may be answered; letters as far as there are any."""
        known = {"yes-no": ["yes", "no"], "letter": list(LETTERS), "kind": list(KINDS)}
        return [*known[self.answers], UNSURE]

    def choices_in_words(self) -> str:
        """What may be answered, for a line of text."""
        return f"a letter or {UNSURE}" if self.answers == "letter" else ", ".join(self.choices())


@cache
def dimensions() -> list[Dimension]:
    """The dimensions in the order of a sheet's columns."""
    return [Dimension(name, **about) for name, about in _file()["dimensions"].items()]


def guidelines() -> list[str]:
    """What annotators should know, a paragraph each."""
    return list(_file()["guidelines"])


@cache
def _file() -> dict[str, Any]:
    import tomllib

    return tomllib.loads(Path(__file__).with_name("questions.toml").read_text(encoding="utf-8"))
