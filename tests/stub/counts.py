"""What a stub has been asked and has answered: counts, and a line per request in a file."""

import hashlib
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.stub.faults import READABLE


@dataclass
class Call:
    """A chat request: when it came (`time.monotonic`), the hashes of its body and of its first message, the
    how-manyth with that body (from 1), what happens to it on the way, and what is wrong with what the model says."""

    at: float = field(default_factory=time.monotonic)
    hash: str = ""
    first: str = ""
    n: int = 0
    fault: str | None = None
    said: str | None = None
    noted: bool = False


@dataclass
class Counts:
    """Of chat completion requests since the start or the last reset, those of batches among them."""

    requests: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    paid: set[str] = field(default_factory=set)
    paid_again: int = 0
    in_flight: int = 0
    in_flight_max: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    batches: int = 0
    batch_requests: int = 0

    def arrive(self) -> None:
        self.requests += 1
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)

    def identify(self, call: Call, fingerprint: str, first: dict[str, Any]) -> None:
        call.first = hashlib.sha256(orjson.dumps(first)).hexdigest()[:12]
        self.seen[fingerprint] += 1
        call.hash, call.n = fingerprint, self.seen[fingerprint]

    def note(self, call: Call, status: int, log: int | None, usage: dict[str, Any] | None = None) -> None:
        """Count an answer, just before it is sent; status 0: no answer. `log` is a file descriptor."""
        call.noted = True
        self.by_status[str(status)] += 1
        if usage is not None:
            self.prompt_tokens += usage["prompt_tokens"]
            self.completion_tokens += usage["completion_tokens"]
            if call.fault in READABLE:
                self.paid_again += call.hash in self.paid
                self.paid.add(call.hash)
        if log is not None:
            line = {
                "at": call.at,
                "hash": call.hash,
                "first": call.first,
                "n": call.n,
                "status": status,
                "fault": call.fault or call.said,
            }
            os.write(log, orjson.dumps(line) + b"\n")

    def summary(self) -> dict[str, Any]:
        """`repeats`: requests beyond the first with their body; `paid_again`: readable completions beyond the first
        for their body."""
        return {
            "requests": self.requests,
            "by_status": dict(sorted(self.by_status.items())),
            "distinct": len(self.seen),
            "repeats": self.seen.total() - len(self.seen),
            "paid_again": self.paid_again,
            "in_flight_max": self.in_flight_max,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "batches": self.batches,
            "batch_requests": self.batch_requests,
        }
