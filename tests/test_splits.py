"""Splits by persona: exact, deterministic, apart, and alike in their mix."""

import itertools
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pmem.dataset.splits import Personas, Unreachable, by_shares, by_sizes, smallest_sum
from tests.command import lines, peak, pmem, question, records

CELLS = {"own neutral": 6, "own health": 2, "other neutral": 1, "updated therapy": 1}


def people(count: int, low: int = 8, high: int = 20, seed: int = 1) -> Personas:
    draw = Random(seed)
    return {
        f"p-{n:016x}": Counter(draw.choices(list(CELLS), list(CELLS.values()), k=draw.randint(low, high)))
        for n in range(count)
    }


def sizes_of(personas: Personas, split_of: dict[str, str]) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for persona, split in split_of.items():
        sizes[split] += personas[persona].total()
    return sizes


@pytest.mark.parametrize("seed", range(5))
def test_sizes_are_exact(seed: int) -> None:
    personas = people(200, seed=seed)
    wanted = {"bench": 500, "train": 1500, "val": 150}
    division = by_sizes(personas, wanted, seed)
    left_out: Counter[str] = Counter()
    for (split, _), n in division.surplus.items():
        left_out[split] += n
    assert sizes_of(personas, division.split_of) - left_out == Counter(wanted)
    assert left_out.total() <= 3


def test_all_questions_may_be_wanted() -> None:
    personas = people(100)
    total = sum(one.total() for one in personas.values())
    wanted = {"bench": 300, "val": 77, "train": total - 377}
    assert sizes_of(personas, by_sizes(personas, wanted, 3).split_of) == Counter(wanted)


def test_surplus_is_taken_from_what_a_split_has_most_too_many_of() -> None:
    """Two personas of five: four questions can't be made of whole ones. The whole has one health in five."""
    personas = {"a": Counter({"own neutral": 3, "own health": 2}), "b": Counter({"own neutral": 5})}
    division = by_sizes(personas, {"bench": 4}, 0)
    (persona,) = division.split_of
    assert division.surplus == Counter({("bench", "own health" if persona == "a" else "own neutral"): 1})


def test_what_cannot_be_reached_is_said() -> None:
    personas = {name: Counter({"own neutral": 10}) for name in "abc"}
    with pytest.raises(Unreachable, match=r"31 questions are wanted \(bench 21, val 10\); there are 30"):
        by_sizes(personas, {"bench": 21, "val": 10}, 0)
    with pytest.raises(Unreachable, match="30 questions of 3 personas, of which 26 are wanted; at best bench"):
        by_sizes(personas, {"bench": 15, "val": 11}, 0)
    assert by_sizes(personas, {"bench": 20, "val": 0}, 0).surplus.total() == 0
    with pytest.raises(Unreachable):
        by_sizes({}, {"bench": 1}, 0)


def test_the_mix_is_that_of_the_whole() -> None:
    """Closer than by chance, by which a share of 60% of 500 questions is off by 2.2 points (one standard deviation)."""
    personas = people(400)
    whole: Counter[str] = sum(personas.values(), Counter())
    for division in (
        by_sizes(personas, {"bench": 1000, "train": 3500, "val": 500}, 1),
        by_shares(personas, {"bench": 0.2, "train": 0.7, "val": 0.1}, 1),
    ):
        for split in ("bench", "train", "val"):
            cells: Counter[str] = sum((personas[p] for p, own in division.split_of.items() if own == split), Counter())
            assert all(abs(cells[c] / cells.total() - whole[c] / whole.total()) < 0.015 for c in CELLS), (split, cells)


def test_shares_leave_nothing_out() -> None:
    personas = people(300)
    division = by_shares(personas, {"bench": 0.2, "train": 0.72, "val": 0.08}, 5)
    assert set(division.split_of) == set(personas) and not division.surplus
    sizes, total = sizes_of(personas, division.split_of), sum(one.total() for one in personas.values())
    assert all(abs(sizes[split] / total - share) < 0.005 for split, share in [("bench", 0.2), ("val", 0.08)])


@pytest.mark.parametrize("seed", range(30))
def test_smallest_sum_against_all_subsets(seed: int) -> None:
    draw = Random(seed)
    sizes = [draw.randint(1, 12) for _ in range(draw.randint(0, 9))]
    wanted = draw.randint(0, 60)
    sums = [sum(some) for n in range(len(sizes) + 1) for some in itertools.combinations(sizes, n)]
    best = min((one for one in sums if one >= wanted), default=None)
    chosen = smallest_sum(sizes, wanted)
    assert (None if chosen is None else sum(sizes[place] for place in chosen)) == best
    assert chosen is None or len(set(chosen)) == len(chosen)


# ---- the command -------------------------------------------------------------------------------------------------


def questions(personas: Personas) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for persona, cells in personas.items():
        for cell in cells.elements():
            case, kind = cell.split()
            qa = question(len(made))
            made.append({**qa, "persona_id": persona, "case": case, "preference": {**qa["preference"], "kind": kind}})
    return made


SMALL = questions(people(30, 3, 9))
EXACT = ["split", "--sizes", "bench=40,train=80,val=20"]


def test_no_persona_is_in_two_splits_and_nothing_else_changes(tmp_path: Path) -> None:
    ran = pmem(*EXACT, "--dropped", "d", folder=tmp_path, input=lines(SMALL))
    assert ran.status == 0, ran.err
    assert Counter(qa["split"] for qa in ran.records) == {"bench": 40, "train": 80, "val": 20}
    where: dict[str, set[str]] = {}
    for qa in ran.records:
        where.setdefault(qa["persona_id"], set()).add(qa["split"])
    assert all(len(splits) == 1 for splits in where.values())
    dropped = records((tmp_path / "d").read_bytes())
    ids = [qa["id"] for qa in SMALL]
    assert sorted([qa["id"] for qa in ran.records] + [error["record"]["id"] for error in dropped]) == sorted(ids)
    assert {error["message"].split(":")[0] for error in dropped} == {"split"}
    by_id = {qa["id"]: qa for qa in SMALL}
    assert all({**by_id[qa["id"]], "split": qa["split"]} == qa for qa in ran.records)
    assert [qa["id"] for qa in ran.records] == [own for own in ids if own in {qa["id"] for qa in ran.records}]


def test_order_does_not_matter_and_the_seed_does(tmp_path: Path) -> None:
    def split(stream: list[dict[str, Any]], *more: str) -> dict[str, str]:
        run = pmem("split", *more, folder=tmp_path, input=lines(stream))
        return {qa["persona_id"]: qa["split"] for qa in run.records}

    mixed = SMALL.copy()
    Random(0).shuffle(mixed)
    assert split(SMALL) == split(mixed) != split(SMALL, "--seed", "1")


def test_a_file_for_each_split(tmp_path: Path) -> None:
    (tmp_path / "q").write_bytes(lines(SMALL))
    whole = pmem(*EXACT, "q", folder=tmp_path)
    ran = pmem(*EXACT, "q", "--into", "a/b", folder=tmp_path)
    assert (ran.status, ran.out) == (0, b"")
    both = pmem(*EXACT, "q", "--into", "a/c", "-o", "all", folder=tmp_path)
    assert both.status == 0 and (tmp_path / "all").read_bytes() == whole.out
    for split in ("bench", "train", "val"):
        own = [qa for qa in whole.records if qa["split"] == split]
        for folder in ("a/b", "a/c"):
            assert records((tmp_path / folder / f"{split}.jsonl").read_bytes()) == own
    again = pmem("split", "a/b/bench.jsonl", "--into", "a/b", folder=tmp_path)  # what it reads may be replaced
    assert again.status == 0
    assert sum(len(records(path.read_bytes())) for path in (tmp_path / "a/b").iterdir()) == 40
    clash = pmem(*EXACT, "q", "--into", "x", "-o", "x/bench.jsonl", folder=tmp_path)
    assert clash.status == 2 and "two outputs can't be one file" in clash.err


def test_nothing_is_written_where_sizes_cannot_be_reached(tmp_path: Path) -> None:
    (tmp_path / "o").write_bytes(b"old\n")
    ran = pmem("split", "--sizes", "bench=5000", "-o", "o", "--into", "d", folder=tmp_path, input=lines(SMALL))
    assert ran.status == 1 and "5,000 questions are wanted (bench 5,000); there are" in ran.err
    assert (tmp_path / "o").read_bytes() == b"old\n" and not list((tmp_path / "d").glob("*.jsonl"))


@pytest.mark.parametrize(
    "sizes",
    ["bench", "test=3", "bench=1,bench=2", "bench=0.5,val=0.6", "bench=-1", "bench=x", "bench=nan", "bench=0.5,val=3",
     "", "bench="],
)  # fmt: skip
def test_wrong_sizes(tmp_path: Path, sizes: str) -> None:
    ran = pmem("split", "--sizes", sizes, folder=tmp_path, input=lines(SMALL))
    assert ran.status == 2 and ran.err.splitlines()[-1].startswith("Error: Invalid value for '--sizes'")


def test_broken_lines_and_questions_of_nobody_are_rejected(tmp_path: Path) -> None:
    nobody = {**question(99), "persona_id": None}
    stream = lines([*SMALL[:5], nobody]) + b"torn\n" + lines(SMALL[5:])
    ran = pmem("split", "--rejects", "r", folder=tmp_path, input=stream)
    assert ran.status == 3 and len(ran.records) == len(SMALL)
    assert [(e["line"], e["reason"]) for e in records((tmp_path / "r").read_bytes())] == [(6, "schema"), (7, "json")]
    again = pmem("split", "r", "--rejects", "r", folder=tmp_path)
    assert again.status == 3 and again.out == b""
    stopped = pmem("split", folder=tmp_path, input=stream)
    assert stopped.status == 1 and stopped.out == b"" and ":6: /persona_id: a question without a persona" in stopped.err


def test_memory_does_not_grow_with_the_questions(tmp_path: Path) -> None:
    """40 MB of questions, while a run on a tenth of that takes about as much memory."""
    long = "A sentence to make it long. " * 400
    for name, count in (("little", 350), ("much", 3500)):
        with (tmp_path / name).open("wb") as file:
            for number in range(count):
                qa = {**question(number), "persona_id": f"p-{number // 20:016x}", "answer": long}
                file.write(lines([qa]))
    run = "from pmem.cli import main\nmain(['split', '-q', '-o', '/dev/null', sys.argv[1]], prog_name='pmem')"
    little, much = (peak(run, name, folder=tmp_path) for name in ("little", "much"))
    assert much < little + 12
