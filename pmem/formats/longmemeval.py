"""LongMemEval: questions with a free answer on many dated sessions.

Published as `longmemeval_s.json`, `_m`, `_oracle`: question_id, question_type, question, question_date, answer,
haystack_sessions with their dates and ids. Also read: the same with only the turns that hold the evidence (sessions:
date, evidence_turns), and without any (id, query, gold_answers, meta).
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pmem.errors import RecordError
from pmem.formats.imported import Histories, Message, Record, Session, Told, keys, question, said, text
from pmem.stream.made import Made
from pmem.stream.source import Entry

SOURCE = "longmemeval"
ABSTENTION = "_abs"
"""How ids of questions end that the history doesn't answer."""
_SIZE = re.compile(r"longmemeval_(s|m|oracle)(?![A-Za-z0-9])")
_DAY = re.compile(r"(\d{4})[/-](\d{2})[/-](\d{2})")


class Importer:
    """Makes the question of an item. put_history: where histories go; unplaced: questions without any session."""

    def __init__(self, put_history: Callable[[Record], None] | None = None) -> None:
        self._histories = Histories(SOURCE, put_history)
        self.unplaced = 0

    def __call__(self, entry: Entry) -> Made:
        """The question."""
        item = entry.record
        meta = item["meta"] if isinstance(item.get("meta"), dict) else item
        own_id = item.get("question_id", item.get("id"))
        asked, answer = item.get("question", item.get("query")), item.get("answer", item.get("gold_answers"))
        if own_id is None or asked is None or answer is None:
            expected = "question_id, question and answer"
            raise RecordError(f"no question of LongMemEval: expected {expected}; found {keys(item)}", reason="type")
        own_id, date = text(own_id, "/question_id"), item.get("question_date")
        told, shown = self._told(item, own_id, Path(entry.file).name)
        made = question(
            SOURCE,
            own_id,
            user=own_id,
            query=_dated(date, text(asked, "/question")),
            answer=_answer(answer),
            labels={
                "question_type": str(meta.get("question_type") or "") or None,
                "abstention": "yes" if own_id.endswith(ABSTENTION) else None,
            },
            histories=told.reference(shown[-1][0] if shown else None) if told else {},
            snippet=[message for _, message in shown],
        )
        return Made([made])

    def _told(self, item: Record, own_id: str, file: str) -> tuple[Told | None, list[tuple[int, Message]]]:
        """The history, and its messages that hold the evidence, by their places."""
        sessions, evidence = _sessions(item)
        if not sessions:
            self.unplaced += 1
            return None, []
        size = _SIZE.search(file)
        window = "evidence" if "sessions" in item else size[1] if size else "whole"
        messages = [message for session in sessions for message in session.messages]
        told = self._histories.told((own_id, window), window, own_id, lambda: (None, sessions))
        return told, [(n, messages[n]) for n in evidence]


def _sessions(item: Record) -> tuple[list[Session], list[int]]:
    """Sessions with anything said in them, and which of their messages hold the evidence."""
    sessions: list[Session] = []
    evidence: list[int] = []
    start = 0
    for number, (name, date, turns, marked) in enumerate(_given(item)):
        kept = [one for one in turns if not isinstance(one, dict) or one.get("content") != ""]
        messages = said(kept, f"/haystack_sessions/{number}")
        evidence += [start + n for n, one in enumerate(kept) if not marked or one.get("has_answer")]
        if messages:
            messages[0] = {**messages[0], "content": _dated(date, messages[0]["content"])}
            sessions.append(Session(name or f"session {number + 1}", messages, _day(date)))
        start += len(messages)
    return sessions, evidence


def _given(item: Record) -> list[tuple[str | None, Any, list[Any], bool]]:
    """(id, date, turns, whether evidence is marked among them) for each session."""
    names, dates = (_listed(item.get(key, []), f"/{key}") for key in ("haystack_session_ids", "haystack_dates"))
    if "haystack_sessions" in item:
        haystack = _listed(item["haystack_sessions"], "/haystack_sessions")
        if len(dates) not in (0, len(haystack)) or len(names) not in (0, len(haystack)):
            raise RecordError("sessions, their ids and dates are not as many", reason="schema")
        each = [(str(names[n]) if names else None, dates[n] if dates else None, one) for n, one in enumerate(haystack)]
        return [(name, date, _listed(turns, "/haystack_sessions"), True) for name, date, turns in each]
    found = _listed(item.get("sessions", []), "/sessions")
    if not all(isinstance(one, dict) for one in found):
        raise RecordError("expected sessions with date and evidence_turns", reason="schema", pointer="/sessions")
    return [(None, one.get("date"), _listed(one.get("evidence_turns"), "/sessions"), False) for one in found]


def _listed(value: Any, pointer: str) -> list[Any]:
    if not isinstance(value, list):
        raise RecordError("expected a list", reason="schema", pointer=pointer)
    return value


def _answer(given: Any) -> str:
    """The answer as text; of a list, which holds answers that are right alike, all."""
    listed = given if isinstance(given, list) and given else [given]
    return " / or: ".join(text(one, "/answer") for one in listed)


def _dated(date: Any, said: str) -> str:
    """What is said, after the date of it: many questions can't be answered without."""
    return f"[{date}] {said}" if isinstance(date, str) and date and isinstance(said, str) else said


def _day(date: Any) -> str | None:
    found = _DAY.search(date) if isinstance(date, str) else None
    return "-".join(found.groups()) if found else None
