"""`pmem validate`: every record of a stream against the schema of its type."""

import sys
import time
from typing import Any

import click
import orjson

from pmem import check, errors
from pmem.stream.options import INPUT, config_option, quiet_option
from pmem.stream.progress import counted, seconds
from pmem.stream.source import Chunks, stdin_is_terminal


@click.command(epilog="Example: pmem validate personas.jsonl questions.jsonl")
@click.argument("files", nargs=-1, type=INPUT, metavar="[FILE]...")
@config_option
@quiet_option
def command(files: tuple[str, ...], quiet: bool) -> None:
    """Check any stream; report every fault.

    Record types may be mixed. Every fault of every line is printed to stderr with file, line and JSON pointer;
    nothing is echoed. The exit status is 1 if there was a fault.
    """
    if not files and stdin_is_terminal():
        raise click.UsageError("no input: name a FILE, or pipe records in")
    began = time.perf_counter()
    found: dict[str, int] = {}
    faulty = 0
    for file, number, lines in Chunks(files):
        faulty += _check_lines(file, number, lines, found)
    if not quiet:
        shown = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.items())) or "no records"
        click.echo(f"pmem validate: {shown}; {counted(faulty, 'faulty line')}; {seconds(began)}", err=True)
    if faulty:
        sys.exit(errors.STOPPED)


def _check_lines(file: str, number: int, lines: list[bytes], found: dict[str, int]) -> int:
    """Check a batch of lines, counting record types into `found`; the number of faulty lines."""
    faulty = 0
    loads, validator = orjson.loads, check.validator
    for place, line in enumerate(lines, number):
        try:
            record = loads(line)
            kind = record["type"]
            valid = validator(kind)(record)
            found[kind] = found.get(kind, 0) + 1
        except (ValueError, KeyError, TypeError, OSError):
            if not line or line.isspace():
                continue
            valid = False
        if not valid:
            faulty += 1
            for pointer, message in _faults(line):
                click.echo(f"{file}:{place}: {pointer + ': ' if pointer else ''}{message}", err=True)
    return faulty


def _faults(line: bytes) -> list[tuple[str, str]]:
    try:
        record: Any = orjson.loads(line)
    except orjson.JSONDecodeError as fault:
        return [("", f"not JSON: {fault}")]
    kind = record.get("type") if isinstance(record, dict) else None
    if kind not in check.TYPES:
        return [("/type", check.wrong_type(check.TYPES, record))]
    return list(check.faults(check.schema(kind), record)) or [check.first_fault(check.schema(kind), record)]
