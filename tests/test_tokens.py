"""Counting tokens."""

import sys
from typing import Any

import pytest

from pmem import tokens
from pmem.errors import MissingExtra, PmemError


def test_ids_are_those_of_o200k() -> None:
    """Reference ids: OpenAI's published o200k_base vocabulary."""
    assert tokens.tokenizer().encode("hello world") == [24912, 2375]
    assert tokens.tokenizer().decode([24912, 2375]) == "hello world"


def test_special_token_text_is_text() -> None:
    assert tokens.tokenizer().encode("<|endoftext|>") == [27, 91, 419, 1440, 919, 91, 29]


@pytest.mark.parametrize("name", tokens.BUILT_IN)
@pytest.mark.parametrize("text", ["", "Grüße, 世界! 👋", "  def f(x):\n    return x\n", "<|im_start|>user"])
def test_ids_lead_back_to_the_text(name: str, text: str) -> None:
    ids = tokens.tokenizer(name).encode(text)
    assert tokens.tokenizer(name).decode(ids) == text
    assert tokens.count(text, name) == len(ids)


def test_tokenizers_differ() -> None:
    assert tokens.tokenizer("cl100k_base").encode("hello world") == [15339, 1917]


def test_messages_cost_their_text_and_a_fixed_overhead() -> None:
    parts = [{"type": "text", "text": "hello world"}, {"type": "image_url", "image_url": {"url": "x.png"}}]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "hello world"},
        {"role": "assistant", "content": parts},
    ]
    assert tokens.count_messages(messages) == 2 * (2 + tokens.MESSAGE_OVERHEAD)


def test_an_unknown_tokenizer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match="needs the extra 'local'") as caught:
        tokens.tokenizer("nobody/no-such-tokenizer")
    assert "\n" not in caught.value.message


def test_text_parts_are_joined_by_newlines() -> None:
    parts = [{"type": "text", "text": "hello"}, {"type": "text", "text": "world"}]
    assert tokens.text_of(parts) == "hello\nworld" == tokens.text_of("hello\nworld")
    assert tokens.count_messages([]) == 0


def test_a_folder_without_tokenizer_is_one_line(tmp_path: object) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(PmemError, match="no tokenizer") as caught:
        tokens.tokenizer(str(tmp_path))
    assert "\n" not in caught.value.message


def test_a_text_of_any_length_can_be_counted() -> None:
    """bpe-openai refuses a million characters."""
    assert tokens.count("one " * 500_000) == pytest.approx(500_000, abs=10)
