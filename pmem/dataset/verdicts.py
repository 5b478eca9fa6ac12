"""The rules by which votes decide whether a question is kept (SYSTEM, section 3; the thresholds are pmem's own).

Every rule fails closed: an unreadable vote, or a missing one, is no vote for keeping.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

CHECKS = ("blind", "leak", "gold", "distractors", "form", "harm")
BLIND_TRIES = 4
"""Times that a model which sees only the question is asked: the right option stands once in each position."""
BLIND_RIGHT = 2
"""At most so many of them may be right."""
MAJORITY = 0.5
"""More than this share of a check's votes must say pass."""
LENGTH_RULE = "rule:length"
"""The judge of a vote that is cast by a rule on the options' lengths, not by a model; it must pass by itself."""

Counts = dict[str, int]
"""Votes by check; those on wrong options by the option's letter, those of the rule by its name."""


def fallen(
    qa: dict[str, Any],
    *,
    blind_right: int = BLIND_RIGHT,
    majority: float = MAJORITY,
    majority_of: Mapping[str, float] = MappingProxyType({}),
) -> list[tuple[str, str]]:
    """The checks that a question does not pass, in their order, each with the reason in one line.

    majority_of: a majority of its own for some checks.
    """
    cast: Counts = {}
    passed: Counts = {}
    for vote in qa["votes"]:
        key = vote["check"]
        if key == "distractors":
            key = vote["choice"]
        elif vote["judge"] == LENGTH_RULE:
            key = LENGTH_RULE
        cast[key] = cast.get(key, 0) + 1
        if vote["verdict"] == "pass":
            passed[key] = passed.get(key, 0) + 1
    faults = []
    right = cast.get("blind", 0) - passed.get("blind", 0)  # an unclear try counts as right
    if cast.get("blind", 0) < BLIND_TRIES:
        faults.append(("blind", "not judged"))
    elif right > blind_right:
        faults.append(("blind", f"right in {right} of {cast['blind']} blind tries"))
    for check in CHECKS[1:]:
        for key in _wrong_letters(qa) if check == "distractors" else (check,):
            if key not in cast:
                faults.append((check, "not judged"))
                break
            if passed.get(key, 0) <= majority_of.get(check, majority) * cast[key]:
                what = f"option {key}: " if check == "distractors" else ""
                faults.append((check, f"{what}{passed.get(key, 0)} of {cast[key]} votes pass"))
                break
        else:
            if check == "form" and passed.get(LENGTH_RULE) != cast.get(LENGTH_RULE):
                faults.append(("form", "the right option's length gives it away"))
    return faults


def _wrong_letters(qa: dict[str, Any]) -> str:
    return "ABCDEFGHIJ"[: len(qa["options"] or "")].replace(qa["gold"] or "-", "")
