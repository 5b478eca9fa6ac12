"""The page of `pmem report` in a real browser: it sorts, filters, opens a question, and runs nothing that it shows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import HOSTILE, opened, shows
from tests.command import lines, pmem, sample

pytestmark = pytest.mark.browser


def result(number: int, context: str, choice: str | None, **more: Any) -> dict[str, Any]:
    own_id = f"r-{number:08x}{sum(map(ord, context)):08x}"
    kind = ("neutral", "health", "therapy")[number % 3]
    return {
        **sample("result"), "id": own_id, "qa_id": f"q-{number:016x}", "persona_id": f"p-{number % 7:016x}",
        "context": context, "choice": choice, "parsed": choice is not None, "correct": choice == "B",
        "reply": f"Reply {number} in {context}.", "labels": {"kind": kind, "case": "own"}, **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 questions in two contexts, each third wrong without one; the fifth reply is hostile, and so is the query."""
    folder = tmp_path_factory.mktemp("report")
    results = [result(n, "full", "B") for n in range(100)]
    results += [result(n, "none", "A" if n % 3 == 0 else "B" if n % 3 == 1 else None) for n in range(100)]
    results[4]["reply"] = HOSTILE
    results[4]["options"][2] = HOSTILE
    results[4]["labels"] = {"kind": HOSTILE, "case": "own"}
    (folder / "results.jsonl").write_bytes(lines(results))
    questions = [{**sample("qa"), "id": f"q-{n:016x}", "query": f"Query {n}?"} for n in range(100)]
    questions[4]["query"] = HOSTILE
    (folder / "questions.jsonl").write_bytes(lines(questions))
    ran = pmem("report", "results.jsonl", "--questions", "questions.jsonl", "--title", HOSTILE, "-o", "report.html",
               folder=folder)  # fmt: skip
    assert ran.status == 0, ran.err
    return folder / "report.html"


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The page, open; at the end nothing may have run, failed or been asked of a network."""
    with opened(browser, report) as page:
        yield page


def test_it_shows_every_figure_and_only_lines_in_sight(page: Any) -> None:
    assert page.inner_text("#count") == "100 questions"
    assert 5 < page.locator(".item").count() < 40
    assert page.locator(".chart").count() >= 3
    assert "100%" in page.locator(".chart").first.inner_text()
    page.evaluate("document.getElementById('body').scrollTop = 1e6")
    page.wait_for_selector("[data-id='q-0000000000000063']")


def test_it_sorts(page: Any) -> None:
    first = page.locator(".item").first
    page.locator("#head button").last.click()
    assert page.get_by_role("columnheader").last.get_attribute("aria-sort") == "ascending"
    assert "unread" in first.inner_text()
    page.locator("#head button").last.click()
    assert first.locator(".badge").nth(1).inner_text() == "✓ right"
    page.locator("#head button").nth(1).click()
    page.locator("#head button").nth(1).click()
    assert "Query 99?" in first.inner_text()


def test_it_filters(page: Any) -> None:
    page.get_by_label("any answer").select_option("wrong: none")
    assert page.inner_text("#count") == "67 of 100 questions"
    page.get_by_label("any kind").select_option("neutral")
    assert page.inner_text("#count") == "34 of 100 questions"
    page.get_by_role("button", name="Clear").click()
    page.fill("#search", "Reply 42 in")
    shows(page, "#count", "1 of 100 questions")
    page.fill("#search", "nowhere to be found")
    page.wait_for_selector(".empty")


def test_it_opens_a_question_with_hostile_text(page: Any) -> None:
    page.locator(".item").nth(4).click()
    shown = page.locator("#detail-body")
    text = shown.inner_text()
    assert text.count("window.broken = 1") >= 3  # query, option, reply: as text
    assert "Where it stands in the history".upper() in text.upper()
    assert shown.locator("script, img").count() == 0
    assert shown.locator(".option.gold").count() == 1
    assert shown.locator(".answer").count() == 2
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#detail-title").startswith("q-0000000000000005")
    page.keyboard.press("Escape")
    assert not page.locator("#detail").is_visible()


def test_keys_alone_do(page: Any) -> None:
    page.locator(".item").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.inner_text("#detail-title").startswith("q-0000000000000001")
    page.reload()  # the address names the question
    assert page.inner_text("#detail-title").startswith("q-0000000000000001")


@pytest.mark.parametrize("width", [360, 1200])
def test_it_fits_the_screen(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.locator(".item").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_five_thousand_questions_without_lag(browser: Any, tmp_path: Path) -> None:
    results = [result(n, context, "ABCD"[n % 4]) for n in range(5000) for context in ("full", "none")]
    (tmp_path / "results.jsonl").write_bytes(lines(results))
    assert pmem("report", "results.jsonl", "-o", "report.html", folder=tmp_path).status == 0
    with opened(browser, tmp_path / "report.html") as page:
        assert page.inner_text("#count") == "5,000 questions"
        assert page.locator(".item").count() < 40
        spent = page.evaluate(
            "() => { const began = performance.now(); document.querySelectorAll('#head button')[1].click();"
            " return performance.now() - began }"
        )
        assert spent < 1000  # a tenth of that on a machine that does nothing else
