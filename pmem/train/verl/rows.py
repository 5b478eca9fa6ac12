"""Asks and lessons as the parquet files that verl reads: one row each, in the order in which they are trained on.

RL: data_source, prompt, ability, reward_model {style, ground_truth} and extra_info {index, mode, permutation, qa,
history}. `prompt` is what is sent, whole. Where a memory is written first it can't be known yet: it is then the bare
question, and `history` holds what is to be read, as JSON. `qa` is the question's record as JSON: rewards need it,
judges' rubrics above all. SFT: messages, of which the last is the reply to learn.
"""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import orjson

from pmem.backends.base import Message, Request
from pmem.backends.local import messages_of
from pmem.errors import MissingExtra, OutputError
from pmem.train.questions import Ask, Asking
from pmem.train.reading import history_of
from pmem.train.targets import Lesson
from pmem.train.trajectories import Teacher, Update

Record = dict[str, Any]
AT_ONCE = 64
"""Rows in a row group: some megabytes with histories of 32k tokens."""
ABILITY = "personalisation"


async def rl_rows(asks: Iterable[Ask], asking: Asking, *, reading: bool = False) -> AsyncIterator[Record]:
    """A row for each ask. reading: whether a memory is to be written first: what is read for it comes along.

    InputError for an ask that can't be put.
    """
    for index, ask in enumerate(asks):
        qa = ask.qa
        said = await history_of(ask, asking) if reading else None
        put = asking._replace(context="none") if reading else asking
        yield {
            "data_source": f"pmem/{ask.mode}",
            "prompt": _sent(await put.request(ask)),
            "ability": ABILITY,
            "reward_model": {
                "style": "rule" if ask.mode == "mcq" else "judge",
                "ground_truth": ask.gold if ask.mode == "mcq" else qa["answer"],
            },
            "extra_info": {
                "index": index,
                "mode": ask.mode,
                "permutation": ask.permutation,
                "qa": orjson.dumps(qa).decode(),
                "history": orjson.dumps(said).decode() if said else "",
            },
        }


async def sft_rows(lessons: Iterable[Lesson | Update], teacher: Teacher) -> AsyncIterator[Record]:
    """A row for each lesson. InputError for a question that can't be put."""
    for lesson in lessons:
        request, reply = await teacher.said(lesson)
        yield {"messages": [*_sent(request), {"role": "assistant", "content": reply}]}


def _sent(request: Request) -> list[Message]:
    return [{"role": one["role"], "content": one["content"]} for one in messages_of(request)]


def ask_of(extra: Record) -> Ask:
    """The ask that a row's extra_info is of."""
    return Ask(orjson.loads(extra["qa"]), extra["mode"], int(extra["permutation"]))


async def write(path: Path, rows: AsyncIterator[Record]) -> int:
    """Rows to a parquet file; how many there were. OutputError: it can't be written."""
    require_pyarrow()
    import pyarrow
    import pyarrow.parquet

    writer: Any = None
    waiting: list[Record] = []
    count = 0

    def flush() -> None:
        nonlocal writer
        table = pyarrow.Table.from_pylist(waiting, schema=writer.schema if writer else None)
        writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
        waiting.clear()

    try:
        async for row in rows:
            waiting.append(row)
            count += 1
            if len(waiting) == AT_ONCE:
                flush()
        if waiting:
            flush()
    except OSError as fault:
        raise OutputError(f"{path}: can't be written: {fault.strerror or fault}") from None
    finally:
        if writer:
            writer.close()
    return count


def require_pyarrow() -> None:
    """MissingExtra unless pyarrow is installed."""
    import importlib.util

    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtra("writing parquet", "verl", instead=" (or 'pmem[report]')")
