"""A reply hook for the stub server (`--reply`): made-up text as always, with the details in it that a stage demands.

Without it the stub satisfies every schema, but writes conversations that lack the secret which they should contain.
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


def reply(body: dict[str, Any]) -> str | None:
    """The content of a reply; None leaves it to the stub."""
    prompt = text_of(body["messages"][-1])
    secret, detail = SECRET.search(prompt), DETAIL.search(prompt)
    if not secret and not detail:
        return None
    value = instance(wanted(body), Random(hashlib.sha256(orjson.dumps(body["messages"])).digest()), first=0.8)
    if secret:
        value["turns"][0]["user"] += f" {secret[1]}"
    elif detail and "repeats_secret" in value:
        value["repeats_secret"] += f" {detail[1]}"
        value["wrong_secret"] += f" {detail[2]}"
    return orjson.dumps(value).decode()
