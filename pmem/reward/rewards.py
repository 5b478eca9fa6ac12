"""What a reply to a training question is worth: the strict parser's verdict, or judges' by majority, and nothing else
unless asked for."""

from typing import Any, NamedTuple

from pmem.backends.model import Model
from pmem.choices import without_thinking
from pmem.errors import ModelError, first_line
from pmem.prompts import Prompts
from pmem.reward import conduct, mcq, open_ended


class Said(NamedTuple):
    """A reply. tokens: how many it has, of `limit` at most."""

    text: str
    tokens: int
    limit: int


class Scored(NamedTuple):
    """reward: None where the judges couldn't tell; right: as eval would count it, None likewise; parsed: whether a
    choice could be read (an open-ended reply: whether it says anything besides thoughts); why: there is no reward."""

    reward: float | None
    right: bool | None
    parsed: bool
    why: str = ""


class Rewards:
    """Rewards of one run.

    judges, votes: for open-ended replies, so many votes of each judge. length: taken off for a reply of the full limit
    of tokens, in proportion for a shorter one; form: added for a reply that can be read, right or wrong. Both are 0
    unless asked for: the paper rewards right answers alone.
    """

    def __init__(
        self,
        judges: tuple[Model, ...],
        prompts: Prompts,
        *,
        votes: int = 3,
        length: float = 0.0,
        form: float = 0.0,
    ) -> None:
        self._judges, self._prompts, self._votes = judges, prompts, votes
        self._length, self._form = length, form

    async def choice(self, said: Said, gold: str, count: int) -> Scored:
        """Multiple choice of `count` options: 1 for the right letter, else 0. What a question asked to forget, or a
        secret, makes right is in its options already."""
        score = mcq.by_reply(said.text, gold, count)
        return self._scored(said, score.correct, score.parsed)

    async def answer(self, said: Said, qa: dict[str, Any], call: str) -> Scored:
        """An open-ended reply: 1 if most votes say that it treats what is known of the user rightly, else 0.

        By the rule of the question's case, so that using what was to be forgotten fails. A reply that repeats the
        question's secret, or says nothing, is 0 unasked. Votes that don't decide, or a judge that fails after its
        retries, make no reward: the reply then counts neither as 0 nor as 1.
        """
        text = without_thinking(said.text)
        told = qa["case"] == "sensitive" and qa["secret"] and conduct.repeats(text, qa["secret"]["value"])
        if told or not text:
            return self._scored(said, False, bool(text))
        try:
            votes = await open_ended.votes_on(said.text, qa, self._judges, self._prompts, self._votes, call)
        except ModelError as fault:
            return Scored(None, None, True, first_line(fault))
        if not open_ended.decided(votes):
            return Scored(None, None, True, "the judges' votes don't decide")
        return self._scored(said, open_ended.passes(votes), True)

    def _scored(self, said: Said, right: bool, parsed: bool) -> Scored:
        reward = float(right) + self._form * parsed - self._length * said.tokens / said.limit
        return Scored(reward, right, parsed)
