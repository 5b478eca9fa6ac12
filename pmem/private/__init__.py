"""Private details in text, found by their form: what looks like somebody's address, number, key or password."""

from typing import NamedTuple

from .forms import SEARCHES
from .text import Text


class Found(NamedTuple):
    """A value that looks private: its kind (one of `fakes.KINDS`), and where it stands: text[start:end]."""

    kind: str
    value: str
    start: int
    end: int


def found(text: str) -> list[Found]:
    """What looks private in a text, in the order in which it stands there, without overlaps.

    By form alone: e-mail addresses, payment cards, IBANs, US social security and UK insurance numbers, British
    licences, phone numbers (international, North American, British), keys of known providers, streets with a
    postcode. With a word beside it that says what it is (in several languages): other numbers, passports, licences,
    dates of birth, passwords, streets alone. Only form counts: a made-up value of the right form is found as well,
    and a name, or a number written out in words, is not.

    Measured (tests/test_private.py): no find in 2,383 messages of real and published chats, 773 KB (oasst1, LoCoMo, a
    PersonaMem-v2 history), nor in 2,500 maths problems and 164 programs; of values made by `fakes`, in sentences, all
    but the 0.7% of API keys that happen to have no digit. About 60 microseconds per KB of chat, 200 where numbers
    abound (one core of a shared AMD EPYC).
    """
    seen = Text(text)
    taken: list[Found] = []
    for kind, search in SEARCHES:
        for start, end in search(seen):
            if all(end <= other.start or other.end <= start for other in taken):
                taken.append(Found(kind, text[start:end], start, end))
    return sorted(taken, key=lambda one: one.start)
