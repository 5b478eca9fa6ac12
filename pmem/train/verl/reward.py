"""Rewards under verl: those of `pmem/reward`, judges included, as eval would score the same reply.

(Loaded by verl: `reward.reward_manager`.) verl's own manager takes a reply's length from the end of a padded row, which
is empty where an earlier conversation of the rollout was longer: short answers were worth 0. Here the reply is cut out
by the lengths that come along.
"""

import asyncio
from pathlib import Path
from typing import Any

from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from pmem.backends.opening import Judging, judges_of
from pmem.prompts import Prompts
from pmem.reward.rewards import Rewards, Said, Scored
from pmem.train.verl.rows import ask_of
from pmem.train.verl.settings import UNREWARDED


class Manager(RewardManagerBase):  # type: ignore[misc]
    """Scores a rollout by its last conversation. Judges are asked concurrently, in this process's event loop."""

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **_others: Any) -> None:
        super().__init__(config, tokenizer, compute_score)
        ours = config.pmem
        prompts = Prompts(Path(ours.prompts) if ours.prompts else None)
        judges = judges_of(Judging.of(dict(ours.judging)))
        self._rewards = Rewards(judges, prompts, votes=ours.votes, length=ours.length_penalty, form=ours.format_reward)
        self._limit = int(ours.answer_limit)
        self._unrewarded = Path(ours.alarm).with_name(UNREWARDED)

    async def run_single(self, data: Any) -> dict[str, Any]:
        """The reward, and what else is known: right, parsed, missing (1 where judges made no reward; it is then 0)."""
        last = data[-1:]
        row = last.non_tensor_batch
        ids = last.batch["responses"][0][: _length(last)]
        text = await asyncio.to_thread(
            self.tokenizer.decode, ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        scored = await self._scored(row["extra_info"][0], Said(text, len(ids), self._limit))
        if scored.reward is None:
            self._unrewarded.write_text(scored.why, encoding="utf-8")
        told = {"right": float(scored.right or 0), "parsed": float(scored.parsed), "acc": float(scored.right or 0)}
        return {
            "reward_score": scored.reward or 0.0,
            "reward_extra_info": {**told, "missing": float(scored.reward is None)},
        }

    async def _scored(self, extra: dict[str, Any], said: Said) -> Scored:
        ask = ask_of(extra)
        if ask.mode == "mcq":
            return await self._rewards.choice(said, ask.gold, len(ask.options))
        return await self._rewards.answer(said, ask.qa, f"train/{ask.qa['id']}/verl")


def _length(last: Any) -> int:
    """Tokens of the reply, without padding."""
    row = last.non_tensor_batch
    if "response_len" in row:
        return int(row["response_len"][0])
    prompt = last.batch["prompts"].shape[-1]
    return int(last.batch["attention_mask"][0, prompt:].sum())
