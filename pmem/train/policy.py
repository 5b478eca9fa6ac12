"""The model in training: its log-probabilities, and the optimiser that changes it. Weights are float32; a run in
bfloat16 computes in bfloat16 (autocast), since steps of 1e-6 would be lost in bfloat16 weights."""

import contextlib
import math
import warnings
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from pmem.backends.local_forward import cache_layers
from pmem.backends.local_model import Loaded, default_dtype, load
from pmem.errors import BackendError, InputError, MissingExtra, PmemError
from pmem.train.batches import Conversation, Rows, collate, parts
from pmem.train.losses import chosen_logprobs, entropy

LOGITS = 1 << 28
"""Numbers in the logits of one part: a gigabyte in float32."""


class Setup(NamedTuple):
    """How the policy is changed and computed. tokens_at_once: of a part of a batch, with padding (gradients of parts
    add up); checkpointing: layers are computed twice instead of being kept; lora: the adapters' rank, 0: all weights
    are trained."""

    learning_rate: float
    steps: int
    warmup: float = 0.05
    schedule: str = "cosine"
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    tokens_at_once: int = 16_384
    checkpointing: bool = False
    dtype: str | None = None
    lora: int = 0
    seed: int = 0


class Policy:
    """A model with its tokenizer and optimiser. Errors: BackendError, MissingExtra."""

    def __init__(self, loaded: Loaded, setup: Setup) -> None:
        self.loaded, self.setup, model = loaded, setup, loaded.model
        torch.manual_seed(setup.seed)
        self.adapters = _adapters(model, setup.lora) if setup.lora else None
        self.model: Any = model
        self.device: torch.device = model.device
        self.bfloat16 = (setup.dtype or default_dtype()) == "bfloat16"
        tokenizer = self.loaded.tokenizer
        self.end: int = tokenizer.eos_token_id
        self.pad: int = self.end if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        if setup.checkpointing:
            _save_activations(model)
        # whether a prompt's keys and values can be kept for its replies: not those of layers that forget, or that are
        # computed twice
        self.shares = cache_layers(model) == {"DynamicLayer"} and not setup.checkpointing
        self.trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
        self.optimiser = torch.optim.AdamW(
            self.trained.values(), lr=setup.learning_rate, weight_decay=setup.weight_decay
        )
        self.changes = 0  # how often the weights have been changed
        self.vocabulary: int = model.config.get_text_config().vocab_size

    def computing(self) -> AbstractContextManager[Any]:
        """The precision to compute in."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else contextlib.nullcontext()

    def logprobs(self, rows: Rows, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the replies' tokens [rows, reply tokens], and the logits [.., vocabulary] they are of.

        temperature: that of sampling: the distribution is softmax(logits / temperature).
        """
        with self.computing():
            logits = self._after_one_prompt(rows) if rows.alike and self.shares else self._of_all(rows)
        logits = logits if temperature == 1.0 else logits / temperature
        return chosen_logprobs(logits, rows.replies), logits

    def _of_all(self, rows: Rows) -> Tensor:
        """Logits [rows, reply tokens, vocabulary], prompts and replies computed in one go."""
        keep = rows.replies.shape[1] + 1
        masked: dict[str, Tensor] = {"attention_mask": rows.seen, "position_ids": rows.places} if rows.padded else {}
        logits: Tensor = self.model(input_ids=rows.ids, logits_to_keep=keep, use_cache=False, **masked).logits[:, :-1]
        return logits

    def _after_one_prompt(self, rows: Rows) -> Tensor:
        """The same where all rows have one prompt, which is computed once: its keys and values are looked at by all
        replies, and get the gradients of all."""
        count, reply = rows.replies.shape
        cache = DynamicCache()
        prompt = rows.ids[:1, :-reply]
        first = self.model(input_ids=prompt, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        first = first.expand(count, -1, -1)
        if reply == 1:
            return first
        cache.batch_repeat_interleave(count)
        rest = self.model(input_ids=rows.replies[:, :-1], past_key_values=cache, use_cache=True).logits
        return torch.cat([first, rest], dim=1)

    def conversation(self, prompt: list[int], reply: str, name: str) -> Conversation:
        """A prompt and the reply to learn, with the token that ends it. InputError if the model can't take both."""
        ids = [*self.loaded.tokenizer.encode(reply, add_special_tokens=False), self.end]
        if len(prompt) + len(ids) > self.loaded.context:
            raise InputError(
                f"{name}: the prompt has {len(prompt):,} tokens and the reply to learn {len(ids):,}: together more "
                f"than the {self.loaded.context:,} that the model can take; see --context-length with --truncate, and "
                "--context"
            )
        return Conversation(prompt, ids)

    def rows(self, conversations: list[Conversation]) -> Rows:
        """A batch of conversations on the model's device."""
        return collate(conversations, self.pad, self.device)

    def parts(self, conversations: list[Conversation]) -> list[list[int]]:
        """Indices of conversations that are computed at once."""
        most = max(1, LOGITS // self.vocabulary)
        return parts(conversations, self.setup.tokens_at_once, most, share=self.shares)

    def frozen(self, conversations: list[Conversation], temperature: float = 1.0) -> list[Tensor]:
        """Log-probabilities of each reply's tokens under the weights as they are, without gradients; on the CPU."""
        found: dict[int, Tensor] = {}
        self.model.eval()
        with torch.no_grad():
            for part in self.parts(conversations):
                some = [conversations[i] for i in part]
                chosen, _ = self.logprobs(self.rows(some), temperature)
                found |= {i: row[: len(one.reply)].cpu() for i, one, row in zip(part, some, chosen, strict=True)}
        return [found[i] for i in range(len(conversations))]

    def step(self, number: int, loss: float) -> dict[str, float]:
        """Change the weights by the gradients gathered. number: of the step, from 0; loss: what they are of.

        Returns the learning rate and the gradients' norm. PmemError if loss or norm is no finite number: the weights
        are then as before.
        """
        norm = float(torch.nn.utils.clip_grad_norm_(self.trained.values(), self.setup.clip_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.optimiser.zero_grad()
            what = "the loss" if not math.isfinite(loss) else "the norm of the gradients"
            raise PmemError(f"step {number + 1}: {what} is no finite number; try a lower --learning-rate, or float32")
        rate = self.setup.learning_rate * share(number, self.setup)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.changes += 1
        return {"learning_rate": rate, "gradient_norm": norm}

    def at_start(self, conversations: list[Conversation], temperature: float = 1.0) -> list[Tensor]:
        """As `frozen`, under the weights that training began with (with LoRA)."""
        assert self.adapters
        with self.adapters.disable_adapter():
            return self.frozen(conversations, temperature)


def opened(name: str, setup: Setup) -> Policy:
    """The policy that begins as the `local:` model of that name."""
    return Policy(load(name, "float32"), setup)


def share(step: int, setup: Setup) -> float:
    """The learning rate at a step (from 0) as a share of its peak: a linear warm-up, then constant or half a cosine
    down to 0 at the last step."""
    warm = max(1, round(setup.warmup * setup.steps)) if setup.warmup else 0
    if step < warm:
        return (step + 1) / warm
    if setup.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, setup.steps - warm)))


def entropy_sum(logits: Tensor, mask: Tensor) -> float:
    """Sum over tokens of the entropy of what logits [rows, tokens, vocabulary] stand for."""
    with torch.no_grad():
        return float((entropy(logits) * mask).sum())


def _save_activations(model: Any) -> None:
    """Have layers computed again for their gradients, by whichever name this transformers knows that."""
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable({"use_reentrant": False})
    else:
        model.gradient_checkpointing_enable({"use_reentrant": False})


def _adapters(model: Any, rank: int) -> Any:
    """LoRA adapters within the model's linear layers, which alone are trained."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise MissingExtra("--lora", "train") from None
    try:
        with warnings.catch_warnings():  # peft asks transformers by names that it is about to drop
            warnings.simplefilter("ignore", FutureWarning)
            return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))
    except ValueError as fault:
        raise BackendError(f"--lora: this model takes no adapters: {fault}") from None
