"""The one place that splits personas in halves: those that `filter --balance` acts on, those that an audit tunes on."""

from typing import Any, Literal

from pmem.draws import seed_for

BALANCED = "balanced"
"""Label (`labels.balanced: "yes"`) of every question in the half that `filter --balance` acted on."""


def persona_of(qa: dict[str, Any]) -> str:
    """Whose question it is: questions of one persona stay together. One without a persona stands for itself."""
    return str(qa["persona_id"] or qa["id"])


def first_half(persona: str, seed: int, purpose: Literal["balance", "audit"]) -> bool:
    """Whether a persona is in the first half: decided by a hash, so that neither order nor number matters.

    Both purposes split every set of personas anew, independently of each other: an audit that is read on the half
    that was not balanced has halves of its own there.
    """
    return seed_for(seed, persona, f"{purpose} half") % 2 == 0


def is_balanced(qa: dict[str, Any]) -> bool:
    """Whether `filter --balance` acted on the question's half."""
    return bool(qa.get("labels", {}).get(BALANCED) == "yes")
