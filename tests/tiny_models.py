"""Models of a few thousand random weights, which read and write bytes: as large as a test of the machinery needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|end|>{% endfor %}[assistant]"


def saved(folder: Path, kind: str = "llama", *, closing: float = 0.0, seed: int = 1, **config: Any) -> Path:
    """A model of that kind, saved with a tokenizer whose tokens are the 256 bytes and `<|end|>`.

    closing: the bias of what ends JSON strings and numbers (kind "phi" only, whose output layer has a bias).
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = byte_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "max_position_embeddings": 8192, "vocab_size": len(tokenizer)}
    if kind == "gemma2":
        sizes |= {"head_dim": 8}
    made = AutoConfig.for_model(kind, **(sizes | config))
    made.eos_token_id = made.pad_token_id = made.bos_token_id = tokenizer.eos_token_id
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(made)
    with torch.no_grad():
        for weights in model.parameters():  # as initialised, attention would hardly matter
            weights.mul_(5.0) if weights.dim() > 1 else None
        if closing:
            model.lm_head.bias[tokenizer.encode('",}')] = closing
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_tokenizer() -> Any:
    """A fast tokenizer without merges, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {letter: place for place, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    made.chat_template = TEMPLATE
    return made


@contextmanager
def one_thread() -> Iterator[None]:
    """Such models' steps are too short for several threads, which on a busy machine wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
