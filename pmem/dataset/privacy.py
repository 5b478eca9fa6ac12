"""No text of the data set holds a private detail but those that were made up for it."""

from collections.abc import Iterable

from pmem.backends.model import Invalid
from pmem.fakes import is_fake
from pmem.private import Found, found

_UNPROVABLE = {"date_of_birth"}
"""Kinds of which `is_fake` checks the form only: any value may be somebody's."""


def check_private(texts: Iterable[str], planted: Iterable[str] = ()) -> None:
    """Invalid if a text holds what looks private and is neither planted (word for word) nor provably made up."""
    known = sorted(planted, key=len, reverse=True)
    for text in texts:
        rest = text
        for value in known:
            rest = rest.replace(value, "-")
        for one in found(rest):
            if one.kind in _UNPROVABLE or not is_fake(one.kind, one.value):
                raise Invalid(f"a private detail that nobody made up: {_in_short(one)}")


def _in_short(one: Found) -> str:
    """A find without its value, which might be somebody's: it ends up in messages and files of rejects."""
    return f"{one.kind.replace('_', ' ')} ({one.value[:2]}..., {len(one.value)} characters)"
