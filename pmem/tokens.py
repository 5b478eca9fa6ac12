"""Counting and cutting text in a tokenizer's tokens.

The default, o200k_base, comes with its vocabulary inside the package bpe-openai: no network. Any other name is a
Hugging Face tokenizer (a directory or a hub id), read by the extra `local`.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any, Protocol

from pmem.errors import MissingExtra, PmemError, RecordError, first_line

DEFAULT = "o200k_base"
MESSAGE_OVERHEAD = 4
"""Tokens that a chat format adds to each message (role and delimiters): a fixed count, so that budgets mean the same
whatever model reads the history."""

AT_ONCE = 500_000
"""Characters that are encoded at once: bpe-openai refuses a million. A longer text may count a token more at seams."""
BUILT_IN = ("o200k_base", "cl100k_base")


class Tokenizer(Protocol):
    """Text to token ids and back."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: list[int]) -> str: ...


class _BuiltIn:
    def __init__(self, name: str) -> None:
        import bpe_openai

        encoding = bpe_openai.get_encoding(name)
        self._encode = encoding.encode_ordinary  # text that looks like a special token is text
        self.decode = encoding.decode

    def encode(self, text: str) -> list[int]:
        if len(text) <= AT_ONCE:
            return list(self._encode(text))
        parts = (text[start : start + AT_ONCE] for start in range(0, len(text), AT_ONCE))
        return [token for part in parts for token in self._encode(part)]


class _HuggingFace:
    def __init__(self, name: str) -> None:
        try:
            from transformers import AutoTokenizer
        except ImportError:
            raise MissingExtra(f"tokenizer {name}", "local") from None
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError) as fault:
            known = ", ".join(BUILT_IN)
            raise PmemError(
                f"no tokenizer '{name}': not one of {known}, and not a Hugging Face tokenizer that can be loaded"
                f" ({first_line(fault)})"
            ) from None

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids))


@cache
def tokenizer(name: str = DEFAULT) -> Tokenizer:
    """The named tokenizer; PmemError if there is none."""
    return _BuiltIn(name) if name in BUILT_IN else _HuggingFace(name)


def count(text: str, name: str = DEFAULT) -> int:
    """Tokens of a text."""
    return len(tokenizer(name).encode(text))


def text_of(content: Any) -> str:
    """The text of a message's content: the string itself, or its text parts joined by newlines."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part.get("type") == "text")


def count_messages(messages: Iterable[dict[str, Any]], name: str = DEFAULT) -> int:
    """Tokens of messages: the sum over messages of their text's tokens plus MESSAGE_OVERHEAD each.

    RecordError where the tokenizer takes no text of that length (bpe-openai: a million characters).
    """
    encode = tokenizer(name).encode
    try:
        return sum(len(encode(text_of(message["content"]))) + MESSAGE_OVERHEAD for message in messages)
    except ValueError as fault:
        message = f"the tokens of a message can't be counted: {fault}"
        raise RecordError(message, reason="limit", pointer="/messages") from None
