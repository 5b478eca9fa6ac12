"""Multiple choice: the named option is right, or it isn't."""

from typing import NamedTuple

from pmem.backends.base import Likelihood
from pmem.choices import LETTERS, letter


class Score(NamedTuple):
    """choice: the letter, None where the reply names none plainly (parsed False, which counts as wrong)."""

    choice: str | None
    parsed: bool
    correct: bool


def by_reply(reply: str, gold: str, count: int) -> Score:
    """Score what a model said about `count` options."""
    choice = letter(reply, count)
    return Score(choice, choice is not None, choice == gold)


def by_likelihood(values: list[float], gold: str) -> Score:
    """Score a ranking: the option of the highest value is the choice (the first one, where several are equal)."""
    choice = LETTERS[max(range(len(values)), key=values.__getitem__)]
    return Score(choice, True, choice == gold)


def ranking(given: list[Likelihood], without: list[Likelihood] | None, by: str) -> list[float]:
    """What options are ranked by.

    sum: log-likelihood of the option's text; token: the same per token; relative: the gain in log-likelihood over
    asking without the context, per token of the option (which takes away how likely the text is by itself).
    """
    if by == "sum":
        return [one.logprob for one in given]
    if by == "token":
        return [one.logprob / max(one.tokens, 1) for one in given]
    assert without is not None
    return [(one.logprob - none.logprob) / max(one.tokens, 1) for one, none in zip(given, without, strict=True)]
