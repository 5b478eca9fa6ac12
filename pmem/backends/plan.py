"""What a run would ask of a model: figures by kind of call, and how long they would take."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

from pmem.backends.base import Usage
from pmem.backends.calls import Limits
from pmem.backends.limits import MINUTE
from pmem.backends.prices import Price

FIRST_TOKEN, PER_TOKEN = 0.5, 0.02
"""Seconds until a reply begins and for each of its tokens: assumed, of the order of what hosted models take."""

_passed: ContextVar[float] = ContextVar("passed", default=0.0)  # seconds of the calls that led to this one


@dataclass(slots=True)
class Step:
    """Calls of one kind. known: answered already; the tokens are those of the others, as counted beforehand.

    longest: of the prompts; earlier: replies that the length of new ones was guessed from (0: assumed).
    """

    calls: int = 0
    known: int = 0
    prompt: float = 0.0
    longest: float = 0.0
    completion: int = 0
    earlier: int = 0


class Time(NamedTuple):
    """Seconds that all calls take, and what keeps them from taking less."""

    seconds: float
    by: str


class Plan:
    """Calls to one model in one role ("model", "judge"). price: None where it isn't known; server: whether it has one,
    so that anything can be assumed about its speed."""

    def __init__(self, name: str, role: str, price: Price | None, limits: Limits, *, server: bool) -> None:
        self.name, self.role, self.price, self.limits, self.server = name, role, price, limits, server
        self.steps: dict[str, Step] = {}
        self._counted = self._told = 0.0
        self._chain = 0.0

    def step(self, name: str) -> Step:
        """The figures of a kind of call."""
        return self.steps.setdefault(name, Step())

    def call(self, name: str, *, prompt: float, completion: int, earlier: int) -> None:
        """Add a call to make: tokens of its prompt, and of its reply as guessed."""
        step = self.step(name)
        step.calls += 1
        step.prompt += prompt
        step.longest = max(step.longest, prompt)
        step.completion += completion
        step.earlier = earlier
        _passed.set(_passed.get() + FIRST_TOKEN + PER_TOKEN * completion)
        self._chain = max(self._chain, _passed.get())

    def calibrate(self, *, counted: float, told: int) -> None:
        """A prompt whose tokens the server has told, and what they had been counted to be."""
        self._counted += counted
        self._told += told

    @property
    def ratio(self) -> float:
        """Tokens by the model's own count to tokens counted beforehand; 1 as long as nothing is known of it."""
        return self._told / self._counted if self._told else 1.0

    def usage(self, step: Step) -> Usage:
        """Tokens of the calls of a step."""
        return Usage(round(step.prompt * self.ratio), 0, step.completion)

    @property
    def total(self) -> Step:
        """All steps together."""
        found = self.steps.values()
        return Step(
            sum(step.calls for step in found),
            sum(step.known for step in found),
            sum(step.prompt for step in found),
            max((step.longest for step in found), default=0.0),
            sum(step.completion for step in found),
        )

    def cost(self, step: Step) -> float | None:
        """US dollars for the calls of a step; None if the price isn't known."""
        if not step.calls:
            return 0.0
        return self.price.of(self.usage(step)) if self.price else None

    def time(self) -> Time:
        """How long all calls take: by the longest of what -j, --rpm and --tpm allow and one record's calls in a row."""
        total, limits = self.total, self.limits
        usage = self.usage(total)
        bounds = [
            Time((total.calls * FIRST_TOKEN + total.completion * PER_TOKEN) / limits.jobs, f"-j {limits.jobs}"),
            Time(self._chain, "calls that wait for each other"),
        ]
        if limits.rpm:
            bounds.append(Time(total.calls / limits.rpm * MINUTE, f"--rpm {limits.rpm:g}"))
        if limits.tpm:
            bounds.append(Time((usage.prompt + usage.completion) / limits.tpm * MINUTE, f"--tpm {limits.tpm:g}"))
        return max(bounds, key=lambda bound: bound.seconds)
