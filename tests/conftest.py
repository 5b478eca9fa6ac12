"""Options and fixtures of the whole suite."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import launched
from tests.stub import Stub, running


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="rewrite the expected files of golden tests")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--accept") and os.environ.get("CI"):
        raise pytest.UsageError("--accept is refused under CI: accept where somebody reads the diff")


@pytest.fixture
def accept(request: pytest.FixtureRequest) -> bool:
    """Whether golden tests write what they got instead of comparing it."""
    return bool(request.config.getoption("--accept"))


@pytest.fixture(scope="module")
def shared() -> Iterator[Stub]:
    """A stub server for all tests of a file."""
    with running() as stub:
        yield stub


@pytest.fixture
def stub(shared: Stub) -> Stub:
    """The file's stub server, with its counts and options as at the start."""
    shared.restart()
    return shared


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for all tests of a file; they are skipped where there is none."""
    with launched() as started:
        yield started
