"""A reply hook for the stub server (`--reply`): made-up text as always, but such as the stages' own checks accept.

Without it the stub satisfies every schema, but writes conversations that lack the secret which they should contain,
and options of all lengths.
"""

import hashlib
import re
from random import Random
from typing import Any

import orjson

from tests.stub.instance import instance
from tests.stub.replies import text_of, wanted

SECRET = re.compile(r"this one slips in unnoticed.*?\([a-z ]+: (.*?)\)\. The assistant", re.DOTALL)
DETAIL = re.compile(r"^The private detail \([a-z ]+\): (.*)\nA made-up wrong one of the same kind: (.*)$", re.MULTILINE)
SIZE = 240
"""Characters of an option, a private detail in it aside."""


def reply(body: dict[str, Any]) -> str | None:
    """The content of a reply; None leaves it to the stub."""
    prompt, schema = text_of(body["messages"][-1]), wanted(body)
    title = schema.get("title") if isinstance(schema, dict) else None
    secret = SECRET.search(prompt)
    if not secret and title not in ("query", "options"):
        return None
    digest = hashlib.sha256(orjson.dumps(body["messages"]))
    value = instance(schema, Random(digest.digest()), first=0.8)
    if secret:
        value["turns"][0]["user"] += f" {secret[1]}"
    elif title == "query":  # in no words that a made-up preference has
        value["query"] = f"Could somebody help me with number {digest.hexdigest()[:12]}, please?"
    else:
        value = {name: (text * 9)[:SIZE] for name, text in value.items()}
        if detail := DETAIL.search(prompt):
            value["repeats_secret"] += f" {detail[1]}"
            value["wrong_secret"] += f" {detail[2]}"
    return orjson.dumps(value).decode()
