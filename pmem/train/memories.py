"""Rollouts of a memory: its updates, chunk by chunk, then the answer to a question from the memory alone.

The loop is that of `pmem/memory` (what `memdump` does), the question that of `eval --context memory`. All rollouts of a
step go through their histories side by side: every chunk's updates are sampled together, and those that begin alike, as
a question's first ones do, are computed once. What a rollout's answer is worth is learnt by all its conversations
(`grpo.py` takes it from here).

The paper (section 5): chunks of 5,000 tokens, a memory of at most 2,048, one reward at the end. Deviations:

* A reply that runs into its limit of tokens loses the entry that was broken off; one without any entry leaves the
  memory as it was; private details and what is to be forgotten don't get in, whatever is written (`pmem/memory`). The
  advantage goes to all tokens that were sampled all the same.
* A penalty for updates that had to be cut to size can be asked for; the paper has none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pmem.memory.chunks import Chunk
from pmem.memory.lineage import Kept, text_of
from pmem.memory.loop import settled, unbroken
from pmem.train.answers import LOOK, Answer, Answers, Put, accuracy, call, ids_of, measured
from pmem.train.batches import Conversation
from pmem.train.grpo import Collected, Rollout
from pmem.train.questions import Ask
from pmem.train.reading import Reading, history_of
from pmem.train.rollout import Prompt, Reply, Sampler

One = TypeVar("One")


@dataclass
class Attempt:
    """One rollout in the making. n: its number in the group; cut: updates that were cut to size, or broken off."""

    ask: Ask
    n: int
    chunks: list[Chunk]
    memory: list[Kept] = field(default_factory=list)
    conversations: list[Conversation] = field(default_factory=list)
    cut: int = 0


class Memories:
    """sampler: of updates; answers: asks for the answers; penalty: taken off the reward where all updates had to be cut
    to size, its share where some had."""

    def __init__(self, sampler: Sampler, answers: Answers, reading: Reading, *, penalty: float = 0.0) -> None:
        self._sampler, self._answers, self._reading, self._penalty = sampler, answers, reading, penalty

    async def collect(self, asks: Sequence[Ask], step: int) -> Collected:
        """A group of rollouts for each ask."""
        attempts = await self._attempts(asks, self._answers.n)
        await self._read(attempts, step)
        puts = []
        for one in attempts:
            ids = await self._question(one)
            seeds, calls = [self._answers.drawn(one.ask, step, one.n)], [call(one.ask, step, one.n)]
            puts.append(Put(one.ask, Prompt(one.ask.name, ids, seeds), calls))
        answers = [answer for (answer,) in await self._answers.replies(puts)]
        groups = _in_groups([self._rollout(*pair) for pair in zip(attempts, answers, strict=True)], self._answers.n)
        values = measured(asks, _in_groups(answers, self._answers.n)) | self._of_memories(attempts)
        return Collected(groups, values)

    async def held_out(self, asks: Sequence[Ask]) -> dict[str, float]:
        """As `Answers.held_out`, with memories that are written at temperature 0, too."""
        found: list[Answer] = []
        for start in range(0, len(asks), LOOK):
            attempts = await self._attempts(asks[start : start + LOOK], 1)
            await self._read(attempts, None)
            puts = [Put(one.ask, Prompt(one.ask.name, await self._question(one), [0]), [""]) for one in attempts]
            found += [one for (one,) in await self._answers.replies(puts, 0.0)]
        return accuracy(found)

    async def check(self, ask: Ask) -> None:
        """InputError if the question can't be asked, or if a chunk of its history, a full memory and the reply don't
        fit into the model's context."""
        (attempt,) = await self._attempts([ask], 1)
        full = [0] * self._reading.form.most
        for chunk in attempt.chunks:
            self._sampler.check(Prompt(ask.name, [*self._ids(ask, "", chunk), *full], []))
        await self._question(attempt)

    async def _attempts(self, asks: Sequence[Ask], n: int) -> list[Attempt]:
        """n attempts at each ask, one ask after the other."""
        found = []
        for ask in asks:
            chunks = self._reading.chunks(await history_of(ask, self._reading.asking))
            found += [Attempt(ask, number, chunks) for number in range(n)]
        return found

    async def _read(self, attempts: Sequence[Attempt], step: int | None) -> None:
        """Write the memories. step: what replies are drawn for; None: at temperature 0."""
        for number in range(1, max(len(one.chunks) for one in attempts) + 1):
            some = [one for one in attempts if number <= len(one.chunks)]
            alike: dict[tuple[int, ...], list[Attempt]] = {}
            for one in some:
                alike.setdefault(tuple(self._ids(one.ask, text_of(one.memory), one.chunks[number - 1])), []).append(one)
            prompts = [
                Prompt(group[0].ask.name, list(ids), [self._drawn(one, step, number) for one in group])
                for ids, group in alike.items()
            ]
            replies: dict[tuple[int, int], Reply] = {}

            def finished(place: int, n: int, reply: Reply, into: dict[tuple[int, int], Reply] = replies) -> None:
                into[place, n] = reply

            await self._sampler.sampled(prompts, finished, 0.0 if step is None else None)
            for place, group in enumerate(alike.values()):
                for n, one in enumerate(group):
                    self._update(one, replies[place, n], number)

    def _update(self, one: Attempt, reply: Reply, number: int) -> None:
        """The memory after a chunk."""
        text = unbroken(reply.text, cut=not reply.ended)
        step = settled(text, one.memory, one.chunks[number - 1], self._reading.form, number)
        one.memory, one.cut = step.memory, one.cut + (step.trimmed or not reply.ended)
        one.conversations.append(reply.conversation)

    def _ids(self, ask: Ask, memory: str, chunk: Chunk) -> list[int]:
        return ids_of(self._reading.update(memory, chunk), self._answers.tokenizer, ask.name)

    async def _question(self, one: Attempt) -> list[int]:
        request = await self._reading.question(one.ask, text_of(one.memory))
        return ids_of(request, self._answers.tokenizer, one.ask.name)

    def _drawn(self, one: Attempt, step: int | None, number: int) -> int:
        return 0 if step is None else self._answers.drawn(one.ask, step, one.n, f"update {number}")

    def _rollout(self, one: Attempt, answer: Answer) -> Rollout:
        reward = answer.scored.reward
        if reward is not None and one.chunks:
            reward -= self._penalty * one.cut / len(one.chunks)
        return Rollout((*one.conversations, answer.reply.conversation), reward)

    def _of_memories(self, attempts: Sequence[Attempt]) -> dict[str, float]:
        """Updates of a rollout, the share that was cut, tokens of the last memories."""
        updates = sum(len(one.chunks) for one in attempts)
        tokens = [self._reading.form.count(text_of(one.memory)) for one in attempts]
        return {
            "memory/updates": updates / len(attempts),
            "memory/cut": sum(one.cut for one in attempts) / max(1, updates),
            "memory/tokens": sum(tokens) / len(tokens),
        }


def _in_groups(every: Sequence[One], n: int) -> list[list[One]]:
    return [list(every[start : start + n]) for start in range(0, len(every), n)]
