"""Text that matches a regular expression: literals, classes, groups, alternatives and repeats; no look-around."""

import re
from functools import lru_cache
from random import Random
from re import _parser  # the standard library's own reading of a pattern
from typing import Any

ASCII = [chr(code) for code in range(32, 127)]
MORE = 5  # how far above its minimum an open repeat goes


class PatternError(ValueError):
    """The pattern is beyond this generator, or no regular expression."""


def matching(pattern: str, rng: Random) -> str:
    """A text that `re.search` finds the pattern in (all of it, where the pattern is anchored)."""
    tokens = parsed(pattern)
    for _ in range(20):
        text = _text(tokens, rng)
        if re.search(pattern, text):
            return text
    raise PatternError(f"the stub finds no text for the pattern {pattern!r}")


@lru_cache(maxsize=256)
def parsed(pattern: str) -> Any:
    try:
        return _parser.parse(pattern)
    except re.error as error:
        raise PatternError(f"the stub cannot read the pattern {pattern!r}: {error}") from None


def _text(tokens: Any, rng: Random) -> str:
    return "".join(_piece(op.name, argument, rng) for op, argument in tokens)


def _piece(op: str, argument: Any, rng: Random) -> str:
    match op:
        case "AT":
            return ""
        case "LITERAL":
            return chr(argument)
        case "NOT_LITERAL":
            return rng.choice([char for char in ASCII if char != chr(argument)])
        case "ANY":
            return rng.choice("abcdefghijklmnopqrstuvwxyz")
        case "IN":
            return rng.choice(_members(argument))
        case "SUBPATTERN":
            return _text(argument[3], rng)
        case "BRANCH":
            return _text(rng.choice(argument[1]), rng)
        case "MAX_REPEAT" | "MIN_REPEAT":
            low, high, tokens = argument
            times = rng.randint(low, min(high, low + MORE))
            return "".join(_text(tokens, rng) for _ in range(times))
    raise PatternError(f"the stub cannot make text for {op.lower()} in a pattern")


def _members(items: Any) -> list[str]:
    """The characters of a class: its own ones, or the ASCII ones that it does not exclude."""
    negated = items[0][0].name == "NEGATE"
    members: list[str] = []
    for op, argument in items[negated:]:
        match op.name:
            case "LITERAL":
                members.append(chr(argument))
            case "RANGE":
                members.extend(chr(code) for code in range(argument[0], argument[1] + 1))
            case "CATEGORY":
                members.extend(char for char in ASCII if _is(char, argument.name))
    return [char for char in ASCII if char not in members] if negated else members


def _is(char: str, category: str) -> bool:
    name = category.removeprefix("CATEGORY_")
    kind = name.removeprefix("NOT_")
    yes = {"DIGIT": char.isdigit(), "SPACE": char.isspace(), "WORD": char.isalnum() or char == "_"}[kind]
    return yes != name.startswith("NOT_")
