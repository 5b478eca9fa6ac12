"""A folder of images: its manifest, and images as the parts of a message."""

import base64
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from .errors import PmemError

MANIFEST = "manifest.jsonl"
_MARKS = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"))
"""How files of the image types that vision models take begin; WebP has its length between its two marks."""


class Image(NamedTuple):
    """A line of the manifest. file: path below the folder; topics: names of topics or of their groups that it fits."""

    file: str
    caption: str
    topics: tuple[str, ...]


def manifest(folder: Path) -> list[Image]:
    """The images that FOLDER/manifest.jsonl names, one object a line: file, caption, and topics where it has some.

    PmemError, with file and line, if the manifest is missing, a line is wrong, or a file is no image.
    """
    path = folder / MANIFEST
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        raise PmemError(
            f'{folder} has no {MANIFEST}: one line for each image, {{"file": "...", "caption": "..."}}'
        ) from None
    except OSError as fault:
        raise PmemError(f"{path}: can't be read: {fault.strerror}") from None
    images = [_image(folder, line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not images:
        raise PmemError(f"{path}: it names no image")
    if len({image.file for image in images}) < len(images):
        raise PmemError(f"{path}: it names a file twice")
    return images


def _image(folder: Path, line: bytes, place: str) -> Image:
    """One line of a manifest."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError as fault:
        raise PmemError(f"{place}: not JSON: {fault}") from None
    if not isinstance(entry, dict) or set(entry) - {"file", "caption", "topics"}:
        raise PmemError(f"{place}: expected an object with file, caption and, if you like, topics")
    for key in ("file", "caption"):
        if not isinstance(entry.get(key), str) or not entry[key].strip():
            raise PmemError(f"{place}: /{key}: expected a text that is not empty")
    topics = entry.get("topics", [])
    if not isinstance(topics, list) or not all(isinstance(topic, str) and topic for topic in topics):
        raise PmemError(f"{place}: /topics: expected a list of names of topics")
    try:
        _kind(folder, entry["file"])
    except ValueError as fault:
        raise PmemError(f"{place}: {fault}") from None
    return Image(entry["file"], entry["caption"].strip(), tuple(topics))


def data_url(folder: Path, file: str) -> str:
    """An image below the folder as a data: URL; ValueError says why it isn't one."""
    kind = _kind(folder, file)
    return f"data:image/{kind};base64,{base64.b64encode((folder / file).read_bytes()).decode()}"


def _kind(folder: Path, file: str) -> str:
    """The type of an image below the folder, by how its file begins; ValueError if it is none.

    A path that leaves the folder is refused: it may come from data, and what it names would be sent to a server.
    """
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{file}: not below {folder}")
    try:
        with path.open("rb") as opened:
            head = opened.read(12)
    except OSError as fault:
        raise ValueError(f"{path}: can't be read: {fault.strerror}") from None
    for mark, kind in _MARKS:
        if head.startswith(mark):
            return kind
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return "webp"
    raise ValueError(f"{path}: no PNG, JPEG, GIF or WebP image")


def content(text: str, url: str) -> list[dict[str, Any]]:
    """A message's content with an image, as parts of OpenAI's format."""
    return [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]


def in_words(caption: str) -> str:
    """What stands for an image in text."""
    return f"[photo: {caption}]" if caption else "[photo]"
