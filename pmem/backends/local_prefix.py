"""Attention caches of prompts, kept so that what many prompts begin with is computed and stored once.

Imports torch and transformers, so it is imported when a model is first used.

Rows that begin with the same kept prefix attend to that one copy of it, and their own cache holds only what comes
after. The queries of all of them meet the prefix in one matrix product; a softmax over the scores of both parts
together makes it the same attention as over one long cache.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

Layers = list[tuple[torch.Tensor, torch.Tensor]]  # keys and values per layer: [rows, heads, tokens, dim]

ATTENTION = "pmem_kept_prefix"  # the name under which transformers knows `_attention`
UNUSUAL = ("softcap", "s_aux", "position_bias", "sliding_window")  # kinds of attention that `_attention` isn't
TAIL = 512  # most tokens after a shared part that still count as its tail, such as the question after a history
TAILS = 2048  # tokens of the last tails, kept with each prompt: one prompt may be asked for several samples


class KeptPrompt:
    """Token ids and their attention cache (one row).

    whole: the prompt that it is the first part of, whose memory it shares; after: the last tails that followed it,
    their caches apart.
    """

    def __init__(self, ids: list[int], layers: Layers, whole: "KeptPrompt | None" = None) -> None:
        self.ids = ids
        self.layers = layers
        self._whole = whole  # None for itself: a cycle would hold its memory until Python's next collection
        self.after = KeptPrompts(TAILS)

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, tokens: int) -> "KeptPrompt":
        """The part that its first tokens make: a view, no copy."""
        if tokens == len(self):
            return self
        layers = [(k[:, :, :tokens], v[:, :, :tokens]) for k, v in self.layers]
        return KeptPrompt(self.ids[:tokens], layers, self.whole)

    @property
    def whole(self) -> "KeptPrompt":
        return self if self._whole is None else self._whole

    def cache(self) -> DynamicCache:
        """A cache that begins with it; growing it leaves this one as it is."""
        return DynamicCache(self.layers)


class KeptPrompts:
    """The last prompts' caches, up to `budget` tokens in all; the very last is kept in any case."""

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._kept: list[KeptPrompt] = []  # the latest used last

    def nearest(self, ids: list[int]) -> tuple[KeptPrompt | None, int]:
        """The kept prompt that has most of its beginning in common with these tokens, and how many tokens that is."""
        found, common = None, 0
        for kept in self._kept:
            if (tokens := _common(kept.ids, ids)) > common:
                found, common = kept, tokens
        return found, common

    def reuse(self, kept: KeptPrompt, common: int) -> KeptPrompt:
        """The first `common` tokens of a kept prompt. If a mere tail follows them it is forgotten: so all later
        questions on a history find the same object."""
        self._kept.remove(kept)
        part = kept.first(common)
        self._kept.append(part if mere_tail(len(kept), common) else kept)
        return part

    def add(self, made: KeptPrompt) -> None:
        """Keep a prompt, in place of those that differ from it in a mere tail; the longest unused go if need be."""
        self._kept = [old for old in self._kept if not mere_tail(len(old), _common(old.ids, made.ids))]
        self._kept.append(made)
        while len(self._kept) > 1 and sum(map(len, self._kept)) > self._budget:
            del self._kept[0]

    def clear(self) -> None:
        """Forget all."""
        self._kept = []


def layers_of(cache: DynamicCache) -> Layers:
    """A cache's keys and values; they aren't copied."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def mere_tail(tokens: int, common: int) -> bool:
    """Whether of so many tokens those after the common ones are few."""
    return tokens - common <= min(TAIL, common)


def _common(a: list[int], b: list[int]) -> int:
    """How many tokens both begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


class Group(NamedTuple):
    """Rows of a batch that go on from one prefix. places: their indices; layers: the prefix's, of one row."""

    places: slice | torch.Tensor
    layers: Layers


class _Current(threading.local):
    groups: list[Group] | None = None


_current = _Current()


@contextlib.contextmanager
def going_on(groups: list[Group] | None) -> Iterator[None]:
    """Meanwhile, a model under `ATTENTION` run in this thread attends to these prefixes before its own cache.

    Each row is in one group. Given any, the model needs a mask [rows, 1, new tokens, own tokens] (True: is seen)
    and position_ids that count the prefix.
    """
    _current.groups = groups
    try:
        yield
    finally:
        _current.groups = None


def register() -> None:
    """Make `ATTENTION` known to transformers."""
    AttentionInterface.register(ATTENTION, _attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def _attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any, **more: Any
) -> tuple[torch.Tensor, None]:
    """What transformers calls in each layer; sdpa where there are no prefixes.

    query [rows, heads, new, dim], key and value [rows, key heads, own, dim]; returns [rows, new, heads, dim]. Over a
    prefix, scores have the model's precision and the softmax float32, as in transformers' eager attention.
    """
    if _current.groups is None:
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **more)
        return output
    unusual = [name for name in UNUSUAL if more.get(name) is not None]
    if unusual:
        raise TypeError(f"no attention over a kept prefix with {', '.join(unusual)}")
    query = query * (more.get("scaling") or query.shape[-1] ** -0.5)
    found: torch.Tensor | None = None
    for places, layers in _current.groups:
        own = query[places], key[places], value[places], attention_mask[places]
        part = _attend(*own, *layers[module.layer_idx])
        if found is None:  # under autocast, what is computed has another type than what it is computed of
            found = part.new_empty(*query.shape[:-1], value.shape[-1])
        found[places] = part
    assert found is not None
    return found.transpose(1, 2), None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    prefix_key: torch.Tensor,
    prefix_value: torch.Tensor,
) -> torch.Tensor:
    """Rows' attention over [prefix, own cache]; their queries are folded into one to meet the prefix."""
    rows, heads, new, dim = query.shape
    shared, before = key.shape[1], prefix_key.shape[-2]
    query = query.reshape(rows, shared, -1, dim)  # a key head's query heads, each with its new tokens
    own = (query @ key.transpose(-1, -2)).view(rows, shared, heads // shared, new, -1)
    own = own.masked_fill(~mask[:, :, None], float("-inf")).flatten(2, 3)

    def folded(one: torch.Tensor) -> torch.Tensor:
        return one.transpose(0, 1).flatten(1, 2)[None]

    def unfolded(one: torch.Tensor) -> torch.Tensor:
        return one[0].unflatten(1, (rows, -1)).transpose(0, 1)

    scores = torch.cat([folded(query) @ prefix_key.transpose(-1, -2), folded(own)], -1)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    found = unfolded(weights[..., :before] @ prefix_value) + unfolded(weights[..., before:]) @ value
    return found.reshape(rows, heads, new, -1)
