"""The page of memories: what became of each statement (tracks), and the page in a real browser."""

import asyncio
import base64
import re
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from pmem.memory.previous import Before
from pmem.report.timeline.tracks import GAP, Track, Tracks
from tests.browser import HOSTILE, holds, opened, shows
from tests.command import lines, pmem, sample
from tests.memory_model import Model, Record, history, run

CHATS = [[f"Message {n} of chat {chat}, about tea, boats and the weather. {'And more. ' * 8}" for n in range(4)]
         for chat in range(4)]  # fmt: skip
MEMORIES = [
    "## About\n- Lives in Teruel [1]\n- Bakes at night\n## Tastes and habits\n- Drinks coffee all day [2, 3]",
    "## About\n- Lives in Teruel, near the old bridge [2]\n- Bakes at night\n- Has a son",
    "## About\n- Lives in Teruel, near the old bridge\n- Has a son\n## Not to be remembered\n- coffee / caffeine",
    "## About\n- Lives in Teruel, near the old bridge [4]\n- Has a son\n- Plays the cello [1, 2]\n"
    "## Not to be remembered\n- coffee / caffeine",
]
REMEMBERED = [MEMORIES[0], MEMORIES[1] + "\n## Tastes and habits\n- Drinks coffee all day", *MEMORIES[2:]]
"""What a model writes after each of four chunks: coffee goes when it is asked to be forgotten."""


def said(*replies: str) -> Model:
    """A model that says one thing after the other."""
    left = list(replies)
    return Model(lambda _: left.pop(0))


def trace(*replies: str, past: Record | None = None, before: Any = None, **options: Any) -> list[Record]:
    """The memories after each chunk of as many chats."""
    past = past or history(*CHATS[: len(replies)])
    made = run(past, said(*replies), before, **{"chunk": 200, **options})
    with ThreadPoolExecutor() as apart:  # a browser's test has a loop of its own in this thread
        found = apart.submit(asyncio.run, made).result()
    return [{**one.record, "chunks": found[-1].record["chunk"]} for one in found]


def tracks(*records: Record) -> list[Track]:
    gathered = Tracks()
    for record in records:
        gathered.add(record)
    return gathered.all()


def told(track: Track) -> dict[str, Any]:
    """For each statement, by its last words: the columns of its versions, and where and why it went."""
    return {
        thread["versions"][-1][1]: ([column for column, *_ in thread["versions"]], thread["gone"])
        for thread in track.threads
    }


# ---- what became of each statement -------------------------------------------------------------------------------


def test_statements_come_change_and_go() -> None:
    records = trace(*REMEMBERED)
    assert len(records) == 4
    (track,) = tracks(*records)
    assert told(track) == {
        "Lives in Teruel, near the old bridge": ([0, 1], None),
        "Bakes at night": ([0], [2, "model", None]),
        "Drinks coffee all day": ([0], [2, "request", "coffee / caffeine"]),
        "Has a son": ([1], None),
        "coffee / caffeine": ([2], None),
        "Plays the cello": ([3], None),
    }
    assert [column["chunk"] for column in track.columns] == [1, 2, 3, 4]
    assert track.facts() | {"tokens": 0} == {
        "user": "ana", "chunks": 4, "now": 4, "gone": 2, "requested": 1, "byHand": 0, "tokens": 0, "traced": True,
    }  # fmt: skip


def test_messages_are_noted_with_the_chunk_that_named_them() -> None:
    records = trace(*REMEMBERED)
    (track,) = tracks(*records)
    first = records[0]["entries"][0]["evidence"]
    evidence = {thread["versions"][-1][1]: thread["evidence"] for thread in track.threads}
    assert evidence["Lives in Teruel, near the old bridge"][0] == [0, 0, first[0]]
    assert [column for column, *_ in evidence["Lives in Teruel, near the old bridge"]] == [0, 1, 3]
    assert len(evidence["Drinks coffee all day"]) == 2 and evidence["Bakes at night"] == []


def test_edits_by_hand_have_a_column_of_their_own() -> None:
    first = trace(*REMEMBERED[:2])
    text = first[-1]["text"].replace("Has a son", "Has a son, Adri").replace("- Bakes at night\n", "")
    second = trace(*REMEMBERED[2:], past=history(*CHATS), before=Before(first[-1], text))
    (track,) = tracks(*first, *second)
    assert [column["edited"] for column in track.columns] == [False, False, True, False, False]
    found = told(track)
    assert found["Bakes at night"][1] == [2, "hand", None]
    assert found["Drinks coffee all day"][1][1:] == ["request", "coffee / caffeine"]
    by_hand = [thread for thread in track.threads if any(edited for *_, edited in thread["versions"])]
    assert [thread["versions"][1][1] for thread in by_hand] == ["Has a son, Adri"]


def test_without_a_trace_statements_tell_of_their_own_past() -> None:
    (track,) = tracks(trace(*REMEMBERED)[-1])
    assert [("id" in column, column["chunk"]) for column in track.columns] == [(False, 1), (False, 2), (False, 3), (True, 4)]  # fmt: skip
    assert {text: columns for text, (columns, _) in told(track).items()} == {
        "Lives in Teruel, near the old bridge": [0, 1],
        "Has a son": [1],
        "Plays the cello": [3],
        "coffee / caffeine": [2],
    }
    assert track.threads[0]["versions"][0][1] is None  # how it was worded isn't known
    assert not track.facts()["traced"]


def test_nights_are_one_memory_windows_are_two() -> None:
    first = trace(*REMEMBERED[:2])
    night = history(*CHATS[2:], number=2)
    second = trace(*REMEMBERED[2:], past=night, before=first[-1])
    assert [len(track.columns) for track in tracks(*first, *second)] == [4]
    assert [len(track.columns) for track in tracks(first[-1], second[-1])] == [4]  # without what is between
    other = trace(*REMEMBERED[:3], past=history(*CHATS[:3], number=3))
    assert [len(track.columns) for track in tracks(*first, *other)] == [2, 3]
    late = trace(*REMEMBERED[:3], past=history(*CHATS[1:], number=4))  # no memory of it is one of the first window's
    assert [len(track.columns) for track in tracks(first[-1], late[-1])] == [2, 3]
    assert [len(track.columns) for track in tracks(*first, *first)] == [2]  # what comes again counts once
    idle = {**first[-1], "history_id": night["id"]}  # a night without anything new
    assert [len(track.columns) for track in tracks(*first, idle)] == [2]


def test_a_chunk_number_out_of_all_bounds_makes_no_endless_page() -> None:
    (track,) = tracks({**sample("memory"), "chunk": 10**12, "chunks": 10**12})
    assert len(track.columns) < GAP


def test_memories_of_other_systems() -> None:
    """Text alone, without entries."""
    (track,) = tracks({**sample("memory"), "entries": [], "chunk": 1, "chunks": 1})
    assert list(told(track)) == ["Cooks lentil soup rather than ordering in."]


# ---- the page ------------------------------------------------------------------------------------------------------


def parts(page: bytes) -> dict[str, Any]:
    """What is packed in the page."""
    found = re.findall(rb'<script type="text/plain" id="([\w-]+)">([\w+/=]*)</script>', page)
    return {name.decode(): orjson.loads(zlib.decompress(base64.b64decode(part))) for name, part in found}


def test_the_page_holds_the_words_only_of_messages_that_are_cited(tmp_path: Path) -> None:
    past = history(*CHATS)
    past["messages"][3]["content"] = "x" * 5000
    records = trace("- Likes tea [4]", *["- Likes tea"] * 20, past=past)
    (tmp_path / "h.jsonl").write_bytes(lines([past, history(*CHATS, number=9)]))
    ran = pmem("report", "--histories", "h.jsonl", folder=tmp_path, input=lines(records))
    assert ran.status == 0, ran.err
    cited = records[0]["entries"][0]["evidence"]
    (words,) = parts(ran.out)["words-0"]
    assert list(words) == [str(index) for index in cited]
    assert parts(pmem("report", folder=tmp_path, input=lines(records)).out)["words-0"] is None
    gone = pmem("report", "--histories", "h.jsonl", folder=tmp_path, input=lines([sample("memory")]))
    assert parts(gone.out)["words-0"] == [None]  # the history isn't in the file


@pytest.mark.parametrize("kinds", [("memory", "result"), ("result", "memory"), ("error", "result", "usage", "memory")])
def test_results_and_memories_together_are_an_error(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    ran = pmem("report", "-o", "out.html", folder=tmp_path, input=lines(sample(kind) for kind in kinds))
    assert ran.status == 1 and not (tmp_path / "out.html").exists()
    assert ran.err == "pmem: report: results and memories come together: a page shows either; make one of each\n"


def test_options_of_the_other_page_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(lines([sample("history")]))
    for kind, option in (("memory", "--questions"), ("result", "--histories")):
        ran = pmem("report", option, "x.jsonl", folder=tmp_path, input=lines([sample(kind)]))
        assert ran.status == 2 and option in ran.err


# ---- in a browser --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ana, four chunks; two windows of Bo; a user whose name, memory and chats are hostile."""
    folder = tmp_path_factory.mktemp("timeline")
    ana = history(*CHATS)
    bo = [history(*CHATS[: n + 2], number=n + 1, user="bo") for n in range(2)]
    eve = history([HOSTILE] * 2, number=5, user=HOSTILE)
    records = trace(*REMEMBERED, past=ana)
    records += [one for n, past in enumerate(bo) for one in trace(*REMEMBERED[: n + 2], past=past)]
    records += trace(f"## {HOSTILE}\n- Likes {HOSTILE} very much [1, 2]", past=eve, chunk=5000)
    (folder / "trace.jsonl").write_bytes(lines(records))
    (folder / "histories.jsonl").write_bytes(lines([ana, eve]))
    ran = pmem("report", "trace.jsonl", "--histories", "histories.jsonl", "--title", HOSTILE, "-o", "memory.html",
               folder=folder)  # fmt: skip
    assert ran.status == 0, ran.err
    return folder / "memory.html"


@pytest.fixture
def page(browser: Any, file: Path) -> Iterator[Any]:
    with opened(browser, file) as page:
        page.wait_for_selector(".row")
        yield page


def rows(page: Any, state: str = "") -> list[str]:
    """The statements in sight, of a state."""
    found: list[str] = page.locator(f".row{state} .statement").all_inner_texts()
    return [" ".join(text.split()) for text in found]


@pytest.mark.browser
def test_it_opens_a_user_and_moves_through_chunks(page: Any) -> None:
    assert page.inner_text("#name") == "ana" and page.inner_text("#at") == "After chunk 4 of 4"
    assert page.locator(".person").count() == 4
    assert rows(page, ".came") == ["came: Plays the cello"]
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#at") == "After chunk 3 of 4"
    assert rows(page, ".gone") == [
        "went: Bakes at night dropped by the model",
        "went: Drinks coffee all day removed at the user's request",
    ]
    page.get_by_role("button", name="One chunk back").click()
    assert rows(page, ".changed") == ["changed: Lives in Teruel, near the old bridge"]
    assert page.locator(".row.changed ins").inner_text() == ", near the old bridge"
    box = page.locator("#strip").bounding_box()
    page.mouse.click(box["x"] + 5, box["y"] + 20)
    shows(page, "#at", "After chunk 1 of 4")
    assert len(rows(page)) == 3


@pytest.mark.browser
def test_a_statement_opens_with_the_messages_it_came_from(page: Any) -> None:
    page.locator(".row", has_text="Plays the cello").click()
    holds(page, "body", "Message 0 of chat 3, about tea")
    assert page.locator(".said").count() == 2
    assert "named after chunk 4" in page.locator(".said").first.inner_text()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#detail .query").inner_text() == "Has a son"
    holds(page, "body", "The model named none.")
    page.keyboard.press("Escape")
    assert not page.locator("#detail").is_visible()
    page.locator("#which").select_option("Removed at the user's request")
    page.locator(".row").click()
    assert "removed at the user's request (coffee / caffeine)" in page.locator("#detail .chips").inner_text()


@pytest.mark.browser
def test_it_says_why_there_are_only_numbers(browser: Any, file: Path, page: Any) -> None:
    page.locator(".person", has_text="bo").first.click()
    shows(page, "#at", "After chunk 2 of 2")
    page.locator(".row", has_text="Teruel").click()
    holds(page, "body", "isn't in the given files")
    bare = file.with_name("bare.html")
    assert pmem("report", "trace.jsonl", "-o", bare, folder=file.parent).status == 0
    with opened(browser, bare) as other:
        other.locator(".row", has_text="Teruel").click()
        holds(other, "body", "made without the chats")
        assert other.locator(".number").count() == 3
    last = file.with_name("last.html")
    record = (file.parent / "trace.jsonl").read_bytes().splitlines()[3]
    assert pmem("report", "-o", last, folder=file.parent, input=record).status == 0
    with opened(browser, last) as other:
        holds(other, "#note", "pmem memdump --trace makes one for each")
        other.locator(".row", has_text="Teruel").click()
        holds(other, "#detail", "the wording then isn't known")
        holds(other, "#detail", "named in or before chunk 4")


@pytest.mark.browser
def test_hostile_text_stays_text(page: Any) -> None:
    page.locator(".person").last.click()
    holds(page, "#name", "window.broken = 1")
    page.locator(".row").last.click()
    holds(page, "body", "The messages that it came from")
    page.wait_for_selector(".said")
    assert page.locator("#detail").inner_text().count("window.broken = 1") == 4  # statement, heading, two messages
    assert page.locator("#main img, #detail img, #main script, #detail script").count() == 0


@pytest.mark.browser
def test_it_finds_users_and_statements(page: Any) -> None:
    page.fill("#find", "bo")
    assert page.locator(".person").count() == 2
    page.fill("#find", "nobody")
    shows(page, "#list", "No user fits.")
    page.locator("#which").select_option("All that ever stood in it")
    shows(page, "#count", "6 statements")
    page.fill("#search", "coffee")
    shows(page, "#count", "2 of 6 statements")
    page.fill("#search", "nowhere")
    holds(page, "body", "No statement fits.")


@pytest.mark.browser
def test_keys_alone_do(page: Any) -> None:
    page.locator("#strip").focus()
    page.keyboard.press("Home")
    assert page.locator("#strip").get_attribute("aria-valuetext") == "chunk 1: 3 came, 0 changed, 0 went"
    page.keyboard.press("ArrowRight")
    page.locator(".row").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("#detail .query").inner_text() == "Bakes at night"
    page.reload()  # the address names user, chunk and statement
    page.wait_for_selector("#detail[open]")
    assert page.inner_text("#at") == "After chunk 2 of 4"
    page.keyboard.press("Escape")
    page.locator(".person").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    shows(page, "#at", "After chunk 2 of 2")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1200])
def test_it_fits_the_screen(browser: Any, file: Path, width: int, scheme: str) -> None:
    with opened(browser, file, viewport={"width": width, "height": 800}, color_scheme=scheme) as page:
        page.wait_for_selector(".row")
        if width < 900:
            page.locator("#choose").select_option(index=1)
            shows(page, "#at", "After chunk 2 of 2")
        page.locator(".row").first.click()
        page.wait_for_selector("#detail[open]")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        assert dark == (scheme == "dark")


@pytest.mark.browser
def test_a_full_memory_of_26_chunks_without_lag(browser: Any, tmp_path: Path) -> None:
    """Of 125 statements, of which each chunk changes a tenth; three such users here, 200 in docs/memory.md."""
    records = [record for user in range(3) for record in _full(user)]
    ran = pmem("report", "-o", "m.html", folder=tmp_path, input=lines(records))
    assert ran.status == 0, ran.err
    assert (tmp_path / "m.html").stat().st_size < 600_000
    with opened(browser, tmp_path / "m.html") as page:
        page.wait_for_selector(".row")
        page.locator("#which").select_option("All that ever stood in it")
        assert page.locator(".row").count() > 300
        spent = page.evaluate(
            "() => { const began = performance.now(); document.getElementById('back').click();"
            " document.body.offsetHeight; return performance.now() - began }"
        )
        assert spent < 1000  # a tenth of that on a machine that does nothing else


WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "sto", "ling")]


def _full(user: int) -> Iterator[Record]:
    base = {
        **sample("memory"),
        "user_id": f"user-{user}",
        "history_id": f"h-{user:016x}",
        "edits": None,
        "edited": False,
    }
    del base["edits"]
    for chunk in range(26):
        numbers = [n + 125 * max(0, (chunk + 9 - n % 10) // 10) for n in range(125)]
        texts = [" ".join(Random(user * 1000 + n).choices(WORDS, k=12)) for n in numbers]
        yield {
            **base, "id": f"m-{user:08x}{chunk:08x}", "chunk": chunk + 1, "chunks": 26,
            "previous_id": f"m-{user:08x}{chunk - 1:08x}" if chunk else None,
            "text": "\n".join(f"- {text}" for text in texts),
            "entries": [{"text": text, "since_chunk": 1, "changed_chunk": 1, "evidence": [chunk * 12]} for text in texts],
        }  # fmt: skip
