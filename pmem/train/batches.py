"""Conversations as padded batches of token ids, in parts that fit into memory."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Conversation(NamedTuple):
    """Token ids of a prompt, and of the reply that is learnt, with the token that ends it if it has ended."""

    prompt: list[int]
    reply: list[int]

    @property
    def tokens(self) -> int:
        """Of both."""
        return len(self.prompt) + len(self.reply)


SHARED = 256
"""Tokens from which on it pays to compute a prompt apart from its replies, once for all of them."""


class Rows(NamedTuple):
    """Conversations side by side: prompts padded on the left, replies on the right, so that all replies begin in one
    column and logits are computed for them alone.

    ids, seen: [rows, prompt + reply tokens], seen is 1 where there is a token; places: their positions;
    replies, mask: [rows, reply tokens]; padded: whether any row has padding before it; alike: whether several rows have
    one long prompt in common.
    """

    ids: Tensor
    seen: Tensor
    places: Tensor
    replies: Tensor
    mask: Tensor
    padded: bool
    alike: bool = False


def collate(conversations: Sequence[Conversation], pad: int, device: torch.device) -> Rows:
    """A batch of conversations; each has at least one token of prompt and of reply."""
    before = max(len(one.prompt) for one in conversations)
    after = max(len(one.reply) for one in conversations)
    ids = torch.full((len(conversations), before + after), pad)
    seen = torch.zeros_like(ids)
    for row, (prompt, reply) in enumerate(conversations):
        begin, end = before - len(prompt), before + len(reply)
        ids[row, begin:end] = torch.tensor(prompt + reply)
        seen[row, begin:end] = 1
    places = (seen.cumsum(-1) - 1).clamp(min=0)
    padded = bool((seen[:, 0] == 0).any())
    ids, seen, places = ids.to(device), seen.to(device), places.to(device)
    first = conversations[0].prompt
    alike = len(conversations) > 1 and len(first) >= SHARED and all(one.prompt == first for one in conversations)
    return Rows(ids, seen, places, ids[:, before:], seen[:, before:].float(), padded, alike)


def parts(conversations: Sequence[Conversation], tokens: int, logits: int, *, share: bool = False) -> list[list[int]]:
    """Indices of conversations in parts of at most `tokens` with padding, and `logits` reply tokens (one row may have
    more). Alike lengths go together; the longest come first, so that a lack of memory shows at once.

    share: conversations with one long prompt are parts of their own, in which it counts once.
    """
    alike: dict[tuple[int, ...], list[int]] = {}
    for i, one in enumerate(conversations):
        alike.setdefault(tuple(one.prompt) if share and len(one.prompt) >= SHARED else (), []).append(i)
    groups = [group for prompt, group in alike.items() if prompt and len(group) > 1]
    others = sorted(set(range(len(conversations))).difference(*groups))
    found = [part for group in groups for part in _parts(conversations, group, tokens, logits, once=True)]
    found += _parts(conversations, others, tokens, logits)
    return sorted(found, key=lambda part: -max(len(conversations[i].prompt) for i in part))


def _parts(
    conversations: Sequence[Conversation], some: Sequence[int], tokens: int, logits: int, *, once: bool = False
) -> list[list[int]]:
    """Parts of some of the conversations. once: the prompt, which is theirs all, is computed once for all rows."""
    found: list[list[int]] = []
    before = after = 0
    for i in sorted(some, key=lambda i: (-len(conversations[i].prompt), -conversations[i].tokens)):
        prompt, reply = map(len, conversations[i])
        before, after = max(before, prompt), max(after, reply)
        rows = len(found[-1]) + 1 if found else 0
        size = before + rows * after if once else rows * (before + after)
        if found and size <= tokens and rows * after <= logits:
            found[-1].append(i)
        else:
            found.append([i])
            before, after = prompt, reply
    return found
