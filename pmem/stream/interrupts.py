"""Ctrl-C: the first one ends the run in good order, with whole lines; a second one ends the process at once."""

import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from pmem.errors import INTERRUPTED

T = TypeVar("T")


def at_once(*_: object) -> NoReturn:
    """A handler for somebody in a hurry. As with kill -9, the cache and whatever is in FILE stay sound."""
    os._exit(INTERRUPTED)


@contextmanager
def two_at_most() -> Iterator[None]:
    """Within, a first Ctrl-C does what it would do anyway; after it, another one ends the process."""
    usual = signal.getsignal(signal.SIGINT)
    if not callable(usual):  # ignored, as in a shell's background
        yield
        return

    begun = False

    def first(number: int, frame: object) -> None:
        nonlocal begun
        if begun:  # two came so soon after each other that Python calls this within itself
            at_once()
        begun = True
        signal.signal(signal.SIGINT, at_once)
        usual(number, frame)  # type: ignore[arg-type]

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is first:
            signal.signal(signal.SIGINT, usual)


@contextmanager
def unbroken() -> Iterator[None]:
    """Holds a Ctrl-C back while lines are written, so that none is torn. A second one is not held back."""
    usual = signal.getsignal(signal.SIGINT)
    if not callable(usual) or usual is at_once:
        yield
        return
    held = False

    def hold(_number: int, _frame: object) -> None:
        nonlocal held
        held = True
        signal.signal(signal.SIGINT, at_once)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if held:
            usual(signal.SIGINT, None)


def in_loop(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What the coroutine of `main` gives, in an event loop of its own; a Ctrl-C cancels it."""
    import asyncio

    with asyncio.Runner() as runner:
        with unbroken():  # a loop that is half made can't be closed
            runner.get_loop()
        return runner.run(main())
