"""`pmem assemble` at full size: time, memory, fill, depth and order, checked by code of its own.

python bench/assemble.py [--personas N] [--filler FILE] [--json FILE]

Makes N personas' conversations, about 25 each of 200 to 2,200 tokens, some of them changed later or to be forgotten,
and filler dialogues (unless a file of filler records is given), and assembles windows of 32k and 128k. Depth is where
the middle of each of the persona's conversations stands, in tokens, as a share of the window.
"""

import argparse
import math
import os
import random
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import bpe_openai
import orjson
import samples
from cpu import PMEM, write_json
from watched import watched

WINDOWS = {"32k": 32_000, "128k": 128_000}
POOL = 5_000
RECOUNTED = 50  # one history in so many has its tokens counted again


class Checked(NamedTuple):
    """What is known of the histories of one window."""

    fill: list[float]
    depths: list[float]
    overfull: int
    disordered: int
    torn_chains: int


def conversations(personas: int) -> Iterator[dict[str, Any]]:
    """Conversations of 18 to 32 preferences a persona; a tenth is changed by the next one, a tenth to be forgotten."""
    draw = random.Random(3)
    number = 0
    for person in range(personas):
        persona = samples.id_of("p", person)
        previous = None
        for place in range(draw.randint(16, 28)):
            own = {**samples.preference(persona), "id": f"{persona}/s{place:02}"}
            event, after = "reveals", []
            if previous and draw.random() < 0.1:
                event, after, own["updates"] = "updates", [previous["id"]], previous["preference"]["id"]
            own["forget"] = draw.random() < 0.1
            previous = _conversation(number, persona, own, event, after, draw)
            number += 1
            yield previous
            if own["forget"]:
                yield _conversation(number, persona, own, "asks_to_forget", [previous["id"]], draw)
                number += 1


def _conversation(
    number: int, persona: str, preference: dict[str, Any], event: str, after: list[str], draw: random.Random
) -> dict[str, Any]:
    turns = 1 if event == "asks_to_forget" else draw.choice((2, 2, 3, 4, 6))
    return {
        "type": "conversation",
        "id": samples.id_of("c", number),
        "persona_id": persona,
        "preference": preference,
        "event": event,
        "after": after,
        "scenario": "personal_email",
        "topic": "housing",
        "languages": ["en"],
        "secrets": [],
        "persona": {"id": persona, "name": "Defne Aksoy", "language": "tr", "summary": "A beekeeper."},
        "provenance": {**samples.PROVENANCE, "stage": "converse"},
        "messages": samples.messages(2 * turns, draw.randint(300, 1100), draw),
    }


def filler() -> Iterator[dict[str, Any]]:
    """POOL dialogues of 70 to 1,100 tokens."""
    draw = random.Random(4)
    for number in range(POOL):
        yield {
            "type": "filler",
            "id": samples.id_of("f", number),
            "domain": "maths",
            "source": "made up",
            "provenance": {**samples.PROVENANCE, "stage": "import"},
            "messages": samples.messages(2 * draw.randint(1, 4), draw.randint(150, 600), draw),
        }


def checked(source: Path, made: Path) -> dict[str, Checked]:
    """The histories against the conversations that they were made of. None of pmem's code has a part in it."""
    after = {}
    for line in source.open("rb"):
        told = orjson.loads(line)
        after[told["id"]] = told["after"]
    tokens = bpe_openai.get_encoding("o200k_base")
    found = {name: Checked([], [], 0, 0, 0) for name in WINDOWS}
    for number, line in enumerate(made.open("rb")):
        history = orjson.loads(line)
        budget = WINDOWS[history["window"]]
        sessions = [one for one in history["sessions"] if one["what"] == "conversation"]
        places = {one["id"]: place for place, one in enumerate(sessions)}
        size = sum(one["tokens"] for one in history["sessions"])
        if number % RECOUNTED == 0:
            size = sum(len(tokens.encode_ordinary(message["content"])) + 4 for message in history["messages"])
        pairs = [(place, places.get(earlier)) for own, place in places.items() for earlier in after[own]]
        out = {one["id"] for one in history["dropped"]}
        seen = found[history["window"]]
        seen.fill.append(size / budget)
        seen.depths.extend((one["token_start"] + one["tokens"] / 2) / budget for one in sessions)
        found[history["window"]] = seen._replace(
            overfull=seen.overfull + (size > budget),
            disordered=seen.disordered + sum(before is not None and before >= place for place, before in pairs),
            torn_chains=seen.torn_chains
            + sum(before is None for _, before in pairs)
            + sum(earlier not in out for own in out for earlier in after[own]),
        )
    return found


def uniformity(values: list[float]) -> tuple[float, float]:
    """Kolmogorov-Smirnov: the largest distance to the uniform distribution, and its p-value (Stephens 1970)."""
    ranked = sorted(values)
    n = len(ranked)
    distance = max(max((i + 1) / n - value, value - i / n) for i, value in enumerate(ranked))
    root = math.sqrt(n)
    scaled = (root + 0.12 + 0.11 / root) * distance
    tail = 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101))
    return distance, min(1.0, max(0.0, tail))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--personas", type=int, default=1000)
    parser.add_argument("--filler", type=Path, help="filler records, such as `pmem import filler` makes")
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = samples.write(Path(folder) / "conversations.jsonl", conversations(options.personas))
        pool = options.filler or samples.write(Path(folder) / "filler.jsonl", filler())
        made = Path(folder) / "histories.jsonl"
        windows = [word for name in WINDOWS for word in ("--window", name)]
        command = [PMEM, "assemble", str(source), "--filler", str(pool), *windows, "-o", str(made), "--histogram"]
        before = os.times()
        process = subprocess.Popen(command)
        peak = max(sample.peak for sample in watched(process))
        after = os.times()
        assert process.returncode == 0
        wall = after.elapsed - before.elapsed
        cpu = sum(after[2:4]) - sum(before[2:4])
        size = made.stat().st_size >> 20
        print(f"{options.personas:,} personas: {wall:.0f} s, {cpu:.0f} s of CPU, at most {peak} MiB, {size:,} MiB written")
        figures: dict[str, Any] = {"personas": options.personas, "wall": wall, "cpu": cpu, "peak MiB": peak}
        for name, found in checked(source, made).items():
            distance, p = uniformity(found.depths)
            faults = found._asdict().keys() - {"fill", "depths"}
            figures[name] = {
                "fill": [min(found.fill), statistics.median(found.fill), max(found.fill)],
                "conversations": len(found.depths),
                "KS distance": distance,
                "KS p": p,
                **{fault: getattr(found, fault) for fault in sorted(faults)},
            }
            print(name, figures[name])
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
