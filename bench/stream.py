"""validate and filter over 50,000 qa records of about 2 KB, relative to an orjson loop that reads and re-serialises.

python bench/stream.py [RECORDS] [ROUNDS]
"""

import random
import sys
import tempfile
from pathlib import Path

import orjson
from cpu import PMEM, paired, table

LOOP = """
import sys, orjson
loads, dumps, write, newline = orjson.loads, orjson.dumps, sys.stdout.buffer.write, orjson.OPT_APPEND_NEWLINE
for line in sys.stdin.buffer:
    write(dumps(loads(line), option=newline))
"""
WORDS = [
    "the",
    "user",
    "quietly",
    "walks",
    "home",
    "past",
    "a",
    "small",
    "café",
    "and",
    "“thinks”",
    "about",
    "good",
    "food",
]
CHECKS = ("blind",) * 4 + ("leak", "gold", "form", "harm")  # one vote each, as by `judge --votes 1`


def qa(number: int, draw: random.Random) -> dict[str, object]:
    """A judged question as `pmem judge` writes it, of about 2 KB."""

    def text(words: int) -> str:
        return " ".join(draw.choice(WORDS) for _ in range(words))

    def id_of(prefix: str, n: int) -> str:
        return f"{prefix}-{n:016x}"

    persona = id_of("p", number // 25)
    options = [text(14) for _ in range(4)]
    gold = draw.randrange(4)
    wrong = [options[n] for n in range(4) if n != gold]
    votes = [(check, n % 4, None) for n, check in enumerate(CHECKS)]
    votes += [("distractors", 0, letter) for n, letter in enumerate("ABCD") if n != gold]
    preference = {
        "id": f"{persona}/s01",
        "kind": "neutral",
        "text": text(12),
        "topic": "street food",
        "owner": {"who": "self", "relation": None},
        "updates": None,
        "reason": None,
        "forget": False,
    }
    made = ("random_preference", "stereotype", "generic")
    place = {"id": id_of("h", number), "distance_tokens": 1, "relevant_tokens": 2, "filler_tokens": 3}

    def vote(check: str, n: int, choice: str | None) -> dict[str, object]:
        verdict = "fail" if check == "blind" and n == 3 else "pass"
        return {"check": check, "n": n, "judge": "openai:m", "verdict": verdict, "choice": choice, "reason": None}

    return {
        "type": "qa",
        "id": id_of("q", number),
        "persona_id": persona,
        "case": "own",
        "preference": preference,
        "previous": None,
        "secret": None,
        "scenario": "personal_email",
        "topic": "street food",
        "query": text(20),
        "query_topic": "weekend plans",
        "answer": options[gold],
        "distractors": [{"text": one, "made": label} for one, label in zip(wrong, made, strict=True)],
        "options": options,
        "gold": "ABCD"[gold],
        "snippet": [{"role": "user", "content": text(10)}, {"role": "assistant", "content": text(10)}],
        "histories": {"32k": place},
        "split": None,
        "votes": [vote(*one) for one in votes],
        "provenance": {"stage": "qa", "pmem": "0.1.0", "model": "openai:m", "prompts": {}, "seed": 0},
    }


if __name__ == "__main__":
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "qa.jsonl"
        with path.open("wb") as file:
            for number in range(records):
                file.write(orjson.dumps(qa(number, draw), option=orjson.OPT_APPEND_NEWLINE))
        print(f"{records:,} qa records, {path.stat().st_size / records:,.0f} bytes each")
        commands = {"pmem validate": [PMEM, "validate"], "pmem filter": [PMEM, "filter"]}
        print(table("the orjson loop", paired([sys.executable, "-c", LOOP], commands, rounds, path)))
