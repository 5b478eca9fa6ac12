"""Golden cases: commands run in a real shell, and everything that comes out is compared.

A case is a folder golden/<command>/<name>/ with
  cmd            shell commands, run by bash in a copy of the folder; what they write beside stdout goes to out/
  stdout, stderr, status, out/*    what is expected
  anything else  input; recorded answers where a model is asked
A cmd that says $JOBS is run with several numbers of calls in flight, which must make no difference. golden/prompts/
holds every prompt that the cases send, a file per command.

`pytest --accept` rewrites what is expected; read the diff. After a change of a prompt, read the recorded answers
against the new prompts first, then accept them, once for each depth at which calls rest on other calls' answers:
  cd tests/golden/COMMAND/CASE && mkdir -p out && PMEM_WANTED=wanted bash cmd
  (from the root) python -m tests.record tests/golden/COMMAND/CASE/recorded.jsonl tests/golden/COMMAND/CASE/wanted
"""

import difflib
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.record import lines_of

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = ("stdout", "stderr", "status", "out")
JOBS = ("1", "4", "64")
STAGES = ("personas", "converse", "qa", "judge", "eval", "memdump", "chat")
"""The commands that ask a model."""

Files = dict[str, str]
"""Name within a case -> content."""


def cases(under: Path = GOLDEN) -> list[Path]:
    return sorted(path.parent for path in under.rglob("cmd"))


def name_of(case: Path) -> str:
    return str(case.relative_to(GOLDEN))


# ---- running a case ----------------------------------------------------------------------------------------------


def prepared(case: Path, folder: Path) -> Path:
    """A fresh copy of the case's inputs, with an empty out/."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(case, work, ignore=lambda at, names: EXPECTED if Path(at) == case else ())
    (work / "out").mkdir()
    return work


def run(work: Path, jobs: str = "16", **variables: str) -> Files:
    """What `bash cmd` leaves behind in a prepared folder: stdout, stderr, status, out/*, and what it shouldn't."""
    before = contents(work)
    keep = {n: v for n, v in os.environ.items() if not n.startswith(("PMEM_", "OPENAI_", "XDG_", "LC_"))}
    own = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(work.parent / "home"),
        "XDG_CACHE_HOME": str(work.parent / "cache"),
        "LANG": "C.UTF-8",
        "COLUMNS": "80",
        "JOBS": jobs,
        "GOLDEN": str(GOLDEN),
    }
    done = subprocess.run(
        ["bash", "cmd"],
        cwd=work,
        env={**keep, **own, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
    )
    made = {name: text for name, text in contents(work).items() if before.get(name) != text}
    result = {"stdout": done.stdout.decode(), "stderr": done.stderr.decode(), "status": f"{done.returncode}\n", **made}
    return {name: normal(name, text, work) for name, text in result.items()}


def contents(folder: Path) -> Files:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in files}


def normal(name: str, text: str, work: Path) -> str:
    """Without what differs from run to run (times, the folder's place) and from release to release."""
    text = re.sub(r'("pmem": ?")[^"]+"', r'\1V"', text)
    if name.endswith("stderr"):
        text = re.sub(r"\b\d+\.\d s\b", "T s", text).replace(str(work), "HERE")
    assert str(work.parent) not in text, f"{name} shows where it was made"
    return text


# ---- comparing ---------------------------------------------------------------------------------------------------


def expected(case: Path) -> Files:
    files = {name: text for name, text in contents(case).items() if name.split("/")[0] in EXPECTED}
    return {"stdout": "", "stderr": "", "status": "0\n", **files}


def difference(wanted: Files, got: Files) -> str:
    """Unified diffs of all files that differ; "" if none does."""
    parts = []
    for name in sorted({*wanted, *got}):
        old, new = (files.get(name, "").splitlines(keepends=True) for files in (wanted, got))
        if name not in wanted or name not in got:
            parts.append(f"{name}: {'not expected' if name in got else 'missing'}\n")
        parts += [line if line.endswith("\n") else line + "\n\\ no newline at the end\n"
                  for line in difflib.unified_diff(old, new, f"expected/{name}", f"found/{name}")]  # fmt: skip
    return "".join(parts)


def check(case: Path, folder: Path, *, accept: bool = False, **variables: str) -> None:
    """Run a case, at several numbers of jobs where it has them, and compare; or write what came out."""
    hash_seed = str(random.randrange(2**32))
    several = "$JOBS" in (case / "cmd").read_text(encoding="utf-8")
    wanted: Files | None = None if accept else expected(case)
    for jobs in JOBS if several else JOBS[1:2]:
        got = run(prepared(case, folder), jobs, PYTHONHASHSEED=hash_seed, **variables)
        if wanted is None:
            write(case, got)
            wanted = got
        if difference(wanted, got):
            pytest.fail(f"{case}, JOBS={jobs} PYTHONHASHSEED={hash_seed}\n{difference(wanted, got)}", pytrace=False)


def write(case: Path, got: Files) -> None:
    """Make `got` the expected files."""
    if strays := [name for name in got if name.split("/")[0] not in EXPECTED]:
        pytest.fail(f"{case}: cmd changes or leaves {', '.join(strays)}; let it write into out/", pytrace=False)
    if ignored := [name for name in got if name.endswith(".part")]:
        pytest.fail(f"{case}: git ignores {', '.join(ignored)}; let cmd rename it", pytrace=False)
    shutil.rmtree(case / "out", ignore_errors=True)
    for name, text in got.items():
        (case / name).parent.mkdir(exist_ok=True)
        (case / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("case", cases(), ids=name_of)
def test_case(case: Path, tmp_path: Path, accept: bool) -> None:
    check(case, tmp_path, accept=accept)


# ---- prompts -----------------------------------------------------------------------------------------------------


def asked(case: Path, folder: Path, stage: str) -> dict[str, str]:
    """Every call that a case makes, with its prompt as text.

    The recorded files begin empty; calls that rest on the answers to others show once these have been put in.
    """
    recorded = {}
    for file in sorted(case.glob("*.jsonl")):
        if file.read_bytes().startswith(b'{"call":'):
            recorded[file.name] = {line["call"]: line for line in lines_of(file)}
    found: dict[str, dict[str, object]] = {}
    while True:
        work = prepared(case, folder)
        for name, answers in recorded.items():
            known = [{**line, "prompt": found[call]["prompt"]} for call, line in answers.items() if call in found]
            (work / name).write_bytes(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in known))
        rejects = {f"PMEM_{stage.upper()}_REJECTS": "out/rejects"}  # so that the run goes on to all records
        run(work, PMEM_WANTED=str(folder / "wanted"), **rejects)
        new = {line["call"]: line for line in lines_of(folder / "wanted") if line["call"] not in found}
        (folder / "wanted").unlink(missing_ok=True)
        if not new:
            break
        found |= new
    unused = {call for answers in recorded.values() for call in answers} - set(found)
    assert not unused, f"{case}: answers to calls that nobody makes: {sorted(unused)}"
    return {call: in_words(line) for call, line in found.items()}


def in_words(call: dict[str, object]) -> str:
    messages: list[dict[str, str]] = call["messages"]  # type: ignore[assignment]
    said = [f"[{message['role']}]\n{message['content']}\n" for message in messages]
    schema = orjson.dumps(call["schema"]).decode() if call["schema"] else "any text"
    return "\n".join([*said, f"[reply] {schema}\n"])


@pytest.mark.parametrize("stage", STAGES)
def test_prompts(stage: str, tmp_path: Path, accept: bool) -> None:
    calls: dict[str, list[str]] = {}  # prompt -> the calls that send it
    for case in cases(GOLDEN / stage):
        if (case / "recorded.jsonl").exists():
            for call, prompt in asked(case, tmp_path, stage).items():
                calls.setdefault(prompt, []).append(call)
    assert calls
    parts = sorted(("\n".join(f"==== {call}" for call in sorted(set(ids))), prompt) for prompt, ids in calls.items())
    text = "\n".join(f"{ids}\n{prompt}" for ids, prompt in parts)
    file = GOLDEN / "prompts" / f"{stage}.txt"
    if accept:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    if found := difference({file.name: file.read_text(encoding="utf-8")}, {file.name: text}):
        pytest.fail(found, pytrace=False)
