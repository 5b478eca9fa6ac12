"""A user's messages in chunks of a size in tokens: greedy from the first message on, so that the same messages make
the same chunks, and messages that come later change none of those before."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pmem.draws import fingerprint
from pmem.memory.cutting import Count, cut
from pmem.memory.unread import Said
from pmem.private import found
from pmem.tokens import MESSAGE_OVERHEAD


class Piece(NamedTuple):
    """A message, or a part of a long one. goes_on: not its first part."""

    said: Said
    text: str
    goes_on: bool


class Chunk(NamedTuple):
    """What is read at once. tokens: of the pieces' texts, with MESSAGE_OVERHEAD for each, as in histories."""

    pieces: list[Piece]
    tokens: int

    @property
    def indices(self) -> list[int]:
        """The messages that it covers, by their index in the history."""
        return list(dict.fromkeys(piece.said.at for piece in self.pieces))

    def digest(self) -> str:
        """A hash of what is said in it."""
        return fingerprint([[one.said.role, one.said.date, one.text, one.goes_on] for one in self.pieces])


def chunked(messages: Iterable[Said], most: int, count: Count) -> Iterator[Chunk]:
    """Chunks of at most `most` tokens, cut between messages; a message longer than that is cut between its
    sentences. Messages are counted when their chunk is asked for."""
    pieces: list[Piece] = []
    tokens = 0
    for said in messages:
        for number, text in enumerate(cut(said.text, most - MESSAGE_OVERHEAD, count)):
            size = count(text) + MESSAGE_OVERHEAD
            if pieces and tokens + size > most:
                yield Chunk(pieces, tokens)
                pieces, tokens = [], 0
            pieces.append(Piece(said, text, number > 0))
            tokens += size
    if pieces:
        yield Chunk(pieces, tokens)


def in_words(chunk: Chunk, *, numbered: bool) -> str:
    """A chunk as a text to read: the date where a chat begins, then who says what, with numbers from 1 if asked for.

    A message's further lines are indented, so that none of them looks like the beginning of another message.
    """
    numbers = {index: number for number, index in enumerate(chunk.indices, 1)}
    lines: list[str] = []
    chat: int | None = None
    for piece in chunk.pieces:
        if piece.said.chat != chat:
            chat = piece.said.chat
            lines += [""] * bool(lines) + [f"Chat of {piece.said.date}" if piece.said.date else "Chat"]
        label = piece.said.role.capitalize() + " (goes on)" * piece.goes_on
        number = f"[{numbers[piece.said.at]}] " * numbered
        lines.append(f"{number}{label}: " + piece.text.strip().replace("\n", "\n  "))
    return "\n".join(lines)


def redacted(said: Said) -> Said:
    """A message in which the kind of each private detail stands in its place."""
    return said._replace(text=masked(said.text))


def masked(text: str) -> str:
    """A text in which the kind of each private detail stands in its place: [phone number]."""
    for one in reversed(found(text)):
        text = f"{text[: one.start]}[{one.kind.replace('_', ' ')}]{text[one.end :]}"
    return text
