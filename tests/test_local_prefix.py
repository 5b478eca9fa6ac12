"""A beginning that many prompts share is computed once and stored once, and changes no result."""

import asyncio
import importlib.util
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest

from pmem.backends import local
from pmem.backends.base import Completion, Likelihood, Prefix, Request
from pmem.backends.local import LocalBackend, messages_of
from tests import tiny_models

HERE = all(map(importlib.util.find_spec, ("torch", "transformers")))
pytestmark = [pytest.mark.local, pytest.mark.skipif(not HERE, reason="needs the extra 'local'")]

T = TypeVar("T")
TEXTS = ["By the sea.", "", "In the mountains, I think", "北京"]


def history(name: str, words: int = 150) -> Prefix:
    said = " ".join(f"{name}{n}" for n in range(words))
    return Prefix(name, orjson.dumps([{"role": "user", "content": said}, {"role": "assistant", "content": "I see."}]))


def asked(prefix: Prefix | None, question: str, **more: Any) -> Request:
    return Request([{"role": "user", "content": question}], prefix, **more)


def gathered(*calls: Awaitable[T]) -> list[T]:
    async def together() -> list[T]:
        return list(await asyncio.gather(*calls))

    return asyncio.run(together())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.saved(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def backend(folder: Path) -> Iterator[LocalBackend]:
    made = LocalBackend(str(folder), dtype="float32")
    with tiny_models.one_thread():
        yield made
    asyncio.run(made.close())


class Counted:
    """Tokens that the model computes, by forward pass: [rows, positions]."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from pmem.backends.local_forward import Forward

        self.shapes: list[tuple[int, int]] = []
        plain = Forward.__call__

        def counted(forward: Forward, ids: Any, *rest: Any, **more: Any) -> Any:
            self.shapes.append(tuple(ids.shape))
            return plain(forward, ids, *rest, **more)

        monkeypatch.setattr(Forward, "__call__", counted)

    def taken(self) -> int:
        """Tokens since the last time."""
        tokens = sum(rows * positions for rows, positions in self.shapes)
        self.shapes.clear()
        return tokens


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, backend: LocalBackend) -> Counted:
    made = Counted(monkeypatch)
    gathered(backend.likelihood(asked(None, "Hi"), [""]))  # loads the model and tries it out
    made.taken()
    return made


class Plain:
    """The same model, used without any of pmem's code."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = AutoModelForCausalLM.from_pretrained(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def prompt(self, request: Request) -> list[int]:
        text = self.tokenizer.apply_chat_template(messages_of(request), tokenize=False, add_generation_prompt=True)
        ids: list[int] = self.tokenizer.encode(text)
        return ids

    def reply(self, request: Request) -> str:
        import torch

        prompt = torch.tensor([self.prompt(request)])
        out = self.model.generate(prompt, max_new_tokens=request.max_tokens, do_sample=False)[0, prompt.shape[1] :]
        text: str = self.tokenizer.decode(out, skip_special_tokens=True)
        return text

    def likelihood(self, request: Request, text: str) -> Likelihood:
        import torch

        prompt, coded = self.prompt(request), self.tokenizer.encode(text)
        with torch.inference_mode():
            scores = self.model(input_ids=torch.tensor([prompt + coded])).logits[0].log_softmax(-1)
        return Likelihood(sum(float(scores[len(prompt) + i - 1, id]) for i, id in enumerate(coded)), len(coded))


# --- the same results


def test_questions_on_histories_get_the_answers_of_a_plain_model(backend: LocalBackend, folder: Path) -> None:
    """One batch: two histories, a question without any, prompts of different length, and one question twice."""
    plain = Plain(folder)
    one, other = history("a"), history("bc", 120)
    asking = [(one, "Where?"), (other, "Where do I live?"), (None, "Hi"), (one, "Where do I live?"), (one, "Where?")]
    requests = [asked(prefix, text, max_tokens=n) for n, (prefix, text) in enumerate(asking, 8)]
    wanted = [plain.reply(request) for request in requests]
    assert len(set(wanted)) > 3
    assert [reply.text for reply in gathered(*map(backend.complete, requests))] == wanted
    assert [reply.text for reply in gathered(*map(backend.complete, reversed(requests)))] == wanted[::-1]
    assert [gathered(backend.complete(request))[0].text for request in requests] == wanted


def test_likelihoods_on_histories_are_those_of_a_plain_model(backend: LocalBackend, folder: Path) -> None:
    plain = Plain(folder)
    requests = [asked(prefix, text) for text in ("Where?", "Where do I live?") for prefix in (history("a"), None)]
    for _ in range(2):
        for request, found in zip(requests, gathered(*(backend.likelihood(r, TEXTS) for r in requests)), strict=True):
            wanted = [plain.likelihood(request, text) for text in TEXTS]
            assert [one.tokens for one in found] == [one.tokens for one in wanted]
            assert [one.logprob for one in found] == pytest.approx([one.logprob for one in wanted], abs=1e-3)


def test_a_sample_on_a_history_follows_its_seed(backend: LocalBackend) -> None:
    def sample(seed: int) -> Request:
        return asked(history("a"), "Where?", seed=seed, temperature=0.5, max_tokens=12)

    alone: Completion = gathered(backend.complete(sample(1)))[0]
    together = gathered(*(backend.complete(sample(seed)) for seed in (3, 1, 2, 1)))
    assert together[1] == together[3] == alone
    assert len({reply.text for reply in together}) == 3


@pytest.mark.parametrize(
    ("kind", "more", "shares"),
    [
        ("llama", {}, True),
        ("llama", {"num_key_value_heads": 4}, True),
        ("qwen3", {"head_dim": 16}, True),
        ("phi", {}, True),
        ("mistral", {"sliding_window": 64}, False),
        ("gemma2", {"sliding_window": 64}, False),
        ("gemma2", {"layer_types": ["full_attention"] * 2, "attn_logit_softcapping": 5.0}, False),
    ],
)
def test_other_architectures(kind: str, more: dict[str, Any], shares: bool, tmp_path: Path) -> None:
    """Where attention is of another kind, prompts are copied into their rows as ever."""
    from pmem.backends.local_forward import Forward
    from pmem.backends.local_model import load

    folder = tiny_models.saved(tmp_path, kind, **more)
    assert Forward(load(str(folder), "float32"), kept=1000)._shares == shares
    plain, backend = Plain(folder), LocalBackend(str(folder), dtype="float32")
    requests = [asked(history("a", 80), text, max_tokens=6) for text in ("Where?", "Where do I live?", "Who?")]
    with tiny_models.one_thread():
        replies = gathered(*map(backend.complete, requests))
        assert [reply.text for reply in replies] == [plain.reply(request) for request in requests]
        found = gathered(backend.likelihood(requests[0], TEXTS[:1]))[0][0].logprob
        assert found == pytest.approx(plain.likelihood(requests[0], TEXTS[0]).logprob, abs=1e-3)
        asyncio.run(backend.close())


def test_a_model_that_would_compute_something_else_does_not_share(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried out: attention with a window refuses, and a wrong result is noticed."""
    from pmem.backends import local_prefix
    from pmem.backends.local_forward import Forward
    from pmem.backends.local_model import load

    def shares() -> bool:
        loaded = load(str(folder), "float32")
        tried = Forward(loaded, kept=1000)._shares
        assert loaded.model.config._attn_implementation == (local_prefix.ATTENTION if tried else "sdpa")
        return tried

    assert shares()
    attend, attention = local_prefix._attend, local_prefix._attention
    with monkeypatch.context() as patch:
        patch.setattr(local_prefix, "_attend", lambda query, *rest: 0 * attend(query, *rest))
        assert not shares()
    with monkeypatch.context() as patch:
        patch.setattr(local_prefix, "_attention", lambda *given, **more: attention(*given, **more, sliding_window=8))
        assert not shares()


# --- what is computed

# Of a prompt all but the last token is computed first; the last one begins a text's row or a reply.
BEFORE = len("[user]") + 639 + 1 + len("[assistant]I see.") + 1  # a history of 150 words: 639 characters
ASKED = len("[user]Where 0?") + 1 + len("[assistant]")
TAIL = len("0?") + 1 + len("[assistant]") - 1  # what differs between such questions
KNOWN = len("[user]")  # it also begins the prompt that loaded the model
ROWS = len(TEXTS) * max(len(text.encode()) for text in TEXTS)


def test_likelihoods_on_one_history_compute_it_once(backend: LocalBackend, counted: Counted) -> None:
    start = history("a")
    gathered(*(backend.likelihood(asked(start, f"Where {n}?"), TEXTS) for n in range(10)))
    assert counted.taken() == BEFORE + ASKED - 1 - KNOWN + 9 * TAIL + 10 * ROWS
    gathered(backend.likelihood(asked(start, "Where X?"), TEXTS))
    assert counted.taken() == TAIL + ROWS


def test_replies_on_one_history_compute_it_once(backend: LocalBackend, counted: Counted) -> None:
    start = history("a")
    replies = gathered(*(backend.complete(asked(start, f"Where {n}?", max_tokens=7)) for n in range(10)))
    assert {reply.usage.completion for reply in replies} == {7}
    assert counted.taken() == BEFORE + ASKED - 1 - KNOWN + 9 * TAIL + 10 * 7


def test_samples_of_one_question_compute_it_once(backend: LocalBackend, counted: Counted) -> None:
    start = history("a")
    gathered(backend.likelihood(asked(start, "Where 0?"), [""]), backend.likelihood(asked(start, "Where 1?"), [""]))
    counted.taken()
    sampled = [asked(start, f"Where {n}?", max_tokens=1, temperature=1.0, seed=n) for n in (2, 2, 3, 2, 3)]
    gathered(*map(backend.complete, sampled))
    assert counted.taken() == 2 * TAIL + 5


def test_interleaved_histories_are_each_computed_once(
    backend: LocalBackend, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where only one is kept at a time: waiting questions go by history."""
    from pmem.backends import local_prefix

    monkeypatch.setattr(local_prefix.KeptPrompts, "add", _only_the_last)
    starts = [history(name) for name in ("a", "b", "c")]
    gathered(*(backend.likelihood(asked(starts[n % 3], f"Where {n}?"), [""]) for n in range(9)))
    first = BEFORE + ASKED - 1
    assert counted.taken() == 3 * first - 3 * KNOWN + 6 * TAIL + 9


def test_interleaved_memories_are_each_computed_once(
    backend: LocalBackend, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What prompts share may lie within one message: it is found by its tokens, and those that wait go by its name."""
    from pmem.backends import local_prefix

    monkeypatch.setattr(local_prefix.KeptPrompts, "add", _only_the_last)
    told = {name: " ".join(f"{name}{n}" for n in range(150)) for name in ("a", "b", "c")}
    asking = [(name, f"{told[name]}\n\nWhere {n}?") for n, name in enumerate(sorted(told) * 3)]
    gathered(*(backend.likelihood(asked(None, text, shared=name), [""]) for name, text in asking))
    first = len("[user]") + 639 + len("\n\nWhere 0?") + 1 + len("[assistant]") - 1
    assert counted.taken() == 3 * first - 3 * KNOWN + 6 * TAIL + 9


def _only_the_last(kept: Any, made: Any) -> None:
    kept._kept = [made]


def test_who_waits_is_not_overtaken_for_ever(
    backend: LocalBackend, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "OVERTAKEN", 2)
    entered: list[str] = []
    enter = local._Worker._enter

    def noted(worker: Any, job: Any) -> None:
        entered.append(job.request.call)
        enter(worker, job)

    monkeypatch.setattr(local._Worker, "_enter", noted)
    a, b = history("a"), history("b")
    asking = [("a0", a), ("b0", b), ("none", None), ("a1", a), ("a2", a), ("a3", a), ("b1", b), ("a4", a)]
    gathered(*(backend.likelihood(asked(prefix, "Where?", call=call), [""]) for call, prefix in asking))
    assert entered == ["a0", "a1", "a2", "b0", "b1", "none", "a3", "a4"]


def test_a_shared_history_leaves_room_for_more_rows(
    backend: LocalBackend, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget of two such prompts holds eight rows that share one."""
    from pmem.backends.local_decode import Decoder

    room = Decoder.room

    def cramped(decoder: Decoder, row: Any) -> bool:
        decoder._budget = 2 * (BEFORE + ASKED + 10)
        return room(decoder, row)

    monkeypatch.setattr(Decoder, "room", cramped)
    gathered(*(backend.complete(asked(history("a"), f"Where {n}?", max_tokens=10)) for n in range(8)))
    assert (8, 1) in counted.shapes
    counted.taken()
    gathered(*(backend.complete(asked(history(name), "Where?", max_tokens=10)) for name in "defghijk"))
    assert {rows for rows, _ in counted.shapes} == {1, 2}


def test_kept_prompts_are_bounded() -> None:
    import torch

    from pmem.backends.local_prefix import KeptPrompt, KeptPrompts

    def made(first: int, tokens: int) -> KeptPrompt:
        empty = torch.zeros(1, 1, tokens, 1)
        return KeptPrompt([first, *range(1000, 999 + tokens)], [(empty, empty)])

    kept = KeptPrompts(budget=1000)
    old, used, new = made(1, 400), made(2, 400), made(3, 400)
    kept.add(old)
    kept.add(used)
    assert kept.nearest([1, 1000, 1001, 7]) == (old, 3)
    assert kept.reuse(old, 400) is old
    kept.add(new)  # too many: what was used longest ago goes
    assert [kept.nearest(one.ids)[0] for one in (old, used, new)] == [old, None, new]
    part = kept.reuse(new, 300)
    assert (len(part), part.layers[0][0].shape[-2], kept.nearest(new.ids)) == (300, 300, (part, 300))
    kept.add(huge := made(4, 5000))
    assert kept.nearest(huge.ids) == (huge, 5000)
    assert kept.nearest(old.ids) == (None, 0)
    assert kept.reuse(huge, 300) is not huge  # most of it isn't shared: it stays whole
    assert kept.nearest(huge.ids) == (huge, 5000)
