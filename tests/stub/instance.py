"""Instances of JSON Schemas: what a model with guided decoding would answer."""
# ruff: noqa: SIM905 - word lists read better as text

import math
import re
from collections.abc import Callable
from random import Random
from typing import Any

from tests.stub.pattern import PatternError, matching
from tests.stub.words import NOUNS, paragraph

Schema = Any  # a JSON object, or true

NOTES = {"title", "description", "default", "examples", "deprecated", "readOnly", "$schema", "$id", "$comment"}
KNOWN = NOTES | set(
    "$defs definitions type properties required additionalProperties propertyNames minProperties maxProperties items "
    "minItems maxItems uniqueItems minLength maxLength pattern format minimum maximum exclusiveMinimum "
    "exclusiveMaximum".split()
)
FORMATS = {
    "date": r"^20[12]\d-0[1-9]-[12]\d$",
    "date-time": r"^20[12]\d-0[1-9]-[12]\dT1\d:[0-5]\d:00Z$",
    "email": r"^[a-z]{5,9}@example\.(com|org)$",
}
TYPED_BY = {"properties": "object", "additionalProperties": "object", "items": "array", "minimum": "number"}
DEEP, TOO_DEEP = 5, 40  # from DEEP on the smallest instance is made, so that recursive schemas come to an end


class SchemaError(ValueError):
    """The schema is beyond this generator."""


def instance(schema: Schema, rng: Random, *, first: float = 0.8) -> Any:
    """JSON that satisfies the schema; an enum gives its first value with the probability `first`."""
    try:
        return Maker(schema, rng, first).make(schema, 0)
    except PatternError as error:
        raise SchemaError(str(error)) from None


class Maker:
    """Walks one schema."""

    def __init__(self, root: Schema, rng: Random, first: float) -> None:
        self.root, self.rng, self.first = root, rng, first

    def make(self, schema: Schema, depth: int) -> Any:
        if depth > TOO_DEEP:
            raise SchemaError("the stub cannot satisfy a schema that only nests")
        schema = self.plain(schema, depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.choice(schema["enum"])
        if unknown := schema.keys() - KNOWN:
            raise SchemaError(f"the stub cannot satisfy the schema keyword {min(unknown)!r}")
        kind = self.kind(schema, depth)
        if kind not in MAKERS:
            raise SchemaError(f"the stub knows no type {kind!r}")
        return MAKERS[kind](self, schema, depth)

    def plain(self, schema: Schema, depth: int) -> dict[str, Any]:
        """The schema with $ref, allOf, anyOf and oneOf replaced by what they say, one alternative drawn."""
        if schema is True:
            return {}
        if not isinstance(schema, dict):
            raise SchemaError(f"no schema: {str(schema)[:80]}")
        for _ in range(TOO_DEEP):
            word = next((word for word in ("$ref", "allOf", "anyOf", "oneOf") if word in schema), None)
            if word is None:
                return schema
            rest = {key: value for key, value in schema.items() if key != word}
            for part in self.parts(word, schema[word], depth):
                rest = merged(rest, {} if part is True else part)
            schema = rest
        raise SchemaError("the stub cannot satisfy a $ref that leads to itself")

    def parts(self, word: str, value: Any, depth: int) -> list[Schema]:
        if word == "$ref":
            return [self.referred(value)]
        if word == "allOf":
            return list(value)
        ends = [option for option in value if "$ref" not in str(option)] if depth >= DEEP else []
        return [self.rng.choice(ends or value)]

    def referred(self, pointer: str) -> Schema:
        found = self.root
        for key in pointer.removeprefix("#").split("/")[1:]:
            key = key.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or key not in found:
                raise SchemaError(f"the stub cannot follow the $ref {pointer!r}")
            found = found[key]
        if not pointer.startswith("#"):
            raise SchemaError(f"the stub cannot follow the $ref {pointer!r}")
        return found

    def kind(self, schema: dict[str, Any], depth: int) -> str:
        kinds = schema.get("type")
        if kinds is None:
            return next((kind for word, kind in TYPED_BY.items() if word in schema), "string")
        if isinstance(kinds, str):
            return kinds
        return "null" if depth >= DEEP and "null" in kinds else self.rng.choice(kinds)

    def choice(self, values: list[Any]) -> Any:
        if len(values) == 1 or self.rng.random() < self.first:
            return values[0]
        return self.rng.choice(values[1:])

    def object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        others = schema.get("additionalProperties", True)
        names = [name for name in properties if depth < DEEP or name in required]
        names += [name for name in required if name not in properties]
        while len(names) < schema.get("minProperties", 0):
            names.append(self.new_name(schema.get("propertyNames"), names, depth))
        return {name: self.make(properties.get(name, others), depth + 1) for name in names}

    def new_name(self, schema: Schema | None, names: list[str], depth: int) -> str:
        for _ in range(50):
            name = self.rng.choice(NOUNS) if schema is None else self.make({"type": "string", **schema}, depth + 1)
            if name not in names:
                return name
        raise SchemaError("the stub finds too few property names")

    def array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        low = schema.get("minItems", 1 if depth < DEEP else 0)
        high = min(schema.get("maxItems", low + 2), low + 2) if depth < DEEP else low
        wanted = self.rng.randint(min(low, high), high)
        items: list[Any] = []
        for _ in range(wanted * 50):
            if len(items) == wanted:
                break
            item = self.make(schema.get("items", True), depth + 1)
            if item not in items or not schema.get("uniqueItems"):
                items.append(item)
        if len(items) < low:
            raise SchemaError("the stub finds too few different items")
        return items

    def string(self, schema: dict[str, Any], depth: int) -> str:
        low, high = schema.get("minLength", 0), schema.get("maxLength")
        pattern = schema.get("pattern") or FORMATS.get(schema.get("format", ""))
        text = paragraph(self.rng, low=low, high=high)
        if pattern is None or fits(pattern, text):
            return text
        for _ in range(20):
            text = matching(pattern, self.rng)
            if low <= len(text) <= (len(text) if high is None else high):
                return text
        raise SchemaError(f"the stub finds no text of the wanted length for the pattern {pattern!r}")

    def integer(self, schema: dict[str, Any], depth: int) -> int:
        low, high = bounds(schema)
        least, most = math.ceil(low), math.floor(high)
        least += least == schema.get("exclusiveMinimum")
        most -= most == schema.get("exclusiveMaximum")
        if least > most:
            raise SchemaError(f"no integer between {low} and {high}")
        return self.rng.randint(least, most)

    def number(self, schema: dict[str, Any], depth: int) -> float:
        low, high = bounds(schema)
        number = low + (high - low) * self.rng.uniform(0.01, 0.99)
        return round(number, 2) if low < round(number, 2) < high else number

    def boolean(self, schema: dict[str, Any], depth: int) -> bool:
        return bool(self.choice([True, False]))

    def null(self, schema: dict[str, Any], depth: int) -> None:
        return None


MAKERS: dict[str, Callable[[Maker, dict[str, Any], int], Any]] = {
    "object": Maker.object,
    "array": Maker.array,
    "string": Maker.string,
    "integer": Maker.integer,
    "number": Maker.number,
    "boolean": Maker.boolean,
    "null": Maker.null,
}


def merged(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """Both schemas in one; the second one's word counts, but for properties and required, which add up."""
    both = {**base, **extra}
    if "properties" in base and "properties" in extra:
        both["properties"] = {**base["properties"], **extra["properties"]}
    if "required" in base and "required" in extra:
        both["required"] = [*base["required"], *(name for name in extra["required"] if name not in base["required"])]
    return both


def bounds(schema: dict[str, Any]) -> tuple[float, float]:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None:
        low = 0 if high is None or high > 0 else high - 100
    return low, low + 100 if high is None else high


def fits(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error as error:
        raise SchemaError(f"the stub cannot read the pattern {pattern!r}: {error}") from None
