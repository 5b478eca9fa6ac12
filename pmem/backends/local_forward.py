"""A loaded model's forward passes, and the prompts whose attention caches it keeps.

Imports torch and transformers, so it is imported when a model is first used.
"""

from typing import Any

import torch
from transformers import DynamicCache

from pmem.backends.local_model import Loaded
from pmem.backends.local_prefix import (
    ATTENTION,
    Group,
    KeptPrompt,
    KeptPrompts,
    going_on,
    layers_of,
    mere_tail,
    register,
)

CHUNK = 2048  # tokens of a prompt computed at once: bounds the memory of prefilling
SCORES = 1 << 20  # new tokens times tokens of a kept prefix, computed at once: bounds the memory of attention scores
SHARED = 256  # tokens from which on a beginning stays outside the batch; shorter ones are copied into their rows
CROPPABLE = {"DynamicLayer", "DynamicSlidingWindowLayer"}  # attention proper; recurrent layers keep a running state
ALIKE = 0.05  # of the logits' spread: more than bfloat16's rounding, less than other attention makes


def cache_layers(model: Any) -> set[str]:
    """The kinds of layers in the model's attention cache."""
    return {type(layer).__name__ for layer in DynamicCache(config=model.config).layers}


class Forward:
    """For one thread, under torch.inference_mode(). kept: tokens of prompts to keep at most.

    plain: whether the model's caches can be cut and batched, which recurrent layers rule out.
    """

    def __init__(self, loaded: Loaded, *, kept: float) -> None:
        self._model = loaded.model
        self.device: torch.device = loaded.model.device
        self._kept = KeptPrompts(kept)
        layers = cache_layers(loaded.model)
        self.plain = layers <= CROPPABLE
        with torch.inference_mode():
            self._shares = layers == {"DynamicLayer"} and self._can_share()

    def __call__(self, ids: torch.Tensor, cache: Any, groups: list[Group] | None = None, **more: Any) -> torch.Tensor:
        """Logits [rows, positions, vocabulary] of ids [rows, positions]; their keys and values go into `cache`.

        groups: the rows' prefixes, see `local_prefix.going_on`.
        """
        inputs = {name: x.to(self.device) if isinstance(x, torch.Tensor) else x for name, x in more.items()}
        with going_on(groups):
            output = self._model(
                input_ids=ids.to(self.device), past_key_values=cache, use_cache=cache is not None, **inputs
            )
        logits: torch.Tensor = output.logits
        return logits

    def clear(self) -> None:
        """Forget the kept prompts."""
        self._kept.clear()

    def beginning(self, ids: list[int]) -> tuple[KeptPrompt | None, int]:
        """The kept prompt that these tokens begin with, and how many of them will stay outside the batch."""
        kept, common = self._kept.nearest(ids)
        if kept and self._shares and common >= SHARED and mere_tail(len(ids), common):
            return kept, common
        return None, len(ids) if self._shares and len(ids) >= SHARED else 0

    def prefill(self, ids: list[int]) -> tuple[KeptPrompt | None, DynamicCache]:
        """The attention cache of these tokens: a kept prefix, if any, and what comes after it.

        Computes only what no kept prompt begins with.
        """
        if not self.plain:
            return None, self._extended(DynamicCache(config=self._model.config), ids)
        kept, before = self.beginning(ids)
        if kept:
            prefix, tail = self._kept.reuse(kept, before), ids[before:]
            known, common = prefix.after.nearest(tail)
            cache = self._extended((known or prefix).first(common).cache(), tail[common:], prefix)
            prefix.after.add(KeptPrompt(tail, layers_of(cache)))
            return prefix, cache
        known, common = self._kept.nearest(ids)
        cache = self._extended(known.first(common).cache() if known else DynamicCache(), ids[common:])
        made = KeptPrompt(ids, layers_of(cache))
        self._kept.add(made)
        return (made, made.first(0).cache()) if before else (None, cache)

    def _extended(self, cache: DynamicCache, ids: list[int], prefix: KeptPrompt | None = None) -> DynamicCache:
        """The cache, which follows the prefix, with these tokens added."""
        chunk = max(1, SCORES // len(prefix)) if prefix else CHUNK
        for start in range(0, len(ids), chunk):
            self.following(torch.tensor([ids[start : start + chunk]]), cache, prefix, logits_to_keep=1)
        return cache

    def following(self, ids: torch.Tensor, cache: DynamicCache, prefix: KeptPrompt | None, **more: Any) -> torch.Tensor:
        """The same for rows that all follow the prefix, if any, and a cache without padding."""
        if not prefix:
            return self(ids, cache, **more)
        rows, new = ids.shape
        own = cache.get_seq_length()
        places = own + torch.arange(new)
        seen = torch.arange(own + new) <= places[:, None]
        return self(
            ids,
            cache,
            [Group(slice(None), prefix.layers)],
            attention_mask=seen.expand(rows, 1, -1, -1),
            position_ids=len(prefix) + places[None],
            **more,
        )

    def _can_share(self) -> bool:
        """Whether the model computes the same with a prefix kept apart: tried on eight tokens.

        It doesn't where its attention isn't transformers' common one (own code, soft caps, sinks).
        """
        before = self._model.config._attn_implementation
        if before not in ("sdpa", ATTENTION):  # the latter: another decoder has set it
            return False
        register()
        try:
            self._model.set_attn_implementation(ATTENTION)
            ids = torch.arange(8)[None]
            whole = self(ids, DynamicCache())[0, 4:]
            prefix = KeptPrompt([0, 1, 2, 3], layers_of(self._extended(DynamicCache(), [0, 1, 2, 3])))
            parts = self.following(ids[:, 4:], prefix.first(0).cache(), prefix)[0]
            if self._model.config._attn_implementation == ATTENTION and (whole - parts).std() < ALIKE * whole.std():
                return True
        except Exception:  # whatever foreign modelling code raises
            pass
        self._model.set_attn_implementation(before)
        return False
