"""Records of other benchmarks: what their questions and histories have in common."""

import hashlib
from collections.abc import Callable, Hashable
from itertools import accumulate
from typing import Any, NamedTuple

import orjson

import pmem
from pmem import check, tokens
from pmem.choices import LETTERS
from pmem.draws import Draw, make_id
from pmem.errors import RecordError

Record = dict[str, Any]
Message = dict[str, Any]


class Session(NamedTuple):
    """Messages of one sitting. date: YYYY-MM-DD, if known; what: "imported" or "filler"; topic: its title, if any."""

    id: str
    messages: list[Message]
    date: str | None = None
    what: str = "imported"
    topic: str | None = None


class Told(NamedTuple):
    """A history as questions name it. ends: its tokens up to the end of each message; filler: how many are filler."""

    id: str
    window: str
    ends: list[int]
    filler: int

    def reference(self, last: int | None = None) -> Record:
        """The entry in a question's `histories`. last: the index of the last message that bears on it, if known."""
        size = self.ends[-1]
        return {
            self.window: {
                "id": self.id,
                "distance_tokens": None if last is None else size - self.ends[last],
                "relevant_tokens": size - self.filler,
                "filler_tokens": self.filler,
            }
        }


class Histories:
    """The histories of a data set, each made where it is met first. put: where they go (None: nowhere)."""

    def __init__(self, source: str, put: Callable[[Record], None] | None) -> None:
        self._source, self._put = source, put
        self._told: dict[Hashable, Told] = {}

    def told(self, key: Hashable, window: str, user: str, make: Callable[[], tuple[str | None, list[Session]]]) -> Told:
        """The history of a key. user: the name that the data set has for whose it is; make: gives the system message
        and the sessions. RecordError if they make no history."""
        if key not in self._told:
            system, sessions = make()
            record, told = history(self._source, key, window, user, system, sessions)
            if self._put:
                self._put(record)
            self._told[key] = told
        return self._told[key]


def history(
    source: str,
    key: Any,
    window: str,
    user: str,
    system: str | None,
    sessions: list[Session],
    labels: dict[str, str] | None = None,
) -> tuple[Record, Told]:
    """A history record, and what questions have to know of it. key: what tells it from others of its source.

    RecordError if there are no messages.
    """
    own_id = make_id("h", source, key)
    messages = [message for session in sessions for message in session.messages]
    if not messages:
        raise RecordError("its history has no messages", reason="schema")
    ends = list(accumulate(tokens.count_messages([message]) for message in messages))
    placed, start, before, filler = [], 0, 0, 0
    for session in sessions:
        end = start + len(session.messages)
        size = (ends[end - 1] if end else 0) - before
        filler += size if session.what == "filler" else 0
        place = {"start": start, "end": end, "token_start": before, "tokens": size, "date": session.date}
        nothing = dict.fromkeys(("event", "preference", "scenario"))
        placed.append({"id": session.id, "what": session.what, **place, **nothing, "topic": session.topic})
        start, before = end, before + size
    body = orjson.dumps(messages)
    made = as_history(source, own_id, window, user, system, placed, body, filler=filler, labels=labels)
    return sound("history", {**made, "messages": messages}), Told(own_id, window, ends, filler)


def as_history(
    source: str,
    own_id: str,
    window: str,
    user: str,
    system: str | None,
    sessions: list[Record],
    messages: bytes,
    *,
    filler: int = 0,
    labels: dict[str, str] | None = None,
) -> Record:
    """A history record of sessions in their places, unchecked. messages: their JSON, which stands in the record as it
    is; filler: tokens of sessions of filler."""
    size = sum(session["tokens"] for session in sessions)
    return {
        "type": "history",
        "id": own_id,
        "persona_id": persona_id(source, user),
        "user_id": user,
        "window": window,
        "budget": None,
        "tokenizer": tokens.DEFAULT,
        "tokens": size,
        "relevant_tokens": size - filler,
        "filler_tokens": filler,
        "persona": None,
        "system": system,
        "sessions": sessions,
        **({"labels": labels} if labels else {}),
        "provenance": provenance(source),
        "messages_sha256": hashlib.sha256(messages).hexdigest(),
        "messages": orjson.Fragment(messages),
    }


def question(
    source: str,
    key: Any,
    *,
    user: str,
    query: str,
    answer: str,
    labels: dict[str, str | None],
    histories: Record,
    **more: Any,
) -> Record:
    """A question record. key: what tells it from others of its source; labels: those of None are left out; more:
    fields that aren't empty. An open-ended one, unless `options` and `gold` are given."""
    about = dict.fromkeys(("case", "preference", "previous", "secret", "scenario", "topic"))
    made = {
        **{"type": "qa", "id": make_id("q", source, key), "persona_id": persona_id(source, user)},
        **about,
        **{"query": query, "query_topic": None, "answer": answer},
        **{"distractors": [], "options": None, "gold": None, "snippet": []},
        **{"histories": histories, "split": None, "votes": []},
        "labels": {"benchmark": source} | {name: value for name, value in labels.items() if value is not None},
        "provenance": provenance(source),
        **more,
    }
    return sound("qa", made)


def choices(options: list[str], right: int, seed: int | None = None, own_id: str = "") -> Record:
    """`options`, `gold` and `distractors` of a question whose options are these, in a drawn order if there is a seed.

    RecordError if the right one can't be told from another.
    """
    texts = [one.strip() for one in options]
    if texts.count(texts[right]) > 1:
        same = " and ".join(LETTERS[n] for n, text in enumerate(texts) if text == texts[right])
        raise RecordError(f"options {same} are the same text, and one of them is the right one", reason="schema")
    shown = texts if seed is None else Draw(seed, own_id, "options").shuffled(texts)
    return {
        "options": shown,
        "gold": LETTERS[shown.index(texts[right])],
        "distractors": [{"text": text, "made": "imported"} for n, text in enumerate(texts) if n != right],
    }


def persona_id(source: str, user: str) -> str:
    """The id of whoever the data set calls `user`: intervals take what one person says as dependent."""
    return make_id("p", source, user)


def provenance(source: str) -> Record:
    """Where an imported record comes from."""
    return {"stage": "import", "pmem": pmem.__version__, "source": source}


def text(value: Any, pointer: str) -> str:
    """A text that isn't empty; numbers become text. RecordError for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise RecordError("expected text", reason="schema", pointer=pointer)
    return value.strip()


def said(value: Any, pointer: str) -> list[Message]:
    """Messages of user and assistant as chat APIs have them; further keys are left out. RecordError for others."""
    if not isinstance(value, list):
        raise RecordError("expected a list of messages", reason="schema", pointer=pointer)
    messages = []
    for place, one in enumerate(value):
        if not isinstance(one, dict) or not {"role", "content"} <= one.keys():
            raise RecordError("expected a message with role and content", reason="schema", pointer=f"{pointer}/{place}")
        if one["role"] not in ("user", "assistant"):
            found = check.plain(str(one["role"]), 40)
            place_of_role = f"{pointer}/{place}/role"
            raise RecordError(f"expected user or assistant, found {found}", reason="schema", pointer=place_of_role)
        if not _is_content(one["content"]):
            place_of_content = f"{pointer}/{place}/content"
            raise RecordError("expected text, or parts of text and images", reason="schema", pointer=place_of_content)
        messages.append({"role": one["role"], "content": one["content"]})
    return messages


def _is_content(value: Any) -> bool:
    """Whether its tokens can be counted; the schema says the rest."""
    parts = value if isinstance(value, list) else []
    sound_parts = all(isinstance(part, dict) and isinstance(part.get("text", ""), str) for part in parts)
    return isinstance(value, str | list) and sound_parts


def keys(item: Record) -> str:
    """The first keys of an object that is none of a format, for a message."""
    return check.plain(", ".join([*item][:5]), 100)


def sound(kind: str, record: Record) -> Record:
    """The record itself; RecordError if what was read makes none that its schema allows."""
    if check.validator(kind)(record):
        return record
    fault = check.first_fault(check.schema(kind), record)
    raise RecordError(f"makes no {kind}: {fault.message}", reason="schema", pointer=fault.pointer)
