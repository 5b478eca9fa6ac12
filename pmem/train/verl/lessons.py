"""SFT data for verl's trainer. (Loaded by verl: `data.custom_cls`.)

verl's own dataset renders message by message, which not every chat template allows, and learns every assistant's
message, those of the history included. Here the prompt is rendered as a whole, as eval sends it, and only the last
message is learnt: token for token what pmem's own trainer learns.
"""

from typing import Any

import orjson
import torch
from torch.utils.data import Dataset

from pmem.backends.base import Request
from pmem.backends.local import prompt_ids


class Lessons(Dataset):  # type: ignore[misc]
    """Rows with input_ids, position_ids and loss_mask, all [tokens]. ValueError: one is longer than data.max_length."""

    def __init__(
        self, parquet_files: Any, tokenizer: Any, config: Any, processor: Any = None, max_samples: int = -1
    ) -> None:
        import pyarrow.parquet

        files = [parquet_files] if isinstance(parquet_files, str) else list(parquet_files)
        tables = [pyarrow.parquet.read_table(file, columns=[config.messages_key]) for file in files]
        column = pyarrow.concat_tables(tables).column(0)
        self._rows = column[:max_samples] if max_samples > 0 else column
        taught = parquet_files == config.get("train_files")
        self._order = in_order(len(self._rows)) if taught else list(range(len(self._rows)))
        self._tokenizer, self._longest = tokenizer, int(config.max_length)
        self._thinking = config.apply_chat_template_kwargs.get("enable_thinking")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        row = self._order[int(number)]
        prompt, reply = ids_of(self._rows[row].as_py(), self._tokenizer, self._thinking)
        size = len(prompt) + len(reply)
        if size > self._longest:
            raise ValueError(f"row {row} has {size:,} tokens: more than data.max_length {self._longest:,}")
        learnt = torch.zeros(size, dtype=torch.long)
        learnt[len(prompt) :] = 1
        return {"input_ids": torch.tensor(prompt + reply), "position_ids": torch.arange(size), "loss_mask": learnt}


def in_order(count: int) -> list[int]:
    """The row to give for each number that is asked for, so that rows are learnt in the file's order on any number of
    ranks: verl's trainer always shuffles, by torch's DistributedSampler with the seed 0, in its only epoch."""
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    rows = torch.empty_like(drawn)
    rows[drawn] = torch.arange(count)
    return list(rows.tolist())


def ids_of(messages: list[dict[str, str]], tokenizer: Any, thinking: bool | None) -> tuple[list[int], list[int]]:
    """Token ids of a prompt, and of the reply at its end with the token that ends it."""
    request = Request(messages[:-1], raw=orjson.dumps(messages[:-1]), thinking=thinking)
    reply = tokenizer.encode(messages[-1]["content"], add_special_tokens=False)
    return prompt_ids(request, tokenizer, "the model"), [*reply, tokenizer.eos_token_id]
