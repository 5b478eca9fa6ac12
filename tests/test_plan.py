"""`--plan` against what the stub then counts; and that a plan asks nothing, writes nothing and needs no key."""

import contextlib
import contextvars
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pmem import tokens
from pmem.backends.base import Prefix, Request
from pmem.backends.calls import Limits
from pmem.backends.made_up import Shape, assumed, made_up, shape_of
from pmem.backends.plan import Plan
from pmem.backends.planning import Sizes
from pmem.backends.prices import Price
from pmem.check import compiled
from pmem.cli import main
from pmem.dataset.people import PROFILE
from pmem.prompts.replies import VERDICT
from tests.command import Ran, lines, people, question, sample
from tests.stub import ROOT, Stub, running

NEAR = 0.15
HISTORIES = ("--histories", "histories.jsonl")
CONTEXTS = ("--context", "full", "--context", "snippet", "--context", "none")
STAGES = {  # name: (command, records of a first run)
    "personas": (("personas", "people.txt"), 6),
    "converse": (("converse", "personas.jsonl"), 3),
    "qa": (("qa", "histories.jsonl"), 3),
    "judge": (("judge", "few.jsonl"), 6),
    "mcq": (("eval", "questions.jsonl", *HISTORIES), 6),
    "contexts": (("eval", "questions.jsonl", *HISTORIES, *CONTEXTS), 6),
    "open": (("eval", "questions.jsonl", *HISTORIES, "--mode", "open", "--judge-model", "openai:judge"), 6),
}


@pytest.fixture(scope="module")
def author() -> Iterator[Stub]:
    """A stub whose conversations hold the secrets that they should."""
    with running(reply=ROOT / "tests" / "stub_author.py") as stub:
        yield stub


def run(*arguments: object) -> int:
    """The exit status of a command, run in this process."""
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments], prog_name="pmem")
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def made(author: Stub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the records of a whole pipeline."""
    folder = tmp_path_factory.mktemp("made")
    ask = ("-q", "-m", "openai:stub", "--base-url", author.url, "--cache", folder / "replies.sqlite")
    names = {name: folder / f"{name}.jsonl" for name in ("all", "personas", "conversations", "histories", "questions")}
    (folder / "people.txt").write_bytes(people(24))
    assert run("personas", folder / "people.txt", *ask, "-o", names["all"]) == 0
    names["personas"].write_bytes(b"".join(names["all"].read_bytes().splitlines(keepends=True)[:7]))
    assert run("converse", names["personas"], *ask, "-o", names["conversations"]) == 0
    assert run("assemble", "-q", names["conversations"], "-o", names["histories"]) == 0
    assert run("qa", names["histories"], *ask, "-o", names["questions"]) == 0
    (folder / "few.jsonl").write_bytes(b"".join(names["questions"].read_bytes().splitlines(keepends=True)[:16]))
    return folder


@pytest.fixture
def here(
    made: Path, tmp_path: Path, author: Stub, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., Ran]:
    """Runs commands where the records are, with the stub as every model; caches and outputs go to tmp_path."""
    monkeypatch.chdir(made)
    for name in [name for name in os.environ if name.startswith(("PMEM_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPENAI_BASE_URL", author.url)
    author.restart(reply=ROOT / "tests" / "stub_author.py")

    def command(*arguments: object, model: str = "openai:stub") -> Ran:
        status = run(*arguments, "-m", model)
        out, err = capfdbinary.readouterr()
        return Ran(status, out, err.decode())

    return command


def total(table: bytes) -> list[int]:
    """Calls, tokens in and tokens out of a plan, over all models; how many replies were in the cache."""
    rows = [re.split(r"\s{2,}", row) for row in table.decode().splitlines() if row.startswith("total ")]
    assert rows
    columns = zip(*([int(row[n].replace(",", "")) for n in (1, 3, 6, 2)] for row in rows), strict=True)
    return [sum(column) for column in columns]


def counted(stub: Stub) -> list[int]:
    """The same of what was asked of a stub."""
    counts = stub.counts()
    return [counts["requests"], counts["prompt_tokens"], counts["completion_tokens"]]


@pytest.mark.parametrize("stage", STAGES)
def test_a_plan_foretells_what_is_counted(here: Callable[..., Ran], author: Stub, tmp_path: Path, stage: str) -> None:
    command, few = STAGES[stage]
    cold = here(*command, "--plan").out
    assert b"assumed" in cold and b"earlier replies" not in cold
    assert here(*command, "--limit", few).status == 0
    begun = counted(author)
    planned = here(*command, "--plan").out
    assert b"earlier replies" in planned and b"assumed" not in planned.split(b"Cost")[0]
    assert counted(author) == begun

    assert here(*command, "-o", tmp_path / "out").status == 0
    everything = counted(author)
    left = [both - one for both, one in zip(everything, begun, strict=True)]
    assert total(planned)[0] == left[0] > 50
    assert total(planned)[:3] == pytest.approx(left, rel=NEAR)
    assert total(cold)[0] == everything[0]
    if stage != "personas":  # in which most of a prompt are replies to the ones before
        assert total(cold)[1] == pytest.approx(everything[1], rel=NEAR)

    again = here(*command, "--plan").out
    assert total(again) == [0, 0, 0, everything[0]]
    assert b"\nCost: $0.00\nTime: none\n" in again  # although the price isn't known
    assert counted(author) == everything


def test_a_plan_writes_and_asks_nothing_and_needs_no_key(
    here: Callable[..., Ran], author: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL")
    outputs = [tmp_path / name for name in ("out", "rejects", "dropped", "usage")]
    for path in outputs:
        path.write_text("as before\n")
    options = [word for path in outputs for word in ("-o" if path.name == "out" else f"--{path.name}", path)]
    before = sorted(tmp_path.iterdir())
    planned = here("personas", "people.txt", "--limit", 3, "--plan", *options, model="openai:gpt-5")
    assert (planned.status, counted(author)) == (0, [0, 0, 0])
    assert sorted(tmp_path.iterdir()) == before
    assert [path.read_text() for path in outputs] == ["as before\n"] * 4
    assert planned.err.startswith("pmem personas: planned, nothing asked or written: 3 in; ")


def test_a_plan_leaves_the_cache_as_it_is(here: Callable[..., Ran], tmp_path: Path) -> None:
    cache = tmp_path / "home" / "pmem" / "replies.sqlite"
    assert here("judge", "few.jsonl", "--limit", 2).status == 0
    before = stored(cache)
    assert len(before) == 2 * 25
    assert total(here("judge", "few.jsonl", "--plan").out)[0] == 14 * 25
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]
    assert stored(cache) == before


def stored(cache: Path) -> list[Any]:
    """The replies in a cache."""
    with contextlib.closing(sqlite3.connect(cache)) as db:
        return db.execute("select * from reply order by key").fetchall()


def test_faults_of_the_input_are_said_and_the_status_tells(here: Callable[..., Ran], tmp_path: Path) -> None:
    old = {**sample("qa"), "options": None, "gold": None}
    (tmp_path / "in").write_bytes(
        lines([question(1), {"type": "qa"}, old, {**question(2), "query": "Another one?"}]) + b"no JSON\n"
    )
    command = ("judge", tmp_path / "in", "--rejects", tmp_path / "rejects")
    planned = here(*command, "--plan")
    assert planned.status == 3 and total(planned.out)[0] == 50
    assert not (tmp_path / "rejects").exists()
    ran = here(*command)
    assert (ran.status, ran.err.splitlines()[:-1]) == (3, planned.err.splitlines()[:-1])
    assert "5 in, 3 rejected" in planned.err
    stopped = here("judge", tmp_path / "in", "--plan")
    assert (stopped.status, stopped.out) == (1, b"")
    assert "planned, nothing asked or written: stopped: 5 in; " in stopped.err


def test_what_was_rejected_is_planned_when_it_is_fed_in_again(here: Callable[..., Ran], tmp_path: Path) -> None:
    persona = orjson.loads((Path("personas.jsonl")).read_bytes().splitlines()[0])
    empty = dict.fromkeys(("file", "line", "pointer", "call", "raw"))
    items = [preference["id"] for preference in persona["preferences"][:2]]
    error = {"type": "error", "stage": "converse", "reason": "model", "message": "x", "items": items, "record": persona}
    (tmp_path / "in").write_bytes(lines([{**error, **empty}]))
    assert total(here("converse", tmp_path / "in", "--plan").out)[0] == 2


def test_invalid_replies_in_the_cache_are_followed(here: Callable[..., Ran], author: Stub) -> None:
    author.restart(fault={"badschema": 0.5})
    assert here("judge", "few.jsonl", "--limit", 1).status == 0
    asked = counted(author)[0]
    assert 25 < asked < 100
    assert total(here("judge", "few.jsonl", "--limit", 1, "--plan").out) == [0, 0, 0, asked]


@pytest.mark.parametrize(("options", "calls"), [((), 25), (("--no-cache",), 50)])
def test_a_record_that_comes_twice_is_asked_about_once(
    here: Callable[..., Ran], author: Stub, tmp_path: Path, options: tuple[str, ...], calls: int
) -> None:
    (tmp_path / "in").write_bytes(lines([question(1)] * 2))
    assert total(here("judge", tmp_path / "in", "-j", 1, *options, "--plan").out)[0] == calls
    here("judge", tmp_path / "in", "-j", 1, *options)
    assert author.counts()["distinct"] == 25


def test_the_cost_is_by_the_table_of_prices(here: Callable[..., Ran], tmp_path: Path) -> None:
    unknown = here("judge", "few.jsonl", "--plan").out
    assert b"Cost: unknown, since the price of openai:stub is not known (--prices FILE)\n" in unknown
    assert all(row.split()[-2 if row.endswith("assumed") else -1] == "unknown" for row in _rows(unknown))

    table = tmp_path / "prices.toml"
    table.write_text('date = "2026-01-02"\n[models.stub]\ninput = 1000\noutput = 3000\n')
    priced = here("judge", "few.jsonl", "--plan", "--prices", table, "--max-cost", 1).out
    _, prompt, completion, _ = total(priced)
    cost = f"${(prompt * 1000 + completion * 3000) / 1e6:,.2f}"
    assert f"Cost: about {cost}, by prices of 2026-01-02; more than --max-cost 1: ".encode() in priced
    assert cost in next(row for row in _rows(priced) if row.startswith("total"))


def _rows(table: bytes) -> list[str]:
    return [row for row in table.decode().splitlines() if row.startswith(("judge/", "total"))]


@pytest.mark.parametrize(
    ("limits", "seconds", "by"),
    [
        (Limits(jobs=4), 100 * (0.5 + 50 * 0.02) / 4, "-j 4"),
        (Limits(jobs=64), 10 * 1.5, "calls that wait for each other"),
        (Limits(jobs=4, rpm=50), 120, "--rpm 50"),
        (Limits(jobs=4, rpm=500, tpm=3000), 100 * 450 / 3000 * 60, "--tpm 3000"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_the_time_is_by_what_is_slowest(limits: Limits, seconds: float, by: str) -> None:
    plan = Plan("openai:x", "model", Price(1, 1, 1), limits, server=True)

    def ten_in_a_row() -> None:
        for _ in range(10):
            plan.call("a/b", prompt=400, completion=50, earlier=0)

    for _ in range(10):
        contextvars.copy_context().run(ten_in_a_row)
    assert plan.time().by == by
    assert plan.time().seconds == pytest.approx(seconds)


def test_the_time_by_a_rate_assumes_nothing(here: Callable[..., Ran]) -> None:
    planned = here("judge", "few.jsonl", "--plan", "--rpm", 25).out
    assert b"\nTime: about 16:00 min, by --rpm 25\n" in planned  # 400 calls
    assert b"Time: about" in here("judge", "few.jsonl", "--plan", "-j", 1).out


def test_a_model_in_process_is_not_loaded_and_its_time_not_guessed(here: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()  # nothing in it that could be loaded
    (tmp_path / "model" / "config.json").write_text("{}")
    ranked = ("eval", "few.jsonl", "--scoring", "likelihood", "--context", "snippet", "--context", "none")
    planned = here(*ranked, "--plan", "--dtype", "float32", model=f"local:{tmp_path / 'model'}")
    assert planned.status == 0, planned.err
    assert total(planned.out)[0] == 16 * 2  # with the snippet and without: the latter twice, once of them in the cache
    assert b"Cost: $0.00\nTime: not known for a model in this process\n" in planned.out


def test_a_plan_needs_a_model(capfdbinary: pytest.CaptureFixture[bytes], made: Path) -> None:
    assert run("eval", made / "few.jsonl", "--summary", "--plan") == 2
    assert b"--plan needs a model" in capfdbinary.readouterr().err


# ---- sizes -------------------------------------------------------------------------------------------------------


def test_tokens_are_counted_where_the_tokenizer_is_known_else_by_bytes() -> None:
    history = [{"role": "user", "content": "Où est le café? " * 50}]
    request = Request([{"role": "user", "content": "Wie geht es dir?"}], Prefix("h-1", orjson.dumps(history)))
    assert Sizes(exact=False).prompt(request) == pytest.approx(50 * 18 / 4 + 4 + 16 / 4 + 4)
    assert Sizes(exact=True).prompt(request) == tokens.count_messages(history + request.messages)


def test_a_shared_history_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = Sizes(exact=True)
    seen: list[str] = []

    def count(text: str) -> int:
        seen.append(text)
        return 1

    monkeypatch.setattr(tokens, "count", count)
    prefix = Prefix("h-1", b'[{"role":"user","content":"long"}]')
    for n in range(3):
        assert sizes.prompt(Request([{"role": "user", "content": str(n)}], prefix)) == 10
    assert seen.count("long") == 1


def test_what_servers_told_corrects_what_was_counted() -> None:
    plan = Plan("openai:x", "model", Price(2, 2, 4), Limits(), server=True)
    plan.call("a/b", prompt=1000, completion=10, earlier=0)
    assert plan.cost(plan.total) == pytest.approx((1000 * 2 + 10 * 4) / 1e6)
    plan.calibrate(counted=100, told=120)
    plan.calibrate(counted=300, told=320)
    assert plan.usage(plan.total).prompt == 1100


# ---- made-up replies ---------------------------------------------------------------------------------------------


def test_made_up_replies_have_the_shape_of_earlier_ones() -> None:
    attribute = {"area": "a" * 8, "name": "n" * 10, "value": "v" * 100}
    replies: list[Any] = [
        {"name": "n" * 10, "summary": "s" * size, "attributes": [attribute] * size} for size in (10, 30)
    ]
    shape = shape_of(replies, "profile")
    assert shape == Shape({"name": 10, "summary": 20, "area": 8, "value": 100}, {"attributes": 20})
    text = made_up(PROFILE, shape, name="profile", seed=b"a")
    reply = orjson.loads(text)
    assert compiled(PROFILE)(reply)
    assert (len(reply["summary"]), len(reply["attributes"]), len(reply["attributes"][0]["value"])) == (20, 20, 100)
    assert text == made_up(PROFILE, shape, name="profile", seed=b"a")
    assert text != made_up(PROFILE, shape, name="profile", seed=b"b")


def test_a_made_up_vote_passes_and_a_made_up_text_is_no_longer_than_asked() -> None:
    assert orjson.loads(made_up(VERDICT, Shape({"reason": 1}, {}), name="blind", seed=b""))["verdict"] == "pass"
    for size in (1, 2, 7, 300):
        text = made_up(None, Shape({"mcq": size}, {}), name="mcq", seed=b"")
        assert 0.6 * size <= len(text) <= size and not text.startswith(" ")


def test_assumed_sizes_are_those_of_the_demo() -> None:
    titles = {
        "converse": "conversation", "judge": "verdict", "eval": "mcq", "personas/profile": "profile",
        "personas/updates": "updates", "personas/check": "verdicts", "personas": "preferences", "qa/query": "query",
        "qa/options": "options", "judge/blind": "choice", "memdump": "update",
    }  # fmt: skip
    replies: dict[str, list[Any]] = {}
    for line in (ROOT / "pmem" / "demo" / "recorded.jsonl").read_bytes().splitlines():
        answer = orjson.loads(line)
        stage, *_, step, _n = answer["call"].split("/")
        title = titles.get(f"{stage}/{step}") or titles[stage]
        replies.setdefault(title, []).append(answer["reply"])
    for title, shape in assumed().items():
        found = shape_of(replies[title if title != "open" else "conversation"], title)
        means = {**found.texts, **found.lists, "open": found.texts.get("assistant", 0.0)}
        assert shape.texts == {name: round(means[name]) for name in shape.texts}, title
