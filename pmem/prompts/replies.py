"""Reply schemas: small JSON Schemas that every structured-output server takes."""

from functools import cache
from typing import Any

from pmem.choices import LETTERS

TEXT = {"type": "string", "minLength": 1}


def closed(title: str, properties: dict[str, Any]) -> dict[str, Any]:
    """An object with exactly these properties."""
    names = list(properties)
    return {
        "title": title,
        "type": "object",
        "properties": properties,
        "required": names,
        "additionalProperties": False,
    }


def nested(properties: dict[str, Any]) -> dict[str, Any]:
    """The same, to stand inside another schema."""
    schema = closed("", properties)
    del schema["title"]
    return schema


def listed(name: str, count: int | None, properties: dict[str, Any]) -> dict[str, Any]:
    """An object with one array `name` of `count` (None: any number of) equal objects."""
    size = {} if count is None else {"minItems": count, "maxItems": count}
    return closed(name, {name: {"type": "array", "items": nested(properties), **size}})


VERDICT = closed("verdict", {"reason": TEXT, "verdict": {"type": "string", "enum": ["pass", "fail"]}})
"""A judge's vote; the reason comes first, so that it is thought before the verdict is said."""


@cache
def choice(count: int) -> dict[str, Any]:
    """The letter of one of so many options; the reason comes first here, too."""
    return closed("choice", {"reason": TEXT, "choice": {"type": "string", "enum": list(LETTERS[:count])}})


def user(prompt: str) -> list[dict[str, Any]]:
    """A prompt as the messages of a call."""
    return [{"role": "user", "content": prompt}]
