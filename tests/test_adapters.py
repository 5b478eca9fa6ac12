"""shell/adapters: other libraries' memories in the place of memdump's. Runs where mem0ai is installed."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import orjson
import pytest

from tests.command import asking, lines, pmem, records, sample
from tests.memory_model import history
from tests.record import lines_of
from tests.stub import running

ADAPTER = Path(__file__).parent.parent / "shell" / "adapters" / "mem0.py"
REPLY = """
import json, re
def reply(body):
    text = body["messages"][-1]["content"]
    if body["messages"][0]["role"] != "system" or "## New Messages" not in text:
        return None
    new = text.split("## New Messages")[1].split("## Observation Date")[0]
    told = re.findall(r"I (?:like|own) [a-z ]+", new)
    date = re.findall(r"These messages are of (\\S+);", text)
    return json.dumps({"memory": [{"text": f"{one} ({', '.join(date)})"} for one in told]})
"""
CHATS = (
    ["I like green tea.", "Noted.", "Is it hot?"],
    ["I own a red boat.", "Fine. I like boats."],
    ["I like green tea."],
)

needs_mem0 = pytest.mark.skipif(find_spec("mem0") is None, reason="no mem0ai")


def adapted(folder: Path, input: bytes, *more: str) -> subprocess.CompletedProcess[bytes]:
    """The adapter as a user runs it; whatever it keeps must be below the folder."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "PMEM_", "MEM0_"))}
    env = {**keep, "HOME": str(folder), "TMPDIR": str(folder), "OPENAI_API_KEY": "sk-x"}
    command = [sys.executable, str(ADAPTER), "--model", "stub", "--dimensions", "64", *more]
    return subprocess.run(command, input=input, capture_output=True, cwd=folder, env=env, timeout=300)


@needs_mem0
def test_mem0_in_the_place_of_memdump(tmp_path: Path) -> None:
    """Two users' histories to memories, which are valid, and which questions are asked with."""
    (tmp_path / "reply.py").write_text(REPLY)
    given = [history(*CHATS, number=1, user="ana"), history(["Nothing to see here.", "No."], number=2, user="ben")]
    with running(reply=tmp_path / "reply.py") as stub:
        ran = adapted(tmp_path, lines(given), "--base-url", stub.url)
        assert ran.returncode == 0, ran.stderr
        (tmp_path / "mem0.jsonl").write_bytes(ran.stdout)
        ana, ben = records(ran.stdout)
        assert ana["text"].splitlines() == [
            "- I like green tea (2025-01-01)", "- I own a red boat (2025-01-02)", "- I like boats (2025-01-02)",
            "- I like green tea (2025-01-03)",
        ]  # fmt: skip
        assert [one["since_chunk"] for one in ana["entries"]] == [1, 2, 2, 3] and ana["chunks"] == 3
        assert ana["provenance"]["stage"] == "mem0" and ana["provenance"]["source"].startswith("mem0ai ")
        assert (ana["user_id"], ana["history_id"]) == ("ana", given[0]["id"]) and ben["text"] == ""
        assert pmem("validate", "mem0.jsonl", folder=tmp_path).status == 0
        reference = dict.fromkeys(("distance_tokens", "relevant_tokens", "filler_tokens"))
        asked = lines([{**sample("qa"), "histories": {"all": {"id": given[0]["id"], **reference}}}])
        own = pmem("memdump", *asking(stub), "-o", "pmem.jsonl", folder=tmp_path, input=lines(given))
        assert own.status == 0, own.err
        for name in ("pmem", "mem0"):
            memories = ("--context", "memory", "--memories", f"{name}.jsonl", "-o", f"with-{name}.jsonl")
            assert pmem("eval", *asking(stub), *memories, folder=tmp_path, input=asked).status == 0
    assert [one["memory_id"] for one in lines_of(tmp_path / "with-mem0.jsonl")] == [ana["id"]]
    told = pmem("compare", "with-pmem.jsonl", "with-mem0.jsonl", folder=tmp_path)
    assert told.status == 0 and b"with-mem0.jsonl" in told.out and "2 runs, 1 questions" in told.err
    left = {path.name for path in tmp_path.iterdir() if path.suffix != ".jsonl"}
    assert left <= {"reply.py", ".cache"}, left


@needs_mem0
def test_a_memory_of_mem0_that_is_too_long_keeps_the_latest(tmp_path: Path) -> None:
    (tmp_path / "reply.py").write_text(REPLY)
    with running(reply=tmp_path / "reply.py") as stub:
        ran = adapted(tmp_path, lines([history(*CHATS)]), "--base-url", stub.url, "--memory-tokens", "30")
    (made,) = records(ran.stdout)
    assert made["trimmed"] and made["tokens"] <= 30 and made["text"].endswith("- I like green tea (2025-01-03)")


@needs_mem0
def test_what_fails_in_mem0_is_told_in_a_line(tmp_path: Path) -> None:
    ran = adapted(tmp_path, lines([history(["Hi."])]), "--base-url", "http://127.0.0.1:9/v1")
    assert ran.returncode == 1 and not ran.stdout
    assert b"mem0: h-0000000000000000: mem0 failed:" in ran.stderr and b"Traceback" not in ran.stderr
    wrong = adapted(tmp_path, orjson.dumps(sample("qa")))
    assert wrong.returncode == 1 and b"expected a history record" in wrong.stderr


def test_without_mem0_it_says_what_to_install(tmp_path: Path) -> None:
    if find_spec("mem0"):
        pytest.skip("mem0ai is installed")
    ran = adapted(tmp_path, lines([history(["Hi."])]))
    assert ran.returncode == 1 and ran.stderr == b"mem0: mem0ai is not installed: pip install mem0ai\n"
