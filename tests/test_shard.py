"""`--shard K/N`: parts of an input whose outputs, joined in order, are those of one run."""

from pathlib import Path

import pytest

from pmem.stream.shard import Shard
from tests.command import asking, lines, people, pmem, sample
from tests.stub import Stub

AUTHOR = Path(__file__).parent / "stub_author.py"


def histories(personas: list[int]) -> bytes:
    """Histories, so many of each persona after the other."""
    owners = [owner for owner, count in enumerate(personas) for _ in range(count)]
    made = [
        {**sample("history"), "id": f"h-{n:016x}", "persona_id": f"p-{owner:016x}"} for n, owner in enumerate(owners)
    ]
    return lines(made)


@pytest.mark.parametrize("of", [1, 2, 7, 40])
@pytest.mark.parametrize(
    "command, input",
    [
        ("personas", people(11) + b"\n" + people(4) + b"\xff\xfe torn\n" + people(2)),
        ("qa", histories([1, 5, 1, 9]) + b'{"type":"history"\n{}\n' + histories([2])),
    ],
    ids=["personas", "qa"],
)
def test_joined_they_are_one_run(command: str, input: bytes, of: int, stub: Stub, tmp_path: Path) -> None:
    """With equal lines, groups, torn lines; with a limit; with more parts than records."""
    (tmp_path / "in").write_bytes(input)
    stub.restart(reply=AUTHOR)
    run = [command, "in", *asking(stub), "--cache", "cache", "--limit", "16"]
    whole = pmem(*run, "--rejects", "all", folder=tmp_path)
    parts = [pmem(*run, "--shard", f"{n}/{of}", "--rejects", f"r{n}", folder=tmp_path) for n in range(1, of + 1)]
    assert b"".join(part.out for part in parts) == whole.out and whole.out
    assert b"".join((tmp_path / f"r{n}").read_bytes() for n in range(1, of + 1)) == (tmp_path / "all").read_bytes()
    said = [part.err.splitlines()[-1].split(": ")[1].split(" in")[0] for part in parts]
    assert sum(map(int, said)) == 16


def test_parts_are_of_equal_length() -> None:
    for total in (1, 10, 1000):
        for of in (1, 3, 7):
            sizes = [sum(Shard(n, of).holds(place, total) for place in range(total)) for n in range(1, of + 1)]
            assert sum(sizes) == total and max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0", "-1/2"])
def test_what_is_no_shard_is_refused(shard: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(people(1))
    ran = pmem("personas", "in", "-m", "openai:m", f"--shard={shard}", folder=tmp_path)
    assert ran.status == 2 and "expected K/N, the Kth of N parts, such as 1/8" in ran.err


def test_what_cannot_be_read_twice_or_counts_over_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"")
    (tmp_path / "old.jsonl").write_bytes(lines([sample("memory")]))
    for run, message in (
        (["personas"], "--shard reads its input twice: name files, not a pipe"),
        (["judge", "in", "--calibrate", "0.5"], "not with --ray or --shard"),
        (["memdump", "in", "--previous", "old.jsonl"], "not with --shard"),
    ):
        ran = pmem(*run, "-m", "openai:m", "--shard", "1/2", folder=tmp_path)
        assert ran.status == 2 and message in ran.err
