"""What a local model computes: replies, row by row in one growing and shrinking batch, and likelihoods of texts.

Imports torch and transformers, so it is imported when a model is first used.

A prompt is prefilled alone, without padding, and keeps its attention cache; rows of different length then decode
together, their caches padded on the left. Rows join and leave between steps: no reply waits for a longer one. A long
beginning that prompts share stays outside the batch, stored once (see `local_prefix`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache

from pmem.backends.base import Likelihood
from pmem.backends.local_forward import Forward
from pmem.backends.local_model import Loaded
from pmem.backends.local_prefix import Group, KeptPrompt, layers_of
from pmem.backends.local_schema import forbid

CACHED_TOKENS = {"cpu": 32_768, "cuda": 131_072}  # of a batch: rows times length, and prefixes; one row may be longer
KEPT_SHARE = 0.5  # of that, for the attention caches of the last prompts


@dataclass(slots=True, eq=False)
class Row:
    """One reply in the making.

    prompt: token ids; limit: most tokens to add; temperature: 0 is greedy; matcher: of the schema to follow, if any;
    out: the reply's ids so far, without the one that ended it; ended: that one; finish: "stop" or "length" once the
    row is finished, "error" if the matcher failed, fault then says how; random: what a sampled row draws from;
    prefix: the kept beginning of the prompt, where it stays outside the batch.
    """

    prompt: list[int]
    limit: int
    temperature: float
    seed: int | None
    matcher: Any = None
    finish: str = ""
    fault: str = ""
    out: list[int] = field(default_factory=list)
    ended: int = -1
    random: torch.Generator | None = None
    prefix: KeptPrompt | None = None

    @property
    def before(self) -> int:
        """Tokens in the prefix's cache."""
        return len(self.prefix) if self.prefix else 0

    @property
    def cached(self) -> int:
        """Tokens in the row's own cache: all the others but the newest, which is the next step's input."""
        return len(self.prompt) + len(self.out) - 1 - self.before

    @property
    def longest(self) -> int:
        return len(self.prompt) + self.limit - self.before

    def add(self, token: int, stop: frozenset[int]) -> None:
        if token in stop:
            self.finish, self.ended = "stop", token
            return
        self.out.append(token)
        if self.matcher and not self.matcher.consume_token(token):
            self.fail(self.matcher.get_error())
        elif self.matcher and self.matcher.is_stopped():  # the JSON value is complete
            self.finish = "stop"
        elif len(self.out) == self.limit:
            self.finish = "length"

    def fail(self, fault: str) -> None:
        self.finish, self.fault = "error", fault


class Decoder:
    """A loaded model with its batch of rows and the attention caches of the last prompts.

    For one thread, under torch.inference_mode(). batch: most rows at once.
    """

    def __init__(self, loaded: Loaded, batch: int) -> None:
        self.rows: list[Row] = []
        device = loaded.model.device
        self._budget = CACHED_TOKENS.get(device.type, CACHED_TOKENS["cpu"])
        self._forward = Forward(loaded, kept=KEPT_SHARE * self._budget)
        self._stop = loaded.stop
        self._cache = DynamicCache()  # of `rows`, without their prefixes, padded on the left
        self.batch = batch if self._forward.plain else 1

    def room(self, row: Row, rows: int = 1) -> bool:
        """Whether the row may join now, `rows` times."""
        if not self.rows and rows == 1:
            return True
        if len(self.rows) + rows > self.batch:
            return False
        stored = {other.prefix.whole for other in self.rows if other.prefix}
        kept, before = self._forward.beginning(row.prompt[:-1])
        longest = max([len(row.prompt) + row.limit - before, *(other.longest for other in self.rows)])
        added = 0 if kept and kept.whole in stored else before
        return (len(self.rows) + rows) * longest + sum(map(len, stored)) + added <= self._budget

    def join(self, *rows: Row) -> None:
        """Prefill the prompt that these rows have in common, and put them into the batch."""
        for row in rows:
            if row.temperature:
                row.random = torch.Generator(self._forward.device)
                row.random.seed() if row.seed is None else row.random.manual_seed(row.seed)
        prefix, cache = self._forward.prefill(rows[0].prompt[:-1])
        if len(rows) > 1:  # transformers' own repeating leaves a cache without tokens at one row
            cache = DynamicCache([(_repeated(k, len(rows)), _repeated(v, len(rows))) for k, v in layers_of(cache)])
        for row in rows:
            row.prefix = prefix
        self._cache = _merged(self._cache, cache) if self.rows else cache
        self.rows += rows

    def step(self) -> list[Row]:
        """One token for each row. Returns the rows that it finished, which have left the batch."""
        cached = torch.tensor([row.cached for row in self.rows])
        before = torch.tensor([row.before for row in self.rows])
        padding = cached.max() - cached
        groups = self._groups()
        mask = torch.arange(int(cached.max()) + 1) >= padding[:, None] if groups or padding.any() else None
        newest = [[(row.out or row.prompt)[-1]] for row in self.rows]
        logits = self._forward(
            torch.tensor(newest),
            self._cache,
            groups,
            attention_mask=mask[:, None, None] if mask is not None and groups else mask,
            position_ids=(before + cached)[:, None],
            logits_to_keep=1,
        )[:, -1]
        for row, scores in zip(self.rows, logits, strict=True):
            if row.matcher and (fault := forbid(scores, row.matcher)):
                row.fail(fault)
        greedy = logits.argmax(-1).tolist()
        for i, row in enumerate(self.rows):
            if not row.fault:
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
        start = self._cache.get_seq_length() - max(row.cached for row in left)
        self._cache = DynamicCache([(k[places, :, start:], v[places, :, start:]) for k, v in layers_of(self._cache)])

    def clear(self) -> None:
        """Forget all rows and kept prompts, and give their memory back."""
        self.rows, self._cache = [], DynamicCache()
        self._forward.clear()
        if self._forward.device.type == "cuda":
            torch.cuda.empty_cache()

    def likelihoods(self, prompt: list[int], texts: Sequence[list[int]]) -> list[Likelihood]:
        """Log-likelihood (natural log, float32 log-softmax) of each text's tokens after the prompt's.

        prompt, texts: token ids. The prompt is computed once; then the texts, padded on the right (causal attention
        never looks there), as one batch. A model with recurrent layers computes prompt and text anew for each text.
        """
        if not self._forward.plain:
            rows = [(prompt + text)[:-1] for text in texts]
            return [
                _likelihood(self._forward(torch.tensor([row]), None, logits_to_keep=len(text) or 1)[0], text)
                for row, text in zip(rows, texts, strict=True)
            ]
        prefix, cache = self._forward.prefill(prompt[:-1])
        layers = layers_of(cache)
        longest = max(map(len, texts), default=0)
        group = max(1, min(self.batch, self._budget // (cache.get_seq_length() + 1 + longest)))
        found = []
        for start in range(0, len(texts), group):
            some = texts[start : start + group]
            rows = [[prompt[-1], *text, *[0] * longest][: longest or 1] for text in some]
            cache = DynamicCache([(_repeated(k, len(rows)), _repeated(v, len(rows))) for k, v in layers])
            logits = self._forward.following(torch.tensor(rows), cache, prefix)
            found += [_likelihood(row, text) for row, text in zip(logits, some, strict=True)]
        return found

    def _groups(self) -> list[Group] | None:
        """The batch's rows by prefix; None if no row has any."""
        prefixes = {row.prefix: None for row in self.rows}  # in a fixed order
        if list(prefixes) == [None]:
            return None
        if len(prefixes) == 1:
            return [Group(slice(None), prefix.layers) for prefix in prefixes if prefix]
        nothing = next(prefix for prefix in prefixes if prefix).first(0)
        found = []
        for prefix in prefixes:
            places = [i for i, row in enumerate(self.rows) if row.prefix is prefix]
            found.append(Group(torch.tensor(places, device=self._forward.device), (prefix or nothing).layers))
        return found


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


def _repeated(one: torch.Tensor, rows: int) -> torch.Tensor:
    return one.expand(rows, -1, -1, -1)


def _merged(a: Any, b: Any) -> Any:
    """Both caches' rows in one, as wide as the wider, padded on the left."""
    width = max(a.get_seq_length(), b.get_seq_length())

    def padded(one: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(one, (0, 0, width - one.shape[-2], 0))

    def stacked(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return torch.cat([padded(one), padded(other)])

    pairs = zip(layers_of(a), layers_of(b), strict=True)
    return DynamicCache([(stacked(ka, kb), stacked(va, vb)) for (ka, va), (kb, vb) in pairs])
