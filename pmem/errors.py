"""What can go wrong, each as one clear line and one exit status.

    PmemError (1)               a run stops
      InputError                a line of input is not what the command reads
      OutputError               output can't be written (disk full, no permission)
      MissingExtra              a command needs an optional dependency
      BackendError              the model can't be used at all: wrong key, unknown model, no server
    RecordError                 one record fails; it goes to --rejects, or stops the run (then 1)
      ModelError                the model failed for this record, after its retries
    Deferred                    a record is left for a later run

Exit statuses of every command: 0 done; 1 stopped by an error; 2 wrong usage (click.UsageError); 3 done, but some
records were rejected; 4 not done yet: some records were left for later; 5 an audit was made and isn't passed;
130 interrupted.
"""

from typing import Any

import click

STOPPED = 1
REJECTED = 3
LEFT = 4
NOT_PASSED = 5
INTERRUPTED = 130

UsageError = click.UsageError
"""For rooms that don't speak to people themselves."""


class PmemError(click.ClickException):
    """Stops the run with exit status 1 and a message of one line (details may follow on further lines)."""

    exit_code = STOPPED

    def show(self, file: object = None) -> None:
        click.echo(f"pmem: {self.format_message()}", err=True)


class InputError(PmemError):
    """A line of input is not what the command reads."""


class OutputError(PmemError):
    """Output can't be written."""


class MissingExtra(PmemError):
    """A command needs an optional dependency that is not installed."""

    def __init__(self, what: str, extra: str, *, instead: str = "") -> None:
        super().__init__(
            f"{what} needs the extra '{extra}', which is not installed: pip install 'pmem[{extra}]'{instead}"
        )


class BackendError(PmemError):
    """The model can't be used at all; trying the next record would fail in the same way."""


class RecordError(Exception):
    """One record fails; the run goes on where --rejects is given.

    reason: a label of the error schema ("schema", "json", "type", "model", "limit", ...).
    pointer: JSON pointer to the fault inside the record, where there is one.
    call: id of the model call that failed, where there was one.
    """

    def __init__(self, message: str, *, reason: str, pointer: str | None = None, call: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.pointer = pointer
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, since records may be made in other processes: what a reject says of it, under its general class."""
        return _again, (self.message, self.reason, self.pointer, self.call)

    def __str__(self) -> str:
        """The message, with the place inside the record before it where there is one."""
        return f"{self.pointer}: {self.message}" if self.pointer else self.message


def _again(message: str, reason: str, pointer: str | None, call: str | None) -> RecordError:
    return RecordError(message, reason=reason, pointer=pointer, call=call)


class Deferred(Exception):
    """A record can't be made in this run, since a call for it is left for another time (`--batch-out`)."""


class ModelError(RecordError):
    """The model failed for this record, after its retries."""

    def __init__(self, message: str, *, call: str | None = None, reason: str = "model") -> None:
        super().__init__(message, reason=reason, call=call)


def first_line(fault: BaseException) -> str:
    """What a library's fault says first; its kind where it says nothing."""
    return next(iter(str(fault).strip().splitlines()), type(fault).__name__)
