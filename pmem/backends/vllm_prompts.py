"""Prompts as token ids, with those of a history that many questions share kept."""

from typing import Any, NamedTuple

from pmem.backends.base import Request
from pmem.backends.local import messages_of

KEPT = 64  # histories


class _Head(NamedTuple):
    """How a history's prompts begin: text and token ids. Empty where the ids can't be had apart from what follows."""

    text: str = ""
    ids: tuple[int, ...] = ()


class Prompts:
    """Token ids of requests in a tokenizer's chat format.

    A 32k history takes about 60 ms to tokenize, longer than an engine that has it in its cache needs for an answer.
    """

    def __init__(self) -> None:
        self._heads: dict[str, _Head] = {}

    def ids(self, tokenizer: Any, request: Request, **options: Any) -> list[int]:
        """Those of the whole prompt, up to where the assistant's reply begins; raises what a chat template may.

        options: what the template is told beside the messages, the same for all requests.
        """
        request = request._replace(schema=None)
        text: str = tokenizer.apply_chat_template(
            messages_of(request), tokenize=False, add_generation_prompt=True, **options
        )
        if request.prefix is None:
            return _encoded(tokenizer, text)
        head = self._heads.get(request.prefix.id)
        if head is None:
            while len(self._heads) >= KEPT:
                del self._heads[next(iter(self._heads))]
            head = self._heads[request.prefix.id] = _head(tokenizer, request._replace(messages=[]), text, options)
        if not _divides(tokenizer, head.text, text):
            return _encoded(tokenizer, text)
        return [*head.ids, *_encoded(tokenizer, text[len(head.text) :])]


def _head(tokenizer: Any, history: Request, text: str, options: dict[str, Any]) -> _Head:
    """The text's head, if the ids of head and rest are those of the whole: tried out, since tokenizers differ."""
    try:
        head: str = tokenizer.apply_chat_template(messages_of(history), tokenize=False, **options)
    except Exception:  # a template that wants a question at the end
        return _Head()
    if not _divides(tokenizer, head, text):
        return _Head()
    ids = _encoded(tokenizer, head)
    whole = ids + _encoded(tokenizer, text[len(head) :])
    return _Head(head, tuple(ids)) if whole == _encoded(tokenizer, text) else _Head()


def _divides(tokenizer: Any, head: str, text: str) -> bool:
    """Whether the text begins with the head, and goes on with an added token, which is never merged with its left."""
    return bool(head) and text.startswith(head) and text.startswith(tuple(tokenizer.get_added_vocab()), len(head))


def _encoded(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids
