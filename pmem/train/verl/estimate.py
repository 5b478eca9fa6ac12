"""What a composed run will take: memory of a GPU, and tokens of a step. Arithmetic, not measurement."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from pmem.columns import aligned
from pmem.train.verl.measure import Load

GIGABYTE = 1e9
LAYER_BYTES = 34
"""Bytes of activations for each token and unit of width that one layer needs while it is computed again in bf16
(Korthikanti et al. 2022, table 2, without attention's square term, which fused kernels don't store)."""


class Shape(NamedTuple):
    """A model's numbers. parameters: of all weights; cached: numbers that a token leaves in the attention cache."""

    parameters: int
    layers: int
    width: int
    vocabulary: int
    cached: int


def shape_of(model: str, known: Mapping[str, Any]) -> Shape | None:
    """By the config.json in the model's folder, else by known numbers; None if neither tells."""
    try:
        config = orjson.loads((Path(model) / "config.json").read_bytes())
    except (OSError, ValueError):
        config = dict(known)
    try:
        return _shape(config)
    except KeyError:
        return None


def _shape(config: Mapping[str, Any]) -> Shape:
    width, layers, vocabulary = config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]
    heads = config["num_attention_heads"]
    head, pairs = config.get("head_dim") or width // heads, config.get("num_key_value_heads") or heads
    attention = 2 * width * heads * head + 2 * width * pairs * head
    layer = attention + 3 * width * config["intermediate_size"] + 2 * width
    embeddings = vocabulary * width * (1 if config.get("tie_word_embeddings") else 2)
    return Shape(embeddings + layers * layer + width, layers, width, vocabulary, 2 * layers * pairs * head)


def estimate(config: Any, stage: str, load: Load, shape: Shape | None) -> str:
    """The tables, for people."""
    parts = [_tokens(config, stage, load)]
    parts.append(_memory(config, stage, shape) if shape else "No estimate of memory: the model isn't at hand.")
    return "\n\n".join(parts)


def tokens_of(config: Any, stage: str, load: Load) -> dict[str, float]:
    """Tokens of a step: prompts (of all conversations), replies at most, conversations."""
    rollouts = config.data.train_batch_size * (1 if stage == "sft" else config.actor_rollout_ref.rollout.n)
    return {
        "conversations": rollouts * load.conversations,
        "prompts": rollouts * load.prompt,
        "replies": rollouts * load.reply,
    }


def _tokens(config: Any, stage: str, load: Load) -> str:
    step = tokens_of(config, stage, load)
    passes = 1 if stage == "sft" else config.actor_rollout_ref.actor.ppo_epochs
    rows = [["conversations", f"{step['conversations']:,.0f}"], ["input tokens", f"{step['prompts']:,.0f}"]]
    rows.append(["tokens to learn" if stage == "sft" else "tokens of replies, at most", f"{step['replies']:,.0f}"])
    whole = step["prompts"] + step["replies"]
    if stage != "sft":
        extra = 1 + bool(config.actor_rollout_ref.actor.use_kl_loss)
        rows.append(["computed forward only (old, reference)", f"{extra * whole:,.0f}"])
    rows.append(["computed forward and backward", f"{passes * whole:,.0f}"])
    return _table(["a step", "tokens"], rows)


def _memory(config: Any, stage: str, shape: Shape) -> str:
    """Of one GPU, at the highest point of an update."""
    sft = stage == "sft"
    engine = config.engine if sft else config.actor_rollout_ref.actor
    gpus = config.trainer.nnodes * config.trainer.n_gpus_per_node
    at_once = config.data.max_token_len_per_gpu if sft else engine.ppo_max_token_len_per_gpu
    model = config.model if sft else config.actor_rollout_ref.model
    kept = 2 * shape.layers * shape.width * at_once if model.enable_gradient_checkpointing else 0
    working = LAYER_BYTES * shape.width * at_once * (1 if kept else shape.layers)
    chunk = 2048 if not sft and engine.entropy_from_logits_with_chunking else at_once
    parts = {
        "weights and gradients, float32": 8 * shape.parameters / gpus,
        "AdamW's two moments, float32": 8 * shape.parameters / gpus,
        "activations kept": kept,
        "activations of what is computed": working,
        "logits (float32) and their gradient": (4 * at_once + 4 * chunk) * shape.vocabulary,
    }
    if not sft and engine.use_kl_loss and not config.actor_rollout_ref.ref.fsdp_config.param_offload:
        parts["the reference's weights"] = 4 * shape.parameters / gpus
    rows = [[name, f"{size / GIGABYTE:,.1f}"] for name, size in parts.items()]
    rows.append(["in all, beside fragments and buffers", f"{sum(parts.values()) / GIGABYTE:,.1f}"])
    told = [_table(["memory of a GPU in an update", "GB"], rows)]
    if not sft:
        told.append(_inference(config, shape))
    return "\n\n".join(told)


def _inference(config: Any, shape: Shape) -> str:
    rollout = config.actor_rollout_ref.rollout
    split = rollout.tensor_model_parallel_size
    weights, token = 2 * shape.parameters / split, 2 * shape.cached / split
    length = rollout.max_model_len or config.data.max_prompt_length + config.data.max_response_length
    rows = [
        ["weights, bfloat16", f"{weights / GIGABYTE:,.1f}"],
        [f"attention cache of one conversation of {length:,} tokens", f"{length * token / GIGABYTE:,.1f}"],
    ]
    return _table(["memory of a GPU in rollouts", "GB"], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(aligned([head, *rows]))
