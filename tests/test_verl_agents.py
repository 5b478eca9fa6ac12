"""Rollouts under verl: the prompts are those of memdump and eval, the memory is that of `pmem/memory`."""

import asyncio
import functools
import hashlib
from pathlib import Path
from typing import Any

import orjson
import pytest

pytest.importorskip("tests.verl_quietly")

from omegaconf import OmegaConf
from transformers import AutoTokenizer
from verl.experimental.agent_loop.agent_loop import DictConfigWrap
from verl.workers.rollout.replica import TokenOutput

from pmem import tokens
from pmem.backends.base import Request
from pmem.backends.local import messages_of, prompt_ids
from pmem.evaluation.scenes import Scenes, View
from pmem.memory.loop import Form
from pmem.memory.memories import Setup, memories
from pmem.prompts import Prompts
from pmem.stream.lookup import Lookup, finished
from pmem.train.questions import Ask, Asking
from pmem.train.verl.agents import Memory, Reply
from tests.command import lines, sample
from tests.tiny_models import saved

pytestmark = [pytest.mark.verl, pytest.mark.local, pytest.mark.filterwarnings("ignore")]

LIMIT = 90


class Server:
    """Answers by a hash of the prompt, as a list that a memory can be made of; some replies are cut off."""

    def __init__(self, tokenizer: Any, *, tags: bool = True) -> None:
        self._tokenizer, self.sent, self.sampling = tokenizer, [], []  # type: ignore[var-annotated]

    def reply(self, ids: list[int]) -> str:
        mark = hashlib.sha256(repr(ids).encode()).hexdigest()
        return f"## Facts\n- likes {mark[:6]}\n- was in {mark[6:12]}" + "\n- and more" * (8 * (int(mark[0], 16) % 2))

    async def generate(self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any]) -> TokenOutput:
        self.sent.append(list(prompt_ids))
        self.sampling.append(sampling_params)
        ids = [*self._tokenizer.encode(self.reply(prompt_ids)), self._tokenizer.eos_token_id]
        most = sampling_params["max_tokens"]
        return TokenOutput(token_ids=ids[:most], log_probs=[-1.0] * len(ids[:most]), extra_fields={"global_steps": 3})


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(saved(tmp_path_factory.mktemp("model")))


def rolled(
    kind: Any,
    server: Server,
    tokenizer: Any,
    sampling: dict[str, Any],
    given: dict[str, Any],
    *,
    prompt: int = 20_000,
    **options: Any,
) -> Any:
    """What an agent loop returns."""
    rollout = {"prompt_length": prompt, "response_length": LIMIT}
    config = OmegaConf.create({"actor_rollout_ref": {"rollout": rollout}, "data": {}})
    wrapped = {"trainer_config": DictConfigWrap(config), "data_config": DictConfigWrap(config.data)}

    async def run() -> Any:
        made = kind(**wrapped, server_manager=server, tokenizer=tokenizer, processor=None, dataset_cls=None, **options)
        return await made.run(sampling, **given)

    return asyncio.run(run())


MEMORY = {
    "chunk_tokens": 24, "memory_tokens": 60, "update_limit": LIMIT, "answer_limit": 30, "tokenizer_name": "o200k_base",
    "style": "bullets", "evidence": False, "form": "think", "window": None, "prompts": None,
}  # fmt: skip


def row(history: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    qa = sample("qa")
    qa |= {"histories": {"32k": {**next(iter(qa["histories"].values())), "id": history["id"]}}}
    extra = {
        "qa": orjson.dumps(qa).decode(),
        "history": orjson.dumps(history).decode(),
        "mode": "mcq",
        "permutation": 2,
    }
    return qa, {"extra_info": extra, "raw_prompt": [{"role": "user", "content": "unused"}]}


def test_a_rollout_is_memdump_and_then_eval(tokenizer: Any, tmp_path: Path) -> None:
    history = sample("history")
    qa, given = row(history)
    server = Server(tokenizer)
    outputs = rolled(Memory, server, tokenizer, {"temperature": 1.0}, given, **MEMORY)

    form = Form(Prompts(), functools.partial(tokens.count, name="o200k_base"), "bullets", 60, False)
    asked: list[list[int]] = []

    async def ask(messages: list[dict[str, Any]], _number: int, _left: int) -> str:
        """As memdump asks: of a reply that was cut off, the last line is left out."""
        ids = prompt_ids(Request(messages), tokenizer, "model")
        asked.append(ids)
        said = tokenizer.encode(server.reply(ids))
        text = str(tokenizer.decode(said[:LIMIT]))
        return text if len(said) < LIMIT else text.rpartition("\n")[0]

    async def expected() -> list[int]:
        """As eval asks, with the last memory in a file."""
        made = [one.record async for one in memories(history, None, ask, Setup(form, 24, False, {}))]
        last = {**made[-1], "chunks": made[-1]["chunk"], "provenance": sample("memory")["provenance"]}
        (tmp_path / "m").write_bytes(lines([last]))
        kept = Lookup(tmp_path / "m", "memory", key=finished)
        scenes = Scenes(View(), Prompts(), histories=None, memories=kept, reply=None)
        request = await Asking(scenes, Prompts(), "memory", None, "think").request(Ask(qa, "mcq", 2))
        await kept.close()
        return prompt_ids(Request(messages_of(request)), tokenizer, "model")

    asked.append(asyncio.run(expected()))
    assert len(asked) > 3
    assert server.sent == asked
    assert [one.prompt_ids for one in outputs] == asked
    assert [one["max_tokens"] for one in server.sampling] == [LIMIT] * (len(asked) - 1) + [30]
    assert all(one["temperature"] == 1.0 for one in server.sampling)
    assert any(len(one.response_ids) == LIMIT for one in outputs)  # cut off
    assert any(one.response_ids[-1] == tokenizer.eos_token_id for one in outputs)
    for one in outputs:
        assert one.response_mask == [1] * len(one.response_ids)
        assert one.response_logprobs == [-1.0] * len(one.response_ids)
        assert one.extra_fields == {"global_steps": 3}


def test_memories_never_see_the_question(tokenizer: Any) -> None:
    server, other = Server(tokenizer), Server(tokenizer)
    history = sample("history")
    for one, query in ((server, "Where should I go?"), (other, "What should I cook tonight?")):
        qa, given = row(history)
        given["extra_info"]["qa"] = orjson.dumps({**qa, "query": query}).decode()
        rolled(Memory, one, tokenizer, {}, given, **MEMORY)
    assert server.sent[:-1] == other.sent[:-1]
    assert server.sent[-1] != other.sent[-1]


def test_a_reply_is_asked_for_as_the_row_says(tokenizer: Any) -> None:
    server = Server(tokenizer)
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "What?"},
    ]
    output = rolled(Reply, server, tokenizer, {"temperature": 0.5}, {"raw_prompt": messages, "index": 0})
    assert server.sent == [tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)]
    assert output.prompt_ids == server.sent[0]
    assert server.sampling == [{"temperature": 0.5, "max_tokens": LIMIT}]


@pytest.mark.parametrize("kind", [Reply, Memory])
def test_a_prompt_that_verl_would_cut_is_refused(tokenizer: Any, kind: Any) -> None:
    _, given = row(sample("history"))
    given["raw_prompt"] = [{"role": "user", "content": "x" * 200}]
    options = MEMORY if kind is Memory else {}
    with pytest.raises(ValueError, match=r"tokens: more than data.max_prompt_length 100"):
        rolled(kind, Server(tokenizer), tokenizer, {}, given, prompt=100, **options)
