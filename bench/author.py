"""A reply hook for the stub server (`--reply bench/author.py`): a whole data set's worth of made-up text, with faults.

Every reply depends on the request alone. Texts are built so that the author's own judge can tell what was planted:

- preferences that conflict with an earlier one ("Cannot bear ..."), or repeat one in other words ("Keeps going back
  to ...") or in the same words;
- conversations in which the user states the preference ("I prefer ...", "... is what I always go for"), in which
  private details that look real stand, or in which the assistant repeats a secret;
- replies to a question with an artefact in front, and queries that give the preference away;
- questions that fall at a check: about seven of ten, unevenly over the kinds.
"""

import hashlib
import re
import sys
from pathlib import Path
from random import Random
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.stub.instance import instance
from tests.stub.replies import text_of, wanted
from tests.stub.words import ADJECTIVES, NOUNS, PLACES, paragraph, sentence
from tests.stub_author import DETAIL, SECRET

PLANTED = 0.02
"""Share of replies with each kind of fault."""
VERBS = {
    "stereotypical": "Prefers",
    "anti-stereotypical": "Insists on",
    "neutral": "Leans towards",
    "health": "Watches over",
    "therapy": "Takes comfort in",
}
"""What preferences of a kind begin with."""
FALL = {"Prefers": 0.5, "Insists on": 0.8, "Leans towards": 0.6, "Watches over": 0.7, "Takes comfort in": 0.75}
"""Share of questions on them that fall at the check `gold`; of others, FALLS."""
FALLS, FALLS_ELSEWHERE = 0.65, 0.04
CONFLICT, REPEATED, OUTRIGHT, ROUNDABOUT = "Cannot bear", "Keeps going back to", "I prefer", "is what I always go for"
ARTEFACT = "Sure, here is a reply for you: "
REAL_LOOKING = (
    "my card is 4539 1488 0343 6467",
    "the account is DE89 3704 0044 0532 0130 00",
    "ring me at +49 30 2270",
    "write to hannah.meyer@gmail.com",
    "the key is sk-proj-4fT9bLq2ZxWc8VnR1yKd7HsJ3mPa6QeG",
)
PHRASE = re.compile(r"the \w+ \w+ (?:[a-z ]+?) the \w+ \w+")
NUMBERED = re.compile(r"^(\d+)\. (.*?) \(owner: .*\)$", re.MULTILINE)


def reply(body: dict[str, Any]) -> str | None:
    """The content of a reply; None leaves it to the stub."""
    schema = wanted(body)
    write = WRITERS.get(schema.get("title", "")) if isinstance(schema, dict) else None
    if write is None:
        return None
    parts = orjson.dumps([body["messages"], body.get("seed")])
    draw = Random(hashlib.sha256(parts).digest())
    return orjson.dumps(write(text_of(body["messages"][-1]), schema, draw)).decode()


def phrase(draw: Random) -> str:
    """Something to like, hardly ever the same twice."""
    first, second = draw.sample(NOUNS, 2)
    return f"the {draw.choice(ADJECTIVES)} {first} {draw.choice(PLACES)} the {draw.choice(ADJECTIVES)} {second}"


def preferences(prompt: str, schema: Any, draw: Random) -> Any:
    """Candidates of one kind: each is the kind's verb and a phrase; some conflict with or repeat the first."""
    kind = _after(prompt, "\nKind: ")
    topics = _after(prompt, "a different one each time, and build the preference around it: ").split(", ")
    count = schema["properties"]["preferences"]["minItems"]
    phrases = [phrase(draw) for _ in range(count)]
    texts = [f"{VERBS[kind]} {one} over anything else that a {draw.choice(NOUNS)} can offer." for one in phrases]
    for number in range(1, count):
        if draw.random() < 3 * PLANTED:
            texts[number] = draw.choice((f"{CONFLICT} {phrases[0]}.", f"{REPEATED} {phrases[0]} somehow.", texts[0]))
    return {"preferences": [{"text": text, "topic": topic} for text, topic in zip(texts, topics, strict=False)]}


def updates(_prompt: str, schema: Any, draw: Random) -> Any:
    """What replaces preferences."""
    return {
        number: {"text": f"Prefers {phrase(draw)} these days.", "reason": sentence(draw)}
        for number in schema["properties"]
    }


def verdicts(prompt: str, schema: Any, _draw: Random) -> Any:
    """The check of a list: finds conflicts and repetitions in other words; what repeats word for word it overlooks."""
    seen: dict[str, int] = {}
    found = {}
    for number, text in NUMBERED.findall(prompt):
        match = PHRASE.search(text)
        earlier = seen.get(match[0]) if match else None
        verdict = "conflict" if text.startswith(CONFLICT) else "repetition" if text.startswith(REPEATED) else "keep"
        reason = "it says so" if verdict != "keep" else ""
        found[number] = {"verdict": verdict, "with": earlier if verdict != "keep" else None, "reason": reason}
        if match:
            seen.setdefault(match[0], int(number))
    return {number: found[number] for number in schema["properties"]}


def conversation(prompt: str, schema: Any, draw: Random) -> Any:
    """Turns of about the length of real ones; a few blurt out what they should hide."""
    turns = [
        {"user": paragraph(draw, low=300), "assistant": paragraph(draw, low=700)}
        for _ in range(schema["properties"]["turns"]["minItems"])
    ]
    secret = SECRET.search(prompt)
    if secret:
        turns[0]["user"] += f" {secret[1]}"
    match = PHRASE.search(_after(prompt, "and is never announced: "))
    if match is None:  # a request to forget
        return {"turns": turns}
    fault = draw.random() / PLANTED
    if fault < 1:
        turns[0]["user"] += f" {OUTRIGHT} {match[0]}."
    elif fault < 2:
        turns[0]["user"] += f" Honestly, {match[0]} {ROUNDABOUT}."
    elif fault < 3:
        turns[-1]["user"] += f" And {draw.choice(REAL_LOOKING)}."
    elif fault < 4 and secret:
        turns[0]["assistant"] += f" {secret[1]}"
    return {"turns": turns}


def query(prompt: str, _schema: Any, draw: Random) -> Any:
    """A request; a few give the preference away."""
    text = f"{sentence(draw)} {sentence(draw)} What would you suggest?"
    match = PHRASE.search(_after(prompt, "What a careful reader learns from it: "))
    if match and draw.random() < PLANTED:
        text = f"{text} I keep thinking of {match[0]}."
    return {"query": text, "query_topic": f"{draw.choice(ADJECTIVES)} {draw.choice(NOUNS)}"}


def options(prompt: str, schema: Any, draw: Random) -> Any:
    """Four replies of much the same length; a few with an artefact."""
    texts = {name: paragraph(draw, low=330, high=400) for name in schema["properties"]}
    detail = DETAIL.search(prompt)
    if detail and "repeats_secret" in texts:
        texts["repeats_secret"] += f" {detail[1]}"
        texts["wrong_secret"] += f" {detail[2]}"
    if draw.random() < PLANTED:
        texts["right"] = ARTEFACT + texts["right"]
    return texts


def verdict(prompt: str, _schema: Any, _draw: Random) -> Any:
    """A judge's vote: the same at every asking, since it depends on the question alone."""
    falls = FALLS_ELSEWHERE
    known = PHRASE.search(_after(prompt, "should know only from earlier chats: "))
    if ROUNDABOUT in prompt or ARTEFACT in prompt or (known and known[0] in _after(prompt, "Request: ")):
        falls = 1.0
    elif "The answer: " in prompt:  # gold
        falls = next((share for verb, share in FALL.items() if f": {verb} the" in prompt), FALLS)
    number = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big") / 2**32
    return {"reason": "drawn by the prompt's hash", "verdict": "fail" if number < falls else "pass"}


def implicit(prompt: str, _schema: Any, _draw: Random) -> Any:
    """A judge's vote on a conversation."""
    stated = "yes" if ROUNDABOUT in prompt or OUTRIGHT in prompt else "no"
    return {"reason": "by its words", "inferable": "yes", "stated": stated}


def _after(text: str, mark: str) -> str:
    """The rest of the line after a mark."""
    return text.partition(mark)[2].partition("\n")[0]


def whatever(_prompt: str, schema: Any, draw: Random) -> Any:
    """Anything that satisfies the schema."""
    return instance(schema, draw, first=0.5)


WRITERS = {
    "profile": whatever,
    "preferences": preferences,
    "updates": updates,
    "verdicts": verdicts,
    "conversation": conversation,
    "query": query,
    "options": options,
    "verdict": verdict,
    "implicit": implicit,
    "choice": whatever,
}
