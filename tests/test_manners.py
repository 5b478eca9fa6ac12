"""What every command does with its input and its output, whatever it is for."""

import gzip
import os
import pty
import select
import subprocess
import termios
import time
from pathlib import Path

import orjson
import pytest
import zstandard

from pmem.cli import COMMANDS
from tests.command import (
    PMEM,
    asking,
    bash,
    ended,
    lines,
    peak,
    people,
    pmem,
    question,
    records,
    sample,
    start,
    wait_for,
)
from tests.stub import Stub

ROOT = Path(__file__).parent.parent
KEPT = [question(n) for n in range(5)]
DROPPED = [question(n, passes=False) for n in range(5, 8)]
MIXED = lines([KEPT[0], DROPPED[0], *KEPT[1:4], *DROPPED[1:], KEPT[4]])
TORN = b'{"type":"qa","id":'
READERS = [name for name in COMMANDS if name not in ("schema", "import", "export", "cache", "memlog")]
TRAINING = ("sft", "grpo", "memtrain")
ASKING = ("personas", "converse", "qa", "judge", "eval", "memdump", "chat")


def needs(command: str) -> list[str]:
    """The options that a command can't do without."""
    if command == "annotate":
        return ["--sheet", "sheets"]
    if command in TRAINING:
        return ["-m", "local:none", "-o", "model"]
    more = {"eval": ["--context", "none"], "chat": ["--memory", str(ROOT / "README.md")]}
    return ["-m", "recorded:none.jsonl", *more.get(command, [])] if command in ASKING else []


# ---- files come to be when all is done ---------------------------------------------------------------------------


def test_outputs_appear_when_the_run_is_done(tmp_path: Path) -> None:
    files = ["out.jsonl", "rejects.jsonl", "dropped.jsonl"]
    child = start(*PMEM, "filter", "-o", files[0], "--rejects", files[1], "--dropped", files[2], folder=tmp_path)
    assert child.stdin
    child.stdin.write(MIXED + TORN + b"\n")
    child.stdin.flush()
    wait_for(lambda: all((tmp_path / f"{name}.part").exists() for name in files))
    time.sleep(0.1)
    assert not any((tmp_path / name).exists() for name in files)
    ran = ended(child)
    assert ran.status == 3 and ran.out == b""
    assert [len(records((tmp_path / name).read_bytes())) for name in files] == [5, 1, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


def test_a_run_that_stops_leaves_the_old_files(tmp_path: Path) -> None:
    files = ["out.jsonl", "dropped.jsonl"]
    for name in files:
        (tmp_path / name).write_bytes(b"old\n")
    ran = pmem("filter", "-o", files[0], "--dropped", files[1], folder=tmp_path, input=MIXED + TORN + b"\n")
    assert ran.status == 1
    assert all((tmp_path / name).read_bytes() == b"old\n" for name in files)
    assert records((tmp_path / "out.jsonl.part").read_bytes()) == KEPT
    assert pmem("filter", "-o", files[0], "--dropped", files[1], folder=tmp_path, input=MIXED).status == 0
    assert (tmp_path / files[0]).read_bytes() == lines(KEPT)
    assert [error["record"] for error in records((tmp_path / files[1]).read_bytes())] == DROPPED


def test_two_runs_do_not_write_one_file(tmp_path: Path, stub: Stub) -> None:
    (tmp_path / "in.txt").write_bytes(people(3))
    stub.restart(latency=3000)
    run = ["personas", *asking(stub), "-o", "out.jsonl"]
    first = start(*PMEM, *run, "in.txt", folder=tmp_path)
    wait_for((tmp_path / "out.jsonl.part").exists)
    second = pmem(*run, folder=tmp_path, input=people(2))
    assert (second.status, second.err) == (1, "pmem: out.jsonl: can't be written: another run is writing it\n")
    done = ended(first)
    assert done.status == 0 and len((tmp_path / "out.jsonl").read_bytes().splitlines()) == 3
    stub.restart()
    assert pmem(*run, "--no-cache", folder=tmp_path, input=people(2)).status == 0
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == 2


def test_no_rejects_make_an_empty_file_of_an_old_one(tmp_path: Path) -> None:
    (tmp_path / "rejects.jsonl").write_bytes(b"old\n")
    assert pmem("filter", "--rejects", "rejects.jsonl", folder=tmp_path, input=MIXED).status == 0
    assert (tmp_path / "rejects.jsonl").read_bytes() == b""


def test_what_is_read_beside_the_input_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_bytes(MIXED)
    (tmp_path / "h.jsonl").write_bytes(b"{}\n")
    (tmp_path / "p.toml").write_text("[models.m]\ninput = 1\noutput = 1\n")
    run = ["eval", "q.jsonl", "-m", "recorded:demo", "--histories", "h.jsonl", "--prices", "p.toml"]
    for options in (
        ["--usage", "q.jsonl"],
        ["--usage", "h.jsonl"],
        ["-o", "h.jsonl"],
        ["--usage", "p.toml"],
        ["--batch-out", "q.jsonl"],
    ):
        ran = pmem(*run, *options, folder=tmp_path)
        assert ran.status == 2 and f"{options[1]}: --" in ran.err and "would write over what is read" in ran.err
    assert pmem(*run, "--usage", "-", folder=tmp_path).err.endswith("two outputs can't both go to stdout\n")
    assert (tmp_path / "q.jsonl").read_bytes() == MIXED


def test_a_text_is_no_cache_to_set_aside(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_bytes(MIXED)
    run = ["personas", "-m", "openai:m", "--base-url", "http://127.0.0.1:9/v1", "--cache", "q.jsonl"]
    ran = pmem(*run, folder=tmp_path, input=people(1))
    assert ran.status == 1 and "q.jsonl is a text, no response cache; it was left as it is" in ran.err
    assert (tmp_path / "q.jsonl").read_bytes() == MIXED and not list(tmp_path.glob("*.corrupt"))


@pytest.mark.parametrize(
    "setting", ["jobs = [1]", "jobs = 1.5", "jobs = true", "no_cache = 3", "usage = 3.5", "seed = 99999999999999999999"]
)
def test_settings_of_another_type_are_one_line(tmp_path: Path, setting: str) -> None:
    (tmp_path / "pmem.toml").write_text(f"[personas]\n{setting}\n")
    ran = pmem("personas", "-m", "recorded:demo", folder=tmp_path, input=people(1))
    if setting.startswith("usage"):  # a file may have any name
        assert (tmp_path / "3.5").is_file()
    else:
        assert ran.status == 2 and ran.err.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize("limit", ["--rpm", "--tpm", "--timeout", "--max-cost", "--temperature"])
def test_limits_are_finite(tmp_path: Path, limit: str) -> None:
    for value in ("nan", "inf", "-1"):
        assert pmem("personas", "-m", "recorded:demo", limit, value, folder=tmp_path, input=people(1)).status == 2


def test_a_file_can_be_input_and_output(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(MIXED)
    (tmp_path / "b.jsonl").write_bytes(lines(KEPT[:1]))
    assert pmem("filter", "a.jsonl", "b.jsonl", "-o", "b.jsonl", folder=tmp_path).status == 0
    assert records((tmp_path / "b.jsonl").read_bytes()) == [*KEPT, KEPT[0]]
    (tmp_path / "c.jsonl").write_bytes(MIXED + TORN)
    assert pmem("filter", "c.jsonl", "--rejects", "c.jsonl", folder=tmp_path).status == 3
    assert [error["raw"] for error in records((tmp_path / "c.jsonl").read_bytes())] == [TORN.decode()]


@pytest.mark.parametrize("other", ["a.jsonl", "./a.jsonl", "link.jsonl"])
def test_two_outputs_in_one_file_are_refused(tmp_path: Path, other: str) -> None:
    (tmp_path / "link.jsonl").symlink_to("a.jsonl")
    ran = pmem("filter", "-o", "a.jsonl", "--rejects", other, folder=tmp_path, input=MIXED)
    assert ran.status == 2 and "two outputs can't be one file" in ran.err
    assert pmem("filter", "-o", "/dev/null", "--dropped", "/dev/null", folder=tmp_path, input=MIXED).status == 0


def test_the_part_of_an_earlier_run_is_no_input(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.part").write_bytes(MIXED)
    ran = pmem("filter", "a.jsonl.part", "-o", "a.jsonl", folder=tmp_path)
    assert ran.status == 2 and "a.jsonl.part" in ran.err
    assert (tmp_path / "a.jsonl.part").read_bytes() == MIXED


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.jsonl").symlink_to("elsewhere/b.jsonl")
    assert pmem("filter", "-o", "a.jsonl", folder=tmp_path, input=MIXED).status == 0
    assert (tmp_path / "a.jsonl").is_symlink()
    assert (tmp_path / "elsewhere" / "b.jsonl").read_bytes() == lines(KEPT)


def test_devices_and_pipes_are_written_to_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    line = "cat pipe > copy & pmem filter -q in.jsonl -o pipe --dropped /dev/null --rejects /dev/stderr; wait"
    (tmp_path / "in.jsonl").write_bytes(MIXED + TORN)
    ran = bash(line, folder=tmp_path)
    assert (tmp_path / "copy").read_bytes() == lines(KEPT)
    assert (tmp_path / "pipe").is_fifo() and Path("/dev/null").is_char_device()
    assert orjson.loads(ran.err)["raw"] == TORN.decode()


@pytest.mark.parametrize("to", ["nowhere/out.jsonl", "folder", "in.jsonl/out.jsonl"])
def test_output_that_cannot_be_written_is_one_line(tmp_path: Path, to: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "in.jsonl").write_bytes(MIXED)
    ran = pmem("filter", "in.jsonl", "-o", to, folder=tmp_path)
    assert ran.status == (2 if to == "folder" else 1)
    assert to in ran.err.splitlines()[-1]


# ---- compression -------------------------------------------------------------------------------------------------


def pack(content: bytes, suffix: str) -> bytes:
    return gzip.compress(content) if suffix == "gz" else zstandard.ZstdCompressor().compress(content)


def unpack(content: bytes, suffix: str) -> bytes:
    return (
        gzip.decompress(content) if suffix == "gz" else zstandard.ZstdDecompressor().decompressobj().decompress(content)
    )


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_compressed_in_and_out(tmp_path: Path, suffix: str) -> None:
    packed = pack(MIXED, suffix)
    (tmp_path / f"in.jsonl.{suffix}").write_bytes(packed + packed)  # members, frames: the file goes on
    outputs = []
    for name in ("one", "two"):
        out = f"{name}.jsonl.{suffix}"
        rejects = ["--dropped", f"{name}.dropped.{suffix}"]
        assert pmem("filter", f"in.jsonl.{suffix}", "-o", out, *rejects, folder=tmp_path).status == 0
        outputs.append((tmp_path / out).read_bytes())
        time.sleep(1.1 * (name == "one"))  # the header of gzip counts whole seconds
    assert outputs[0] == outputs[1]
    assert unpack(outputs[0], suffix) == lines(KEPT) * 2
    dropped = records(unpack((tmp_path / f"one.dropped.{suffix}").read_bytes(), suffix))
    assert [error["record"] for error in dropped] == DROPPED * 2


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_compressed_file_that_was_cut_off_is_no_shorter_one(tmp_path: Path, suffix: str) -> None:
    content = b"".join(lines([question(n)]) for n in range(2000))
    packed = pack(content, suffix)
    (tmp_path / f"in.jsonl.{suffix}").write_bytes(packed[: len(packed) // 2])
    ran = pmem("filter", f"in.jsonl.{suffix}", "-o", "out.jsonl", folder=tmp_path)
    assert ran.status == 1 and not (tmp_path / "out.jsonl").exists()
    assert f"in.jsonl.{suffix}: can't be read" in ran.err.splitlines()[-1]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_file_that_is_not_compressed_as_its_name_says(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"in.jsonl.{suffix}").write_bytes(MIXED)
    for command in ("filter", "validate", "show"):
        ran = pmem(command, f"in.jsonl.{suffix}", folder=tmp_path)
        assert ran.status == 1 and f"in.jsonl.{suffix}: can't be " in ran.err.splitlines()[-1]


# ---- where input comes from --------------------------------------------------------------------------------------


def test_files_follow_each_other_and_a_dash_is_stdin(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(KEPT[:2]))
    (tmp_path / "b.jsonl").write_bytes(lines(KEPT[3:]))
    ran = pmem("filter", "a.jsonl", "-", "b.jsonl", folder=tmp_path, input=lines([KEPT[2]]))
    assert ran.records == KEPT
    ran = pmem("filter", "a.jsonl", "-", "b.jsonl", "--rejects", "r.jsonl", folder=tmp_path, input=b"\n\nno\n")
    assert (ran.status, ran.records) == (3, KEPT[:2] + KEPT[3:])
    error = records((tmp_path / "r.jsonl").read_bytes())[0]
    assert (error["file"], error["line"], error["raw"]) == ("<stdin>", 3, "no")


@pytest.mark.parametrize(
    "how", ["< in.jsonl", "in.jsonl", "<(cat in.jsonl)", "< <(cat in.jsonl)", "/dev/stdin < in.jsonl"]
)
def test_every_way_in_gives_the_same(tmp_path: Path, how: str, stub: Stub) -> None:
    (tmp_path / "in.jsonl").write_bytes(people(3))
    model = " ".join(asking(stub))
    first = pmem("personas", "in.jsonl", *asking(stub), folder=tmp_path)
    assert first.status == 0 and len(first.records) == 3
    assert bash(f"pmem personas {model} {how}", folder=tmp_path).out == first.out
    (tmp_path / "in.jsonl").write_bytes(MIXED)
    assert bash(f"pmem filter {how}", folder=tmp_path).out == lines(KEPT)
    assert bash(f"pmem validate {how}", folder=tmp_path).status == 0
    assert bash(f"pmem show {how}", folder=tmp_path).out.count(b"qa q-") == 8


GIVING = [command for command in READERS if command not in ("audit", *TRAINING)]
"""An audit of nothing isn't passed (golden/audit/odd-input), and there is no model that learnt from nothing."""
NOTHING = ["< /dev/null", "< blank.jsonl"]
NOTHING_IN_FILES = ["empty.jsonl", "/dev/null", "empty.gz", "bom.jsonl"]


@pytest.mark.parametrize(
    ("command", "source"),
    [(command, source) for command in GIVING for source in NOTHING]
    + [(command, source) for command in ("filter", "validate", "personas") for source in NOTHING_IN_FILES],
)
def test_nothing_comes_of_nothing(tmp_path: Path, command: str, source: str) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "empty.gz").touch()
    (tmp_path / "blank.jsonl").write_bytes(b"\n\r\n  \n\t\n")
    (tmp_path / "bom.jsonl").write_bytes(b"\xef\xbb\xbf")
    ran = bash(f"pmem {command} {' '.join(needs(command))} {source}", folder=tmp_path)
    assert (ran.status, ran.out) == (0, b""), ran.err


@pytest.mark.parametrize("command", READERS)
def test_no_input_on_a_terminal_is_wrong_usage_not_a_hang(tmp_path: Path, command: str) -> None:
    terminal, inside = pty.openpty()
    try:
        child = start(*PMEM, command, *needs(command), folder=tmp_path, stdin=inside)
        ran = ended(child, seconds=10)
        closed = bash(f"pmem {command} {' '.join(needs(command))} <&-", folder=tmp_path)
    finally:
        os.close(terminal)
        os.close(inside)
    for one in (ran, closed):
        assert one.status == 2 and one.out == b""
        assert one.err.startswith(f"Usage: pmem {command} ") and "no input" in one.err


@pytest.mark.parametrize("command", [name for name in GIVING if name not in ("validate", "compare")])
def test_limit_reads_no_further(tmp_path: Path, command: str) -> None:
    ran = pmem(command, *needs(command), "--limit", "0", folder=tmp_path, input=b"no record\n")
    assert (ran.status, ran.out) == (0, b"")


def test_limit_counts_records_not_lines_and_ends_while_the_input_goes_on(tmp_path: Path, stub: Stub) -> None:
    for arguments, input in (
        (["filter"], b"\n \r\n".join(map(orjson.dumps, KEPT))),
        (["personas", *asking(stub)], people(5)),
    ):
        for limit in (0, 2):
            child = start(*PMEM, *arguments, "--limit", str(limit), folder=tmp_path)
            assert child.stdin and child.stdout
            if limit:
                child.stdin.write(b"\n  \n" + input + b"\n")
                child.stdin.flush()
            assert child.wait(10) == 0
            assert len(records(child.stdout.read())) == limit
            child.communicate()


# ---- lines -------------------------------------------------------------------------------------------------------

NUISANCES = {
    "a byte order mark": (b"\xef\xbb\xbf%s\n%s\n", b"%s\n%s\n"),
    "line ends of Windows": (b"%s\r\n%s\r\n", b"%s\r\n%s\r\n"),
    "blank lines": (b"\n%s\n\n\r\n   \n%s\n\n", b"%s\n%s\n"),
    "no newline at the end": (b"%s\n%s", b"%s\n%s\n"),
    "spaces around": (b"  %s \n\t%s\n", b"  %s \n\t%s\n"),
}


@pytest.mark.parametrize("name", NUISANCES)
def test_lines_are_read_however_they_are_written(tmp_path: Path, name: str) -> None:
    given, passed_on = NUISANCES[name]
    both = (orjson.dumps(KEPT[0]), orjson.dumps(KEPT[1]))
    (tmp_path / "in.jsonl").write_bytes(given % both)
    for input, files in ((given % both, []), (b"", ["in.jsonl"])):
        ran = pmem("filter", *files, folder=tmp_path, input=input)
        assert (ran.status, ran.out) == (0, passed_on % both)
        assert pmem("validate", *files, folder=tmp_path, input=input).status == 0
        assert pmem("show", *files, folder=tmp_path, input=input).out.count(b"qa q-") == 2


@pytest.mark.parametrize("name", NUISANCES)
def test_lines_of_text_are_read_however_they_are_written(tmp_path: Path, name: str, stub: Stub) -> None:
    given, _ = NUISANCES[name]
    plain = pmem("personas", *asking(stub), folder=tmp_path, input=b"A baker.\nA sailor.\n")
    assert [record["seed"] for record in plain.records] == ["A baker.", "A sailor."]
    assert pmem("personas", *asking(stub), folder=tmp_path, input=given % (b"A baker.", b"A sailor.")).out == plain.out


def test_a_byte_order_mark_before_the_only_line(tmp_path: Path) -> None:
    line = orjson.dumps(KEPT[0])
    assert pmem("filter", folder=tmp_path, input=b"\xef\xbb\xbf" + line).out == line + b"\n"


def test_a_line_of_20_megabytes(tmp_path: Path) -> None:
    big = lines([{**KEPT[1], "query": "x" * 20_000_000}])
    input = lines(KEPT[:1]) + big + lines(KEPT[2:])
    (tmp_path / "in.jsonl").write_bytes(input)
    for ran in (pmem("filter", folder=tmp_path, input=input), bash("cat in.jsonl | pmem filter", folder=tmp_path)):
        assert ran.status == 0 and ran.out == input
    wrong = big.replace(b'"type":"qa"', b'"type":"qs"')
    ran = pmem("filter", "--rejects", "r.jsonl", folder=tmp_path, input=lines(KEPT[:1]) + wrong)
    assert ran.status == 3 and ran.out == lines(KEPT[:1]) and len(ran.err) < 2000
    assert records((tmp_path / "r.jsonl").read_bytes())[0]["record"] == orjson.loads(wrong)


DEEP = b'{"a":' * 300 + b"1" + b"}" * 300
BROKEN = {
    "not UTF-8": b'{"type":"qa","id":"\xff"}',
    "torn": TORN,
    "no object": b"[1]",
    "null": b"null",
    "NUL bytes": b"\0\0\0",
    "no type": b"{}",
    "a number as type": b'{"type":5}',
    "null as type": b'{"type":null}',
    "a list as type": b'{"type":["qa"]}',
    "another type": lines([sample("persona")]).rstrip(),
    "nested deeply": b'{"type":"qa","query":%s}' % DEEP,
    "more deeply than JSON is read": b'{"type":"qa","query":%s}' % (b"[" * 5000),
    "half of a surrogate": b'{"type":"qa","id":"\\ud800"}',
    "an error record that isn't one": b'{"type":"error"}',
    "an error record that holds nothing": lines([{**sample("error"), "record": None, "raw": None}]).rstrip(),
}

SOUND_ELSEWHERE = ("another type", "an error record that holds nothing")


@pytest.mark.parametrize(
    ("command", "name"),
    [("filter", name) for name in BROKEN] + [("judge", name) for name in list(BROKEN)[::4]] + [("assemble", "torn")],
)
def test_a_broken_line_stops_the_run_or_goes_to_the_rejects(tmp_path: Path, command: str, name: str) -> None:
    input = lines(KEPT[:1]) + BROKEN[name] + b"\n" + lines(KEPT[1:2])
    if command == "assemble":
        input = BROKEN[name] + b"\n"
    elif command == "judge":
        input = BROKEN[name] + b"\n" + b"no\n"
    place = f"<stdin>:{2 if command == 'filter' else 1}: "
    ran = pmem(command, *needs(command), folder=tmp_path, input=input)
    assert ran.status == 1 and ran.out == (lines(KEPT[:1]) if command == "filter" else b"")
    last = ran.err.splitlines()[-1]
    assert last.startswith(f"pmem: {command}: {place}") and "--rejects" in last and len(last) < 1000
    ran = pmem(command, *needs(command), "--rejects", "r.jsonl", folder=tmp_path, input=input)
    assert ran.status == 3 and ran.records == (KEPT[:2] if command == "filter" else [])
    error = records((tmp_path / "r.jsonl").read_bytes())[0]
    held = error["raw"].encode() if error["raw"] else orjson.dumps(error["record"])
    assert held == BROKEN[name].replace(b"\xff", b"\\xff")
    assert pmem("validate", "r.jsonl", folder=tmp_path).status == 0
    assert pmem("show", "r.jsonl", folder=tmp_path).status == 0


@pytest.mark.parametrize("name", [name for name in BROKEN if name not in SOUND_ELSEWHERE])
def test_validate_and_show_name_a_broken_line(tmp_path: Path, name: str) -> None:
    input = lines(KEPT[:1]) + BROKEN[name] + b"\n" + lines(KEPT[1:2])
    checked = pmem("validate", folder=tmp_path, input=input)
    assert (checked.status, checked.out) == (1, b"") and "<stdin>:2: " in checked.err
    assert "; 1 faulty line; " in checked.err
    shown = pmem("show", folder=tmp_path, input=input)
    assert shown.status == 1 and shown.err.splitlines()[-1].startswith("pmem: <stdin>:2: ")


def test_rejects_fed_in_again_are_taken_up(tmp_path: Path, stub: Stub) -> None:
    input = people(4) + people(2)
    whole = pmem("personas", *asking(stub), folder=tmp_path, input=input)
    stub.restart(context=100)
    failed = pmem("personas", *asking(stub), "--no-cache", "--rejects", "r.jsonl", folder=tmp_path, input=input)
    assert (failed.status, failed.out) == (3, b"") and "6 rejected" in failed.err
    stub.restart()
    again = pmem("personas", "r.jsonl", *asking(stub), "--no-cache", folder=tmp_path)
    assert again.status == 0 and again.out == whole.out  # the second of two equal lines stays the second


# ---- output: the same, whatever the circumstances ----------------------------------------------------------------


def test_bytes_depend_on_neither_jobs_nor_hash_seed(tmp_path: Path, stub: Stub) -> None:
    faults = {"jitter": 5, "fault": "badschema=0.1,refusal=0.02,429ra=0.03"}
    (tmp_path / "in.jsonl").write_bytes(people(30) + b"\xff\n" + people(29))
    seen = set()
    for jobs, seed in (("1", "0"), ("16", "1"), ("64", "2")):
        stub.restart(**faults)
        options = ["-j", jobs, "--no-cache", "--rejects", "r.jsonl", "--dropped", "d.jsonl"]
        env = {"PYTHONHASHSEED": seed}
        ran = pmem("personas", "in.jsonl", *asking(stub), *options, folder=tmp_path, env=env, hurried=True)
        assert ran.status == 3
        rest = (tmp_path / "r.jsonl").read_bytes(), (tmp_path / "d.jsonl").read_bytes()
        assert len(ran.records) + len(records(rest[0])) == 60 and rest[1]
        seen.add((ran.out, *rest))
    assert len(seen) == 1


def test_a_slow_record_does_not_change_the_order(tmp_path: Path, stub: Stub) -> None:
    hook = tmp_path / "slow.py"
    hook.write_text(
        "import time\n"
        "def reply(body):\n"
        "    if 'A beekeeper of 20 years' in str(body): time.sleep(0.1)\n"  # holds up the whole server
    )
    stub.restart(reply=hook, latency=1)
    ran = pmem("personas", *asking(stub), folder=tmp_path, input=people(12))
    assert [record["seed"] for record in ran.records] == people(12).decode().splitlines()


def test_memory_does_not_grow_with_the_input(tmp_path: Path, stub: Stub) -> None:
    (tmp_path / "qa.jsonl").write_bytes(lines([question(1), question(2, passes=False)]) * 5_000)
    (tmp_path / "people").write_bytes(people(10_000))
    sync = ["filter", "qa.jsonl", "--dropped", "d.jsonl"]
    one_call_each = ["personas", "people", *asking(stub), "--preferences", "neutral=0", "--no-cache"]
    code = "from pmem.cli import main\nmain(sys.argv[1:], prog_name='pmem')"
    for arguments in (sync, one_call_each):
        little = peak(code, *arguments, "-o", "out.jsonl", "--limit", "500", folder=tmp_path)
        much = peak(code, *arguments, "-o", "out.jsonl", folder=tmp_path)
        assert len((tmp_path / "out.jsonl").read_bytes()) > 10_000_000  # more than it may have kept
        assert much < 200 and much - little < 10


# ---- what it says ------------------------------------------------------------------------------------------------


def test_exit_statuses(tmp_path: Path, stub: Stub) -> None:
    run = [*asking(stub), "--no-cache"]
    assert pmem("personas", *run, folder=tmp_path, input=people(1)).status == 0
    assert pmem("personas", *run, folder=tmp_path, input=b"{\n").status == 1
    assert pmem("personas", *run, "--rejects", "r", folder=tmp_path, input=people(1) + b"{\n").status == 3
    for command, *wrong in (
        ["persona"],
        ["personas"],
        ["personas", "-m", "gpt-5"],
        ["personas", *run, "nofile"],
        ["personas", *run, "-j", "0"],
        ["personas", *run, "--preferences", "x=1"],
        ["filter", "--limit", "-1"],
        ["filter", "-j", "4"],
    ):
        ran = pmem(command, *wrong, folder=tmp_path, input=MIXED)
        assert (ran.status, ran.out) == (2, b"") and "Error: " in ran.err, wrong
    # what is dropped on purpose is no rejection
    assert pmem("filter", folder=tmp_path, input=lines(DROPPED)).status == 0


def test_the_last_line_says_what_happened(tmp_path: Path, stub: Stub) -> None:
    ran = pmem("personas", *asking(stub), "--rejects", "r", folder=tmp_path, input=people(3) + b"{\n")
    said = ran.err.splitlines()[-1]
    for part in ("pmem personas: 4 in, 3 out", "1 rejected", "24 calls to openai:stub", "tokens in", " s"):
        assert part in said
    again = pmem("personas", *asking(stub), folder=tmp_path, input=people(3)).err.splitlines()[-1]
    assert "0 calls to openai:stub, 24 from cache" in again
    assert pmem("personas", "-q", *asking(stub), folder=tmp_path, input=people(3)).err == ""
    stopped = pmem("filter", folder=tmp_path, input=MIXED + TORN).err.splitlines()
    assert stopped[-2].startswith("pmem filter: stopped: 9 in, 5 out") and stopped[-1].startswith(
        "pmem: filter: <stdin>:9: "
    )
    quiet = pmem("filter", "-q", folder=tmp_path, input=MIXED + TORN).err.splitlines()
    assert len(quiet) == 1 and quiet[0].startswith("pmem: filter: <stdin>:9: ")


def screen(*command: str, folder: Path, stdout: int) -> bytes:
    """What a command shows on a terminal that is its stderr."""
    terminal, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, 100))
    child = start(*command, folder=folder, stdin=subprocess.DEVNULL, stdout=stdout, stderr=inside)
    os.close(inside)
    shown = b""
    while select.select([terminal], [], [], 30)[0]:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        shown += piece
    child.communicate()
    os.close(terminal)
    assert child.returncode == 0
    return shown


def test_progress_shows_on_a_terminal_only(tmp_path: Path, stub: Stub) -> None:
    (tmp_path / "in.jsonl").write_bytes(MIXED)
    (tmp_path / "people").write_bytes(people(3))
    personas = ["personas", "people", *asking(stub), "--no-cache"]
    for arguments in (["filter", "in.jsonl"], personas):
        command = [*PMEM, *arguments]
        bar = f"{arguments[0]}: 0 records".encode()
        assert bar in screen(*command, folder=tmp_path, stdout=subprocess.DEVNULL)
        assert bar not in screen(*command, folder=tmp_path, stdout=subprocess.PIPE)  # the last of the pipe has one
        assert bar in screen(*command, "--progress", folder=tmp_path, stdout=subprocess.PIPE)
        assert bar not in screen(*command, "-q", folder=tmp_path, stdout=subprocess.DEVNULL)
        assert bar.decode() not in pmem(*arguments, folder=tmp_path).err
        assert bar.decode() in pmem(*arguments, "--progress", folder=tmp_path).err


def test_progress_counts_every_record(tmp_path: Path) -> None:
    child = start(*PMEM, "filter", "--progress", "--rejects", "r", folder=tmp_path)
    assert child.stdin and child.stderr
    shown = b""
    for _ in range(3):
        child.stdin.write(MIXED + b"no\n")
        child.stdin.flush()
        time.sleep(0.4)
    ran = ended(child)
    shown = ran.err.encode()
    assert b"filter: 18 records" in shown or b"filter: 27 records" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_data_alone_goes_to_stdout(tmp_path: Path, command: str) -> None:
    ran = pmem(command, "--no-such-option", folder=tmp_path)
    assert (ran.status, ran.out) == (2, b"") and "--no-such-option" in ran.err
    helped = pmem(command, "--help", folder=tmp_path)
    assert (helped.status, helped.err) == (0, "") and helped.out.startswith(f"Usage: pmem {command}".encode())


# ---- stdout, stdin, stderr that aren't there ---------------------------------------------------------------------


def test_closed_standard_streams(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(MIXED)
    ran = bash("pmem filter in.jsonl >&-", folder=tmp_path)
    assert ran.status == 1 and ran.err.endswith("pmem: standard output: can't be written: Bad file descriptor\n")
    for command in ("filter in.jsonl -o out", "validate in.jsonl", "show in.jsonl", "schema qa", "--help"):
        assert bash(f"pmem {command} >&-", folder=tmp_path).status == 0, command
    assert (tmp_path / "out").read_bytes() == lines(KEPT)
    assert bash("pmem filter in.jsonl 2>&-", folder=tmp_path).out == lines(KEPT)
    assert bash("pmem filter in.jsonl <&-", folder=tmp_path).out == lines(KEPT)
