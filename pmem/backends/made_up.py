"""Replies made up for a plan: as long as earlier ones of the same kind, with the fields that were asked for."""
# ruff: noqa: SIM905 - word lists read better as text

import math
from collections.abc import Iterable
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

import orjson

ASSUMED = Path(__file__).with_name("assumed.toml")
OTHERWISE = 100
"""Characters of a text of which nothing is known."""
# 4.0 characters per token of o200k_base; the recorded replies of the demo have 4.2
WORDS = (
    "a and, answer. at believe, but careful, detail. easily email. every evening, family. for friend. garden, have he"
    " I'd in it's kitchen, later, letter. like message, my neighbour. nothing of on others. plan, quiet. reply, so some"
    " that, the then, they to usually, we weekend. which with, without you. young"
).split()


class Shape(NamedTuple):
    """What replies of a kind look like: mean characters of texts and mean lengths of lists, by the field's name."""

    texts: dict[str, float]
    lists: dict[str, float]


def shape_of(replies: Iterable[Any], name: str) -> Shape:
    """The shape of replies: JSON values, or texts whose field is called `name`."""
    texts: dict[str, list[int]] = {}
    lists: dict[str, list[int]] = {}

    def note(value: Any, name: str) -> None:
        if isinstance(value, str):
            texts.setdefault(name, []).append(len(value))
        elif isinstance(value, list):
            lists.setdefault(name, []).append(len(value))
            for item in value:
                note(item, name)
        elif isinstance(value, dict):
            for key, item in value.items():
                note(item, name if key.isdigit() else key)

    for reply in replies:
        note(reply, name)
    means = ({name: fmean(sizes) for name, sizes in found.items()} for found in (texts, lists))
    return Shape(*means)


def assumed() -> dict[str, Shape]:
    """Shapes by the title of the reply's schema, or by the name of a free text, where there are no earlier replies."""
    import tomllib

    table = tomllib.loads(ASSUMED.read_text(encoding="utf-8"))
    return {title: Shape(fields, fields) for title, fields in table.items()}


def made_up(schema: dict[str, Any] | None, shape: Shape, *, name: str, seed: bytes) -> str:
    """A reply that satisfies one of pmem's own schemas; None: a free text, called `name` in the shape.

    Equal seeds give equal replies. Of labels it takes the first, and null where that is allowed.
    """
    draw = Random(seed)
    if schema is None:
        return _text(shape.texts.get(name, OTHERWISE), draw)
    return orjson.dumps(_instance(schema, shape, name, draw)).decode()


def _instance(schema: dict[str, Any], shape: Shape, name: str, draw: Random) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema["type"]
    if kind == "object":
        fields = schema["properties"].items()
        return {key: _instance(field, shape, name if key.isdigit() else key, draw) for key, field in fields}
    if kind == "array":
        wanted = max(schema.get("minItems", 0), math.floor(shape.lists.get(name, 1) + draw.random()))
        count = min(wanted, schema.get("maxItems", wanted))
        return [_instance(schema["items"], shape, name, draw) for _ in range(count)]
    if kind == "string":
        return _text(shape.texts.get(name, OTHERWISE), draw)
    return None if "null" in kind else 0


def _text(characters: float, draw: Random) -> str:
    """Words to about so many characters; at least one."""
    length = max(1, round(characters))
    return " ".join(draw.choices(WORDS, k=1 + length // 2))[:length]
