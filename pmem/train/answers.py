"""Rollouts of one reply to a question, rewarded while others are still being made; and what the policy can by now."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from pmem.backends.base import Request
from pmem.backends.local import prompt_ids
from pmem.draws import seed_for
from pmem.errors import InputError, RecordError
from pmem.reward.rewards import Rewards, Said, Scored
from pmem.train.grpo import Collected, Rollout
from pmem.train.questions import Ask, Asking
from pmem.train.rollout import Prompt, Reply, Sampler
from pmem.train.run import Clock

LOOK = 64
"""Held-out questions asked at once."""


class Put(NamedTuple):
    """A question as it is sent, with a seed for each reply wanted. calls: names of these replies, for judges."""

    ask: Ask
    prompt: Prompt
    calls: list[str]


class Answer(NamedTuple):
    """A reply and what it is worth."""

    reply: Reply
    scored: Scored


class Answers:
    """Asks questions of the policy. n: replies to each; seed: of the run. Errors: InputError for a question that can't
    be asked, or whose prompt is too long."""

    def __init__(
        self, sampler: Sampler, asking: Asking, rewards: Rewards, tokenizer: object, *, n: int, seed: int, clock: Clock
    ) -> None:
        self._sampler, self._asking, self._rewards, self.tokenizer = sampler, asking, rewards, tokenizer
        self.n, self.seed, self._clock = n, seed, clock

    async def collect(self, asks: Sequence[Ask], step: int) -> Collected:
        """A group of rollouts for each ask."""
        puts = []
        for ask in asks:
            prompt = Prompt(ask.name, await self.ids(ask), [self.drawn(ask, step, n) for n in range(self.n)])
            puts.append(Put(ask, prompt, [call(ask, step, n) for n in range(self.n)]))
        made = await self.replies(puts)
        groups = [[Rollout((one.reply.conversation,), one.scored.reward) for one in group] for group in made]
        return Collected(groups, measured(asks, made))

    async def held_out(self, asks: Sequence[Ask]) -> dict[str, float]:
        """Accuracy and share of replies that could be read, at temperature 0."""
        found: list[Answer] = []
        for start in range(0, len(asks), LOOK):
            some = asks[start : start + LOOK]
            puts = [Put(ask, Prompt(ask.name, await self.ids(ask), [0]), [""]) for ask in some]
            found += [one for (one,) in await self.replies(puts, 0.0)]
        return accuracy(found)

    def drawn(self, ask: Ask, step: int, n: int, what: str = "sample") -> int:
        """The seed of a step's reply."""
        return seed_for(self.seed, ask.qa["id"], f"train/{what} {step}.{n}")

    async def ids(self, ask: Ask) -> list[int]:
        """The prompt's tokens, as eval sends them."""
        return ids_of(await self._asking.request(ask), self.tokenizer, ask.name)

    async def check(self, ask: Ask) -> None:
        """InputError if the question can't be asked, or its prompt and reply don't fit into the model's context."""
        self._sampler.check(Prompt(ask.name, await self.ids(ask), []))

    async def replies(self, puts: Sequence[Put], temperature: float | None = None) -> list[list[Answer]]:
        """Replies to each with their scores, in the order of its seeds. temperature: None: that of the run."""
        loop = asyncio.get_running_loop()
        scoring: dict[tuple[int, int], asyncio.Task[Answer]] = {}

        def finished(number: int, n: int, reply: Reply) -> None:
            put = puts[number]

            async def scored() -> Answer:
                return Answer(reply, await self._score(put.ask, reply, put.calls[n]))

            scoring[number, n] = loop.create_task(scored())

        def elsewhere(number: int, n: int, reply: Reply) -> None:  # in the thread that samples
            loop.call_soon_threadsafe(finished, number, n, reply)

        try:
            await self._sampler.sampled([put.prompt for put in puts], elsewhere, temperature)
            with self._clock("reward"):
                return [
                    [await scoring[number, n] for n in range(len(put.prompt.seeds))] for number, put in enumerate(puts)
                ]
        except BaseException:
            for task in scoring.values():
                task.cancel()
            await asyncio.gather(*scoring.values(), return_exceptions=True)
            raise

    async def _score(self, ask: Ask, reply: Reply, call: str) -> Scored:
        said = Said(reply.text, len(reply.conversation.reply), self._sampler.limit)
        if ask.mode == "mcq":
            return await self._rewards.choice(said, ask.gold, len(ask.options))
        return await self._rewards.answer(said, ask.qa, call)


def ids_of(request: Request, tokenizer: object, name: str) -> list[int]:
    """A prompt's tokens, as eval sends them. name: of its question, for messages. InputError: the chat template refuses
    it."""
    try:
        return prompt_ids(request, tokenizer, "the model")
    except RecordError as fault:
        raise InputError(f"{name}: {fault}") from None


def call(ask: Ask, step: int, n: int) -> str:
    """The name of a step's reply, for judges."""
    return f"train/{ask.qa['id']}/step{step}-{n}"


def accuracy(answers: Sequence[Answer]) -> dict[str, float]:
    """Shares of right replies and of readable ones on held-out questions."""
    return {
        "eval/accuracy": sum(bool(one.scored.right) for one in answers) / len(answers),
        "eval/parsed": sum(one.scored.parsed for one in answers) / len(answers),
    }


def measured(asks: Sequence[Ask], made: Sequence[Sequence[Answer]]) -> dict[str, float]:
    """Shares of right replies by mode, of readable ones, and of those cut off at the limit of tokens."""
    every = [(ask.mode, one) for ask, group in zip(asks, made, strict=True) for one in group]
    values = {
        "parsed": sum(one.scored.parsed for _, one in every) / len(every),
        "cut_off": sum(not one.reply.ended for _, one in every) / len(every),
    }
    for mode in sorted({mode for mode, _ in every}):
        right = [one.scored.right for own, one in every if own == mode and one.scored.right is not None]
        if right:
            values[f"right/{mode}"] = sum(right) / len(right)
    return values
