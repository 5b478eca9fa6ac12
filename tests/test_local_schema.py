"""Local replies under a JSON Schema: valid by construction, checked by jsonschema."""

import ast
import asyncio
import importlib.util
import json
import re
from collections import Counter
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

import pmem
from pmem.backends import local_schema
from pmem.backends.base import Completion, Request
from pmem.backends.local import LocalBackend
from pmem.dataset import conversations, implicitness, people, preferences, questions
from pmem.errors import BackendError, MissingExtra, ModelError
from pmem.evaluation import mistakes
from pmem.prompts.replies import VERDICT, choice
from tests import tiny_models

HERE = all(map(importlib.util.find_spec, ("torch", "transformers", "llguidance")))
pytestmark = [pytest.mark.local, pytest.mark.skipif(not HERE, reason="needs the extra 'local'")]

T = TypeVar("T")
REPLIES: dict[str, list[dict[str, Any]]] = {  # how a stage writes its reply's schema, and such schemas
    "VERDICT": [VERDICT],
    "_VERDICT": [implicitness._VERDICT],
    "schema": [mistakes.BY_CASE[1], mistakes.BY_REFERENCE[1]],
    "PROFILE": [people.PROFILE],
    "QUERY": [questions.QUERY],
    "_options_reply(target.case)": [questions._options_reply(case) for case in questions.MADE],
    "_candidates_reply(count)": [preferences._candidates_reply(count) for count in (1, 3)],
    "_updates_reply(numbers)": [preferences._updates_reply((2, 7))],
    "_check_reply(len(preferences))": [preferences._check_reply(count) for count in (1, 12)],
    "_reply(plan.turns)": [conversations._reply(turns) for turns in (2, 6)],
    "choice(len(order))": [choice(4)],
}
ODD = {  # what no stage asks for today
    "type": "object",
    "properties": {
        "size": {"type": "integer", "minimum": 3, "maximum": 12},
        "kind": {"anyOf": [{"const": 1}, {"type": "boolean"}, {"type": "null"}]},
        "names": {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 1, "maxItems": 2},
        "code": {"type": "string", "pattern": "^[A-Z]{2}[0-9]$"},
        "note": {"type": "string"},
    },
    "required": ["size", "kind", "names", "code"],
    "additionalProperties": False,
}


def gathered(*calls: Awaitable[T]) -> list[T]:
    async def together() -> list[T]:
        return list(await asyncio.gather(*calls))

    return asyncio.run(together())


def asked(text: str, **more: Any) -> Request:
    return Request([{"role": "user", "content": text}], **more)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBackend]:
    folder = tiny_models.saved(tmp_path_factory.mktemp("tiny"), "phi", closing=40.0)
    made = LocalBackend(str(folder), dtype="float32")
    with tiny_models.one_thread():
        yield made
    asyncio.run(made.close())


def check(reply: Completion, schema: dict[str, Any]) -> Any:
    """The parsed reply, valid and compact."""
    import jsonschema

    assert reply.finish == "stop", reply.text
    assert not re.search(r"\s", re.sub(r'"(\\.|[^"\\])*"', "", reply.text))
    value = json.loads(reply.text)
    jsonschema.validate(value, schema)
    return value


def test_the_schemas_of_all_stages_are_here() -> None:
    found = set()
    for room in ("dataset", "evaluation", "reward", "stages"):
        for file in (Path(pmem.__file__).parent / room).glob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "chat":
                    found |= {ast.unparse(word.value) for word in node.keywords if word.arg == "schema"}
    assert found == set(REPLIES)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_reply_of_a_stage_is_valid(backend: LocalBackend, temperature: float) -> None:
    schemas = [schema for some in REPLIES.values() for schema in some] + [ODD]
    requests = [
        asked(f"Reply {n}", schema=schema, max_tokens=1000, temperature=temperature, seed=n)
        for n, schema in enumerate(schemas)
    ]
    for reply, schema in zip(gathered(*map(backend.complete, requests)), schemas, strict=True):
        value = check(reply, schema)
        assert [key for key in schema["properties"] if key in value] == list(value)


def test_rows_with_and_without_a_schema_share_a_batch(backend: LocalBackend) -> None:
    requests = [
        asked("a", max_tokens=40),
        asked("b", max_tokens=300, schema=VERDICT),
        asked("c " * 30, max_tokens=25, temperature=0.8, seed=4),
        asked("d", max_tokens=300, schema=choice(3), temperature=0.8, seed=5),
        asked("a", max_tokens=300, schema=ODD),
    ]
    alone = [gathered(backend.complete(request))[0] for request in requests]
    assert gathered(*map(backend.complete, requests)) == alone
    assert gathered(*map(backend.complete, reversed(requests))) == alone[::-1]
    for n in (1, 3, 4):
        check(alone[n], requests[n].schema or {})


def test_a_sample_follows_its_seed(backend: LocalBackend) -> None:
    def sample(seed: int) -> Request:
        return asked("Choose", schema=VERDICT, max_tokens=300, temperature=1.0, seed=seed)

    first, second, again, *others = gathered(*(backend.complete(sample(seed)) for seed in (1, 2, 1, 3, 4)))
    assert first == again
    assert len({reply.text for reply in (first, second, *others)}) > 1


def test_forcing_favours_no_choice(backend: LocalBackend) -> None:
    """Among the allowed letters, each comes as often as the model's own probabilities say."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pmem.backends.local import messages_of

    letters, n = list("abcd"), 600
    schema = {"type": "string", "enum": letters}
    request = asked("Which?", schema=schema, temperature=3.0, max_tokens=10)
    samples = gathered(*(backend.complete(request._replace(seed=seed)) for seed in range(n)))
    counts = Counter(json.loads(reply.text) for reply in samples)

    model = AutoModelForCausalLM.from_pretrained(backend._name)
    tokenizer = AutoTokenizer.from_pretrained(backend._name)
    prompt = tokenizer.apply_chat_template(messages_of(request), tokenize=False, add_generation_prompt=True)
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([tokenizer.encode(prompt + '"')])).logits[0, -1]
    wanted = (logits[[tokenizer.encode(letter)[0] for letter in letters]] / 3.0).softmax(-1).tolist()
    assert max(wanted) - min(wanted) > 0.1
    assert [counts[letter] / n for letter in letters] == pytest.approx(wanted, abs=4 * (0.25 / n) ** 0.5)


def test_a_reply_that_reaches_its_limit_says_so(backend: LocalBackend) -> None:
    whole = gathered(backend.complete(asked("a", schema=VERDICT, max_tokens=300)))[0]
    tokens = whole.usage.completion
    short, exact = (asked("a", schema=VERDICT, max_tokens=limit) for limit in (tokens - 1, tokens))
    cut, same = gathered(backend.complete(short), backend.complete(exact))
    assert (cut.finish, cut.text) == ("length", whole.text[:-1])
    assert same == whole


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "array", "uniqueItems": True}, r'Unimplemented keys: \["uniqueItems"\]$'),
        ({"type": "nope"}, "Invalid type: nope$"),
        ({"$ref": "https://example.org/else"}, "example.org/else"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
    ],
)
def test_what_cannot_be_enforced_is_said(backend: LocalBackend, schema: dict[str, Any], why: str) -> None:
    for _ in range(2):
        with pytest.raises(ModelError, match=f"can't be held to the reply's schema: .*{why}") as raised:
            gathered(backend.complete(asked("a", schema=schema, call="judge/x/y/0")))
        assert "\n" not in raised.value.message
        assert (raised.value.reason, raised.value.call) == ("model", "judge/x/y/0")


def test_a_matcher_that_fails_fails_its_row_only(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    from pmem.backends import local_decode

    plain = asked("a", max_tokens=30)
    wanted = gathered(backend.complete(plain))[0]
    monkeypatch.setattr(local_decode, "forbid", lambda logits, matcher: "lexer too complex")
    both = (backend.complete(asked("b", schema=VERDICT, call="s/r/t/0")), backend.complete(plain))

    async def together() -> list[Any]:
        return await asyncio.gather(*both, return_exceptions=True)

    fault, reply = asyncio.run(together())
    assert isinstance(fault, ModelError)
    assert fault.message.endswith("can't be held to the reply's schema any further: lexer too complex")
    assert reply == wanted


def test_what_the_grammar_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def __len__(self) -> int:
            return 10

    slow = local_schema.Matchers("some/model", Slow(), 10, frozenset({2}))
    with pytest.raises(BackendError, match="'some/model': its tokenizer can't be held to a schema: Only fast"):
        slow.matcher(VERDICT, "")
    monkeypatch.setattr(local_schema.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="a reply schema for a local model needs the extra 'local'"):
        slow.matcher(VERDICT, "")


def test_a_grammar_is_compiled_once() -> None:
    tokenizer = tiny_models.byte_tokenizer()
    matchers = local_schema.Matchers("m", tokenizer, len(tokenizer), frozenset({tokenizer.eos_token_id}))
    first, second = matchers.matcher(VERDICT, ""), matchers.matcher(json.loads(json.dumps(VERDICT)), "")
    assert first.consume_tokens(tokenizer.encode('{"reason":"x'))
    assert second.consume_tokens(tokenizer.encode('{"reason":"'))  # a state of its own
    for n in range(2 * local_schema.COMPILED):
        matchers.matcher({"const": n}, "")
    known = matchers._compiled.cache_info()
    assert (known.hits, known.currsize) == (1, local_schema.COMPILED)


def test_logits_beyond_the_vocabulary_are_forbidden() -> None:
    """Models pad their output layer: 257 tokens here, 264 logits."""
    import torch

    tokenizer = tiny_models.byte_tokenizer()
    for width in (257, 264):
        matchers = local_schema.Matchers("m", tokenizer, width, frozenset({tokenizer.eos_token_id}))
        logits = torch.zeros(264)
        assert local_schema.forbid(logits, matchers.matcher({"enum": ["a", 1]}, "")) == ""
        allowed = (logits == 0).nonzero().flatten().tolist()
        assert sorted(tokenizer.decode([place]) for place in allowed) == ['"', "1"]
