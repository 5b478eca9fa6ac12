"""Records for benches, made up: valid, and of a realistic size."""

import hashlib
import random
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import orjson

WORDS = ("the", "user", "quietly", "walks", "home", "past", "a", "small", "café", "and", "“thinks”", "about", "food")
CHECKS = ("blind",) * 4 + ("leak", "gold", "form", "harm")  # one vote each, as by `judge --votes 1`
PROVENANCE = {"pmem": "0.1.0", "model": "openai:m", "prompts": {}, "seed": 0}
MESSAGES, CHARACTERS = 290, 390  # of a history, and of each of its messages: 130 KB as JSON


def words(count: int, draw: random.Random) -> str:
    """Text of `count` words."""
    return " ".join(draw.choice(WORDS) for _ in range(count))


@cache
def _book() -> str:
    return words(100_000, random.Random(0))


def text(size: int, draw: random.Random) -> str:
    """Text of `size` characters."""
    book = _book()
    start = draw.randrange(len(book) - size)
    return book[start : start + size]


def id_of(prefix: str, number: int) -> str:
    """An id such as `q-000000000000001f`."""
    return f"{prefix}-{number:016x}"


def write(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    """Write records as JSON lines; the path again."""
    with path.open("wb") as file:
        file.writelines(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)
    return path


def preference(persona: str) -> dict[str, Any]:
    """The one preference of a persona."""
    return {
        "id": f"{persona}/s01",
        "kind": "neutral",
        "text": "Likes small cafés.",
        "topic": "street food",
        "owner": {"who": "self", "relation": None},
        "updates": None,
        "reason": None,
        "forget": False,
    }


def qa(number: int, draw: random.Random, *, history: int | None = None) -> dict[str, Any]:
    """A judged question as `pmem judge` writes it, of about 2 KB; history: the number of its history."""
    persona = id_of("p", number // 25)
    options = [words(14, draw) for _ in range(4)]
    gold = draw.randrange(4)
    wrong = [options[n] for n in range(4) if n != gold]
    votes = [(check, n % 4, None) for n, check in enumerate(CHECKS)]
    votes += [("distractors", 0, letter) for n, letter in enumerate("ABCD") if n != gold]
    made = ("random_preference", "stereotype", "generic")
    place = {
        "id": id_of("h", number if history is None else history),
        "distance_tokens": 1,
        "relevant_tokens": 2,
        "filler_tokens": 3,
    }

    def vote(check: str, n: int, choice: str | None) -> dict[str, object]:
        verdict = "fail" if check == "blind" and n == 3 else "pass"
        return {"check": check, "n": n, "judge": "openai:m", "verdict": verdict, "choice": choice, "reason": None}

    return {
        "type": "qa",
        "id": id_of("q", number),
        "persona_id": persona,
        "case": "own",
        "preference": preference(persona),
        "previous": None,
        "secret": None,
        "scenario": "personal_email",
        "topic": "street food",
        "query": words(20, draw),
        "query_topic": "weekend plans",
        "answer": options[gold],
        "distractors": [{"text": one, "made": label} for one, label in zip(wrong, made, strict=True)],
        "options": options,
        "gold": "ABCD"[gold],
        "snippet": messages(2, 60, draw),
        "histories": {"32k": place},
        "split": None,
        "votes": [vote(*one) for one in votes],
        "provenance": PROVENANCE | {"stage": "qa"},
    }


def messages(count: int, size: int, draw: random.Random) -> list[dict[str, Any]]:
    """Messages of `size` characters, of the user and the assistant in turn."""
    return [{"role": "assistant" if n % 2 else "user", "content": text(size, draw)} for n in range(count)]


def questions(count: int, *, per_history: int = 1) -> Iterator[dict[str, Any]]:
    """Questions in the order of their histories, 0 and up."""
    draw = random.Random(0)
    return (qa(number, draw, history=number // per_history) for number in range(count))


def histories(count: int, *, length: int = MESSAGES) -> Iterator[dict[str, Any]]:
    """Histories 0 and up of so many messages, as `pmem assemble` writes them."""
    draw = random.Random(1)
    for number in range(count):
        persona = id_of("p", number)
        said = messages(length, CHARACTERS, draw)
        yield {
            "type": "history",
            "id": id_of("h", number),
            "persona_id": persona,
            "user_id": persona,
            "window": "32k",
            "budget": 32_000,
            "tokenizer": "o200k_base",
            "tokens": 5,
            "relevant_tokens": 2,
            "filler_tokens": 3,
            "persona": None,
            "system": None,
            "sessions": [],
            "dropped": [],
            "provenance": {"stage": "assemble", "pmem": "0.1.0", "seed": 0},
            "messages_sha256": hashlib.sha256(orjson.dumps(said)).hexdigest(),
            "messages": said,
        }


def personas(count: int) -> Iterator[dict[str, Any]]:
    """Personas of one preference each: `pmem converse` makes one structured call for each."""
    for number in range(count):
        own = id_of("p", number)
        yield {
            "type": "persona",
            "id": own,
            "seed": f"A beekeeper who has kept {number} hives.",
            "name": f"Defne Aksoy {number}",
            "language": "tr",
            "summary": f"A beekeeper with {number} hives who repairs clocks.",
            "profile": {"demographics": {"age": "41"}, "traits": {"habits": ["early riser"]}},
            "draws": {"region": "Western Asia", "age": 41, "share": 0.25, "health": None, "languages": ["tr"]},
            "preferences": [preference(own)],
            "secrets": [],
            "provenance": PROVENANCE | {"stage": "personas"},
        }


def conversations(count: int) -> Iterator[dict[str, Any]]:
    """Conversations of about 2 KB, 20 of a persona, as `pmem converse` writes them."""
    draw = random.Random(2)
    for number in range(count):
        persona = id_of("p", number // 20)
        told = preference(persona)
        yield {
            "type": "conversation",
            "id": id_of("c", number),
            "persona_id": persona,
            "preference": told | {"id": f"{persona}/s{number % 20:02}"},
            "event": "reveals",
            "after": [],
            "scenario": "personal_email",
            "topic": "housing",
            "languages": ["en"],
            "secrets": [],
            "persona": {"id": persona, "name": "Defne Aksoy", "language": "tr", "summary": "A beekeeper."},
            "provenance": PROVENANCE | {"stage": "converse"},
            "messages": messages(4, 280, draw),
        }
