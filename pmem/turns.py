"""Which record a piece of work is for: where calls have to wait, those of an older record go first."""

from contextvars import ContextVar

turn: ContextVar[int] = ContextVar("turn", default=0)
"""Number of the record in work (its place in the input). Tasks inherit it from the task that started them."""
