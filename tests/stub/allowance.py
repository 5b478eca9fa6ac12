"""So many requests a second, as a token bucket of a tenth of a second; beyond it, 429."""

import time

from tests.stub.problems import Problem

TELLS = ("nothing", "retry-after", "ratelimit")
SLICE = 0.1  # seconds


class Allowance:
    """tells: nothing, or in which headers it says when to come again."""

    def __init__(self, rps: float, tells: str) -> None:
        self.rps, self.tells = rps, tells
        self.most = max(1.0, rps * SLICE)
        self.left = self.most
        self.since = time.monotonic()

    def take(self) -> None:
        """Let one request through, or raise its 429."""
        now = time.monotonic()
        self.left = min(self.most, self.left + (now - self.since) * self.rps)
        self.since = now
        if self.left >= 1:
            self.left -= 1
            return
        wait = (1 - self.left) / self.rps
        headers = {
            "nothing": {},
            "retry-after": {"Retry-After": f"{wait:.3f}"},
            "ratelimit": {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": f"{1000 * wait:.0f}ms"},
        }[self.tells]
        message = "Rate limit reached. Please try again later."
        raise Problem(429, message, type="requests", code="rate_limit_exceeded", headers=headers)
