"""Where an option's value comes from: the command line, the environment, pmem.toml, the default."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pmem.cli import COMMANDS
from tests.command import lines, people, pmem, question
from tests.stub import Stub, running


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    with running() as stub:
        yield stub


def kept(folder: Path, *arguments: str, **env: str) -> int:
    """How many of three questions `pmem filter` reads: what --limit was in force."""
    ran = pmem("filter", "-q", *arguments, folder=folder, input=lines(map(question, range(9))), env=env)
    assert ran.status == 0, ran.err
    return len(ran.records)


def test_the_nearest_setting_wins(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    other = tmp_path / "other.toml"
    other.write_text("[filter]\nlimit = 5\n")
    assert kept(deep) == 9
    (tmp_path / "pmem.toml").write_text("[defaults]\nlimit = 1\n")
    assert kept(deep) == 1  # found upward
    (tmp_path / "a" / "pmem.toml").write_text("[defaults]\nlimit = 1\n[filter]\nlimit = 2\n")
    assert kept(deep) == 2  # the nearest file alone; the command's own table beats [defaults]
    assert kept(deep, PMEM_FILTER_LIMIT="3") == 3
    assert kept(deep, "--limit", "4", PMEM_FILTER_LIMIT="3") == 4
    assert kept(deep, "--config", str(other)) == 5
    assert kept(deep, PMEM_FILTER_CONFIG=str(other)) == 5
    assert kept(deep, "--config", str(other), PMEM_FILTER_LIMIT="3") == 3
    (tmp_path / "a" / "pmem.toml").write_text("")
    assert kept(deep) == 9


def test_kinds_of_values(tmp_path: Path, stub: Stub) -> None:
    (tmp_path / "pmem.toml").write_text(
        f'[defaults]\nmodel = "openai:stub"\nbase-url = "{stub.url}"\nno_cache = true\nquiet = true\n'
        '[personas]\nseed = 3\nupdates = 0.0\njobs = 2\npreferences = "neutral=1"\nrejects = "r.jsonl"\n'
    )
    ran = pmem("personas", folder=tmp_path, input=people(1) + b"{\n")
    assert (ran.status, ran.err) == (3, "") and (tmp_path / "r.jsonl").exists()
    (record,) = ran.records
    assert record["provenance"]["seed"] == 3 and len(record["preferences"]) <= 1
    assert not (tmp_path / ".cache").exists()
    # a repeatable option takes a list, or the one value
    (tmp_path / "pmem.toml").write_text(f'[personas]\nmodel = "openai:stub"\nbase-url = ["{stub.url}", "{stub.url}"]\n')
    assert pmem("personas", folder=tmp_path, input=people(1)).status == 0
    env = {"PMEM_PERSONAS_BASE_URL": stub.url, "PMEM_PERSONAS_MODEL": "openai:stub", "PMEM_PERSONAS_NO_CACHE": "1"}
    (tmp_path / "pmem.toml").write_text('[defaults]\nbase-url = "http://127.0.0.1:9/v1"\n')
    assert pmem("personas", folder=tmp_path, input=people(1), env=env).status == 0


WRONG = {
    "[filter]\nlimits = 1\n": "[filter] has no option 'limits'; there are: balance, blind-right, ",
    "[filter]\nconfig = 'x'\n": "[filter] has no option 'config'",
    "[defaults]\nmodle = 'x'\n": "[defaults]: no command has an option 'modle'",
    "[fliter]\nlimit = 1\n": "[fliter] is no command of pmem",
    "limit = 1\n": "'limit' stands outside a table; begin with [defaults] or [COMMAND]",
    "[filter\n": "Expected ']'",
    "[filter]\nlimit = many\n": "Invalid value",
    "[filter]\nlimit = 'many'\n": "'many' is not a valid integer",
    "[filter]\nlimit = -1\n": "--limit",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_file_is_wrong_usage(tmp_path: Path, text: str) -> None:
    for name, options in (("pmem.toml", []), ("mine.toml", ["--config", "mine.toml"])):
        (tmp_path / name).write_text(text)
        ran = pmem("filter", *options, folder=tmp_path)
        assert (ran.status, ran.out) == (2, b"")
        assert WRONG[text] in ran.err
        if "limit = '" not in text and "-1" not in text:
            assert name in ran.err
        (tmp_path / name).unlink()


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "pmem.toml").write_bytes(b"\xff\xfe")
    assert pmem("filter", folder=tmp_path).status == 2
    (tmp_path / "pmem.toml").unlink()
    assert pmem("filter", "--config", "none.toml", folder=tmp_path).status == 2
    (tmp_path / "pmem.toml").mkdir()  # a folder of that name is no settings file
    assert pmem("filter", folder=tmp_path).status == 0


def test_settings_of_other_commands_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "pmem.toml").write_text('[defaults]\nmodel = "openai:x"\nlimit = 2\n[judge]\nvotes = 5\n')
    assert kept(tmp_path) == 2
    for command in COMMANDS:
        assert pmem(command, "--help", folder=tmp_path).status == 0
