"""Stored replies, for people: found, counted, pruned, exported and imported. All by short transactions, so that runs
which use the same file go on meanwhile."""

import datetime
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import orjson

from pmem.backends.base import Usage
from pmem.backends.cache_file import KEY, Row, insert, transaction

PAGE = 1000
"""Replies per transaction."""
ROOM = 1000
"""Pages of the file given back per transaction (4 MB)."""


class Decoded(NamedTuple):
    """A stored value: a completion (text, finish), or likelihoods ([logprob, tokens] each)."""

    text: str | None
    likelihoods: list[list[float]] | None
    usage: Usage = Usage()
    finish: str | None = None


def decoded(value: bytes) -> Decoded:
    """What `Cache.put` was given; ValueError if it is nothing of the kind."""
    stored = orjson.loads(value)
    try:
        if stored and isinstance(stored[0], str):
            text, usage, finish = stored
            return Decoded(text, None, Usage(*usage), finish)
        return Decoded(None, [[logprob, tokens] for logprob, tokens in stored])
    except TypeError as fault:
        raise ValueError(str(fault)) from None


class Wanted(NamedTuple):
    """Which replies are meant. model, step: a name, or a pattern with * and ?; since, before: Unix seconds."""

    model: str | None = None
    step: str | None = None
    since: int | None = None
    before: int | None = None

    def sql(self) -> tuple[str, list[Any]]:
        """A condition and its values."""
        parts: list[str] = ["1"]
        values: list[Any] = []
        for column in ("model", "step"):
            if (name := getattr(self, column)) is not None:
                parts.append(f"({column} = ? or {column} glob ?)")
                values += [name, name]
        if self.since is not None:
            parts.append("made >= ?")
            values.append(self.since)
        if self.before is not None:
            parts.append("made < ?")
            values.append(self.before)
        return " and ".join(parts), values


class Group(NamedTuple):
    """The replies of a model and step: how many, when the first and the last was made (Unix seconds), bytes."""

    model: str
    step: str
    replies: int
    first: int
    last: int
    size: int


class Tokens(NamedTuple):
    """Tokens of a model's replies, as servers told them; cut_off: ended by --max-tokens; refused: by the model."""

    replies: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0
    cut_off: int = 0
    refused: int = 0


def groups(db: sqlite3.Connection, wanted: Wanted) -> list[Group]:
    """What is stored, by model and step."""
    condition, values = wanted.sql()
    found = db.execute(
        "select model, step, count(*), min(made), max(made), sum(length(value)) from reply"
        f" where {condition} group by model, step order by model, step",
        values,
    )
    return [Group(*row) for row in found]


def latest(db: sqlite3.Connection, wanted: Wanted, count: int) -> list[Row]:
    """The replies stored last, the latest first."""
    condition, values = wanted.sql()
    select = f"select key, model, step, made, value from reply where {condition} order by rowid desc limit ?"
    return db.execute(select, (*values, count)).fetchall()


def rows(db: sqlite3.Connection, wanted: Wanted) -> Iterator[Row]:
    """Every reply, in the order in which they were stored."""
    condition, values = wanted.sql()
    select = f"select rowid, key, model, step, made, value from reply where rowid > ? and {condition} order by rowid"
    after = 0
    while page := db.execute(f"{select} limit {PAGE}", (after, *values)).fetchall():
        yield from (tuple(row) for _, *row in page)
        after = page[-1][0]


def tokens(db: sqlite3.Connection, wanted: Wanted) -> dict[str, Tokens]:
    """Tokens by model."""
    found: dict[str, Tokens] = {}
    for _, model, _, _, value in rows(db, wanted):
        try:
            reply = decoded(value)
        except ValueError:  # a line of `pmem cache export` says how many those are
            reply = Decoded(None, None)
        one = (1, *reply.usage, reply.finish == "length", reply.finish == "refusal")
        found[model] = Tokens(*map(sum, zip(found.get(model, Tokens()), one, strict=True)))
    return found


def prune(db: sqlite3.Connection, wanted: Wanted) -> int:
    """Remove replies; how many."""
    condition, values = wanted.sql()
    select = f"select rowid from reply where rowid > ? and {condition} order by rowid limit {PAGE}"
    removed = after = 0
    while page := db.execute(select, (after, *values)).fetchall():
        with transaction(db):
            removed += db.executemany("delete from reply where rowid = ?", page).rowcount
        after = page[-1][0]
    return removed


def give_back(db: sqlite3.Connection) -> None:
    """Make the file as small as what it holds; while others use it, the last of them may have to finish that."""
    free = 0
    while free != (free := db.execute("pragma freelist_count").fetchone()[0]):
        db.execute(f"pragma incremental_vacuum({ROOM})").fetchall()
    db.execute("pragma wal_checkpoint(truncate)")


# ---- lines -------------------------------------------------------------------------------------------------------


def exported(row: Row) -> bytes:
    """A reply as a line of JSON."""
    key, model, step, made, value = row
    when = datetime.datetime.fromtimestamp(made, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    reply = decoded(value)
    line: dict[str, Any] = {"key": key.hex(), "model": model, "step": step, "made": when}
    if reply.text is None:
        line["likelihoods"] = reply.likelihoods
    else:
        line |= {"text": reply.text, "usage": reply.usage._asdict(), "finish": reply.finish}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def imported(line: bytes) -> Row:
    """The reply on such a line; ValueError with the reason if it is none."""
    reply = orjson.loads(line)
    try:
        if "likelihoods" in reply:
            value: list[Any] = [[float(logprob), int(count)] for logprob, count in reply["likelihoods"]]
        else:
            value = [_text(reply["text"]), list(Usage(**reply["usage"])), _text(reply["finish"])]
        made = datetime.datetime.fromisoformat(reply["made"])
        key = bytes.fromhex(reply["key"])
        model, step = _text(reply["model"]), _text(reply["step"])
    except KeyError as fault:
        raise ValueError(f"it has no {fault}") from None
    except TypeError as fault:
        raise ValueError(str(fault)) from None
    if len(key) != KEY:
        raise ValueError(f"its key has not {KEY} bytes")
    return key, model, step, int(made.timestamp()), orjson.dumps(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def add(db: sqlite3.Connection, replies: Iterable[Row]) -> int:
    """Store replies in one transaction, except where one with the same key is there; how many were new."""
    before = db.total_changes
    with transaction(db):
        insert(db, replies)
    return db.total_changes - before
