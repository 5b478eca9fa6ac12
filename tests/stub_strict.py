"""A reply hook for the stub server: `stub_author`, whose preferences show their kind, and a judge that fails most.

Of the questions about each kind the judge fails a share of its own (FAILS), by a hash of the prompt: every vote on a
question is the same, another question about the same preference has another chance.
"""

import hashlib
import re
from random import Random
from typing import Any

import orjson

from tests import stub_author
from tests.stub.instance import instance
from tests.stub.replies import text_of, wanted

FAILS = {
    "stereotypical": 0.55,
    "anti_stereotypical": 0.75,
    "neutral": 0.65,
    "health": 0.85,
    "therapy": 0.8,
    "sensitive": 0.6,
}
ASKED_FOR = re.compile(r"^Kind: ([a-z-]+)$", re.MULTILINE)
KIND = re.compile(r"Of the kind (\w+)\.")
NUMBERED = r"^%s\. .*Of the kind (\w+)\."
GOLD = "Is the answer that is marked as right"


def reply(body: dict[str, Any]) -> str | None:
    """The content of a reply; None leaves it to the stub."""
    prompt, schema = text_of(body["messages"][-1]), wanted(body)
    title = schema.get("title") if isinstance(schema, dict) else None
    if title == "verdict":
        return orjson.dumps({"reason": "By its hash.", "verdict": verdict(prompt)}).decode()
    if title == "implicit":
        return orjson.dumps({"reason": "As it should be.", "inferable": "yes", "stated": "no"}).decode()
    if title not in ("preferences", "updates"):
        return stub_author.reply(body)
    value = instance(schema, Random(hashlib.sha256(prompt.encode()).digest()), first=0.8)
    if title == "preferences" and (asked := ASKED_FOR.search(prompt)):
        for item in value["preferences"]:
            item["text"] += f" Of the kind {asked[1].replace('-', '_')}."
    elif title == "updates":
        for number, item in value.items():
            if replaced := re.search(NUMBERED % number, prompt, re.MULTILINE):
                item["text"] += f" Of the kind {replaced[1]}."
    return orjson.dumps(value).decode()


def verdict(prompt: str) -> str:
    """The `gold` check decides, since its prompt holds the preference; all others pass."""
    if not prompt.startswith(GOLD):
        return "pass"
    kind = KIND.search(prompt)
    share = int(hashlib.sha256(prompt.encode()).hexdigest()[:8], 16) / 2**32
    return "fail" if share < FAILS[kind[1] if kind else "sensitive"] else "pass"
