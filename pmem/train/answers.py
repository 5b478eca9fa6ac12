"""Rollouts of one reply to a question, rewarded while others are still being made; and what the policy can by now."""

import asyncio
from collections.abc import Sequence

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


class Answers:
    """Asks questions of the policy. n: replies to each; seed: of the run. Errors: InputError for a question that can't
    be asked, or whose prompt is too long."""

    def __init__(
        self, sampler: Sampler, asking: Asking, rewards: Rewards, tokenizer: object, *, n: int, seed: int, clock: Clock
    ) -> None:
        self._sampler, self._asking, self._rewards, self._tokenizer = sampler, asking, rewards, tokenizer
        self._n, self._seed, self._clock = n, seed, clock

    async def collect(self, asks: Sequence[Ask], step: int) -> Collected:
        """A group of rollouts for each ask."""
        numbers = [
            [seed_for(self._seed, ask.qa["id"], f"train/sample {step}.{n}") for n in range(self._n)] for ask in asks
        ]
        made = await self._replies(asks, numbers, f"step{step}", None)
        groups = [[Rollout((reply.conversation,), scored.reward) for reply, scored in group] for group in made]
        return Collected(groups, _measured(asks, made))

    async def held_out(self, asks: Sequence[Ask]) -> dict[str, float]:
        """Accuracy and share of replies that could be read, at temperature 0."""
        right = parsed = 0
        for start in range(0, len(asks), LOOK):
            some = asks[start : start + LOOK]
            for group in await self._replies(some, [[0]] * len(some), "held-out", 0.0):
                right += bool(group[0][1].right)
                parsed += group[0][1].parsed
        return {"eval/accuracy": right / len(asks), "eval/parsed": parsed / len(asks)}

    async def ids(self, ask: Ask) -> list[int]:
        """The prompt's tokens, as eval sends them."""
        try:
            return prompt_ids(await self._asking.request(ask), self._tokenizer, "the model")
        except RecordError as fault:
            raise InputError(f"question {ask.qa['id']}: {fault}") from None

    async def check(self, ask: Ask) -> None:
        """InputError if the question can't be asked, or its prompt and reply don't fit into the model's context."""
        self._sampler.check(Prompt(f"question {ask.qa['id']}", await self.ids(ask), []))

    async def _replies(
        self, asks: Sequence[Ask], seeds: Sequence[list[int]], step: str, temperature: float | None
    ) -> list[list[tuple[Reply, Scored]]]:
        """Replies to each ask with their scores, in the order of the seeds."""
        prompts = [
            Prompt(f"question {ask.qa['id']}", await self.ids(ask), own) for ask, own in zip(asks, seeds, strict=True)
        ]
        loop = asyncio.get_running_loop()
        scoring: dict[tuple[int, int], asyncio.Task[tuple[Reply, Scored]]] = {}

        def finished(number: int, n: int, reply: Reply) -> None:
            async def scored() -> tuple[Reply, Scored]:
                return reply, await self._score(asks[number], reply, f"train/{asks[number].qa['id']}/{step}-{n}")

            scoring[number, n] = loop.create_task(scored())

        def elsewhere(number: int, n: int, reply: Reply) -> None:  # in the thread that samples
            loop.call_soon_threadsafe(finished, number, n, reply)

        try:
            await asyncio.to_thread(self._sampler.sample, prompts, elsewhere, temperature)
            with self._clock("reward"):
                return [[await scoring[number, n] for n in range(len(own))] for number, own in enumerate(seeds)]
        except BaseException:
            self._sampler.stopped = True
            for task in scoring.values():
                task.cancel()
            await asyncio.gather(*scoring.values(), return_exceptions=True)
            raise

    async def _score(self, ask: Ask, reply: Reply, call: str) -> Scored:
        said = Said(reply.text, len(reply.conversation.reply), self._sampler.limit)
        if ask.mode == "mcq":
            return await self._rewards.choice(said, ask.gold, len(ask.options))
        return await self._rewards.answer(said, ask.qa, call)


def _measured(asks: Sequence[Ask], made: list[list[tuple[Reply, Scored]]]) -> dict[str, float]:
    """Shares of right replies by mode, of readable ones, and of those cut off at the limit of tokens."""
    every = [(ask.mode, reply, scored) for ask, group in zip(asks, made, strict=True) for reply, scored in group]
    values = {
        "parsed": sum(scored.parsed for _, _, scored in every) / len(every),
        "cut_off": sum(not reply.ended for _, reply, _ in every) / len(every),
    }
    for mode in sorted({mode for mode, _, _ in every}):
        right = [scored.right for own, _, scored in every if own == mode and scored.right is not None]
        if right:
            values[f"right/{mode}"] = sum(right) / len(right)
    return values
