"""Other people's layouts: round trips of the published sample and of pmem's own data, and what a folder holds."""

import ast
import csv
import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from pmem import check
from pmem.errors import InputError, OutputError, RecordError
from pmem.formats.hugging_face import columns
from pmem.formats.personamem_v2 import cells, layout
from pmem.formats.personamem_v2.labels import Labels
from pmem.prompts import describe
from pmem.stream.folder import Folder
from tests.command import RECORDS, pmem, sample
from tests.record import lines_of

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "pmem" / "demo"
SAMPLE = ROOT.parent / "shared" / "data" / "personamem_v2"
HISTORY = "chat_history_250831_232015_persona0.json"
RAW = "raw_data_250815_143643_persona0.json"
NUMBERS = "stereotypical=3,anti_stereotypical=2,neutral=2,health=1,therapy=1"
STREAMS = ("--histories", "h.jsonl", "--personas", "p.jsonl")

Record = dict[str, Any]


def imported(source: str, folder: Path, *, prefix: str = "") -> tuple[bytes, bytes, bytes]:
    """What importing a data set gives: questions, histories, personas; all valid."""
    names = [f"{prefix}{name}.jsonl" for name in "qhp"]
    ran = pmem(
        "import", "personamem-v2", source, "-o", names[0], "--histories", names[1], "--personas", names[2],
        folder=folder,
    )  # fmt: skip
    assert ran.status == 0, ran.err
    assert pmem("validate", *names, folder=folder).status == 0
    questions, histories, personas = ((folder / name).read_bytes() for name in names)
    return questions, histories, personas


# ---- the published sample -----------------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The published files, each where its data set has it."""
    if not SAMPLE.is_dir():
        pytest.skip("the published sample is not here")
    folder = tmp_path / "published"
    for name, place in (
        ("benchmark_rows.DERIVED.csv", "benchmark/text/benchmark.csv"),
        (HISTORY, f"data/chat_history/{HISTORY}"),
        (RAW.replace(".json", ".PARTIAL.json"), f"data/raw_data/{RAW}"),
    ):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SAMPLE / name, folder / place)
    return folder


def test_the_published_sample_goes_there_and_back(published: Path, tmp_path: Path) -> None:
    first = imported("published", tmp_path)
    assert pmem("export", "personamem-v2", "q.jsonl", *STREAMS, "-o", "again", folder=tmp_path).status == 0
    for name in ("benchmark/text/benchmark.csv", f"data/chat_history/{HISTORY}"):
        assert (tmp_path / "again" / name).read_bytes() == (published / name).read_bytes()
    before, after = (
        orjson.loads((where / "data/raw_data" / RAW).read_bytes())["0"] for where in (published, tmp_path / "again")
    )
    del before["conversations"]  # the rows and the history over again
    assert after == before
    assert imported("again", tmp_path, prefix="second-") == first


def test_the_published_sample_as_records(published: Path, tmp_path: Path) -> None:
    questions, histories, personas = (
        list(map(orjson.loads, lines.splitlines())) for lines in imported("published", tmp_path)
    )
    assert [q["case"] for q in questions] == ["forgotten", "own", "own", "sensitive"]
    assert {q["split"] for q in questions} == {"bench"}
    forgotten, pizza, _, sensitive = questions
    assert forgotten["preference"]["text"] == "Participates in cultural dance workshops"
    assert forgotten["preference"]["kind"] == "stereotypical", "by the raw persona file: the row doesn't tell"
    assert forgotten["preference"]["forget"] and forgotten["query_topic"] is None
    assert pizza["options"]["ABCD".index(pizza["gold"])] == pizza["answer"]
    assert (sensitive["query_topic"], sensitive["preference"]) == ("travel", None)
    assert sensitive["secret"] == {"id": f"{personas[0]['id']}/x07", "kind": "drivers_license", "value": "D39284715029"}
    (history,) = histories
    assert history["system"].startswith("You are an AI assistant helping a user with the following persona")
    assert len(history["messages"]) == 266 and history["messages"][-1]["role"] == "user"
    assert sum(isinstance(message["content"], list) for message in history["messages"]) == 1
    roles = [message["role"] for message in history["messages"]]
    assert sum(pair == ("user", "user") for pair in pairwise(roles)) == 27
    assert pizza["histories"]["32k"] == {
        "id": history["id"], "distance_tokens": None, "relevant_tokens": 31726, "filler_tokens": 0,
    }  # fmt: skip
    (persona,) = personas
    assert (persona["name"], persona["language"]) == ("Amara Nwosu", "en")
    assert persona["profile"]["general"]["age"] == "28"
    updates = [one for one in persona["preferences"] if one["updates"]]
    assert len(updates) == 28, "each of preference_updates"


def test_without_linked_files_the_rows_alone_go_there_and_back(published: Path, tmp_path: Path) -> None:
    shutil.rmtree(published / "data")
    first = imported("published", tmp_path)
    assert [q["histories"] for q in map(orjson.loads, first[0].splitlines())] == [{}] * 4
    assert first[1] == b""
    assert (
        pmem("export", "personamem-v2", "q.jsonl", "--personas", "p.jsonl", "-o", "again", folder=tmp_path).status == 0
    )
    table = "benchmark/text/benchmark.csv"
    assert (tmp_path / "again" / table).read_bytes() == (published / table).read_bytes()


# ---- pmem's own data ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's records, in the windows that the layout has columns for."""
    folder = tmp_path_factory.mktemp("own")
    script = f"""
    set -euo pipefail
    pmem personas {DEMO}/seeds.jsonl -m recorded:demo --seed 997 --preferences {NUMBERS} -o p.jsonl -q
    pmem converse p.jsonl -m recorded:demo --seed 997 --images {DEMO}/images -q \
      | pmem assemble --seed 997 --window 32k --window 128k --filler {DEMO}/filler.jsonl -o h.jsonl -q
    pmem qa h.jsonl -m recorded:demo --seed 997 -q | pmem judge -m recorded:demo --seed 997 -o q.jsonl -q
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["bash", "-c", script], cwd=folder, env={**os.environ, "PATH": path}, check=True)
    return folder


def by_query(questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(questions, key=lambda one: str(one["query"]))


NOT_CARRIED = {"id", "options", "gold", "distractors", "votes", "provenance"}
"""What the layout has no place for: ids, the order of options, how wrong answers were made, votes."""


def test_own_data_keep_what_the_layout_can_carry(made: Path, tmp_path: Path) -> None:
    streams = [str(made / name) for name in ("h.jsonl", "p.jsonl")]
    ran = pmem(
        "export", "personamem-v2", made / "q.jsonl", "--histories", streams[0], "--personas", streams[1], "-o", "own",
        folder=tmp_path,
    )  # fmt: skip
    assert ran.status == 0, ran.err
    questions, histories, personas = imported("own", tmp_path)
    assert personas == (made / "p.jsonl").read_bytes()
    assert histories == (made / "h.jsonl").read_bytes()
    before = by_query(lines_of(made / "q.jsonl"))  # those with photos have a table of their own
    after = by_query([orjson.loads(line) for line in questions.splitlines()])
    assert {q["case"] for q in before} == {"own", "updated", "forgotten", "other", "sensitive"}
    for one, other in zip(before, after, strict=True):
        lost = NOT_CARRIED | ({"preference"} if one["case"] == "sensitive" else set())
        assert {key: one[key] for key in one if key not in lost} == {key: other[key] for key in one if key not in lost}
        assert [wrong["text"] for wrong in other["distractors"]] == [wrong["text"] for wrong in one["distractors"]]
        assert other["options"]["ABCD".index(other["gold"])] == one["answer"]
        assert "labels" not in other, "nothing had to be kept aside"


def test_own_data_fill_all_columns(made: Path, tmp_path: Path) -> None:
    streams = ["--histories", made / "h.jsonl", "--personas", made / "p.jsonl"]
    assert pmem("export", "personamem-v2", made / "q.jsonl", *streams, "-o", "own", folder=tmp_path).status == 0
    rows = []
    for table in ("text", "multimodal"):
        with (tmp_path / f"own/benchmark/{table}/unsplit.csv").open(newline="", encoding="utf-8") as file:
            rows += list(csv.DictReader(file))
    assert tuple(rows[0]) == layout.COLUMNS
    rows.sort(key=lambda row: str(ast.literal_eval(row["user_query"])["content"]))
    histories = {one["id"]: one for one in lines_of(made / "h.jsonl")}
    for row, qa in zip(rows, by_query(lines_of(made / "q.jsonl")), strict=True):
        assert [column for column, cell in row.items() if not cell and column != "prev_pref"] == []
        assert bool(row["prev_pref"]) == (qa["case"] in ("updated", "forgotten")) == (row["updated"] == "True")
        for window in ("32k", "128k"):
            told = json.loads((tmp_path / "own" / row[f"chat_history_{window}_link"]).read_text(encoding="utf-8"))
            history = histories[qa["histories"][window]["id"]]
            assert told["chat_history"] == history["messages"]
            assert (
                told["metadata"]["final_token_count"]
                == int(row[f"total_tokens_in_chat_history_{window}"])
                == history["tokens"]
            )
        assert row["pref_type"] in {*LABELS["kind"], *LABELS["case"]}
        assert row["pref_type"] == LABELS_OF.get(qa["case"], row["pref_type"])


LABELS = {
    "kind": {
        "stereotypical_pref", "anti_stereotypical_pref", "neutral_preferences", "health_and_medical_conditions",
        "therapy_background",
    },
    "case": {"ask_to_forget", "sensitive_info"},
}  # fmt: skip
LABELS_OF = {"forgotten": "ask_to_forget", "sensitive": "sensitive_info"}


# ---- cells and labels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("{'role': 'user', 'content': 'Why?'}", "Why?"),
        ("""{"role": "user", "content": "It's \\"new\\"."}""", 'It\'s "new".'),
        (
            "{'role': 'user', 'content': [{'type': 'text', 'text': 'What is it?'}, {'type': 'image_url'}]}",
            "What is it?",
        ),
        ("{'role': 'user', 'content': 'a \\d'}", "a \\d"),
    ],
)
def test_a_query_is_a_dict_literal(cell: str, text: str) -> None:
    assert cells.query(cell) == text


@pytest.mark.parametrize(
    "cell",
    ["Why?", "", "['a']", "{'role': 'user'}", "{'content': 3}", "__import__('os').system('true')", "[" * 5000,
     "{'content': '\\ud800'}", "{'content': [3]}"],
)  # fmt: skip
def test_what_is_no_query_is_refused(cell: str) -> None:
    with pytest.raises(RecordError, match="expected a Python dict literal"):
        cells.query(cell)


@pytest.mark.parametrize(("cell", "number"), [("", None), ("0", 0), ("31726", 31726), ("31726.0", 31726)])
def test_numbers_of_tokens(cell: str, number: int | None) -> None:
    assert cells.number("distance_from_related_snippet_to_query_32k", cell) == number


@pytest.mark.parametrize("cell", ["many", "1.5", "nan", "inf"])
def test_what_is_no_number_of_tokens_is_refused(cell: str) -> None:
    with pytest.raises(RecordError, match="expected a number of tokens"):
        cells.number("distance_from_related_snippet_to_query_32k", cell)


def test_a_kept_cell_gives_way_when_the_record_was_changed() -> None:
    """The labels keep how a row was written; what it says is in the fields."""
    labels = Labels()
    qa = sample("qa") | {"query": "Why?", "labels": {}}
    row = cells.cells(qa, labels) | {"user_query": '{"role": "user", "content": "Why?"}', "topic_query": ": meals"}
    qa["labels"] = cells.kept(row, cells.cells(qa, labels))
    assert cells.restored(cells.cells(qa, labels), qa, labels) == row
    changed = qa | {"query": "How?"}
    assert cells.restored(cells.cells(changed, labels), changed, labels)["user_query"] == repr(
        {"role": "user", "content": "How?"}
    )
    assert cells.restored(cells.cells(changed, labels), changed, labels)["topic_query"] == ": meals"


def test_every_label_of_the_schemas_has_a_published_one() -> None:
    labels, schema = Labels(), check.schema("qa")
    for table, values in (
        ("kind", schema["$defs"]["preference"]["properties"]["kind"]["enum"]),
        ("scenario", schema["properties"]["scenario"]["enum"]),
        ("who", schema["$defs"]["owner"]["properties"]["who"]["enum"]),
        ("secret", schema["$defs"]["secret"]["properties"]["kind"]["enum"]),
    ):
        for own in values:
            if own is not None:
                assert labels.own(table, labels.published(table, own)) == own


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[kind]\nneutral = ['a']\n", "the table \\[case\\] is missing"),
        ("[kind]\nmood = ['a']\n", "kind.mood: no label of pmem"),
        ("[kind]\nneutral = [3]\n", "kind.neutral: expected a list"),
        ("[kind", "not a TOML file"),
    ],
)
def test_a_faulty_file_of_labels_is_named(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(InputError, match=fault) as raised:
        Labels(tmp_path / "mine.toml")
    assert "mine.toml" in str(raised.value)


@pytest.mark.parametrize("link", ["/etc/passwd", "../up.json", "a/../../up.json", "a\0b", ""])
def test_a_link_stays_inside(link: str) -> None:
    with pytest.raises(RecordError, match="leads out of the data set"):
        layout.inside(link)


@pytest.mark.parametrize(("case", "missing"), [("sensitive", "secret"), ("own", "preference"), ("updated", "previous")])
def test_what_an_import_does_not_tell_no_judge_is_asked_about(case: str, missing: str) -> None:
    qa = sample("qa") | {"case": case, missing: None}
    with pytest.raises(RecordError, match=f"judges must know the question's {missing}"):
        describe.facts(qa)


def test_a_row_without_its_raw_persona_file(tmp_path: Path) -> None:
    """Kinds come from the row, ids from the text; no label stands for what isn't known."""
    source = ROOT / "tests/golden/import/round-trip/up"
    shutil.copytree(source / "benchmark", tmp_path / "up" / "benchmark")
    questions, histories, personas = imported("up", tmp_path)
    own, updated, forgotten, sensitive, other, bare, photo = map(orjson.loads, questions.splitlines())
    assert (own["preference"]["kind"], forgotten["preference"]["kind"]) == ("neutral", None)
    assert (
        updated["previous"]["kind"] == "stereotypical" and updated["preference"]["updates"] == updated["previous"]["id"]
    )
    assert (sensitive["secret"], sensitive["preference"], bare["preference"]) == (None, None, None)
    assert other["preference"]["owner"] == {"who": "other", "relation": None}
    assert (photo["scenario"], photo["query"]) == ("photo_query", "How warm will these be?")
    assert histories == b""
    assert [(one["language"], one["preferences"]) for one in map(orjson.loads, personas.splitlines())] == [("nb", [])]


# ---- a Hugging Face dataset folder --------------------------------------------------------------------------------


def fits(feature: Record, value: Any) -> bool:
    """Whether a value is of a declared Arrow type; null always is."""
    if value is None:
        return True
    if "struct" in feature:
        parts = {part["name"]: part for part in feature["struct"]}
        return (
            isinstance(value, dict) and set(value) == set(parts) and all(fits(parts[key], value[key]) for key in parts)
        )
    if "list" in feature:
        return isinstance(value, list) and all(fits({"struct": feature["list"]}, one) for one in value)
    if "sequence" in feature:
        return isinstance(value, list) and all(fits({"dtype": feature["sequence"]}, one) for one in value)
    kinds = {"string": str, "int64": int, "float64": (int, float), "bool": bool}
    return isinstance(value, kinds[feature["dtype"]]) and (feature["dtype"] == "bool" or not isinstance(value, bool))


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Path:
    streams = ["--histories", made / "h.jsonl", "--personas", made / "p.jsonl"]
    ran = pmem("export", "hf", made / "q.jsonl", *streams, "-o", "dataset", folder=tmp_path)
    assert ran.status == 0, ran.err
    return tmp_path / "dataset"


def test_each_row_is_of_the_declared_type(dataset: Path) -> None:
    import yaml

    header = yaml.safe_load((dataset / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert [config["config_name"] for config in header["configs"]] == ["questions", "histories", "personas"]
    assert header["size_categories"] == ["n<1K"]
    counts = {}
    for config, info in zip(header["configs"], header["dataset_info"], strict=True):
        assert info["config_name"] == config["config_name"]
        for file in config["data_files"]:
            rows = lines_of(dataset / file["path"])
            counts[config["config_name"], file["split"]] = len(rows)
            assert all(list(row) == [part["name"] for part in info["features"]] for row in rows)
            assert all(fits({"struct": info["features"]}, row) for row in rows)
    assert counts == {
        ("questions", "unsplit"): 27, ("histories", "32k"): 3, ("histories", "128k"): 3, ("personas", "personas"): 3,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["qa", "history", "persona"])
def test_each_shape_of_a_record_makes_a_row_of_one_type(kind: str) -> None:
    features = {"struct": columns.features(kind)}
    records = [orjson.loads(path.read_bytes()) for path in sorted(RECORDS.glob(f"{kind}*.json"))]
    assert records
    assert all(fits(features, columns.row(kind, record)) for record in records)


def test_maps_messages_and_mixed_values_as_columns() -> None:
    photo = {
        "role": "user",
        "content": [{"type": "text", "text": "This?"}, {"type": "image_url", "image_url": {"url": "a.jpg"}}],
    }
    row = columns.row("qa", sample("qa") | {"snippet": [photo], "labels": {"b": "1", "a": "2"}})
    assert row["snippet"] == [{"role": "user", "content": "This?", "images": ["a.jpg"]}]
    assert row["labels"] == [{"name": "b", "value": "1"}, {"name": "a", "value": "2"}]
    assert [place["name"] for place in row["histories"]] == ["32k", "128k"] and "distance_tokens" in row["histories"][0]
    draws = {entry["name"]: entry["value"] for entry in columns.row("persona", sample("persona"))["draws"]}
    assert draws == {"region": "Western Asia", "age": "41", "share": "0.25", "health": None, "languages": '["tr","de"]'}


def test_the_library_loads_the_folder(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HOME", "HF_DATASETS_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    questions = datasets.load_dataset(str(dataset), "questions", cache_dir=str(tmp_path / "cache"))["unsplit"]
    assert questions.num_rows == 27 and questions[0]["options"]
    histories = datasets.load_dataset(str(dataset), "histories", cache_dir=str(tmp_path / "cache"))
    assert {name: part.num_rows for name, part in histories.items()} == {"32k": 3, "128k": 3}


# ---- a folder as output -------------------------------------------------------------------------------------------


def test_a_folder_comes_to_be_when_all_is_done(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "new"))
    folder.append("a/b.txt", b"1")
    folder.append("a/b.txt", b"2")
    folder.file("c.txt", b"3")
    folder.file("d.txt", b"4")
    folder.remove("d.txt")
    assert not (tmp_path / "new").exists()
    folder.commit()
    assert {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*.txt")} == {
        "new/a/b.txt": b"12", "new/c.txt": b"3",
    }  # fmt: skip


def test_a_stopped_run_leaves_its_part_and_the_next_begins_anew(tmp_path: Path) -> None:
    stopped = Folder(str(tmp_path / "new"))
    stopped.append("a.txt", b"1")
    stopped.leave()
    assert (tmp_path / "new.part" / "a.txt").read_bytes() == b"1"
    going = Folder(str(tmp_path / "new"))
    with pytest.raises(OutputError, match=r"new.part: can't be written: another run is writing it"):
        Folder(str(tmp_path / "new"))
    going.leave()
    Folder(str(tmp_path / "new")).commit()
    assert list(tmp_path.iterdir()) == [tmp_path / "new"] and not list((tmp_path / "new").iterdir())


def test_what_is_in_a_folder_is_never_lost(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"--force sets it aside as mine\.old"):
        Folder(str(tmp_path / "mine"))
    Folder(str(tmp_path / "mine"), force=True).commit()
    assert (tmp_path / "mine.old" / "a.txt").read_text() == "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        Folder(str(tmp_path / "file"), force=True)
