"""Holds histories against the conversations and the filler that they were made of. None of pmem's code has a part in it.

python tests/check_histories.py CONVERSATIONS HISTORIES [FILLER]    prints every fault; the exit status is 1 if there is one
"""

import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import bpe_openai
import orjson

Record = dict[str, Any]
ENCODING = bpe_openai.get_encoding("o200k_base")
OVERHEAD = 4  # tokens of a message beside its text: README of the format


class Histories:
    """What is known of the histories that were looked at: faults, and by window how full they are and how deep
    conversations stand (where the middle of each is, in tokens, as a share of the window)."""

    def __init__(self, sources: Iterable[Record], *, recount: int = 1) -> None:
        """recount: the tokens of one history in so many are counted again."""
        self.after: dict[str, list[str]] = {}
        self.digests: dict[str, int] = {}  # of messages
        self.chain: dict[str, frozenset[str]] = {}
        for record in sources:
            self.digests[record["id"]] = hash(orjson.dumps(record["messages"]))
            if record["type"] == "conversation":
                self.after[record["id"]] = record["after"]
        self._connect()
        self.recount = recount
        self.faults: list[str] = []
        self.fill: dict[str, list[float]] = {}
        self.depths: dict[str, list[float]] = {}
        self.relevant: dict[str, list[tuple[str, str]]] = {}  # of each persona: conversations with their days

    def _connect(self) -> None:
        near: dict[str, set[str]] = {own: set() for own in self.after}
        for own, earlier in self.after.items():
            for one in earlier:
                near.setdefault(one, set()).add(own)
                near[own].add(one)
        for own in self.after:
            if own not in self.chain:
                found, open_ = {own}, [own]
                while open_:
                    open_ += [one for one in near[open_.pop()] if one not in found and not found.add(one)]  # type: ignore[func-returns-value]
                self.chain |= dict.fromkeys(found, frozenset(found))

    def look(self, number: int, history: Record) -> None:
        """One history, the `number`th of the file."""
        sessions, budget = history["sessions"], history["budget"]
        size = sum(one["tokens"] for one in sessions)
        if number % self.recount == 0:
            texts = (message["content"] for message in history["messages"])
            counted = sum(len(ENCODING.encode_ordinary(text)) + OVERHEAD for text in texts)
            self._hold(counted == size, history, f"has {counted} tokens, its sessions say {size}")
        self._hold(history["tokens"] == size <= budget, history, f"has {size} tokens, budget {budget}")
        told = [one for one in sessions if one["what"] == "conversation"]
        self._content(history, sessions)
        self._order(history, [one["id"] for one in told])
        dates = [one["date"] for one in sessions]
        self._hold(dates == sorted(dates), history, "goes back in time")
        relevant = [(one["id"], one["date"]) for one in told]
        same = self.relevant.setdefault(history["persona_id"], relevant) == relevant
        self._hold(same, history, "differs from the persona's other windows")
        self.fill.setdefault(history["window"], []).append(size / budget)
        middles = [(one["token_start"] + one["tokens"] / 2) / budget for one in told]
        self.depths.setdefault(history["window"], []).extend(middles)

    def _content(self, history: Record, sessions: list[Record]) -> None:
        """Sessions follow each other without a gap, each whole as it was in the source, none twice."""
        place = tokens = 0
        for one in sessions:
            self._hold((one["start"], one["token_start"]) == (place, tokens), history, f"has a gap before {one['id']}")
            place, tokens = one["end"], tokens + one["tokens"]
            said = hash(orjson.dumps(history["messages"][one["start"] : place]))
            self._hold(said == self.digests[one["id"]], history, f"changes {one['id']}")
        self._hold(place == len(history["messages"]), history, "has messages of no session")
        ids = [one["id"] for one in sessions]
        self._hold(len(set(ids)) == len(ids), history, "holds something twice")

    def _order(self, history: Record, ids: list[str]) -> None:
        """What a conversation rests on stands before it; chains are in it whole, or whole among what it leaves out."""
        places = {own: place for place, own in enumerate(ids)}
        out = {one["id"] for one in history["dropped"]}
        self._hold(out.isdisjoint(places), history, "holds what it says it leaves out")
        for own, place in places.items():
            self._hold(all(places.get(one, place) < place for one in self.after[own]), history, f"has {own} too early")
            self._hold(self.chain[own] <= places.keys(), history, f"tears the chain of {own}")

    def _hold(self, sound: bool, history: Record, fault: str) -> None:
        if not sound:
            self.faults.append(f"{history['id']} ({history['window']}) {fault}")


def uniformity(values: list[float]) -> tuple[float, float]:
    """Kolmogorov-Smirnov: the largest distance to the uniform distribution on 0 to 1, and its p-value (Stephens 1970)."""
    ranked, n = sorted(values), len(values)
    distance = max(max((i + 1) / n - value, value - i / n) for i, value in enumerate(ranked))
    scaled = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance
    tail = 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101))
    return distance, min(1.0, max(0.0, tail))


def read(path: Path) -> Iterator[Record]:
    """The records of a file, one by one."""
    with path.open("rb") as file:
        yield from map(orjson.loads, file)


def check(sources: Iterable[Record], histories: Iterable[Record], *, recount: int = 1) -> Histories:
    """What is known of the histories after all were looked at."""
    found = Histories(sources, recount=recount)
    for number, history in enumerate(histories):
        found.look(number, history)
    return found


if __name__ == "__main__":
    conversations, made, *filler = map(Path, sys.argv[1:])
    seen = check((record for path in (conversations, *filler) for record in read(path)), read(made))
    print(*seen.faults, sep="\n")
    sys.exit(bool(seen.faults))
