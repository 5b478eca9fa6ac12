"""Rollouts under verl's V1 trainer: a reply to a question, or a memory's updates and then the answer.

(Loaded by verl: the agent loops that agents.yaml names.) The memory is that of `pmem/memory`: the same chunks, prompts
and rules as in memdump, the answer asked for as in `eval --context memory`. Each update is a conversation of its own,
one AgentLoopOutput; the answer comes last, and verl gives its reward's advantage to all of them.
"""

import functools
from typing import Any, NamedTuple
from uuid import uuid4

import orjson
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput
from verl.utils.profiler import simple_timer

from pmem.backends.base import Request
from pmem.backends.local import prompt_ids
from pmem.evaluation.scenes import Scenes, View
from pmem.memory.lineage import Kept, text_of
from pmem.memory.loop import form_of, settled, unbroken
from pmem.prompts import Prompts
from pmem.train.questions import Asking
from pmem.train.reading import Reading
from pmem.train.verl.rows import ask_of


class Said(NamedTuple):
    """A conversation as verl learns it; its reply as text; whether it ended by itself."""

    output: AgentLoopOutput
    text: str
    ended: bool


class _Loop(AgentLoopBase):  # type: ignore[misc]
    """What both loops have in common. thinking: the chat template's switch, as in eval."""

    def __init__(self, *args: Any, thinking: bool | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._thinking = thinking

    async def _said(self, request: Request, sampling: dict[str, Any], limit: int) -> Said:
        """A reply of at most `limit` tokens. ValueError: the prompt is longer than data.max_prompt_length, beyond
        which verl would cut its beginning off."""
        prompt = prompt_ids(request, self.tokenizer, "the model")
        longest = self.rollout_config.prompt_length
        if len(prompt) > longest:
            raise ValueError(f"a prompt has {len(prompt):,} tokens: more than data.max_prompt_length {longest:,}")
        spent: dict[str, float] = {}
        with simple_timer("generate_sequences", spent):
            made = await self.server_manager.generate(
                request_id=uuid4().hex, prompt_ids=prompt, sampling_params={**sampling, "max_tokens": limit}
            )
        ids = list(made.token_ids[:limit])
        output = AgentLoopOutput(
            prompt_ids=prompt,
            response_ids=ids,
            response_mask=[1] * len(ids),
            response_logprobs=list(made.log_probs[: len(ids)]) if made.log_probs else None,
            num_turns=2,
            metrics=spent,
            extra_fields=dict(made.extra_fields),
        )
        text = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Said(output, text, len(ids) < limit or ids[-1] == self.tokenizer.eos_token_id)


class Reply(_Loop):
    """One reply to a question, its prompt as the row holds it."""

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        request = Request(list(row["raw_prompt"]), thinking=self._thinking)
        said = await self._said(request, sampling_params, self.rollout_config.response_length)
        return said.output


class Memory(_Loop):
    """A memory's updates, chunk by chunk, then the answer.

    chunk_tokens, memory_tokens, tokenizer_name: as of memdump; update_limit, answer_limit: most tokens of a reply, as
    the model counts them; style, evidence: of the memory's prompts; form, window: as of eval; prompts: a folder, or
    None for pmem's own.
    """

    def __init__(
        self,
        *args: Any,
        chunk_tokens: int,
        memory_tokens: int,
        update_limit: int,
        answer_limit: int,
        tokenizer_name: str,
        style: str,
        evidence: bool,
        form: str,
        window: str | None,
        prompts: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        texts = _prompts(prompts)
        nothing = Scenes(View(), texts, histories=None, memories=None, reply=None)
        asking = Asking(nothing, texts, "memory", window, form, self._thinking)
        self._reading = Reading(asking, form_of(texts, tokenizer_name, style, memory_tokens, evidence), chunk_tokens)
        self._update_limit, self._answer_limit = update_limit, answer_limit

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> list[AgentLoopOutput]:
        extra = row["extra_info"]
        outputs: list[AgentLoopOutput] = []
        memory: list[Kept] = []
        for number, chunk in enumerate(self._reading.chunks(orjson.loads(extra["history"])), 1):
            request = self._reading.update(text_of(memory), chunk)
            update = await self._said(request, sampling_params, self._update_limit)
            text = unbroken(update.text, cut=not update.ended)
            memory = settled(text, memory, chunk, self._reading.form, number).memory
            outputs.append(update.output)
        question = await self._reading.question(ask_of(extra), text_of(memory))
        answer = await self._said(question, sampling_params, self._answer_limit)
        return [*outputs, answer.output]


@functools.cache
def _prompts(folder: str | None) -> Prompts:
    from pathlib import Path

    return Prompts(Path(folder) if folder else None)
