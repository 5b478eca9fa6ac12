"""Counting tokens."""

import sys

import pytest

from pmem import tokens
from pmem.errors import MissingExtra, PmemError


def test_ids_are_those_of_o200k() -> None:
    """Reference ids: OpenAI's published o200k_base vocabulary."""
    assert tokens.tokenizer().encode("hello world") == [24912, 2375]
    assert tokens.tokenizer().decode([24912, 2375]) == "hello world"


def test_special_token_text_is_text() -> None:
    assert tokens.count("<|endoftext|>") > 1


def test_messages_cost_their_text_and_a_fixed_overhead() -> None:
    parts = [{"type": "text", "text": "hello world"}, {"type": "image_url", "image_url": {"url": "x.png"}}]
    messages = [{"role": "user", "content": "hello world"}, {"role": "assistant", "content": parts}]
    assert tokens.count_messages(messages) == 2 * (2 + tokens.MESSAGE_OVERHEAD)


def test_an_unknown_tokenizer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match="needs the extra 'local'"):
        tokens.tokenizer("nobody/no-such-tokenizer")


def test_a_folder_without_tokenizer_is_one_line(tmp_path: object) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(PmemError, match="no tokenizer") as caught:
        tokens.tokenizer(str(tmp_path))
    assert "\n" not in caught.value.message
