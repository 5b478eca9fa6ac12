"""Where a memory's entries come from: which one of before each continues, since which chunk, by which messages."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from pmem.memory.text import Entry, parsed, plain, written

ALIKE = 0.5
"""Share of words, in order, that two texts must have in common (more than that) to be versions of one entry."""
WORD = re.compile(r"\w+")
CITED = re.compile(r"\s*\[(\d+(?:\s*[,;]\s*\d+)*)\]\s*([.!?]?)\s*\Z")


class Kept(NamedTuple):
    """An entry with its past.

    since, changed: chunks after which it first stood there, and last changed; evidence: messages of the history that
    it rests on; earlier: the same in histories of earlier runs, by their ids; edited: written by the user.
    """

    entry: Entry
    since: int
    changed: int
    evidence: tuple[int, ...] = ()
    earlier: tuple[tuple[str, tuple[int, ...]], ...] = ()
    edited: bool = False


class Edits(NamedTuple):
    """What a person did to a memory: entries that came, changed (from, to), went."""

    came: list[str]
    changed: list[tuple[str, str]]
    went: list[str]


def text_of(memory: Sequence[Kept]) -> str:
    """The memory's text."""
    return written([kept.entry for kept in memory])


def continued(before: Sequence[str], after: Sequence[str]) -> list[int | None]:
    """For each text of `after` the number of the one of `before` that it continues, None if it is new.

    Equal texts belong together; of the others, those that are most alike.
    """
    chosen: list[int | None] = [None] * len(after)
    places: dict[str, list[int]] = {}
    for old, text in reversed([*enumerate(before)]):
        places.setdefault(plain(text), []).append(old)
    for number, text in enumerate(after):
        if same := places.get(plain(text)):
            chosen[number] = same.pop()
    left = set(range(len(before))) - set(chosen)
    old_words = {old: _Words(before[old]) for old in sorted(left)}
    pairs = []
    for number, text in enumerate(after):
        if chosen[number] is None and left:
            new = _Words(text)
            matcher: SequenceMatcher[str] | None = None
            for old, words in old_words.items():
                if new.at_most_alike(words) > ALIKE:  # few are: looking at the order costs a hundred times as much
                    if matcher is None:
                        matcher = SequenceMatcher(None, autojunk=False)
                        matcher.set_seq2(new.words)
                    matcher.set_seq1(words.words)
                    pairs.append((-matcher.ratio(), number, old))
    for unlike, number, old in sorted(pairs):
        if -unlike > ALIKE and chosen[number] is None and old in left:
            chosen[number] = old
            left.remove(old)
    return chosen


class _Words:
    """A text's words in lower case; `counted`: each once, its second and further occurrences with their number."""

    def __init__(self, text: str) -> None:
        self.words = WORD.findall(text.casefold())
        self.counted: set[str | tuple[str, int]] = set(self.words)
        if len(self.counted) < len(self.words):
            seen: dict[str, int] = {}
            for word in self.words:
                seen[word] = seen.get(word, 0) + 1
                self.counted.add((word, seen[word]) if seen[word] > 1 else word)

    def at_most_alike(self, other: "_Words") -> float:
        """The share of words that both have, in whatever order: never below that of those in order."""
        total = len(self.words) + len(other.words)
        return 2 * len(self.counted & other.counted) / total if total else 1.0


def cited(entry: Entry, indices: Sequence[int]) -> tuple[Entry, tuple[int, ...]]:
    """The entry without the message numbers at its end ("[3, 7]"), and the messages that they name.

    indices: of the messages that are numbered from 1; numbers of no message are ignored.
    """
    ends = entry.text.rstrip().rstrip(".!?").rstrip().endswith("]")  # most don't, and needn't be searched
    match = CITED.search(entry.text) if ends else None
    if not match:
        return entry, ()
    numbers = [int(number) for number in re.findall(r"\d+", match[1])]
    named = {indices[number - 1] for number in numbers if 1 <= number <= len(indices)}
    return entry._replace(text=entry.text[: match.start()].rstrip() + match[2]), tuple(sorted(named))


def followed(
    before: Sequence[Kept], entries: Sequence[Entry], evidence: Sequence[tuple[int, ...]], number: int
) -> list[Kept]:
    """The entries after chunk `number`, with what is known of those that they continue."""
    olds = continued([kept.entry.text for kept in before], [entry.text for entry in entries])
    memory = []
    for entry, cited_ones, old in zip(entries, evidence, olds, strict=True):
        if old is None:
            memory.append(Kept(entry, number, number, cited_ones))
            continue
        past = before[old]
        if past.entry == entry and not cited_ones:  # as most are
            memory.append(past)
            continue
        messages = tuple(sorted({*past.evidence, *cited_ones}))
        if plain(past.entry.text) == plain(entry.text):
            memory.append(past._replace(entry=entry, evidence=messages))
        else:
            memory.append(Kept(entry, past.since, number, messages, past.earlier))
    return memory


def edited(before: Sequence[Kept], text: str, number: int) -> tuple[list[Kept], Edits]:
    """The memory as a person has left it after chunk `number` (1 where there was none), and what they did to it."""
    entries = parsed(text)
    memory = followed(before, entries, [()] * len(entries), number)
    same = {plain(kept.entry.text) for kept in before}
    olds = continued([kept.entry.text for kept in before], [entry.text for entry in entries])
    marked = [kept if plain(kept.entry.text) in same else kept._replace(edited=True) for kept in memory]
    came = [kept.entry.text for kept, old in zip(memory, olds, strict=True) if old is None]
    changed = [
        (before[old].entry.text, kept.entry.text)
        for kept, old in zip(memory, olds, strict=True)
        if old is not None and plain(kept.entry.text) != plain(before[old].entry.text)
    ]
    went = [kept.entry.text for old, kept in enumerate(before) if old not in olds]
    return marked, Edits(came, changed, went)


def as_record(kept: Kept) -> dict[str, Any]:
    """An entry as memory records hold it."""
    record: dict[str, Any] = {
        "text": kept.entry.text,
        "since_chunk": kept.since,
        "changed_chunk": kept.changed,
        "evidence": list(kept.evidence),
    }
    if kept.earlier:
        record["earlier"] = [{"history_id": own_id, "messages": list(messages)} for own_id, messages in kept.earlier]
    if kept.edited:
        record["edited"] = True
    return record


def of_record(record: dict[str, Any], history_id: str) -> list[Kept]:
    """A recorded memory's entries, to be continued by a history: what they rest on in another one is earlier evidence.

    Where the record tells nothing of its entries (or of other ones), they count as they stand in the text.
    """
    entries = parsed(record["text"])
    told = {plain(one["text"]): one for one in record["entries"]}
    return [_restored(entry, told.get(plain(entry.text)), record, history_id) for entry in entries]


def _restored(entry: Entry, told: dict[str, Any] | None, record: dict[str, Any], history_id: str) -> Kept:
    if told is None:
        return Kept(entry, record["chunk"], record["chunk"])
    evidence = tuple(told["evidence"])
    earlier = tuple((one["history_id"], tuple(one["messages"])) for one in told.get("earlier", ()))
    if record["history_id"] != history_id and evidence:
        earlier, evidence = (*earlier, (record["history_id"], evidence)), ()
    return Kept(entry, told["since_chunk"], told["changed_chunk"], evidence, earlier, told.get("edited", False))
