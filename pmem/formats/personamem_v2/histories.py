"""Histories: from a JSON file of messages to a record, and back."""

import re
from pathlib import Path
from typing import Any

import orjson

import pmem
from pmem import tokens
from pmem.draws import make_id
from pmem.errors import RecordError
from pmem.formats.personamem_v2.layout import KEPT, SOURCE, Row, inside, json_object, sound

OWN_ID = re.compile("h-[0-9a-f]{16}")


def history_id(link: str) -> str:
    """A history's id: that in the file's name if pmem wrote it, else one that follows from the link."""
    stem = link.rsplit("/", 1)[-1].removesuffix(".json")
    return stem if OWN_ID.fullmatch(stem) else make_id("h", SOURCE, link)


def file_of(window: str, own_id: str) -> str:
    """Where a history is written if it wasn't imported from elsewhere."""
    return f"data/chat_history_{window}/{own_id}.json"


def history(path: Path, row: Row, window: str, card: dict[str, str]) -> dict[str, Any]:
    """The history that a row's link leads to. What it begins with as a system message goes to `system`."""
    link = row[f"chat_history_{window}_link"]
    data = json_object(path)
    said, metadata = data.get("chat_history"), data.get("metadata", {})
    if not isinstance(said, list) or not isinstance(metadata, dict):
        raise RecordError(f"{path}: expected an object with metadata and a list chat_history", reason="schema")
    system, messages = _parted(said)
    if isinstance(metadata.get("pmem"), dict):
        return sound("history", {**metadata["pmem"], "id": history_id(link), "system": system, "messages": messages})
    size = tokens.count_messages(_countable(path, messages))
    relevant = size - _filler(size, metadata)
    session = {"id": path.stem, "what": "imported", "start": 0, "end": len(messages), "token_start": 0, "tokens": size}
    more = dict.fromkeys(("date", "event", "preference", "scenario", "topic"))
    made = {
        "type": "history",
        "id": history_id(link),
        "persona_id": card["id"],
        "user_id": card["id"],
        "window": window,
        "budget": None,
        "tokenizer": tokens.DEFAULT,
        "tokens": size,
        "relevant_tokens": relevant,
        "filler_tokens": size - relevant,
        "persona": card,
        "system": system,
        "sessions": [{**session, **more}],
        "labels": {KEPT + "file": link, KEPT + "metadata": orjson.dumps(metadata).decode()},
        "provenance": {"stage": "import", "pmem": pmem.__version__, "source": SOURCE},
        "messages": messages,
    }
    return sound("history", made)


def _parted(said: list[Any]) -> tuple[str | None, list[Any]]:
    first = said[0] if said else None
    if isinstance(first, dict) and first.get("role") == "system":
        return first.get("content"), said[1:]
    return None, said


def _countable(path: Path, messages: list[Any]) -> list[dict[str, Any]]:
    for number, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        parts = content if isinstance(content, list) else []
        if role not in ("user", "assistant") or not isinstance(content, str | list):
            raise RecordError(f"{path}: message {number} is none of user or assistant", reason="schema")
        if not all(isinstance(part, dict) and isinstance(part.get("text", ""), str) for part in parts):
            raise RecordError(f"{path}: message {number} has a part that is no text and no image", reason="schema")
    return messages


def _filler(size: int, metadata: dict[str, Any]) -> int:
    """Tokens of filler in pmem's count: the share of them that the metadata tell in their own."""
    told = [metadata.get(key) for key in ("num_relevant_tokens", "num_irrelevant_tokens")]
    relevant, filler = (one if isinstance(one, int) and one > 0 else 0 for one in told)
    return round(size * filler / (relevant + filler)) if filler else 0


def link_of(record: dict[str, Any]) -> str:
    """Where a history goes within the data set; RecordError if that leads out of it."""
    return inside(record.get("labels", {}).get(KEPT + "file") or file_of(record["window"], record["id"]))


def file(record: dict[str, Any], raw_file: str) -> bytes:
    """A history as the content of a file. Of pmem's own, the metadata hold all but the messages under "pmem"."""
    messages, system = record["messages"], record["system"]
    said = messages if system is None else [{"role": "system", "content": system}, *messages]
    kept = record.get("labels", {}).get(KEPT + "metadata")
    metadata = orjson.loads(kept) if kept else {
        "total_messages": len(said),
        "final_token_count": record["tokens"],
        "persona_id": record["persona_id"],
        "input_filename": raw_file,
        "num_relevant_tokens": record["relevant_tokens"],
        "num_irrelevant_tokens": record["filler_tokens"],
        "pmem": {key: value for key, value in record.items() if key != "messages"} | {"system": None},
    }  # fmt: skip
    return orjson.dumps({"metadata": metadata, "chat_history": said}, option=orjson.OPT_INDENT_2)
