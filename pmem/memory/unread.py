"""Which messages of a history haven't been read yet, by what earlier runs noted of the chats that they read."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from pmem.draws import canonical
from pmem.tokens import text_of


class Said(NamedTuple):
    """A message to read: its index in the history (at), who says what, the chat's number and, if known, date."""

    at: int
    role: str
    text: str
    chat: int
    date: str | None


class Unread(NamedTuple):
    """messages: what is new; read: what to note when they have been read; known: how many were read before."""

    messages: list[Said]
    read: list[str]
    known: int


def unread(history: dict[str, Any], read: list[str]) -> Unread:
    """The new messages of a history.

    read: a digest of each chat's messages, as far as they were read. A chat is known by what was said in it, not by an
    id or its place, so that a log can be imported again, with chats that went on meanwhile. A chat whose beginning has
    changed is a new one.
    """
    noted = Counter(read)
    messages: list[Said] = []
    ends: list[str] = []
    known = 0
    for number, (start, end, date) in enumerate(_chats(history)):
        digests = _digests(history["messages"][start:end])
        done = next((n for n in range(len(digests), 0, -1) if noted[digests[n - 1]]), 0)
        if done:
            noted[digests[done - 1]] -= 1
        known += done
        ends.append(digests[-1])
        for index in range(start + done, end):
            message = history["messages"][index]
            messages.append(Said(index, message["role"], _in_words(message["content"]), number, date))
    return Unread(messages, [*_left(read, noted), *ends], known)


def _left(read: list[str], noted: Counter[str]) -> list[str]:
    """What was noted of chats that this history doesn't hold: they may come again."""
    left = []
    for digest in read:
        if noted[digest] > 0:
            noted[digest] -= 1
            left.append(digest)
    return left


def _chats(history: dict[str, Any]) -> Iterator[tuple[int, int, str | None]]:
    """(start, end, date) of each chat, in order; messages that belong to no session make chats of their own."""
    at = 0
    for session in sorted(history["sessions"], key=lambda one: int(one["start"])):
        start, end = max(at, session["start"]), min(session["end"], len(history["messages"]))
        if at < start:
            yield at, start, None
        if start < end:
            yield start, end, session["date"]
            at = end
    if at < len(history["messages"]):
        yield at, len(history["messages"]), None


def _digests(messages: list[dict[str, Any]]) -> list[str]:
    """A digest of the first message, of the first two, and so on."""
    digest = hashlib.sha256()
    found = []
    for message in messages:
        digest.update(canonical([message["role"], message["content"]]))
        found.append(digest.copy().hexdigest()[:16])
    return found


def _in_words(content: Any) -> str:
    """A message's text; a line stands for each image."""
    images = 0 if isinstance(content, str) else sum(part["type"] == "image_url" for part in content)
    return text_of(content) + "\n[image]" * images
