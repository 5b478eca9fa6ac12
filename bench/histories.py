"""Histories for benchmarks of prefix caches."""

import orjson

from pmem.backends.base import Prefix


def history(name: str, turns: int) -> Prefix:
    """A history of so many messages, about 25 tokens each, that shares its beginning with none of another name."""
    messages = []
    for turn in range(0, turns, 2):
        bought = f"For {name} I bought {turn + 2} apples at the market in the old harbour, which cost {turn} euros."
        messages.append({"role": "user", "content": bought})
        messages.append(
            {"role": "assistant", "content": f"That is a fair price for {turn + 2} apples from the market."}
        )
    return Prefix(name, orjson.dumps(messages))
