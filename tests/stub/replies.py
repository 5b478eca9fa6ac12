"""What the stub's model says."""

import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import orjson

from tests.stub.faults import wrong
from tests.stub.instance import SchemaError, instance
from tests.stub.problems import Problem
from tests.stub.words import paragraph, sentence

Hook = Callable[[dict[str, Any]], str | None]

OPTION = re.compile(r"^[ \t]*(?:\(([A-H])\)|([A-H])\. )", re.MULTILINE)
FENCED = re.compile(r"^[ \t]*```\w*[ \t]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)


def text_of(message: dict[str, Any]) -> str:
    """A message's text, of content parts too; images have none."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, dict))


def prompt_tokens(messages: list[dict[str, Any]]) -> int:
    return sum(len(text_of(message)) for message in messages) // 4 + 4 * len(messages)


def wanted(body: dict[str, Any]) -> Any:
    """The JSON Schema that the reply must satisfy, None if there is none: the one asked for or, with json_object,
    the last one that the prompt shows."""
    asked = body.get("response_format") or {"type": "text"}
    if asked["type"] == "json_schema":
        return asked["json_schema"]["schema"]
    if asked["type"] == "json_object":
        return next((schema for message in reversed(body["messages"]) for schema in shown(text_of(message))), None)
    return None


def shown(text: str) -> Iterator[dict[str, Any]]:
    """The JSON Schemas of objects in a text, fenced or on a line of their own, from its end."""
    for candidate in reversed(FENCED.findall(text) + text.splitlines()):
        if '"object"' in candidate:
            try:
                value = orjson.loads(candidate)
            except orjson.JSONDecodeError:
                continue
            if isinstance(value, dict) and value.get("type") == "object":
                yield value


def content(body: dict[str, Any], rng: Random, *, first: float, bad: bool) -> str:
    """The reply to a request; `bad`: one that violates the schema or, without one, names no option."""
    schema = wanted(body)
    if schema is not None:
        try:
            value = instance(schema, rng, first=first)
        except SchemaError as error:
            raise Problem(400, f"Invalid schema for response_format: {error}", param="response_format") from None
        return orjson.dumps(wrong(schema, value, rng) if bad else value).decode()
    if (body.get("response_format") or {}).get("type") == "json_object":
        return orjson.dumps([paragraph(rng)] if bad else {"text": paragraph(rng)}).decode()
    options = [] if bad else options_of(body["messages"])
    if options:
        return f"{sentence(rng)} {sentence(rng)}\nAnswer: {rng.choice(options)}"
    return f"{paragraph(rng)} {paragraph(rng)}"


def embedding(text: str, dimensions: int) -> list[float]:
    """A vector of length 1 that is near those of texts with the same words (of an empty text: of none)."""
    vector = [0.0] * dimensions
    for word in re.findall(r"\w+", text.casefold()) or [""]:
        vector[crc32(word.encode()) % dimensions] += 1
    length = sum(value * value for value in vector) ** 0.5
    return [value / length for value in vector]


def options_of(messages: list[dict[str, Any]]) -> list[str]:
    """The letters of the options in the last user message; none unless A and B are among them."""
    last = next((text_of(message) for message in reversed(messages) if message["role"] == "user"), "")
    letters = sorted({one or other for one, other in OPTION.findall(last)})
    return letters if letters[:2] == ["A", "B"] else []


def load_hook(file: str | None) -> Hook | None:
    """The function `reply` of a Python file."""
    if file is None:
        return None
    spec = importlib.util.spec_from_file_location("stub_reply", Path(file))
    if spec is None or spec.loader is None:
        raise FileNotFoundError(file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    hook: Hook = module.reply
    return hook
