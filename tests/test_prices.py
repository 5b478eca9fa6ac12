"""What calls cost: the table of prices, a user's own over it, and what is not known."""

from datetime import date
from pathlib import Path

import pytest

from pmem.backends.base import Usage
from pmem.backends.prices import FREE, OWN, Price, _read, price_of
from pmem.backends.usage import Tally, dollars
from pmem.errors import PmemError
from tests.command import people, pmem

TABLE = """
date = "2030-02-03"
[models."mine"]
input = 2.0
cached = 0.5
output = 8.0
batch = 0.5
[models."gpt-5"]
input = 9
output = 10
[models."mine-0101"]
input = 1.0
output = 1.0
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "prices.toml").write_text(TABLE)
    return tmp_path / "prices.toml"


def test_a_call_as_computed_by_hand(table: Path) -> None:
    price = price_of("mine", table, hosted=False)
    assert price == Price(2.0, 0.5, 8.0, "2030-02-03")
    # 400 fresh tokens, 600 cached ones, 100 of the reply (70 of them reasoning, which is part of it)
    assert price.of(Usage(1000, 600, 100, 70)) == pytest.approx((400 * 2 + 600 * 0.5 + 100 * 8) / 1e6)
    assert price_of("mine", table, hosted=False, batch=True) == Price(1.0, 0.25, 4.0, "2030-02-03")
    undivided = price_of("gpt-5", table, hosted=False, batch=True)
    assert undivided == Price(9, 9, 10, "2030-02-03")  # neither cheaper where cached nor in batches


def test_snapshots_have_the_price_of_their_model(table: Path) -> None:
    for name in ("gpt-5", "gpt-5-2025-08-07", "gpt-5-0807"):
        assert price_of(name, None, hosted=True) == price_of("gpt-5", None, hosted=True)
        assert price_of(name, table, hosted=True) == Price(9, 9, 10, "2030-02-03")  # the user's own goes first
    assert price_of("mine-0101", table, hosted=False) == Price(1, 1, 1, "2030-02-03")  # but the very name before all
    for name in ("gpt-5-pro-x", "gpt-51", "gpt", "", "mine2-0101", "gpt-5-20250807"):
        assert price_of(name, table, hosted=True) is None


def test_what_is_not_known_is_never_nothing(table: Path) -> None:
    assert price_of("gpt-5", None, hosted=False) is None  # of that name, but on another server
    assert price_of("gpt-5-mini", table, hosted=True) == price_of("gpt-5-mini", None, hosted=True)
    unknown, free = Tally("openai:x"), Tally("local:x", price=FREE)
    for tally in (unknown, free):
        tally.calls += 1
        tally.add(Usage(10, 0, 5))
    assert (unknown.cost, free.cost) == (None, 0)
    assert unknown.record("qa")["cost_usd"] is None and unknown.record("qa")["prices"] is None
    assert free.record("qa")["cost_usd"] == 0 and free.record("qa")["prices"] is None
    assert unknown.report() == "1 calls to openai:x, 10 tokens in, 5 out, cost unknown"
    assert free.report() == "1 calls to local:x, 10 tokens in, 5 out"


def test_the_tables_own_figures_are_sound() -> None:
    told, models = _read(OWN)
    assert date.fromisoformat(told) < date.today() and len(models) > 10
    for name, entry in models.items():
        assert 0 < entry.get("cached", entry["input"]) <= entry["input"] < entry["output"] < 1000, name
        assert entry.get("batch", 1) in (0.5, 1), name


FAULTY = {
    "": 'expected [models."NAME"] with input and output',
    "models = 3": 'expected [models."NAME"] with input and output',
    "[models": "no table of prices: ",
    '[models."x"]\ninput = 1': '[models."x"]: expected input and output',
    '[models."x"]\ninput = 1\noutput = -1': "as numbers that are not negative",
    '[models."x"]\ninput = 1\noutput = "2"': '[models."x"]: expected',
    '[models."x"]\ninput = 1\noutput = nan': '[models."x"]: expected',
    '[models."x"]\ninput = 1\noutput = 2\ncache = 1': '[models."x"]: expected',
    "[models]\nx = 1": '[models."x"]: expected',
    "\udcff": "no table of prices: ",
}


@pytest.mark.parametrize("text", FAULTY)
def test_a_faulty_table_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.toml").write_text(text, errors="surrogateescape")
    with pytest.raises(PmemError) as caught:
        price_of("y", tmp_path / "p.toml", hosted=True)
    said = caught.value.format_message()
    assert said.startswith(f"{tmp_path}/p.toml: ") and FAULTY[text] in said and "\n" not in said


def test_a_faulty_table_stops_the_command_before_any_call(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("models = 3")
    run = ["personas", "-m", "openai:x", "--base-url", "http://127.0.0.1:9/v1", "--prices"]
    ran = pmem(*run, "p.toml", folder=tmp_path, input=people(1))
    assert (
        ran.status == 1
        and ran.err == 'pmem: p.toml: no table of prices: expected [models."NAME"] with input and output\n'
    )
    assert pmem(*run, "none.toml", folder=tmp_path, input=people(1)).status == 2


def test_amounts_for_people() -> None:
    told = {0: "$0.00", 1234.5: "$1,234.50", 0.1: "$0.10", 0.0347: "$0.035", 0.00012: "$0.00012", 0.0000012: "$1.2e-06"}
    assert {amount: dollars(amount) for amount in told} == told
