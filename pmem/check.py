"""Schemas: finding them, checking records against them, and saying what is wrong in one line."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from pathlib import Path

MAKERS = {
    "persona": "personas",
    "conversation": "converse",
    "history": "assemble",
    "qa": "qa",
    "owed": "filter --owed",
    "result": "eval",
}
"""Record type -> the command that makes it."""

TYPES = ("persona", "conversation", "filler", "history", "qa", "owed", "result", "memory", "metric", "usage", "error")


class Fault(NamedTuple):
    """What is wrong with a record: JSON pointer ("" is the whole record) and a message."""

    pointer: str
    message: str

    def __str__(self) -> str:
        """The message, with the pointer before it where there is one."""
        return f"{self.pointer}: {self.message}" if self.pointer else self.message


def schema_dir() -> "Path":
    """Where the schemas are: inside the package in a wheel, beside it in a checkout."""
    from pathlib import Path

    inside = Path(__file__).parent / "schemas"
    return inside if inside.is_dir() else inside.parent.parent / "schemas"


@cache
def schema(kind: str) -> dict[str, Any]:
    """The schema of a record type."""
    loaded: dict[str, Any] = orjson.loads((schema_dir() / f"{kind}.schema.json").read_bytes())
    return loaded


@cache
def validator(kind: str) -> Callable[[Any], bool]:
    """A fast yes/no check of a record type (compiled once, about 1 ms)."""
    return compiled(schema(kind))


def compiled(json_schema: dict[str, Any]) -> Callable[[Any], bool]:
    """A fast yes/no check against any JSON Schema."""
    import decimal  # noqa: F401 - jsonschema_rs imports it by itself otherwise, and panics if a Ctrl-C comes just then

    import jsonschema_rs

    return jsonschema_rs.validator_for(json_schema).is_valid


def faults(json_schema: dict[str, Any], value: Any) -> Iterator[Fault]:
    """Every fault of a value that the fast check refused, in document order, in words."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match, relevance

    def place(error: Any) -> list[str]:
        return [str(step) for step in error.absolute_path]

    for error in sorted(Draft202012Validator(json_schema).iter_errors(value), key=place):
        deepest = error
        while deepest.context:
            deepest = best_match(deepest.context, key=relevance) or deepest.context[0]
        yield Fault(_pointer(deepest.absolute_path), plain(_in_words(deepest), 1000))


def first_fault(json_schema: dict[str, Any], value: Any) -> Fault:
    """The first fault of a value that the fast check refused."""
    for fault in faults(json_schema, value):
        return fault
    import jsonschema_rs  # the two differ in corners, such as a newline at the end of a pattern's match

    error = next(jsonschema_rs.validator_for(json_schema).iter_errors(value))
    return Fault(_pointer(error.instance_path), plain(error.message))


def wrong_type(expected: tuple[str, ...], found: Any) -> str:
    """What to say when another type of record came: which was expected, which came, which command makes it."""
    wanted = " or ".join(expected)
    came = f"a {plain(found['type'], 40)} record" if _typed(found) else f"{_kind_of(found)} without a type"
    if len(expected) == len(TYPES):
        return f"expected a record of one of the types {', '.join(TYPES)}; found {came}"
    makers = [f"`pmem {MAKERS[kind]}`" for kind in expected if kind in MAKERS]
    hint = f"; {' or '.join(makers)} makes {wanted} records" if makers else ""
    article = "an" if wanted[0] in "aeiou" else "a"
    return f"expected {article} {wanted} record, found {came}{hint}"


def _typed(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str)


def _kind_of(value: Any) -> str:
    names = {dict: "a JSON object", list: "a JSON array", str: "a JSON string", bool: "a JSON boolean"}
    return names.get(type(value), "null" if value is None else "a JSON number")


def plain(text: str, width: int = 200) -> str:
    """Text for a line of a message: no line breaks or other control characters, and cut to a width."""
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:width])
    return shown if len(text) <= width else shown[:-1] + "…"


def _pointer(path: Any) -> str:
    return plain("".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path))


def _short(value: Any, width: int = 80) -> str:
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # it reads values nested deeper than it writes
        return f"{_kind_of(value)} nested too deeply"
    return text if len(text) <= width else text[: width - 1] + "…"


def _in_words(error: Any) -> str:
    rule, found = error.validator, error.instance
    value: Any = error.validator_value
    if rule == "required":
        missing = error.message.removesuffix(" is a required property")  # of several, each has a fault of its own
        return f"expected a property {missing}, found none"
    if rule == "additionalProperties":
        known = error.schema.get("properties", {})
        extra = next((name for name in found if name not in known), "?")
        return f"expected no property '{extra}'; known are {', '.join(known)}"
    expected: Callable[[], str] | None = {
        "type": lambda: " or ".join(value) if isinstance(value, list) else value,
        "enum": lambda: "one of " + ", ".join(_short(choice) for choice in value),
        "const": lambda: _short(value),
        "pattern": lambda: f"text matching {value}",
        "minLength": lambda: f"text of {value} or more characters",
        "minItems": lambda: f"{value} or more items",
        "maxItems": lambda: f"at most {value} items",
        "minimum": lambda: f"{value} or more",
        "maximum": lambda: f"at most {value}",
    }.get(rule)
    return f"expected {expected()}, found {_short(found)}" if expected else str(error.message)[:200]
