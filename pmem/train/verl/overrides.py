"""Single settings of verl's configuration, a preset's and those of --set, and what they may not touch."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pmem.errors import UsageError, first_line
from pmem.train.verl.settings import ALWAYS, Setting


class Given(NamedTuple):
    """A key that somebody sets. raw: as Hydra reads it; said: as whoever set it would say it."""

    key: str
    value: Any
    raw: str
    said: str


def of_preset(item: tuple[str, Any]) -> Given:
    """A preset's setting."""
    key, value = item
    bare = key.lstrip("+")
    return Given(bare, value, line(bare, value, new=key.startswith("+")), f"--preset: {bare}={value}")


def parsed(text: str) -> Given:
    """What --set says; usage error if it is not KEY=VALUE."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(text)
        value = override.value()
    except HydraException as fault:
        raise UsageError(f"--set {text}: not KEY=VALUE as Hydra reads it: {first_line(fault)}") from None
    if override.is_delete() or override.is_sweep_override():
        raise UsageError(f"--set {text}: expected one value for a key")
    return Given(str(override.key_or_group), _plain(value), text, f"--set {text}")


def _plain(value: Any) -> Any:
    """A parsed value without Hydra's marks of how it was quoted."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value if isinstance(value, bool | int | float | None) else getattr(value, "text", value)


def line(key: str, value: Any, *, new: bool) -> str:
    """A setting as Hydra reads it."""
    return f"{'+' * new}{key}={quoted(value)}"


def quoted(value: Any) -> str:
    """A value as Hydra reads it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{quoted(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(quoted, value)) + "]"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text)
    return f"'{escaped.replace('${', chr(92) + '${')}'"


def refuse_contradiction(one: Given, ours: Mapping[str, Setting]) -> None:
    """Usage error if a key is set that follows from one of our options, or on which we rely."""
    for key, setting in ours.items():
        if not (one.key == key or one.key.startswith(f"{key}.") or key.startswith(f"{one.key}.")) or not setting.option:
            continue
        if one.key == key and one.value == setting.value:
            continue
        if setting.option == ALWAYS:
            raise UsageError(f"{one.said} contradicts what pmem relies on: {key} is {setting.value!r}")
        raise UsageError(
            f"{one.said} contradicts {setting.option}, by which verl's {key} is {setting.value!r}: use {setting.option}"
        )


def refuse_other_kind(one: Given, own: Any) -> None:
    """Usage error if a value is of another kind than the one in verl's own files."""
    from omegaconf import OmegaConf

    now = OmegaConf.select(own, one.key, throw_on_missing=False) if not one.raw.startswith("+") else None
    if now is None or one.value is None or (isinstance(now, str) and isinstance(one.value, str)):
        return
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text"}
    kind = next((kind for kind in kinds if isinstance(now, kind)), None)
    fits = isinstance(one.value, bool) if kind is bool else isinstance(one.value, int | float | str)
    if kind in (int, float):
        fits = isinstance(one.value, int | float) and not isinstance(one.value, bool)
    if kind and not fits:
        raise UsageError(f"{one.said}: verl's {one.key} is {kinds[kind]} (by default {now!r})")
