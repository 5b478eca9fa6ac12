"""The loop: M_i = f(C_i, M_i-1). A memory sees the chunk and the memory before it, no later chunk and no question.

An update is text to text: `asked` makes the messages, any model answers, `settled` makes a memory of the answer. Who
has `ask` (messages to reply) runs it with `remembered`; training, which samples replies itself, calls the other two.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

from pmem import tokens
from pmem.choices import without_thinking
from pmem.memory.chunks import Chunk, in_words
from pmem.memory.cutting import Count
from pmem.memory.lineage import Kept, cited, continued, followed, text_of
from pmem.memory.respect import respected
from pmem.memory.text import OTHERS, SECTIONS, TOPICS, Entry, parsed, plain, trimmed
from pmem.prompts import Prompts

Ask = Callable[[list[dict[str, Any]]], Awaitable[str]]

WORDS_PER_TOKEN = 0.7
"""Of English: models know how long a text is in words better than in tokens."""
FRAMES = ("</memory", "</chats")


MOST = 2048
"""Tokens of a memory (the paper's section 5)."""


class Form(NamedTuple):
    """How memories are written. most: tokens of one, as `count` counts them; evidence: whether entries are to name the
    messages that they rest on."""

    prompts: Prompts
    count: Count
    style: str = "bullets"
    most: int = MOST
    evidence: bool = True

    @property
    def names(self) -> list[str]:
        """The prompts that it uses."""
        names = ["memory/update", f"memory/style_{self.style}"]
        return [*names, "memory/evidence"] if self.evidence else names


def form_of(prompts: Prompts, tokenizer: str, style: str = "bullets", most: int = MOST, evidence: bool = True) -> Form:
    """The form of memories whose tokens the named tokenizer counts."""
    count = lru_cache(maxsize=64)(partial(tokens.count, name=tokenizer))  # most texts are counted twice in a row
    return Form(prompts, count, style, most, evidence)


class Step(NamedTuple):
    """A memory after a chunk. trimmed: whether it had to be cut to size; private, forgotten: entries that the model
    wrote and that were left out (see respect.py)."""

    memory: list[Kept]
    text: str
    tokens: int
    trimmed: bool = False
    private: int = 0
    forgotten: int = 0


def asked(memory: str, chunk: Chunk, form: Form) -> list[dict[str, Any]]:
    """The messages that ask for the memory after a chunk."""
    render = form.prompts.render
    headings = "\n".join(f"## {name}" for name in SECTIONS)
    style = render(f"memory/style_{form.style}", headings=headings, topics=TOPICS, others=OTHERS)
    prompt = render(
        "memory/update",
        style=style,
        evidence=render("memory/evidence") if form.evidence else "",
        words=int(form.most * WORDS_PER_TOKEN),
        topics=TOPICS,
        memory=_framed(memory) or "(nothing yet)",
        chats=_framed(in_words(chunk, numbered=form.evidence)),
    )
    return [{"role": "user", "content": prompt}]


def _framed(text: str) -> str:
    """A text that can't end the frame it stands in."""
    for frame in FRAMES:
        text = text.replace(frame, frame.replace("</", "< /"))
    return text


def unbroken(reply: str, *, cut: bool) -> str:
    """A reply without the entry that was broken off when its tokens ran out."""
    return reply.rpartition("\n")[0] if cut else reply


def settled(reply: str, before: Sequence[Kept], chunk: Chunk, form: Form, number: int) -> Step:
    """The memory after chunk `number`, made of the model's reply. A reply without any entry leaves it as it was.

    What the user has written by hand stays until a chat brings a new version of it; what is not to be remembered stays
    named until they take it out by hand. Then respect, then the size.
    """
    said = _said(reply, chunk, form)
    short = [entry for entry, _ in said if _fits(entry, form)]
    by_hand = _by_hand(before, short)
    entries = _with(by_hand, short) if short else [kept.entry for kept in before]
    topics = [kept.entry.text for kept in before if kept.entry.is_topic]
    known = [kept.entry.text for kept in before]
    seemly = respected(entries, topics, (piece.text for piece in chunk.pieces), known)
    fitting = trimmed(seemly.entries, form.most, form.count, by_hand)
    evidence = {plain(entry.text): messages for entry, messages in said}
    memory = followed(before, fitting, [evidence.get(plain(one.text), ()) for one in fitting], number)
    text = text_of(memory)
    cut = len(short) < len(said) or len(fitting) < len(seemly.entries)
    return Step(memory, text, form.count(text), cut, seemly.private, seemly.forgotten)


def _said(reply: str, chunk: Chunk, form: Form) -> list[tuple[Entry, tuple[int, ...]]]:
    """The entries of a reply, each once (small models repeat themselves), and the messages that they name."""
    found: dict[str, tuple[Entry, tuple[int, ...]]] = {}
    indices = chunk.indices
    for raw in parsed(without_thinking(reply)):
        entry, messages = cited(raw, indices) if form.evidence else (raw, ())
        if key := plain(entry.text):
            found.setdefault(key, (entry, messages))
    return list(found.values())


def _fits(entry: Entry, form: Form) -> bool:
    """Whether an entry alone is within the size. (A token has at least a byte.)"""
    return len(entry.text.encode()) <= form.most or form.count(entry.text) <= form.most


def _by_hand(before: Sequence[Kept], entries: list[Entry]) -> list[Entry]:
    """What the user has written and the entries don't continue."""
    if not any(kept.edited for kept in before):
        return []
    olds = set(continued([kept.entry.text for kept in before], [entry.text for entry in entries]))
    return [kept.entry for number, kept in enumerate(before) if kept.edited and number not in olds]


def _with(by_hand: list[Entry], entries: list[Entry]) -> list[Entry]:
    """The entries with what the user has written at the beginning of its section."""
    for entry in reversed(by_hand):
        places = [number for number, other in enumerate(entries) if other.section == entry.section]
        entries.insert(places[0] if places else len(entries), entry)
    return entries


async def remembered(
    chunks: Iterable[Chunk], ask: Ask, form: Form, *, before: Sequence[Kept] = (), number: int = 0
) -> AsyncIterator[Step]:
    """The memory after each chunk. before: the memory to begin with, as it stood after chunk `number`."""
    memory, text = list(before), text_of(before)
    for at, chunk in enumerate(chunks, number + 1):
        reply = await ask(asked(text, chunk, form))
        step = settled(reply, memory, chunk, form, at)
        memory, text = step.memory, step.text
        yield step
