"""What a model says to `pmem memdump`, for benches: a memory of 1,730 tokens, of which each update changes a tenth.

Where the environment names a file in CALLED, a line is appended to it for each call: when it came, and whose it was.
"""

import os
import re
import time
from random import Random
from typing import Any

from tests.stub.words import sentence

ENTRIES = 125
"""Statements of about 14 tokens each, 1,730 in all: none has to be cut to size."""
USER = re.compile(r"User (\d+), ")
MEMORY = re.compile(r"<memory>\n(.*?)\n</memory>", re.DOTALL)


def reply(body: dict[str, Any]) -> str | None:
    """The memory of the prompt, with a tenth of its statements new and the first ten cited; full at once."""
    prompt = body["messages"][-1]["content"]
    found = MEMORY.search(prompt)
    if not found:
        return None
    if "CALLED" in os.environ and (user := USER.search(prompt, found.end())):
        with open(os.environ["CALLED"], "a") as file:
            file.write(f"{time.monotonic()} {user[1]}\n")
    draw = Random(prompt)
    kept = [line for line in found[1].splitlines() if line.startswith("- ")]
    kept = [line for line in kept if draw.random() < 0.9][:ENTRIES]
    new = [f"- {sentence(draw)} [{draw.randrange(1, 20)}]" for _ in range(ENTRIES - len(kept))]
    return "\n".join([*kept, *new])
