"""Pages of pmem in a real browser: nothing may run, fail, or be asked of a network."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run")  # fmt: skip
HOSTILE = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 2'>\u2028<!--<script>"


@contextmanager
def launched() -> Iterator[Any]:
    """A browser; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, file: Path, **options: Any) -> Iterator[Any]:
    """A page, open; at the end nothing may have run, failed or been asked of a network."""
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda fault: said.append(str(fault)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    yield page
    assert page.evaluate("window.broken") is None
    assert said == []
    assert {url.split("#")[0] for url in asked if not url.startswith("blob:")} == {file.as_uri()}
    context.close()


def shows(page: Any, selector: str, text: str) -> None:
    """Wait until an element has a text, whatever its spaces."""
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_text(text)


def holds(page: Any, selector: str, text: str) -> None:
    """Wait until an element has a text in it."""
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_contain_text(text)
