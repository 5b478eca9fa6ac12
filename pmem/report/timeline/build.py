"""The page of memories put together: each user's part packed, so that a browser unpacks only what is looked at."""

import base64
import zlib
from html import escape
from pathlib import Path
from typing import Any

import orjson

from pmem.report.cited import Cited, Words
from pmem.report.standalone import standalone
from pmem.report.timeline.tracks import Track
from pmem.stream.progress import counted

LONGEST = 4000
"""Characters of a message that are shown: a whole document that a user brought would fill the page."""


def page(tracks: list[Track], words: Words | None, *, heading: str | None) -> str:
    """The whole page. words: of the messages that the memories cite; None: no histories were given.

    Packed parts are zlib streams in base64: other versions of zlib may pack to other bytes.
    """
    parts = {}
    for number, track in enumerate(tracks):
        parts[f"track-{number}"] = _packed({"columns": track.columns, "threads": track.threads})
        parts[f"words-{number}"] = _packed(_messages(track, words) if words is not None else None)
    users = len({track.user_id for track in tracks})
    memories = sum("id" in column for track in tracks for column in track.columns)
    models = sorted({model for track in tracks for model in track.models})
    return standalone(
        Path(__file__).parent,
        [{**track.facts(), "histories": track.histories} for track in tracks],
        base=True,
        heading=escape(heading or "Memories"),
        subject=escape(f"Written by {', '.join(models)}" if models else ""),
        counts=f"{counted(users, 'user')} · {counted(memories, 'memory record')}",
        parts="".join(f'<script type="text/plain" id="{name}">{part}</script>\n' for name, part in parts.items()),
    )


def _packed(data: Any) -> str:
    return base64.b64encode(zlib.compress(orjson.dumps(data), 9)).decode()


def _messages(track: Track, words: Words) -> list[Any]:
    """For each of the track's histories its cited messages by index, None where it wasn't found."""
    return [_of_history(words.get(own_id), cited) for own_id, cited in track.cited().items()]


def _of_history(found: dict[int, Cited] | None, cited: set[int]) -> dict[str, Any] | None:
    if found is None:
        return None
    return {str(index): _shown(found[index]) for index in sorted(cited) if index in found}


def _shown(message: Cited) -> list[Any]:
    """Role, date, the text as far as it is shown, and how many characters are left out."""
    return [message.role, message.date, message.text[:LONGEST], max(0, len(message.text) - LONGEST)]
