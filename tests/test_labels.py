"""Labels of results: where they come from, and that docs/results.md tells of each."""

import re
from pathlib import Path
from typing import Any

import pytest

from pmem.evaluation.labels import labels_of
from pmem.report.runs import ALIASES, FIELDS
from pmem.reward import conduct
from tests import test_imports as imports
from tests.command import lines, pmem, sample
from tests.stub import Stub
from tests.test_imports import preferences  # noqa: F401 - a fixture

RESULTS = Path(__file__).parents[1] / "docs" / "results.md"


def documented() -> set[str]:
    """What stands in the first column of the table of labels, and what is said of fields below it."""
    section = RESULTS.read_text().partition("## Labels")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return set(re.findall(r"`(\w+)`", "".join(rows) + section.rpartition("|")[2]))


def test_every_label_is_documented(tmp_path: Path, preferences: Path) -> None:  # noqa: F811
    qa = {**sample("qa"), "case": "sensitive", "secret": {"kind": "phone", "value": "555 0199"}}
    own = set(labels_of({**qa, "labels": {}}, "32k", "en")) | set(conduct.labels(qa, qa["options"], "A", "A"))
    assert {"language", "distance_quartile", "kind", "chosen", "secret_told"} <= own
    trap = {"question": "Is it Bo's?", "adversarial_answer": "Yes", "evidence": [], "category": 5}
    imported = [
        *imports.of_queries(tmp_path, imports.query())[0],
        *imports.long(tmp_path, "longmemeval.json", imports.remembered(question_id="1_abs"))[0],
        *imports.asked(tmp_path, trap)[0],
        *imports.preferred(preferences)[0],
    ]
    assert len({one["labels"]["benchmark"] for one in imported}) == 4
    found = own.union(*(one["labels"] for one in imported), FIELDS, ALIASES, {"balanced"})
    assert found <= documented(), found - documented()


@pytest.mark.parametrize(("histories", "language"), [(True, "tr"), (False, None)])
def test_the_language_is_known_in_every_context(
    tmp_path: Path, stub: Stub, histories: bool, language: str | None
) -> None:
    """It stands in the history, whether that is shown or not."""
    history = sample("history")
    qa = sample("qa")
    qa["histories"] = {"32k": {**qa["histories"]["32k"], "id": history["id"]}}
    (tmp_path / "h.jsonl").write_bytes(lines([history]))
    (tmp_path / "q.jsonl").write_bytes(lines([qa]))
    more: list[Any] = ["--histories", "h.jsonl", "--context", "full"] if histories else []
    asking = ["-m", "openai:stub", "--base-url", stub.url, "--no-cache"]
    ran = pmem("eval", "q.jsonl", "--context", "snippet", "--context", "none", *more, *asking, folder=tmp_path)
    assert ran.status == 0, ran.err
    assert [one["labels"].get("language") for one in ran.records] == [language] * (3 if histories else 2)


def test_a_file_without_the_history_leaves_the_language_unknown(tmp_path: Path, stub: Stub) -> None:
    (tmp_path / "h.jsonl").write_bytes(lines([{**sample("history"), "id": f"h-{7:016x}"}]))
    (tmp_path / "q.jsonl").write_bytes(lines([sample("qa")]))
    asking = ["-m", "openai:stub", "--base-url", stub.url, "--no-cache"]
    ran = pmem("eval", "q.jsonl", "--context", "none", "--histories", "h.jsonl", *asking, folder=tmp_path)
    assert ran.status == 0, ran.err
    assert "language" not in ran.records[0]["labels"]
