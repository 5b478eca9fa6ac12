"""Memory records as tracks: what became of each statement of one user's memory, from column to column.

A record is a column. Where records are missing (`memdump` without --trace keeps the last one only), what the statements
tell of their own past stands in: there are columns for the chunks before, of which nothing else is known.
"""

from collections.abc import Sequence
from typing import Any

from pmem.memory.lineage import Kept, continued, of_record
from pmem.memory.respect import touches

Record = dict[str, Any]

GAP = 200
"""Chunks without a record that get a column each; of more, those that statements name."""


class Track:
    """One memory from its beginning on, as `page.js` shows it.

    columns: of each, `chunk`, and for a record that is known `id`, `tokens`, `trimmed`, `edited`; threads: statements,
    each with its `section`, `versions` ([column, text or None where only that it changed is known, whether a person
    wrote it]), `evidence` ([column, number of the history, message]) and, if it went, `gone` ([column, why, topic]);
    histories: ids; models: that wrote it.
    """

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.columns: list[Record] = []
        self.threads: list[Record] = []
        self.histories: list[str] = []
        self.models: list[str] = []
        self.last_id = ""
        self.chunk = 0
        self._open: list[Record] = []  # the threads of the last record, in its order

    def add(self, record: Record) -> None:
        """Put the next record of the same memory to it."""
        places = self._gap(record)
        self._number(record["history_id"])
        own = len(self.columns)
        self.columns.append({key: record[key] for key in ("chunk", "id", "tokens", "trimmed", "edited")})
        model = record["provenance"].get("model")
        if model and model not in self.models:
            self.models.append(model)
        memory = of_record(record, record["history_id"])
        olds = continued([_text(thread) for thread in self._open], [kept.entry.text for kept in memory])
        after = []
        for kept, old in zip(memory, olds, strict=True):
            since, changed = places.get(kept.since, own), places.get(kept.changed, own)
            thread = self._new(kept, since, changed) if old is None else self._open[old]
            if _text(thread) != kept.entry.text:
                thread["versions"].append([changed, kept.entry.text, kept.edited])
            thread["section"] = kept.entry.section
            self._cite(thread, kept, record["history_id"], own)
            after.append(thread)
        for number, thread in enumerate(self._open):
            if number not in olds:
                thread["gone"] = [own, *_why(thread, record, memory)]
        self._open = after
        self.last_id, self.chunk = record["id"], record["chunk"]

    def _gap(self, record: Record) -> dict[int, int]:
        """Columns for the chunks between the record before and this one: their places."""
        chunks: Sequence[int] = range(self.chunk + 1, record["chunk"])
        if len(chunks) > GAP:
            told = {one[key] for one in record["entries"] for key in ("since_chunk", "changed_chunk")}
            chunks = sorted(chunk for chunk in told if chunk in range(self.chunk + 1, record["chunk"]))
        places = {chunk: len(self.columns) + number for number, chunk in enumerate(chunks)}
        self.columns += [{"chunk": chunk} for chunk in chunks]
        return places

    def _new(self, kept: Kept, since: int, changed: int) -> Record:
        versions: list[list[Any]] = [[since, None, False]] if changed > since else []
        versions.append([changed if versions else since, kept.entry.text, kept.edited])
        thread: Record = {"section": kept.entry.section, "versions": versions, "evidence": [], "gone": None}
        thread["topic"] = kept.entry.is_topic
        self.threads.append(thread)
        return thread

    def _cite(self, thread: Record, kept: Kept, history_id: str, column: int) -> None:
        """Note the messages that weren't known before."""
        known = {(history, message) for _, history, message in thread["evidence"]}
        for own_id, messages in (*kept.earlier, (history_id, kept.evidence)):
            for message in messages:
                cited = self._number(own_id), message
                if cited not in known:
                    thread["evidence"].append([column, *cited])

    def _number(self, history_id: str) -> int:
        if history_id not in self.histories:
            self.histories.append(history_id)
        return self.histories.index(history_id)

    def follows(self, record: Record) -> bool:
        """Whether a record goes on from this memory, though records between the two are missing."""
        earlier = {one["history_id"] for entry in record["entries"] for one in entry.get("earlier", ())}
        shared = {record["history_id"], *earlier}.intersection(self.histories)
        return bool(record["previous_id"] and shared and record["chunk"] > self.chunk)

    def cited(self) -> dict[str, set[int]]:
        """The messages that its statements rest on, by their history."""
        found: dict[str, set[int]] = {own_id: set() for own_id in self.histories}
        for thread in self.threads:
            for _, history, message in thread["evidence"]:
                found[self.histories[history]].add(message)
        return found

    def facts(self) -> Record:
        """What the list of users says of it."""
        gone = [thread["gone"] for thread in self.threads if thread["gone"]]
        return {
            "user": self.user_id,
            "chunks": self.chunk,
            "now": len(self._open),
            "gone": len(gone),
            "requested": sum(why == "request" for _, why, _ in gone),
            "byHand": sum(any(edited for _, _, edited in thread["versions"]) for thread in self.threads),
            "tokens": self.columns[-1]["tokens"],
            "traced": all("id" in column for column in self.columns),
        }


def _text(thread: Record) -> str:
    return str(thread["versions"][-1][1])


def _why(thread: Record, record: Record, memory: Sequence[Kept]) -> tuple[str, str | None]:
    """Why a statement stands no longer in a memory, as far as can be told: by `hand`, at the user's `request` (and its
    topic), or dropped by the `model` (`cut`: of a memory that was too long)."""
    text = _text(thread)
    if record["edited"] or text in record.get("edits", {}).get("went", ()):
        return "hand", None
    topics = (kept.entry.text for kept in memory if kept.entry.is_topic)
    if not thread["topic"] and (topic := next((one for one in topics if touches(text, one)), None)):
        return "request", topic
    return "cut" if record["trimmed"] else "model", None


class Tracks:
    """Gathers memory records, in the order in which they were made, by the memory that they continue."""

    def __init__(self) -> None:
        self._of_user: dict[str, list[Track]] = {}
        self._seen: set[tuple[str, str]] = set()

    def add(self, record: Record) -> None:
        """Put one record where it belongs; one that came before, or was only carried over a night, counts once.

        Two histories of a user that begin alike give memories of one id.
        """
        key = (record["id"], record["history_id"])
        others = self._of_user.setdefault(record["user_id"], [])
        fitting = [one for one in others if one.last_id == record["previous_id"]]
        track = next((one for one in fitting if record["history_id"] in one.histories), None)
        known = not track and any(one.last_id == record["id"] for one in others)
        if key in self._seen or known:
            return
        self._seen.add(key)
        track = track or next(iter(fitting), None) or next((one for one in others[::-1] if one.follows(record)), None)
        if not track:
            track = Track(record["user_id"])
            others.append(track)
        track.add(record)

    def all(self) -> list[Track]:
        """One track for each memory, by user."""
        return [track for tracks in self._of_user.values() for track in tracks]

    def cited(self) -> dict[str, set[int]]:
        """The messages that statements rest on, by their history."""
        found: dict[str, set[int]] = {}
        for track in self.all():
            for own_id, messages in track.cited().items():
                found.setdefault(own_id, set()).update(messages)
        return found
