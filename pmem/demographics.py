"""Who a persona is before a word is written: region, country, language, gender, orientation and age, by weights."""

import math
import re
from collections.abc import Collection
from typing import Any

from .draws import Draw

SECTIONS = ("region", "gender", "orientation", "age")
_BAND = re.compile(r"(\d{1,3})-(\d{1,3})")


def draw_demographics(draw: Draw, weights: dict[str, Any]) -> dict[str, Any]:
    """Draw {"region", "country", "language" (BCP-47), "gender", "orientation", "age" (years)}.

    `weights` is what `lists.demographics` returns, which has checked it.
    """
    region = draw.weighted({name: table["weight"] for name, table in weights["region"].items()})
    countries = weights["region"][region]["countries"]
    country = draw.weighted({name: table["weight"] for name, table in countries.items()})
    return {
        "region": region,
        "country": country,
        "language": draw.weighted(countries[country]["languages"]),
        "gender": draw.weighted(weights["gender"]),
        "orientation": draw.weighted(weights["orientation"]),
        "age": draw.between(*_ages(draw.weighted(weights["age"]))),
    }


def check_demographics(weights: dict[str, Any], *, file: str, languages: Collection[str]) -> None:
    """Raise ValueError "file: key: fault" for the first fault of a table of weights.

    languages: the codes that a country's languages may have.
    """
    try:
        _check_sections(weights)
        for section in ("gender", "orientation", "age"):
            _check_weights(weights[section], section)
        for band in weights["age"]:
            _check_band(band)
        _check_places(weights["region"], "region", below="countries")
        for region, table in weights["region"].items():
            key = f"region.{region}.countries"
            _check_places(table["countries"], key, below="languages")
            for country, entry in table["countries"].items():
                _check_languages(entry["languages"], f"{key}.{country}.languages", languages)
    except _Fault as fault:
        raise ValueError(f"{file}: {fault}") from None


class _Fault(Exception):
    def __init__(self, key: str, what: str) -> None:
        super().__init__(f"{key}: {what}")


def _ages(band: str) -> tuple[int, int]:
    """First and last age of a band such as "25-34"."""
    low, high = band.split("-")
    return int(low), int(high)


def _check_sections(weights: dict[str, Any]) -> None:
    for section in SECTIONS:
        if section not in weights:
            raise _Fault(section, "this table is missing")
    for section in weights:
        if section not in SECTIONS:
            raise _Fault(section, f"not one of the tables {', '.join(SECTIONS)}")


def _check_table(table: Any, key: str) -> None:
    if not isinstance(table, dict):
        raise _Fault(key, f"expected a table, not {table!r}")
    if not table:
        raise _Fault(key, "the table is empty")


def _check_weights(table: Any, key: str) -> None:
    """A table from names to weights, at least one of them above 0."""
    _check_table(table, key)
    for name, weight in table.items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not (number and math.isfinite(weight) and weight >= 0):
            raise _Fault(f"{key}.{name}", f"expected a weight of 0 or more, not {weight!r}")
    if not any(table.values()):
        raise _Fault(key, "no weight is above 0")


def _check_places(table: Any, key: str, *, below: str) -> None:
    """A table of regions or countries, each with a weight and the table named `below`."""
    _check_table(table, key)
    for name, place in table.items():
        _check_table(place, f"{key}.{name}")
        for part in ("weight", below):
            if part not in place:
                raise _Fault(f"{key}.{name}", f"{part} is missing")
        for part in place:
            if part not in ("weight", below):
                raise _Fault(f"{key}.{name}.{part}", f"expected only weight and {below} here")
    _check_weights({f"{name}.weight": place["weight"] for name, place in table.items()}, key)


def _check_languages(table: Any, key: str, known: Collection[str]) -> None:
    _check_weights(table, key)
    for code in table:
        if code not in known:
            raise _Fault(f"{key}.{code}", "no such language in languages.toml")


def _check_band(band: str) -> None:
    match = _BAND.fullmatch(band)
    if not match:
        raise _Fault(f"age.{band}", "expected an age band such as 25-34")
    low, high = _ages(band)
    if not 18 <= low <= high <= 110:
        raise _Fault(f"age.{band}", "expected ages from 18 (personas are adults) to 110, the lower one first")
