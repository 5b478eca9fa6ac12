"""Memories as files that people read and correct: USER.md holds the text, USER.json beside it the record."""

import os
import re
from pathlib import Path
from typing import Any

import orjson

from pmem.draws import fingerprint
from pmem.errors import OutputError

SAFE = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}\Z")
RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?\Z")
"""Names that Windows keeps for devices."""
COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
MARK = re.compile(r"<!-- pmem (m-[0-9a-f]{16})")
TITLE = re.compile(r"\A# What is remembered of [^\n]*\n")


def file_name(user_id: str) -> str:
    """A name for a user's files that is safe everywhere and nobody else's: the id itself where it is plain, else what
    is plain of it and a hash."""
    if SAFE.match(user_id) and not RESERVED.match(user_id) and not user_id.endswith("."):
        return user_id
    slug = re.sub(r"[^a-z0-9]+", "-", user_id.lower()).strip("-")[:60]
    return f"{slug or 'user'}-{fingerprint(user_id, 12)}"


def as_markdown(memory: dict[str, Any]) -> str:
    """A memory record as a page to read and edit. What is in comments is not part of the memory."""
    user = re.sub(r"\s+", " ", memory["user_id"]).replace("--", "- -")
    text = memory["text"] or "<!-- Nothing yet. -->"
    return (
        f"# What is remembered of {user}\n\n{text}\n\n"
        f"<!-- pmem {memory['id']}: change, add or take out what you like; the next `pmem memdump --previous` goes on"
        " from here. -->\n"
    )


def of_markdown(page: str) -> tuple[str, str | None]:
    """The memory's text in a page, and the id of the memory that the page showed at first (None: it doesn't say)."""
    mark = MARK.search(page)
    text = COMMENT.sub("", page.removeprefix("\ufeff").replace("\r\n", "\n"))
    return TITLE.sub("", text.lstrip()).strip(), mark[1] if mark else None


def save(memory: dict[str, Any], folder: Path) -> Path:
    """Write both files, each whole or not at all; the path of the Markdown.

    The record goes first: a page of an earlier memory beside it is known by its mark, and not taken for an edit.
    """
    page = folder / f"{file_name(memory['user_id'])}.md"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(page.with_suffix(".json"), orjson.dumps(memory, option=orjson.OPT_APPEND_NEWLINE))
        _replace(page, as_markdown(memory).encode())
    except OSError as fault:
        raise OutputError(f"{page}: can't be written: {fault.strerror}") from None
    return page


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)
