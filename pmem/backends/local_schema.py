"""Replies that follow a JSON Schema by construction: at each step, only tokens that can still lead to a valid reply.

The grammars are llguidance's. It is imported when the first request with a schema comes.
"""

import functools
import importlib.util
from typing import Any

import orjson

from pmem.errors import BackendError, MissingExtra, ModelError

COMPILED = 64  # grammars kept; a stage has a handful of schemas
COMPACT: Any = {"whitespace_flexible": False}  # a small model may else indent until its tokens run out


class Matchers:
    """Makes a matcher for each reply that has to follow a schema.

    name: the model's, for errors; width: tokens that the model's logits tell apart; stop: ids that end a reply.
    """

    def __init__(self, name: str, tokenizer: Any, width: int, stop: frozenset[int]) -> None:
        self._name = name
        self._tokenizer = tokenizer
        self._width = width
        self._stop = sorted(stop)
        self._compiled = functools.lru_cache(COMPILED)(self._compile)

    def matcher(self, schema: dict[str, Any], call: str) -> Any:
        """A fresh `llguidance.LLMatcher`; it writes compact JSON, an object's keys in the schema's order.

        Errors: ModelError where the schema has keywords that can't be enforced (llguidance knows which; asking in
        words alone would look like a promise), MissingExtra, BackendError where the tokenizer isn't a fast one.
        """
        compiled, fault = self._compiled(orjson.dumps(schema))
        if fault:
            why = f"local model '{self._name}' can't be held to the reply's schema: {fault}"
            raise ModelError(why, call=call or None)
        return compiled.deep_copy()

    def _compile(self, schema: bytes) -> tuple[Any, str]:
        """The matcher at its start, and the reason where there is none (one line)."""
        tokenizer = self._wrapped
        from llguidance import LLMatcher

        try:
            grammar = LLMatcher.grammar_from_json_schema(schema.decode(), overrides=COMPACT)
        except ValueError as fault:
            return None, _one_line(str(fault))
        matcher = LLMatcher(tokenizer, grammar, log_level=0)
        return matcher, _one_line(matcher.get_error())

    @functools.cached_property
    def _wrapped(self) -> Any:
        """The tokenizer as llguidance takes it; making it takes about a second."""
        if not importlib.util.find_spec("llguidance"):
            raise MissingExtra("a reply schema for a local model", "local")
        from llguidance.hf import from_tokenizer

        try:
            return from_tokenizer(
                self._tokenizer, n_vocab=max(self._width, len(self._tokenizer)), eos_token=self._stop or None
            )
        except Exception as fault:  # ValueError for a slow tokenizer; Rust's errors for one it can't read
            why = f"local model '{self._name}': its tokenizer can't be held to a schema: {_one_line(str(fault))}"
            raise BackendError(why) from fault


def forbid(logits: Any, matcher: Any) -> str:
    """Set to -inf, in place, the logits [vocabulary] of tokens that can't follow; says what went wrong, else ""."""
    import numpy as np
    import torch

    mask = matcher.compute_bitmask()
    if matcher.is_error():
        return _one_line(matcher.get_error())
    allowed = np.unpackbits(np.frombuffer(mask, dtype=np.uint8), bitorder="little")[: logits.shape[-1]]
    logits[: len(allowed)].masked_fill_(torch.from_numpy(allowed == 0).to(logits.device), float("-inf"))
    logits[len(allowed) :] = float("-inf")
    return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
