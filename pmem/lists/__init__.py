"""Lists as TOML files beside this one: what data are drawn from, where secrets occur, published labels.

What these functions return is cached and shared: read it, don't change it.
"""

from functools import cache
from pathlib import Path
from typing import Any

from ..demographics import check_demographics


@cache
def load(name: str) -> dict[str, Any]:
    """One of pmem's own lists by its name ("topics"), as it stands in the file."""
    return _read(Path(__file__).with_name(f"{name}.toml"))


@cache
def languages() -> dict[str, str]:
    """English names of languages by their BCP-47 codes."""
    return {code: entry["name"] for code, entry in load("languages").items()}


@cache
def translation_languages() -> list[str]:
    """Codes of the languages that texts are translated from or into."""
    return [code for code, entry in load("languages").items() if entry.get("translation", False)]


def topics() -> dict[str, list[str]]:
    """Topics by their group."""
    return load("topics")


def scenarios() -> dict[str, dict[str, Any]]:
    """Scenarios by name: title, weight, suits, owners, brief; turns and needs where there are conditions."""
    return load("scenarios")


def secrets() -> dict[str, list[str]]:
    """Scenarios in which a secret of a kind would really occur, by its kind."""
    return load("secrets")


@cache
def demographics(path: Path | None = None) -> dict[str, Any]:
    """The weights that demographics are drawn by: pmem's own, or those of a file that replaces them.

    A file that can't be used raises ValueError with its name, the key and the fault, on one line.
    """
    weights = load("demographics") if path is None else _read(path)
    check_demographics(weights, file=str(path or "demographics.toml"), languages=languages())
    return weights


def labels(path: Path | None = None) -> dict[str, Any]:
    """Tables of published labels by pmem's own: those that come with pmem, or those of a file that replaces them."""
    return load("labels") if path is None else _read(path)


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as fault:  # not TOML, or not UTF-8
        raise ValueError(f"{path}: not a TOML file: {fault}") from None
