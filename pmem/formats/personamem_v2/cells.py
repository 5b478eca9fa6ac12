"""A question as a row of 27 cells; and what its labels keep of the row that it came from."""

import ast
import json
import re
import warnings
from collections.abc import Callable
from typing import Any

import orjson

from pmem.errors import RecordError
from pmem.formats.personamem_v2.labels import Labels
from pmem.formats.personamem_v2.layout import COLUMNS, FOLDERS, KEPT, WINDOWS, Row
from pmem.tokens import text_of

FORGET = re.compile(r"Do not remember '(.*)' in memory", re.DOTALL)
SENSITIVE = "sensitive_info"
UNKNOWN = "unknown"
"""The topic of a preference where none is given."""
BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "": None}


def cells(qa: dict[str, Any], labels: Labels) -> Row:
    """What the fields of a question say, column by column; links and the persona's own columns stay empty."""
    preference, previous, case = qa["preference"], qa["previous"], qa["case"]
    forgotten = case == "forgotten"
    text = preference["text"] if preference else ""
    return {
        **dict.fromkeys(COLUMNS, ""),
        "persona_id": qa["persona_id"] or "",
        "user_query": repr({"role": "user", "content": qa["query"]}),
        "correct_answer": qa["answer"],
        "incorrect_answers": _json([one["text"] for one in qa["distractors"]]),
        "topic_query": qa["query_topic"] or "",
        "preference": SENSITIVE
        if case == "sensitive"
        else f"Do not remember '{text}' in memory"
        if forgotten
        else text,
        "topic_preference": _topic(qa),
        "conversation_scenario": labels.published("scenario", qa["scenario"]) if qa["scenario"] else "",
        "pref_type": _pref_type(qa, labels),
        "related_conversation_snippet": _json(qa["snippet"]),
        "who": labels.published("who", preference["owner"]["who"] if preference else "self") if case else "",
        "updated": str(forgotten or previous is not None) if case else "",
        "prev_pref": text if forgotten else previous["text"] if previous else "",
        "sensitive_info": str(case == "sensitive") if case else "",
        **_tokens(qa),
    }


def _topic(qa: dict[str, Any]) -> str:
    topic = qa["preference"]["topic"] if qa["preference"] else qa["topic"]
    return "" if topic in (None, UNKNOWN) else str(topic)


def _pref_type(qa: dict[str, Any], labels: Labels) -> str:
    if qa["case"] in ("forgotten", "sensitive"):
        return labels.published("case", qa["case"])
    kind = qa["preference"]["kind"] if qa["preference"] else None
    return labels.published("kind", kind) if kind else ""


def _json(items: list[Any]) -> str:
    return json.dumps(items, ensure_ascii=False) if items else ""


def _tokens(qa: dict[str, Any]) -> Row:
    found: Row = {}
    for window in WINDOWS:
        place = qa["histories"].get(window)
        relevant, filler, distance = (
            (place["relevant_tokens"], place["filler_tokens"], place["distance_tokens"]) if place else (None,) * 3
        )
        total = None if relevant is None or filler is None else relevant + filler
        found |= {
            f"total_tokens_in_chat_history_{window}": _number(total),
            f"distance_from_related_snippet_to_query_{window}": _number(distance),
            f"num_persona_relevant_tokens_{window}": _number(relevant),
            f"num_persona_irrelevant_tokens_{window}": _number(filler),
        }
    return found


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def folder(qa: dict[str, Any]) -> str:
    """Whether a question belongs to the text or to the multimodal tables."""
    kept = qa.get("labels", {}).get(KEPT + "folder")
    return kept if kept in FOLDERS else own_folder(qa)


def own_folder(qa: dict[str, Any]) -> str:
    """The same by the fields alone: where a picture belongs to it, it is multimodal."""
    pictured = any(not isinstance(message["content"], str) for message in qa["snippet"])
    return "multimodal" if pictured or qa["scenario"] == "photo_query" else "text"


# ---- what a cell means ---------------------------------------------------------------------------------------------


def query(cell: str) -> str:
    """The text of `user_query`, a Python dict literal of a message."""
    try:
        with warnings.catch_warnings(action="ignore"):
            message = ast.literal_eval(cell)
        text = text_of(message["content"])
        text.encode()
        return text
    except (ValueError, SyntaxError, TypeError, KeyError, AttributeError, MemoryError, RecursionError):
        raise _unread("user_query", "a Python dict literal with role and content", cell) from None


def json_list(column: str, cell: str) -> list[Any]:
    """A cell that holds a JSON list, or nothing."""
    try:
        value = orjson.loads(cell) if cell else []
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, list):
        raise _unread(column, "a JSON list", cell)
    return value


def number(column: str, cell: str) -> int | None:
    """A number of tokens, also as "31726.0", the way tables with gaps are written; None for an empty cell."""
    try:
        value = float(cell) if cell else None
        if value is None or value.is_integer():
            return None if value is None else int(value)
    except ValueError:
        pass
    raise _unread(column, "a number of tokens", cell)


def boolean(column: str, cell: str) -> bool | None:
    """True or False as text; None for an empty cell."""
    if cell.lower() not in BOOLEANS:
        raise _unread(column, "True or False", cell)
    return BOOLEANS[cell.lower()]


def topic(cell: str) -> str:
    """A topic without the colons and blanks that some begin with."""
    return cell.strip(" :\n\t")


def _unread(column: str, expected: str, cell: str) -> RecordError:
    shown = repr(cell[:40]) + "…" * (len(cell) > 40)
    return RecordError(f"expected {expected}, found {shown}", reason="schema", pointer=f"/{column}")


# ---- what labels keep ----------------------------------------------------------------------------------------------


def kept(row: Row, own: Row) -> dict[str, str]:
    """Labels for the cells of a row that its record's own cells don't give back word for word."""
    return {KEPT + column: row[column] for column in COLUMNS if row[column] != own[column]}


def restored(own: Row, qa: dict[str, Any], labels: Labels) -> Row:
    """Own cells, with those that the labels keep in their places."""
    found = qa.get("labels", {})
    given = {column: found[KEPT + column] for column in COLUMNS if KEPT + column in found}
    return own | {column: cell for column, cell in given.items() if _still_holds(column, cell, own[column], labels)}


def _still_holds(column: str, cell: str, own: str, labels: Labels) -> bool:
    """Whether a kept cell is but another way to write what the record says: not so if that was changed since."""
    read: dict[str, Callable[[str], Any]] = {
        "user_query": query,
        "incorrect_answers": lambda text: json_list(column, text),
        "related_conversation_snippet": lambda text: json_list(column, text),
        "topic_query": topic,
        "conversation_scenario": lambda text: labels.column(column, text, "scenario"),
        "pref_type": lambda text: labels.column(column, text, "case", "kind"),
    }
    if column not in read or (column == "pref_type" and not cell):
        return True
    try:
        return bool(read[column](cell) == read[column](own))
    except RecordError:
        return False
