"""What a local model computes: replies, row by row in one growing and shrinking batch, and likelihoods of texts.

Imports torch and transformers, so it is imported when a model is first used.

A prompt is prefilled alone, without padding, and keeps its attention cache; rows of different length then decode
together, their caches padded on the left. Rows join and leave between steps: no reply waits for a longer one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache

from pmem.backends.base import Likelihood
from pmem.backends.local_model import Loaded

Layers = list[tuple[torch.Tensor, torch.Tensor]]  # keys and values per layer: [rows, heads, tokens, dim]

CHUNK = 2048  # tokens of a prompt computed at once: bounds the memory of prefilling
CACHED_TOKENS = {"cpu": 32_768, "cuda": 131_072}  # rows times length of a batch; one row may be longer
KEPT_SHARE = 0.5  # of that, for the attention caches of the last prompts; the very last is kept in any case
CROPPABLE = ("DynamicLayer", "DynamicSlidingWindowLayer")  # attention proper; recurrent layers keep a running state


@dataclass(slots=True, eq=False)
class Row:
    """One reply in the making.

    prompt: token ids; limit: most tokens to add; temperature: 0 is greedy; out: the reply's ids so far, without the
    one that ended it; finish: "stop" or "length" once it is finished; random: what a sampled row draws from.
    """

    prompt: list[int]
    limit: int
    temperature: float
    seed: int | None
    finish: str = ""
    out: list[int] = field(default_factory=list)
    random: torch.Generator | None = None

    @property
    def cached(self) -> int:
        """Tokens in the attention cache: all but the newest, which is the next step's input."""
        return len(self.prompt) + len(self.out) - 1

    @property
    def longest(self) -> int:
        return len(self.prompt) + self.limit

    def add(self, token: int, stop: frozenset[int]) -> None:
        if token in stop:
            self.finish = "stop"
            return
        self.out.append(token)
        if len(self.out) == self.limit:
            self.finish = "length"


class Decoder:
    """A loaded model with its batch of rows and the attention caches of the last prompts.

    For one thread, under torch.inference_mode(). batch: most rows at once.
    """

    def __init__(self, loaded: Loaded, batch: int) -> None:
        self.rows: list[Row] = []
        self._model = loaded.model
        self._stop = loaded.stop
        self._device = loaded.model.device
        self._cache = DynamicCache()  # of `rows`, padded on the left
        self._kept: list[tuple[list[int], Layers]] = []  # the latest last
        self._budget = CACHED_TOKENS.get(self._device.type, CACHED_TOKENS["cpu"])
        layers = DynamicCache(config=loaded.model.config).layers
        self._plain = all(type(layer).__name__ in CROPPABLE for layer in layers)
        self.batch = batch if self._plain else 1

    def room(self, row: Row) -> bool:
        """Whether the row may join now."""
        if not self.rows:
            return True
        longest = max(row.longest, *(other.longest for other in self.rows))
        return len(self.rows) < self.batch and (len(self.rows) + 1) * longest <= self._budget

    def join(self, row: Row) -> None:
        """Prefill the row's prompt and put it into the batch."""
        if row.temperature:
            row.random = torch.Generator(self._device)
            row.random.seed() if row.seed is None else row.random.manual_seed(row.seed)
        cache = self._prefill(row.prompt[:-1])
        self._cache = _merged(self._cache, cache) if self.rows else cache
        self.rows.append(row)

    def step(self) -> list[Row]:
        """One token for each row. Returns the rows that it finished, which have left the batch."""
        cached = torch.tensor([row.cached for row in self.rows])
        padding = cached.max() - cached
        mask = torch.arange(int(cached.max()) + 1) >= padding[:, None] if padding.any() else None
        newest = [[(row.out or row.prompt)[-1]] for row in self.rows]
        logits = self._forward(
            torch.tensor(newest), self._cache, attention_mask=mask, position_ids=cached[:, None], logits_to_keep=1
        )[:, -1]
        greedy = logits.argmax(-1).tolist()
        for i, row in enumerate(self.rows):
            row.add(_sampled(logits[i], row) if row.temperature else greedy[i], self._stop)
        finished = [row for row in self.rows if row.finish]
        self.keep(row for row in self.rows if not row.finish)
        return finished

    def keep(self, rows: Iterable[Row]) -> None:
        """Leave only these of the batch's rows in it."""
        left = list(rows)
        if len(left) == len(self.rows):
            return
        places = [i for i, row in enumerate(self.rows) if row in left]
        self.rows = left
        if not left:
            self._cache = DynamicCache()
            return
        longest = max(row.cached for row in left)
        layers = _layers(self._cache)
        self._cache = DynamicCache([(k[places, :, -longest:], v[places, :, -longest:]) for k, v in layers])

    def clear(self) -> None:
        """Forget all rows and kept prompts, and give their memory back."""
        self.rows, self._kept, self._cache = [], [], DynamicCache()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def likelihoods(self, prompt: list[int], texts: Sequence[list[int]]) -> list[Likelihood]:
        """Log-likelihood (natural log, float32 log-softmax) of each text's tokens after the prompt's.

        prompt, texts: token ids. The prompt is computed once; then the texts, padded on the right (causal attention
        never looks there), as one batch. A model with recurrent layers computes prompt and text anew for each text.
        """
        if not self._plain:
            rows = [(prompt + text)[:-1] for text in texts]
            return [
                _likelihood(self._forward(torch.tensor([row]), None, logits_to_keep=len(text) or 1)[0], text)
                for row, text in zip(rows, texts, strict=True)
            ]
        layers = _layers(self._prefill(prompt[:-1]))
        longest = max(map(len, texts), default=0)
        group = max(1, min(self.batch, self._budget // (len(prompt) + longest)))
        found = []
        for start in range(0, len(texts), group):
            some = texts[start : start + group]
            rows = [[prompt[-1], *text, *[0] * longest][: longest or 1] for text in some]
            cache = DynamicCache([(_repeated(k, len(rows)), _repeated(v, len(rows))) for k, v in layers])
            logits = self._forward(torch.tensor(rows), cache)
            found += [_likelihood(row, text) for row, text in zip(logits, some, strict=True)]
        return found

    def _prefill(self, ids: list[int]) -> Any:
        """The attention cache of these tokens, computing only what no kept prompt begins with."""
        if not self._plain:
            return self._extended(DynamicCache(config=self._model.config), ids)
        nearest = max(self._kept, key=lambda kept: _shared(kept[0], ids), default=([], []))
        old, layers = nearest
        common = _shared(old, ids)
        cache = DynamicCache([(k[:, :, :common], v[:, :, :common]) for k, v in layers] if common else None)
        self._extended(cache, ids[common:])
        if 2 * common >= len(old):  # the same history with another question: the new one stands for both
            self._kept = [kept for kept in self._kept if kept is not nearest]
        self._kept.append((ids, _layers(cache)))
        while len(self._kept) > 1 and sum(len(kept[0]) for kept in self._kept) > KEPT_SHARE * self._budget:
            del self._kept[0]
        return cache

    def _extended(self, cache: Any, ids: list[int]) -> Any:
        for start in range(0, len(ids), CHUNK):
            self._forward(torch.tensor([ids[start : start + CHUNK]]), cache, logits_to_keep=1)
        return cache

    def _forward(self, ids: torch.Tensor, cache: Any, **more: Any) -> torch.Tensor:
        """Logits [rows, positions, vocabulary] of ids [rows, positions]; their keys and values go into `cache`."""
        inputs = {name: x.to(self._device) if isinstance(x, torch.Tensor) else x for name, x in more.items()}
        output = self._model(
            input_ids=ids.to(self._device), past_key_values=cache, use_cache=cache is not None, **inputs
        )
        return output.logits


def _likelihood(logits: torch.Tensor, text: list[int]) -> Likelihood:
    """logits [positions, vocabulary]: those that predict the text's tokens come first."""
    scores = logits[: len(text)].float().log_softmax(-1)
    chosen = scores.gather(-1, torch.tensor(text, dtype=torch.long, device=scores.device)[:, None])
    return Likelihood(float(chosen.double().sum()), len(text))


def _sampled(logits: torch.Tensor, row: Row) -> int:
    """A token drawn from softmax(logits / temperature): the largest of logits / temperature + Gumbel noise.

    The noise comes from the row's own generator, so neighbours in the batch change a sample only where their rounding
    errors do, and here that takes two tokens in a near tie (inverting the distribution function, it happens often).
    """
    noise = torch.empty_like(logits, dtype=torch.float64).exponential_(generator=row.random).log_()
    return int((logits.double() / row.temperature - noise).argmax())


def _shared(a: list[int], b: list[int]) -> int:
    """How many tokens both begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _layers(cache: Any) -> Layers:
    return [(layer.keys, layer.values) for layer in cache.layers]


def _repeated(one: torch.Tensor, rows: int) -> torch.Tensor:
    return one.expand(rows, -1, -1, -1)


def _merged(a: Any, b: Any) -> Any:
    """Both caches' rows in one, as wide as the wider, padded on the left."""
    width = max(a.get_seq_length(), b.get_seq_length())

    def padded(one: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(one, (0, 0, width - one.shape[-2], 0))

    def stacked(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return torch.cat([padded(one), padded(other)])

    pairs = zip(_layers(a), _layers(b), strict=True)
    return DynamicCache([(stacked(ka, kb), stacked(va, vb)) for (ka, va), (kb, vb) in pairs])
