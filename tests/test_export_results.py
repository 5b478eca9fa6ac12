"""Results and questions in the formats of other tools, read back by these tools themselves where they are installed."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from tests.command import lines, pmem, sample


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four results in two runs, of two questions; their questions; a history."""
    history = sample("history")
    first, second = sample("result"), sample("result-open")
    results = [
        {**one, "id": f"r-{n:015x}{number}", "qa_id": f"q-{n:016x}"}
        for number, one in enumerate((first, second))
        for n in range(2)
    ]
    (tmp_path / "results.jsonl").write_bytes(lines(results))
    qa = sample("qa")
    window = next(iter(qa["histories"]))
    places = {window: {**qa["histories"][window], "id": history["id"]}}
    questions = [{**qa, "id": f"q-{n:016x}", "histories": places} for n in range(2)]
    (tmp_path / "questions.jsonl").write_bytes(lines(questions))
    (tmp_path / "histories.jsonl").write_bytes(lines([history]))
    return tmp_path


def exported(*arguments: str, folder: Path) -> bytes:
    ran = pmem("export", *arguments, folder=folder)
    assert ran.status == 0, ran.err
    return ran.out


def test_csv_has_a_row_for_each_result(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(exported("csv", "results.jsonl", folder=folder).decode())))
    assert [row["qa_id"][-1] for row in rows] == ["0", "1", "0", "1"]
    assert rows[0]["correct"] == "true" and rows[2]["correct"] == "false"
    assert rows[0]["label_kind"] == "neutral"
    assert rows[2]["votes_fail"] == "1" and rows[2]["choice"] == ""
    assert rows[0]["options"].startswith('["Try the pizzeria')


def test_parquet_has_the_same_columns_with_types(folder: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    exported("parquet", "results.jsonl", "-o", "results.parquet", folder=folder)
    table = parquet.read_table(folder / "results.parquet")
    heads = exported("csv", "results.jsonl", folder=folder).decode().splitlines()[0].split(",")
    assert table.column_names == heads
    rows = table.to_pylist()
    assert rows[0]["correct"] is True and rows[0]["prompt_tokens"] == 412 and rows[2]["gold"] is None


def test_inspect_reads_its_logs(folder: Path) -> None:
    log = pytest.importorskip("inspect_ai.log")
    exported("inspect", "results.jsonl", "--questions", "questions.jsonl", "-o", "logs", folder=folder)
    listed = log.list_eval_logs(str(folder / "logs"))
    found: dict[str, Any] = {one.eval.task: one for one in map(log.read_eval_log, listed)}
    assert sorted(found) == ["pmem-mcq-full", "pmem-open-none"]
    right = found["pmem-mcq-full"]
    assert right.status == "success" and len(right.samples) == 2
    assert right.results.scores[0].metrics["accuracy"].value == 1
    one = right.samples[0]
    assert (one.target, one.scores["pmem"].value, one.scores["pmem"].answer) == ("B", "C", "B")
    assert one.input == sample("qa")["query"] and one.choices == sample("result")["options"]
    assert one.output.completion == "<answer>B</answer>" and one.output.usage.input_tokens == 412
    assert (
        found["pmem-open-none"].samples[0].scores["pmem"].explanation == "fail (openai:gpt-5): Follows the old taste."
    )


@pytest.mark.parametrize("context", ["none", "snippet", "full"])
def test_lm_eval_loads_its_task(folder: Path, context: str) -> None:
    tasks = pytest.importorskip("lm_eval.tasks")
    more = ["--histories", "histories.jsonl"] if context == "full" else []
    exported("lm-eval", "questions.jsonl", "--context", context, *more, "--name", "mine", "-o", "task", folder=folder)
    manager = tasks.TaskManager(include_path=str(folder / "task"), include_defaults=False)
    task = manager.load_task_or_group("mine")["mine"]
    docs = list(task.test_docs())
    assert len(docs) == 2
    qa = sample("qa")
    assert task.doc_to_choice(docs[0]) == qa["options"]
    assert qa["options"][docs[0]["gold"]] == qa["answer"]
    prompt = task.doc_to_text(docs[0])
    assert prompt.endswith(f"User: {qa['query']}\n\nAssistant:")
    before = {"none": None, "snippet": qa["snippet"], "full": sample("history")["messages"]}[context]
    assert (before is None) == prompt.startswith(f"User: {qa['query']}")
    assert before is None or str(before[0]["content"]) in prompt


def test_a_history_that_is_missing_is_named(folder: Path) -> None:
    (folder / "histories.jsonl").write_bytes(b"")
    ran = pmem("export", "lm-eval", "questions.jsonl", "--context", "full", "--histories", "histories.jsonl", "-o", "t",
               folder=folder)  # fmt: skip
    assert ran.status == 1
    assert f"histories.jsonl holds no history {sample('history')['id']}" in ran.err
    assert not (folder / "t").exists()
