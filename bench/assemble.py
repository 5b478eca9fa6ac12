"""`pmem assemble` at full size: time, memory, fill, depth, and faults that tests/check_histories.py finds.

python bench/assemble.py [--personas N] [--filler FILE] [--json FILE]

Makes N personas' conversations, about 25 each of 200 to 2,200 tokens, some of them changed later or to be forgotten,
and filler dialogues (unless a file of filler records is given), and assembles windows of 32k and 128k. Depth is where
the middle of each of the persona's conversations stands, in tokens, as a share of the window.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import samples
from cpu import PMEM, write_json
from watched import watched

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.check_histories import check, read, uniformity

WINDOWS = ("32k", "128k")
POOL = 5_000
RECOUNTED = 50  # one history in so many has its tokens counted again


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
        print(f"{options.personas:,} personas: {wall:.0f} s, {cpu:.0f} s of CPU, {peak} MiB at most, {size:,} MiB made")
        sources = (record for path in (source, pool) for record in read(path))
        found = check(sources, read(made), recount=RECOUNTED)
    figures: dict[str, Any] = {"personas": options.personas, "wall": wall, "cpu": cpu, "peak MiB": peak}
    figures["faults"] = found.faults[:20]
    print(f"{len(found.faults)} faults of order, chains, budgets, dates or content", *found.faults[:20], sep="\n")
    for name, fill in found.fill.items():
        depths = found.depths[name]
        distance, p = uniformity(depths)
        least, median = min(fill), statistics.median(fill)
        figures[name] = {"least full": least, "median full": median, "KS distance": distance, "KS p": p}
        print(f"{name}: {least:.2%} full at least, {median:.2%} in the median, {max(fill):.2%} at most")
        print(f"    depth of {len(depths):,} conversations: KS distance {distance:.4f}, p {p:.2g}")
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
