"""`pmem stats`: its numbers against those counted another way, its figures, its memory."""

import statistics
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmem.report.distribution_table import text
from pmem.report.distributions import Distributions, spread
from pmem.report.facts import facts
from pmem.report.figures import draw
from tests.command import lines, peak, pmem, sample

Record = dict[str, Any]


def counted(*records: Record, by: list[tuple[str, ...]] | None = None) -> Distributions:
    found = Distributions(by or [])
    for record in records:
        for one in facts(record):
            found.count(one)
    return found


def fields(found: Distributions, section: str) -> dict[str, dict[str, int]]:
    return {name: dict(values) for name, values in found.sections[section].fields().items()}


# ---- counts ------------------------------------------------------------------------------------------------------


def test_a_persona_and_its_preferences() -> None:
    found = counted(sample("persona"))
    assert fields(found, "persona") == {
        "language": {"tr": 1},
        "secret": {"phone_number": 1},
        "draws.region": {"Western Asia": 1},
        "draws.languages": {"tr": 1, "de": 1},
        "labels.region": {"Western Asia": 1},
    }
    assert fields(found, "preference") == {
        "kind": {"stereotypical": 1, "neutral": 1, "anti_stereotypical": 1},
        "owner": {"self": 2, "other": 1},
        "updates": {"no": 2, "yes": 1},
        "forget": {"no": 2, "yes": 1},
        "topic": {"dinner": 2, "collecting": 1},
    }


def test_a_question_and_its_votes() -> None:
    found = counted(sample("qa"), sample("qa-imported"))
    qa = fields(found, "qa")
    assert qa["case"] == {"updated": 1, "(none)": 1} and qa["gold"] == {"B": 1, "(none)": 1}
    assert qa["distractors"] == {"old_preference": 1, "random_preference": 1, "generic": 1}
    assert qa["labels.region"] == {"Western Asia": 1}
    assert fields(found, "vote")["vote"] == {"blind pass": 1, "form unclear": 1}
    assert found.sections["qa"].spreads()["distance_tokens 32k"].count == 1  # null in the other window


def test_depth_is_the_middle_of_a_conversation() -> None:
    history = sample("history")
    (session,) = [one for one in history["sessions"] if one["what"] == "conversation"]
    expected = 100 * (session["token_start"] + session["tokens"] / 2) / history["tokens"]
    found = counted(history)
    assert found.sections["conversation in 32k"].spreads()["depth_percent"].median == pytest.approx(expected, abs=0.05)
    low = int(expected // 10) * 10
    assert fields(found, "conversation in 32k")["depth"] == {f"{low}-{low + 10}%": 1}
    assert "depth" not in fields(found, "filler in 32k")
    fill = found.sections["history 32k"].spreads()["fill_percent"]
    assert (fill.median, fill.total) == (0.3, None)


def test_what_an_error_holds_is_not_counted_as_such() -> None:
    found = counted(sample("error"), {**sample("error"), "record": {"type": 5}})
    assert set(found.sections) == {"error"}
    assert fields(found, "error")["holds"] == {"persona": 1, "no record": 1}


def test_a_date_that_no_calendar_has(tmp_path: Path) -> None:
    history = sample("history")
    history["sessions"][0]["date"] = "2025-02-30"
    assert pmem("stats", folder=tmp_path, input=lines([history])).status == 0


@given(st.lists(st.integers(-50, 50) | st.sampled_from([0.5, 99.9]), min_size=1))
def test_spreads_from_counts(values: list[float]) -> None:
    found = spread(Counter(values))
    assert (found.count, found.min, found.max) == (len(values), min(values), max(values))
    assert found.median == statistics.median(values)
    assert found.mean == pytest.approx(statistics.fmean(values))
    assert found.total == pytest.approx(sum(values))


def test_tokens_are_counted_when_asked_for(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "hello world"}, {"role": "assistant", "content": "hello world"}]
    input = lines([{**sample("filler"), "messages": said}])
    for options, expected in ((["--tokens"], 2 * (2 + 4)), ([], None)):
        ran = pmem("stats", "--json", *options, folder=tmp_path, input=input)
        sizes = orjson.loads(ran.out)["sections"][0]["sizes"]
        assert sizes.get("tokens", {}).get("total") == expected


def test_per_persona() -> None:
    questions = [{**sample("qa"), "persona_id": f"p-{number:016x}"} for number in (1, 1, 1, 2, 2, 3)]
    found = counted(*questions)
    assert len(found.sections["qa"].personas) == 3
    per_persona = found.sections["qa"].spreads()["per_persona"]
    assert (per_persona.min, per_persona.median, per_persona.max, per_persona.total) == (1, 2, 3, 6)


# ---- tables ------------------------------------------------------------------------------------------------------


def filler(source: str) -> Record:
    return {**sample("filler"), "source": source}


def test_a_long_list_is_cut_and_adds_up() -> None:
    found = counted(*(filler(f"file{n:03}") for n in range(400) for _ in range(1 + (n < 5))))
    shown = text(found).splitlines()
    start = shown.index("  source") + 1
    assert [line.split() for line in shown[start : start + 5]] == [[f"file{n:03}", "2", "0%"] for n in range(5)]
    assert shown[start + 12].split() == ["and", "388", "more", "388", "96%"]
    assert text(found, everything=True).count("file") == 400


def test_values_cannot_break_the_table() -> None:
    shown = text(counted(filler("a\nb\x1b[31m" + "x" * 500), filler("")))
    assert "\x1b" not in shown and max(map(len, shown.splitlines())) < 80 and '""' in shown


def test_cross_counts(tmp_path: Path) -> None:
    persona = sample("persona")
    found = counted(persona, persona, by=[("language", "kind"), ("labels.region", "owner"), ("secret",)])
    assert found.crossed["language", "kind"] == {
        "preference": {("tr", "neutral"): 2, ("tr", "stereotypical"): 2, ("tr", "anti_stereotypical"): 2}
    }
    assert found.crossed["labels.region", "owner"]["preference"]["Western Asia", "self"] == 4
    assert found.crossed["secret",] == {"persona": {("phone_number",): 2}}  # no table of the parts of personas
    input = lines([persona, sample("qa")])
    ran = pmem("stats", "--by", "kind,owner", folder=tmp_path, input=input)
    assert ran.out.decode().splitlines()[-3:] == [
        "  kind     self  total",
        "  neutral     1      1",
        "  total       1      1",
    ]
    failed = pmem("stats", "--by", "kind,colour", "--by", "shape", folder=tmp_path, input=input)
    assert failed.status == 1 and failed.out == b"" and "no record has colour, shape; there are case, " in failed.err
    assert "prediction" not in failed.err and len(failed.err.splitlines()) == 1


def test_an_empty_stream_has_every_field(tmp_path: Path) -> None:
    assert pmem("stats", "--by", "kind", folder=tmp_path).status == 0


# ---- figures -----------------------------------------------------------------------------------------------------


def test_figures(tmp_path: Path) -> None:
    sources = ["$5 or $10", "<b>&", "漢字", "x" * 300, "_$_{", "%s"]
    given = [*(filler(one) for one in sources), *(filler("y") for _ in range(3)), sample("usage")]
    ran = pmem("stats", "--figures", "new/one", folder=tmp_path, input=lines(given))
    assert ran.status == 0 and "2 figures in new/one" in ran.err and "Warning" not in ran.err
    first, second = tmp_path / "new" / "one", tmp_path / "two"
    draw(counted(*given), second)
    names = sorted(path.name for path in first.iterdir())
    assert names == ["filler.png", "filler.svg"]  # one usage record differs in nothing
    for name in names:
        drawn = (first / name).read_bytes()
        assert drawn == (second / name).read_bytes()
        assert (
            drawn.startswith(b"\x89PNG") if name.endswith("png") else ElementTree.fromstring(drawn).tag.endswith("svg")
        )


@pytest.mark.parametrize("module", ["matplotlib"])
def test_a_missing_extra_is_one_line(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text("raise ImportError\n")
    env = {"PYTHONPATH": str(tmp_path)}
    ran = pmem("stats", "--figures", "f", folder=tmp_path, input=lines([sample("qa"), sample("qa-imported")]), env=env)
    assert ran.status == 1 and ran.out == b"" and not (tmp_path / "f").exists()
    assert ran.err == "pmem: --figures needs the extra 'report', which is not installed: pip install 'pmem[report]'\n"


def test_figures_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    input = lines([sample("qa"), sample("qa-imported")])
    ran = pmem("stats", "--figures", "file/f", folder=tmp_path, input=input)
    assert ran.status == 1 and len(ran.err.splitlines()) == 1 and "file/f" in ran.err


# ---- size --------------------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_stream(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines([sample("qa")]) * 10_000)
    code = "from pmem.cli import main\nmain(['stats', 'in.jsonl', '-q', '-o', 'out', *sys.argv[1:]], prog_name='pmem')"
    little, much = (peak(code, *limit, folder=tmp_path) for limit in (["--limit", "500"], []))
    assert much < 100 and much - little < 10
