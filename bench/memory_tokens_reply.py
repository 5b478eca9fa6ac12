"""What a model says in bench/memory_tokens.py: memories over the cap, short answers; it notes the tokens of every call.

A line for each call goes to the file that PMEM_BENCH_TOKENS names: model, kind of call, tokens in and out (o200k_base).
"""

import os
import sys
from pathlib import Path
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
import memory_reply

from pmem.tokens import count, count_messages

memory_reply.ENTRIES = 170
"""More than fit into a memory: each is cut to the cap at whole statements."""
ANSWER = "By what is known of them, this one suits them best.\nAnswer: A"


def reply(body: dict[str, Any]) -> str | None:
    """A memory where one is asked for, else the same short answer; None (the stub's own) to a judge."""
    if body["model"] != "stub":
        return None
    memory = memory_reply.reply(body) if "keep the memory" in str(body["messages"][-1]["content"])[:200] else None
    said = memory or ANSWER
    noted = {"kind": "update" if memory else "question", "in": count_messages(body["messages"]), "out": count(said)}
    with open(os.environ["PMEM_BENCH_TOKENS"], "ab") as file:
        file.write(orjson.dumps(noted, option=orjson.OPT_APPEND_NEWLINE))
    return said
