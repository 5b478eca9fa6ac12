"""A key comes from the environment and goes to the server. It shows up nowhere else, however a run ends."""

import sqlite3
import sys
from pathlib import Path

import pytest

from tests.command import HURRIED, KEY, asking, people, start, wait_for
from tests.stub import Stub

FORMS = [KEY.encode(), KEY.encode("utf-16-le"), KEY[::-1].encode(), KEY[8:].encode()]
"""The key, and what would be left of it in other encodings or cut short."""

CRASHING = (
    sys.executable,
    "-X",
    "dev",
    "-c",
    "import pmem.backends.openai as openai\n"
    "def broken(self, *_): raise RuntimeError('a bug')\n"
    "openai.OpenAIBackend.completion = broken\n"
    "from pmem.cli import main\n"
    "main(prog_name='pmem')",
)


def found(folder: Path, *said: bytes) -> list[str]:
    """Where the key is: names of files under the folder, and what a child said."""
    texts = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    texts |= {f"said {number}": text for number, text in enumerate(said)}
    return [name for name, text in texts.items() if any(form in text for form in FORMS)]


def run(folder: Path, stub: Stub, *options: str, command: tuple[str, ...] = HURRIED) -> tuple[int, str]:
    """Run personas with everything that can be written; the key may be nowhere in it."""
    written = ["-o", "out.jsonl", "--rejects", "r.jsonl", "--dropped", "d.jsonl", "--usage", "u.jsonl", "--cache", "c"]
    child = start(*command, "personas", "people", *asking(stub), *written, "--progress", *options, folder=folder)
    out, err = child.communicate(timeout=60)
    assert found(folder, out, err) == []
    return child.returncode, err.decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "people").write_bytes(people(12))
    return tmp_path


def test_the_search_finds_a_key(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_bytes(b"..." + KEY[8:].encode())
    with sqlite3.connect(folder / "db") as db:
        db.execute("create table t as select ? as x", (KEY,))
    db.close()
    assert len(found(folder, b"", f"Bearer {KEY}".encode())) == 3


def test_no_output_has_the_key(folder: Path, stub: Stub) -> None:
    stub.restart(
        key=KEY, fault={"429": 0.1, "500": 0.1, "reset": 0.1, "notjson": 0.1, "badschema": 0.3, "refusal": 0.1}
    )
    status, err = run(folder, stub)
    assert status == 3 and "attempts repeated" in err
    assert {path.name for path in folder.iterdir()} >= {"out.jsonl", "r.jsonl", "d.jsonl", "u.jsonl", "c"}
    assert (folder / "r.jsonl").stat().st_size and (folder / "c").stat().st_size  # something was searched


def test_no_error_has_the_key(folder: Path, stub: Stub) -> None:
    stub.restart(key="sk-another-one")
    status, err = run(folder, stub)
    assert status == 1 and "refuses the key (401; is OPENAI_API_KEY right?)" in err


def test_no_traceback_has_the_key(folder: Path, stub: Stub) -> None:
    stub.restart(key=KEY)
    status, err = run(folder, stub, command=CRASHING)
    assert status == 1 and "Traceback" in err and "RuntimeError: a bug" in err


def test_no_process_list_has_the_key_while_calls_are_made(folder: Path, stub: Stub) -> None:
    stub.restart(key=KEY, latency=60_000)
    child = start(*HURRIED, "personas", "people", *asking(stub), "--no-cache", folder=folder)
    wait_for(lambda: stub.counts()["requests"] == 12)
    own = Path("/proc") / str(child.pid)
    lists = [path.read_bytes() for task in (own / "task").iterdir() for path in (task / "cmdline", task / "comm")]
    child.kill()
    out, err = child.communicate()
    assert any(b"personas" in text for text in lists)
    assert found(folder, out, err, *lists) == []
