"""Tables of the response cache."""

import datetime
import shutil
from collections.abc import Iterable

from pmem.backends.replies import Group, Tokens, decoded
from pmem.columns import aligned


def table(groups: Iterable[Group]) -> str:
    """What is stored, by model and step."""
    rows = [["model", "step", "replies", "first", "last", "size"]]
    for group in groups:
        count, days = f"{group.replies:,}", (_date(group.first), _date(group.last))
        rows.append([group.model, group.step or "-", count, *days, size(group.size)])
    return "\n".join(aligned(rows, left=2))


def tokens(models: dict[str, Tokens]) -> str:
    """Replies and their tokens, by model."""
    heads = ["model", "replies", "tokens in", "cached", "tokens out", "reasoning", "cut off", "refused"]
    rows = [heads, *([model, *(f"{n:,}" for n in models[model])] for model in sorted(models))]
    return "\n".join(aligned(rows, left=1))


def line(key: bytes, model: str, step: str, made: int, value: bytes) -> str:
    """A reply on a line of the terminal."""
    try:
        reply = decoded(value)
        said = str(reply.likelihoods) if reply.text is None else reply.text
    except ValueError:
        said = "(unreadable)"
    text = "".join(letter if letter.isprintable() else "?" for letter in " ".join(said.split()))
    width = max(40, shutil.get_terminal_size().columns)
    return f"{_date(made, '%Y-%m-%d %H:%M')} {key.hex()[:8]} {model} {step or '-'}: {text}"[:width]


def counted(count: int) -> str:
    """`1,234 replies`."""
    return f"{count:,} repl{'y' if count == 1 else 'ies'}"


def size(count: float) -> str:
    """Bytes, in the unit that suits: `3.41 MB`."""
    for unit in ("bytes", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def _date(made: int, form: str = "%Y-%m-%d") -> str:
    return datetime.datetime.fromtimestamp(made).strftime(form)
