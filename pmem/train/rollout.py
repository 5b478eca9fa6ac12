"""Replies of the policy as it stands: the decoder of `local:` models, which computes a prompt once for all replies."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from pmem.backends.local_decode import Decoder, Row
from pmem.errors import InputError
from pmem.train.batches import Conversation
from pmem.train.policy import Policy

ROWS = 512
"""Replies in the making at once, as far as their attention caches fit into the decoder's budget."""


class Prompt(NamedTuple):
    """A prompt to reply to, with a seed for each reply. name: of its question, for messages."""

    name: str
    ids: list[int]
    seeds: list[int]


class Reply(NamedTuple):
    """A finished reply: as text, as it is learnt, and whether it ended by itself."""

    text: str
    conversation: Conversation
    ended: bool


class Sampler:
    """Samples replies. limit: most tokens of one; temperature: 0 is greedy."""

    def __init__(self, policy: Policy, *, limit: int, temperature: float = 1.0) -> None:
        self._policy, self.limit, self.temperature = policy, limit, temperature
        self.context = policy.loaded.context  # most tokens of prompt and reply together
        self._decoder: Decoder | None = None
        self.stopped = False  # set from outside: sampling ends at the next token

    def check(self, prompt: Prompt) -> None:
        """InputError if prompt and reply don't fit into the model's context."""
        if len(prompt.ids) + self.limit > self.context:
            raise InputError(
                f"{prompt.name}: the prompt has {len(prompt.ids):,} tokens and the reply may have {self.limit:,}: "
                f"together more than the {self.context:,} that the model can take; see --context-length with "
                "--truncate, --max-tokens and --context"
            )

    def sample(
        self, prompts: Sequence[Prompt], finished: Callable[[int, int, Reply], None], temperature: float | None = None
    ) -> None:
        """Reply to each prompt once for each of its seeds; `finished` is told (prompt, number, reply) as they end.

        A reply depends on its prompt and seed alone, but for rounding. Errors: as of `check`.
        """
        for prompt in prompts:
            self.check(prompt)
        warm = self.temperature if temperature is None else temperature
        every = [[Row(prompt.ids, self.limit, warm, seed) for seed in prompt.seeds] for prompt in prompts]
        places = {id(row): (number, n) for number, group in enumerate(every) for n, row in enumerate(group)}
        waiting = [list(group) for group in every]
        self._policy.model.eval()
        with torch.inference_mode(), self._policy.computing():
            decoder = self._decoder = self._decoder or Decoder(self._policy.loaded, ROWS)
            try:
                while (waiting or decoder.rows) and not self.stopped:
                    _let_in(waiting, decoder)
                    for row in decoder.step():
                        finished(*places[id(row)], self._reply(row))
            finally:
                decoder.clear()  # the weights are about to change

    async def sampled(
        self, prompts: Sequence[Prompt], finished: Callable[[int, int, Reply], None], temperature: float | None = None
    ) -> None:
        """`sample` in a thread, in which `finished` is called; it stops when this is cancelled."""
        try:
            await asyncio.to_thread(self.sample, prompts, finished, temperature)
        except BaseException:
            self.stopped = True
            raise

    def _reply(self, row: Row) -> Reply:
        ended = row.finish == "stop"
        return reply_of(self._policy, row.prompt, [*row.out, row.ended] if ended else row.out, ended=ended)


def reply_of(policy: Policy, prompt: list[int], ids: list[int], *, ended: bool) -> Reply:
    """The reply of these tokens, the last of which is the one that ended it, if it ended by itself."""
    said = ids[:-1] if ended else ids
    text = policy.loaded.tokenizer.decode(said, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Reply(text, Conversation(prompt, ids), ended)


def _let_in(waiting: list[list[Row]], decoder: Decoder) -> None:
    """Let as many rows join as there is room for, prompt by prompt."""
    while waiting:
        group = waiting[0]
        rows = len(group)
        while rows and not decoder.room(group[0], rows):
            rows //= 2
        if not rows:
            return
        decoder.join(*group[:rows])
        del group[:rows]
        if not group:
            del waiting[0]
