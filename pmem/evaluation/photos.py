"""Images in messages, as a model is to see them: whole, or in words."""

from pathlib import Path
from typing import Any

import orjson

from pmem import images
from pmem.errors import RecordError

_IMAGE = b'"image_url"'
_ANYWHERE = ("data:", "http://", "https://")
"""How addresses begin that a server needs no file for."""


class Photos:
    """How a run shows images. folder: where the paths in messages start; as_text: captions in place of images."""

    def __init__(self, folder: Path | None = None, *, as_text: bool = False) -> None:
        self._folder = folder
        self._captions = {one.file: one.caption for one in images.manifest(folder)} if as_text and folder else {}
        self._as_text = as_text

    def shown(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Messages with their images as the model is to get them; RecordError where one can't be shown."""
        if not any(isinstance(message["content"], list) for message in messages):
            return messages
        return [{**message, "content": self._content(message["content"])} for message in messages]

    def shown_raw(self, messages: bytes) -> bytes:
        """The same for messages as a JSON array's bytes."""
        return orjson.dumps(self.shown(orjson.loads(messages))) if _IMAGE in messages else messages

    def _content(self, content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
        if isinstance(content, str):
            return content
        parts = [part if part["type"] == "text" else self._part(part) for part in content]
        return "\n\n".join(part["text"] for part in parts) if self._as_text else parts

    def _part(self, part: dict[str, Any]) -> dict[str, Any]:
        url = part["image_url"]["url"]
        if self._as_text:
            return {"type": "text", "text": images.in_words(self._captions.get(url, ""))}
        if url.startswith(_ANYWHERE):
            return part
        if self._folder is None:
            raise RecordError(
                f"a message shows the image {url}: name its folder with --images DIR",
                reason="schema",
                pointer="/messages",
            )
        try:
            whole = images.data_url(self._folder, url)
        except ValueError as fault:
            raise RecordError(f"an image can't be shown: {fault}", reason="schema", pointer="/messages") from None
        return {**part, "image_url": {**part["image_url"], "url": whole}}
