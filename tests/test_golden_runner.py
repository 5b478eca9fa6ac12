"""The golden runner itself: what must fail does fail, and --accept writes what a case gives and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.record import merge
from tests.test_golden import GOLDEN, asked, check, expected, prepared, run

PROMPT = Path("converse/conversation.txt")
OWN_PROMPTS = GOLDEN.parent.parent / "pmem" / "prompts"


def copied(name: str, folder: Path) -> Path:
    """A case that may be spoiled."""
    return Path(shutil.copytree(GOLDEN / name, folder / "case"))


def made(folder: Path, cmd: str, **files: str) -> Path:
    """A case of its own."""
    case = folder / "case"
    case.mkdir()
    for name, text in {"cmd": cmd, **files}.items():
        (case / name).write_text(text)
    return case


def failure(case: Path, folder: Path) -> str:
    """What the runner says about a case that fails."""
    with pytest.raises(pytest.fail.Exception) as caught:
        check(case, folder)
    return str(caught.value)


@pytest.fixture
def reworded(tmp_path: Path) -> Path:
    """A case that is run with a changed prompt, from `--prompts`."""
    case = copied("converse/events", tmp_path)
    (case / "prompts" / PROMPT).parent.mkdir(parents=True)
    text = (OWN_PROMPTS / PROMPT).read_text(encoding="utf-8")
    (case / "prompts" / PROMPT).write_text(text + "- The user never says please.\n", encoding="utf-8")
    (case / "cmd").write_text((case / "cmd").read_text().rstrip() + " --prompts prompts\n")
    return case


def test_a_changed_prompt_fails(reworded: Path, tmp_path: Path) -> None:
    got = run(prepared(reworded, tmp_path))
    assert got["status"] == "1\n"
    # only the forget request, which has a prompt of its own
    assert got["stdout"].count('"type":"conversation"') == got["stdout"].count('"asks_to_forget"') == 1
    changed = "the prompt has changed since the answer was recorded for call converse/p-0000000000017262/a01/0"
    assert changed in got["stderr"]
    assert f"+pmem: converse: personas.jsonl:1: recorded:recorded.jsonl: {changed}" in failure(reworded, tmp_path)


def test_a_changed_prompt_is_accepted_by_recording_its_answers_again(reworded: Path, tmp_path: Path) -> None:
    wanted = tmp_path / "wanted"
    run(prepared(reworded, tmp_path), PMEM_WANTED=str(wanted), PMEM_CONVERSE_REJECTS="out/rejects")
    assert merge(reworded / "recorded.jsonl", wanted, None) == (8, [])
    got = run(prepared(reworded, tmp_path))
    assert got["status"] == "0\n"
    assert got["stdout"].count("\n") == 9


def test_an_answer_that_nobody_asks_for_is_noticed(tmp_path: Path) -> None:
    case = copied("converse/events", tmp_path)
    stale = b'{"call":"converse/p-0000000000000020/h02/0","prompt":"000000000000","reply":"?"}\n'
    (case / "recorded.jsonl").write_bytes((case / "recorded.jsonl").read_bytes() + stale)
    with pytest.raises(AssertionError, match=r"calls that nobody makes: .'converse/p-0000000000000020/h02/0'"):
        asked(case, tmp_path, "converse")


@pytest.mark.parametrize("name", ["stdout", "stderr", "status", "out/kept.jsonl"])
def test_a_difference_fails_and_is_shown(name: str, tmp_path: Path) -> None:
    case = copied("filter/bad-lines", tmp_path)
    check(case, tmp_path)
    (case / name).write_text((case / name).read_text(encoding="utf-8") + "one line more\n", encoding="utf-8")
    said = failure(case, tmp_path)
    assert f"--- expected/{name}\n+++ found/{name}\n" in said
    assert "\n-one line more\n" in said
    assert "PYTHONHASHSEED=" in said


def test_files_that_are_missing_or_not_expected_fail(tmp_path: Path) -> None:
    case = copied("filter/bad-lines", tmp_path)
    (case / "out" / "kept.jsonl").rename(case / "out" / "others.jsonl")
    said = failure(case, tmp_path)
    assert "out/kept.jsonl: not expected\n" in said
    assert "out/others.jsonl: missing\n" in said


def test_a_missing_newline_is_a_difference(tmp_path: Path) -> None:
    assert "\\ no newline at the end" in failure(made(tmp_path, "printf hello", stdout="hello\n"), tmp_path)


def test_a_difference_between_numbers_of_jobs_fails(tmp_path: Path) -> None:
    case = made(tmp_path, "echo $JOBS", stdout="1\n")
    said = failure(case, tmp_path)
    assert "JOBS=4" in said
    with pytest.raises(pytest.fail.Exception, match="JOBS=4"):
        check(case, tmp_path, accept=True)


@pytest.mark.parametrize("cmd", ["echo 1 >left", "echo 1 >>input", "mkdir more; echo 1 >more/left"])
def test_a_case_that_writes_elsewhere_fails(cmd: str, tmp_path: Path) -> None:
    case = made(tmp_path, cmd, input="0\n")
    assert "not expected" in failure(case, tmp_path)
    with pytest.raises(pytest.fail.Exception, match="let it write into out/"):
        check(case, tmp_path, accept=True)


def test_an_unfinished_file_is_not_accepted_under_a_name_that_git_ignores(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"git ignores out/x\.part"):
        check(made(tmp_path, "echo 1 >out/x.part"), tmp_path, accept=True)


def test_times_and_places_are_taken_out_of_stderr(tmp_path: Path) -> None:
    check(made(tmp_path, 'echo "took 12.5 s in $PWD/x" >&2', stderr="took T s in HERE/x\n"), tmp_path)


def test_a_place_in_the_output_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="stdout shows where it was made"):
        check(made(tmp_path, "pwd"), tmp_path)


def test_no_settings_of_the_caller_reach_a_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PMEM_JUDGE_VOTES", "OPENAI_API_KEY", "XDG_CONFIG_HOME", "LC_ALL"):
        monkeypatch.setenv(name, "set")
    cmd = "env | grep -cE '^(PMEM_|OPENAI_|LC_|XDG_CONFIG)'; echo $LANG $COLUMNS ${PYTHONHASHSEED:+random}; which pmem"
    stdout = f"0\nC.UTF-8 80 random\n{Path(sys.executable).parent}/pmem\n"
    check(made(tmp_path, cmd, stdout=stdout), tmp_path)


def test_accept_writes_what_a_case_gives(tmp_path: Path) -> None:
    case = copied("filter/bad-lines", tmp_path)
    for name in ("stdout", "stderr", "status"):
        (case / name).unlink()
    (case / "out" / "old.jsonl").write_text("{}\n")
    check(case, tmp_path, accept=True)
    assert expected(case) == expected(GOLDEN / "filter" / "bad-lines")


@pytest.mark.parametrize("ci", ["", "true"])
def test_accept_is_refused_under_ci(ci: str) -> None:
    command = [sys.executable, "-m", "pytest", "--accept", "--collect-only", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env={**os.environ, "CI": ci}, capture_output=True, text=True)
    assert done.returncode == (pytest.ExitCode.USAGE_ERROR if ci else pytest.ExitCode.OK)
    assert ("--accept is refused under CI" in done.stderr) is bool(ci)
