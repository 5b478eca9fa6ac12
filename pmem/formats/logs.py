"""People's own logs: the chats of one person become one history, in time order, whatever order they come in."""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from pmem.draws import make_id
from pmem.errors import RecordError
from pmem.formats.imported import Message, Record, Session, as_history, history
from pmem.stream.made import Made

SITTING = 6 * 3600.0
"""Seconds without a message after which what follows is another session: a chat may go on for months, and what is said
in its last week must not count as older than what other chats said in between."""
MILLISECONDS = 1e11
"""Numbers from here on can't be seconds (that would be the year 5138)."""


class Said(NamedTuple):
    """A message and when it was said: seconds since 1970, None if nobody knows."""

    message: Message
    when: float | None = None


class Chat(NamedTuple):
    """A chat of a log. id: the same in every export; begun: when, if known; about: what its user had set down about
    themselves for every chat."""

    id: str
    title: str | None
    said: list[Said]
    begun: float | None = None
    systems: tuple[str, ...] = ()
    about: str | None = None


class _Sitting(NamedTuple):
    """A session as it stands in the chat's own history; messages: their JSON, without the brackets."""

    when: float | None
    session: Record
    messages: bytes


class _Kept(NamedTuple):
    """What is kept of a chat: as little as can be, since logs are large."""

    last: float
    sittings: list[_Sitting]
    systems: tuple[str, ...]
    about: str | None


class Log:
    """Gathers chats by user; then makes the histories. A chat that comes again (from another export) counts once: the
    one that goes on longer."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._users: dict[str, dict[str, _Kept]] = {}

    def add(self, user: str, chat: Chat, item: Record) -> Made:
        """Take a chat; nothing comes of it yet. One without messages is dropped; item: as it was read.

        RecordError if it makes no sessions that the schema allows.
        """
        if not chat.said:
            return Made([], dropped=[(item, "nobody says anything in it")])
        sessions = list(_sessions(chat))
        record, _ = history(self._source, chat.id, "whole", user, None, [session for _, session in sessions])
        sittings = [
            _Sitting(when, placed, orjson.dumps(session.messages)[1:-1])
            for (when, session), placed in zip(sessions, record["sessions"], strict=True)
        ]
        last = max((one.when for one in chat.said if one.when is not None), default=0.0)
        kept = self._users.setdefault(user, {})
        before = kept.get(chat.id)
        if before is None or before.last <= last:
            kept[chat.id] = _Kept(last, sittings, chat.systems, chat.about)
        return Made([])

    def histories(self) -> Iterator[Iterable[bytes]]:
        """A history for each user, as the pieces of its line. Sessions without a date come first."""
        for user, chats in self._users.items():
            yield self._line(user, list(chats.values()))

    def _line(self, user: str, chats: list[_Kept]) -> Iterable[bytes]:
        placed = [sitting for chat in chats for sitting in chat.sittings]
        placed.sort(key=lambda one: (one.when is not None, one.when or 0.0))
        sessions, start, before = [], 0, 0
        for one in placed:
            count, size = one.session["end"] - one.session["start"], one.session["tokens"]
            sessions.append({**one.session, "start": start, "end": start + count, "token_start": before})
            start, before = start + count, before + size
        messages = [b"[", *_between(b",", (one.messages for one in placed)), b"]"]
        digest = hashlib.sha256()
        for piece in messages:
            digest.update(piece)
        latest = max((chat for chat in chats if chat.about), key=lambda chat: chat.last, default=None)
        systems = dict.fromkeys(text for chat in chats for text in chat.systems)
        system = "\n\n".join([*([latest.about] if latest and latest.about else []), *systems]) or None
        own_id = make_id("h", self._source, user, system, digest.hexdigest())
        made = as_history(self._source, own_id, "whole", user, system, sessions, b"[]")
        head = orjson.dumps({**made, "messages_sha256": digest.hexdigest()})
        return [head.removesuffix(b"[]}"), *messages, b"}\n"]


def _between(mark: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces with a mark between them."""
    for number, piece in enumerate(pieces):
        if number:
            yield mark
        yield piece


def _sessions(chat: Chat) -> Iterator[tuple[float | None, Session]]:
    """A chat's sittings, and when each began. Later ones have the chat's id with their number."""
    number, begun, last = 1, chat.begun, None
    messages: list[Message] = []
    for said, when in chat.said:
        if when is not None and last is not None and when - last > SITTING and messages:
            yield begun, _session(chat, number, messages, begun)
            number, begun, messages = number + 1, when, []
        if not messages and when is not None:
            begun = when
        messages.append(said)
        last = when if when is not None else last
    if messages:
        yield begun, _session(chat, number, messages, begun)


def _session(chat: Chat, number: int, messages: list[Message], begun: float | None) -> Session:
    name = chat.id if number == 1 else f"{chat.id}#{number}"
    return Session(name, messages, day_of(begun), topic=(chat.title or "").strip() or None)


def time_of(value: Any, pointer: str) -> float | None:
    """Seconds since 1970 of a number of seconds (or milliseconds) or an ISO date or time; None of None, 0 and "".

    RecordError for anything else. A time without a zone counts as UTC.
    """
    try:
        if value is None or value == "" or (value == 0 and not isinstance(value, bool)):
            return None
        if isinstance(value, str):
            found = datetime.fromisoformat(value.strip())
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value / 1000 if value > MILLISECONDS else float(value)
            return datetime.fromtimestamp(seconds, UTC).timestamp()
    except (ValueError, OverflowError, OSError):
        pass
    raise RecordError("expected a time, as seconds since 1970 or in ISO's form", reason="schema", pointer=pointer)


def known_time(value: Any) -> float | None:
    """The same, None for what can't be read, where nobody says what form times have."""
    for one in (value, value[:10] if isinstance(value, str) else None):
        try:
            return time_of(one, "")
        except RecordError:
            pass
    return None


def day_of(when: float | None) -> str | None:
    """The day, in UTC, as YYYY-MM-DD."""
    return None if when is None else datetime.fromtimestamp(when, UTC).date().isoformat()
