"""What calls cost: a dated table of prices that a user can replace. A model that is not in it has no known cost."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from pmem.backends.base import Usage
from pmem.errors import PmemError

OWN = Path(__file__).with_name("prices.toml")
MILLION = 1e6
SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{4})$")  # gpt-5-2025-08-07, gpt-4-0613


class Price(NamedTuple):
    """US dollars per million tokens: of the prompt, of what was cached of it, of the reply. date: of the table."""

    input: float
    cached: float
    output: float
    date: str = ""

    def of(self, usage: Usage) -> float:
        """US dollars for the tokens of one call."""
        fresh = usage.prompt - usage.cached
        return (fresh * self.input + usage.cached * self.cached + usage.completion * self.output) / MILLION


FREE = Price(0.0, 0.0, 0.0)
"""Of a model that runs in this process: nobody sends a bill."""


def price_of(model: str, file: Path | None, *, hosted: bool, batch: bool = False) -> Price | None:
    """The price of a model by the user's table or, for one on its maker's own servers (`hosted`), by pmem's.

    batch: for calls made through the batch API. None: not known. PmemError: the file is no such table.
    """
    for path in (file, OWN if hosted else None):
        if path:
            date, models = _read(path)
            entry = models.get(model) or models.get(SNAPSHOT.sub("", model))
            if entry:
                factor = entry.get("batch", 1.0) if batch else 1.0
                cached = entry.get("cached", entry["input"])
                return Price(entry["input"] * factor, cached * factor, entry["output"] * factor, date)
    return None


def _read(path: Path) -> tuple[str, dict[str, dict[str, float]]]:
    import tomllib

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise PmemError(f"{path}: no table of prices: {fault}") from None
    models = table.get("models")
    if not isinstance(models, dict):
        raise PmemError(f'{path}: no table of prices: expected [models."NAME"] with input and output')
    for name, entry in models.items():
        _check(path, name, entry)
    return str(table.get("date", "undated")), models


def _check(path: Path, name: str, entry: Any) -> None:
    sound = isinstance(entry, dict) and {"input", "output"} <= entry.keys() <= {"input", "cached", "output", "batch"}
    if not sound or not all(_is_price(price) for price in entry.values()):
        raise PmemError(
            f'{path}: [models."{name}"]: expected input and output (and cached, batch) as numbers that are not negative'
        )


def _is_price(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
