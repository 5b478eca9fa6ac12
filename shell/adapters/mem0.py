"""Memories by the library mem0ai in the place of `pmem memdump`: history records on stdin, memory records on stdout.

    pip install pmem mem0ai
    python shell/adapters/mem0.py --model gpt-5-mini < histories.jsonl > mem0.jsonl
    pmem eval questions.jsonl --memories mem0.jsonl --context memory -m openai:gpt-5-mini -o with-mem0.jsonl

Key and server come from OPENAI_API_KEY and OPENAI_BASE_URL. Every history gets a store of its own (qdrant in a
temporary folder), which is gone afterwards. Its chats are added in order, one by one, long ones in parts, with their
dates; what mem0 has kept in the end is the memory: all of it, as far as it fits, since a memory here is read without a
question in view. To compare another library, change `remembered`.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import orjson

import pmem
from pmem import check, tokens
from pmem.draws import make_id
from pmem.errors import PmemError
from pmem.memory.chunks import Chunk, chunked
from pmem.memory.unread import unread
from pmem.stream.source import records

Record = dict[str, Any]


class Fact(NamedTuple):
    """Something remembered, and after which part of the history."""

    text: str
    since: int


def parts(history: Record, most: int) -> Iterator[Chunk]:
    """A history's chats in order, each in parts of at most `most` tokens."""
    for _, said in groupby(unread(history, []).messages, key=lambda one: one.chat):
        yield from chunked(said, most, tokens.count)


def remembered(history: Record, options: argparse.Namespace, folder: Path) -> tuple[list[Fact], int]:
    """What mem0 keeps of a history, oldest first, and how many parts it read."""
    from mem0 import Memory

    server = {"openai_base_url": options.base_url} if options.base_url else {}
    embedder = {"model": options.embedding_model, "embedding_dims": options.dimensions, **server}
    store = {"path": str(folder / "store"), "embedding_model_dims": options.dimensions}
    config = {
        "llm": {"provider": "openai", "config": {"model": options.model, **server}},
        "embedder": {"provider": "openai", "config": embedder},
        "vector_store": {"provider": "qdrant", "config": store},
        "history_db_path": str(folder / "history.db"),
    }
    facts: dict[str, Fact] = {}
    number = 0
    with Memory.from_config(config) as memory:
        for number, part in enumerate(parts(history, options.chunk_tokens), 1):
            date = part.pieces[0].said.date
            when = f"These messages are of {date}; that is the observation date." if date else None
            messages = [{"role": piece.said.role, "content": piece.text} for piece in part.pieces]
            found = memory.add(messages, user_id="user", prompt=when)["results"]
            facts |= {one["id"]: Fact(one["memory"], number) for one in found if one["event"] == "ADD"}
        kept = {
            one["id"]: one["memory"] for one in memory.get_all(filters={"user_id": "user"}, top_k=10_000)["results"]
        }
    return [fact._replace(text=kept[name]) for name, fact in facts.items() if name in kept], number


def record_of(history: Record, facts: list[Fact], number: int, options: argparse.Namespace) -> Record:
    """The memory record. Where the facts are too many for a memory, the latest count."""
    lines = ["- " + " ".join(fact.text.split()) for fact in facts]
    since = 0
    while since < len(lines) and tokens.count("\n".join(lines[since:])) > options.memory_tokens:
        since += 1
    text = "\n".join(lines[since:])
    entries = [
        {"text": line[2:], "since_chunk": fact.since, "changed_chunk": fact.since, "evidence": []}
        for line, fact in zip(lines[since:], facts[since:], strict=True)
    ]
    source = f"mem0ai {version('mem0ai')}"
    record = {
        "type": "memory",
        "id": make_id("m", history["id"], source, options.model, text),
        "user_id": history["user_id"],
        "history_id": history["id"],
        "chunk": max(number, 1),
        "chunks": max(number, 1),
        "text": text,
        "tokens": tokens.count(text),
        "trimmed": since > 0,
        "previous_id": None,
        "edited": False,
        "entries": entries,
        **({"labels": history["labels"]} if "labels" in history else {}),
        "provenance": {"stage": "mem0", "pmem": pmem.__version__, "model": f"openai:{options.model}", "source": source},
    }
    if not check.validator("memory")(record):
        raise PmemError(f"makes no memory: {check.first_fault(check.schema('memory'), record)}")
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="the model that mem0 asks, by an OpenAI-compatible server")
    parser.add_argument("--base-url", default=os.environ.get("OPENAI_BASE_URL"))
    parser.add_argument("--embedding-model", default="text-embedding-3-small")
    parser.add_argument("--dimensions", type=int, default=1536, help="of the embeddings")
    parser.add_argument("--chunk-tokens", type=int, default=5000, help="most tokens added at once")
    parser.add_argument("--memory-tokens", type=int, default=2048, help="most tokens of a memory")
    options = parser.parse_args()
    own = Path(__file__).resolve().parent  # this file has the library's name
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != own]
    with tempfile.TemporaryDirectory() as home:
        # read when mem0 is imported: where it would keep an id of its user, and whether it reports what it does
        os.environ.update(MEM0_DIR=home, MEM0_TELEMETRY="False")
        try:
            for number, history in enumerate(records(("-",), "history"), 1):
                folder = Path(home) / str(number)
                folder.mkdir()
                try:
                    facts, count = remembered(history, options, folder)
                except ImportError:
                    raise PmemError("mem0ai is not installed: pip install mem0ai") from None
                except Exception as fault:  # mem0's own classes, and those of what it calls
                    raise PmemError(f"{history['id']}: mem0 failed: {fault}") from None
                sys.stdout.buffer.write(orjson.dumps(record_of(history, facts, count, options)) + b"\n")
                sys.stdout.flush()
        except PmemError as fault:
            sys.exit(f"mem0: {fault.format_message()}")


if __name__ == "__main__":
    main()
