"""The lists hold together, and draws from them follow their weights."""

import json
import math
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pmem import lists
from pmem.demographics import draw_demographics
from pmem.draws import Draw

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "schemas" / "conversation.schema.json"
FILES = sorted((ROOT / "pmem" / "lists").glob("*.toml"))
TRANSLATION = [
    "en",
    "hi",
    "zh",
    "ja",
    "ko",
    "fr",
    "de",
    "es",
    "ar",
    "vi",
    "it",
    "th",
    "pt",
    "he",
    "uk",
    "tr",
    "pl",
    "nl",
    "id",
    "sw",
]
ORDINARY = {"stereotypical", "anti_stereotypical", "neutral"}
DRAWS = 6000


@pytest.fixture(scope="module")
def people() -> list[dict[str, Any]]:
    weights = lists.demographics()
    return [draw_demographics(Draw(3, f"p-{i}", "demographics"), weights) for i in range(DRAWS)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_list_says_what_it_is_and_who_reads_it(file: Path) -> None:
    header = file.read_text(encoding="utf-8").split("\n\n")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert "Read by `pmem" in header and "Users may replace it" in header


def test_load_reads_a_file_once() -> None:
    assert lists.load("topics") is lists.load("topics")


def test_languages() -> None:
    names = lists.languages()
    assert len(names) >= 45 and len(set(names.values())) == len(names)
    assert all(re.fullmatch(r"[a-z]{2,3}", code) for code in names)
    assert names["sw"] == "Swahili"
    assert set(TRANSLATION) <= set(lists.translation_languages()) < set(names)
    assert all(set(entry) <= {"name", "translation"} for entry in lists.load("languages").values())


def test_topics() -> None:
    groups = lists.topics()
    every = [topic for group in groups.values() for topic in group]
    assert len(every) >= 325 and len(set(every)) == len(every)
    assert len(groups) >= 25 and min(len(group) for group in groups.values()) >= 13
    assert {"physical_health", "mental_wellbeing"} <= set(groups)
    assert all(topic == topic.lower().strip() and 1 <= len(topic.split()) <= 5 for topic in every)


def test_scenarios_are_well_formed() -> None:
    for name, scenario in lists.scenarios().items():
        assert {"title", "weight", "suits", "owners", "brief"} <= set(scenario), name
        assert set(scenario) <= {"title", "weight", "suits", "owners", "brief", "needs", "turns"}, name
        assert scenario["weight"] > 0
        assert scenario["suits"] and set(scenario["suits"]) <= ORDINARY | {"health", "therapy"}
        assert "self" in scenario["owners"] and set(scenario["owners"]) <= {"self", "other", "hypothetical"}
        brief = scenario["brief"]
        assert 3 <= len(re.findall(r"[.?!](?=\s)", brief)) <= 8 and brief.startswith("\n") is False, name
        assert not re.search(r"[{}$]|\n.", brief), f"{name}: one paragraph, nothing that looks like a placeholder"
        assert "The assistant" in brief
    suited = {kind for scenario in lists.scenarios().values() for kind in scenario["suits"]}
    assert suited == ORDINARY | {"health", "therapy"}


def test_scenarios_by_owner() -> None:
    owned = {who: {n for n, s in lists.scenarios().items() if who in s["owners"]} for who in ("other", "hypothetical")}
    assert owned["other"] == {
        *("personal_email", "professional_email", "chat_message", "social_media_post", "translation"),
    }
    assert owned["hypothetical"] == {"knowledge_query", "creative_writing"}
    assert [n for n, s in lists.scenarios().items() if s.get("needs") == "images"] == ["photo_query"]


@pytest.mark.skipif(not SCHEMA.exists(), reason="the schema is not written yet")
def test_scenarios_are_those_of_the_schema() -> None:
    enum = json.loads(SCHEMA.read_text())["properties"]["scenario"]["enum"]
    assert sorted(lists.scenarios()) == sorted(enum) and len(enum) == 11


def test_every_country_is_in_one_region_and_speaks_known_languages() -> None:
    regions = lists.demographics()["region"]
    countries = [country for region in regions.values() for country in region["countries"]]
    assert 12 <= len(regions) <= 18 and len(set(countries)) == len(countries) >= 100
    used = {
        code for region in regions.values() for entry in region["countries"].values() for code in entry["languages"]
    }
    assert used <= set(lists.languages())


def test_draws_are_reproducible() -> None:
    weights = lists.demographics()
    first = draw_demographics(Draw(1, "p-1", "demographics"), weights)
    assert first == draw_demographics(Draw(1, "p-1", "demographics"), weights)
    assert list(first) == ["region", "country", "language", "gender", "orientation", "age"]


@pytest.mark.parametrize("key", ["region", "gender", "orientation"])
def test_draws_follow_the_weights(key: str, people: list[dict[str, Any]]) -> None:
    table = lists.demographics()[key]
    weights = {name: entry["weight"] if key == "region" else entry for name, entry in table.items()}
    _assert_shares(Counter(person[key] for person in people), weights)


def test_countries_and_languages_follow_the_weights(people: list[dict[str, Any]]) -> None:
    for name, region in lists.demographics()["region"].items():
        there = [person for person in people if person["region"] == name]
        assert {person["country"] for person in there} <= set(region["countries"])
        _assert_shares(
            Counter(person["country"] for person in there), {c: e["weight"] for c, e in region["countries"].items()}
        )
        for country, entry in region["countries"].items():
            spoken = Counter(person["language"] for person in there if person["country"] == country)
            assert set(spoken) <= set(entry["languages"])
            if spoken:
                _assert_shares(spoken, entry["languages"])


def test_ages_follow_the_weights(people: list[dict[str, Any]]) -> None:
    bands = lists.demographics()["age"]
    ages = Counter(person["age"] for person in people)
    assert min(ages) == 18 and max(ages) == 85
    found = Counter({band: sum(ages[age] for age in _years(band)) for band in bands})
    assert found.total() == DRAWS, "bands meet without overlap or gap"
    _assert_shares(found, bands)


def _years(band: str) -> range:
    low, high = band.split("-")
    return range(int(low), int(high) + 1)


def _assert_shares(found: Counter[str], weights: dict[str, float]) -> None:
    """Each share within 5 standard errors of its weight's (the draws are fixed: this can't fail by chance later)."""
    n, total = found.total(), sum(weights.values())
    for name, weight in weights.items():
        share = weight / total
        assert abs(found[name] - n * share) <= 5 * math.sqrt(n * share * (1 - share)) + 1, name


GOOD = """
[gender]
woman = 1
[orientation]
queer = 1
[age]
30-39 = 1
[region.Europe]
weight = 1
[region.Europe.countries]
France = { weight = 1, languages = { fr = 1 } }
"""


def test_a_replacement_file_is_drawn_from(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(GOOD)
    person = draw_demographics(Draw(1, "p-1", "demographics"), lists.demographics(file))
    assert 30 <= person.pop("age") <= 39
    assert person == {
        "region": "Europe", "country": "France", "language": "fr", "gender": "woman", "orientation": "queer"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("[gender]\nwoman = 1", "", "gender: this table is missing"),
        ("[gender]\nwoman = 1", "gender = 3", "gender: expected a table, not 3"),
        ("[gender]\nwoman = 1", "[gender]", "gender: the table is empty"),
        ("woman = 1", "woman = 0", "gender: no weight is above 0"),
        ("woman = 1", "woman = -2", "gender.woman: expected a weight of 0 or more, not -2"),
        ("woman = 1", "woman = nan", "gender.woman: expected a weight of 0 or more, not nan"),
        ("woman = 1", "woman = true", "gender.woman: expected a weight of 0 or more, not True"),
        ("queer = 1", "queer = 'much'", "orientation.queer: expected a weight of 0 or more, not 'much'"),
        ("[gender]", "[hobby]\nchess = 1\n[gender]", "hobby: not one of the tables region, gender, orientation, age"),
        ("30-39", "thirties", "age.thirties: expected an age band such as 25-34"),
        ("30-39", "12-17", "age.12-17: expected ages from 18 (personas are adults) to 110, the lower one first"),
        ("30-39", "39-30", "age.39-30: expected ages from 18 (personas are adults) to 110, the lower one first"),
        ("weight = 1\n", "", "region.Europe: weight is missing"),
        ("weight = 1\n", "weight = 1\nwieght = 2\n", "region.Europe.wieght: expected only weight and countries here"),
        ("France = {", "France = 3 #", "region.Europe.countries.France: expected a table, not 3"),
        (", languages = { fr = 1 }", "", "region.Europe.countries.France: languages is missing"),
        (
            "weight = 1,",
            "weight = 'x',",
            "region.Europe.countries.France.weight: expected a weight of 0 or more, not 'x'",
        ),
        ("fr = 1", "xx = 1", "region.Europe.countries.France.languages.xx: no such language in languages.toml"),
    ],
)
def test_a_malformed_file_is_named_with_key_and_fault(old: str, new: str, fault: str, tmp_path: Path) -> None:
    assert old in GOOD
    file = tmp_path / "mine.toml"
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ValueError) as raised:
        lists.demographics(file)
    assert str(raised.value) == f"{file}: {fault}"


@pytest.mark.parametrize("content", [b"[gender", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="not a TOML file") as raised:
        lists.demographics(file)
    assert str(raised.value).startswith(f"{file}: ") and not isinstance(raised.value, tomllib.TOMLDecodeError)
