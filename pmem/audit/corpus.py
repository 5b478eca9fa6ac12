"""The questions of an audit as numbers. What stays in memory is words as integers: no text, no snippet, no record."""

import re
from array import array
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmem.audit.halves import first_half, persona_of
from pmem.choices import LETTERS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # Thai, Lao, Japanese, Chinese: a letter is a word
WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case; in scripts without spaces, its letters."""
    return WORD.findall(text.lower())


class Layout(NamedTuple):
    """What is known of n questions beside their words.

    options: how many; gold: index of the right one; persona, case: numbers that stand for them (-1: no case);
    measured: whether the question's persona is in the half on which strategies are measured, not tuned.
    """

    options: Ints
    gold: Ints
    persona: Ints
    case: Ints
    measured: Flags
    cases: list[str]

    @property
    def offered(self) -> Flags:
        """n x most options: which of them a question has."""
        most = int(self.options.max(initial=0))
        shown: Flags = np.arange(most)[None, :] < self.options[:, None]
        return shown

    def padded(self, values: NDArray[Any]) -> Floats:
        """A value for each option, question after question, as n x most options; NaN where a question has none."""
        offered = self.offered
        table = np.full(offered.shape, np.nan)
        table[offered] = values
        return table


class Corpus:
    """Collects questions one by one."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._vocabulary: dict[str, int] = {}
        self._words, self._sizes = array("i"), array("i")  # of texts: a query, its options, the next query, ...
        self._characters = array("i")  # of options
        self._count, self._gold, self._case, self._persona = (array("i") for _ in range(4))
        self._personas: dict[str, int] = {}
        self._cases: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._count)

    def add(self, qa: dict[str, Any]) -> int:
        """Take in a question that has options; its number."""
        for text in (qa["query"], *qa["options"]):
            words = words_of(text)
            self._words.extend(self._vocabulary.setdefault(word, len(self._vocabulary)) for word in words)
            self._sizes.append(len(words))
        self._characters.extend(len(option) for option in qa["options"])
        self._count.append(len(qa["options"]))
        self._gold.append(LETTERS.index(qa["gold"]))
        self._persona.append(self._personas.setdefault(persona_of(qa), len(self._personas)))
        case = qa["case"]
        self._case.append(self._cases.setdefault(case, len(self._cases)) if case else -1)
        return len(self._count) - 1

    def layout(self) -> Layout:
        """Everything but words."""
        measured = np.array([not first_half(one, self._seed, "audit") for one in self._personas], bool)
        persona = np.array(self._persona, np.int64)
        return Layout(
            np.array(self._count, np.int64),
            np.array(self._gold, np.int64),
            persona,
            np.array(self._case, np.int64),
            measured[persona] if len(persona) else np.zeros(0, bool),
            list(self._cases),
        )

    @property
    def characters(self) -> Ints:
        """Length of each option, question after question."""
        return np.array(self._characters, np.int64)

    @property
    def words(self) -> Ints:
        """Number of words of each option."""
        return np.array(self._sizes, np.int64)[~self._queries()]

    def counts(self) -> tuple[csr_array, csr_array]:
        """How often each word stands in each query (n rows), and in each option (one row each)."""
        ends = np.concatenate([[0], np.cumsum(np.array(self._sizes, np.int64))]).astype(np.int32)
        data = np.ones(len(self._words), np.float32)
        shape = (len(self._sizes), max(len(self._vocabulary), 1))
        texts = csr_array((data, np.array(self._words, np.int32), ends), shape=shape)
        texts.sum_duplicates()
        queries = self._queries()
        return texts[np.flatnonzero(queries)], texts[np.flatnonzero(~queries)]

    def _queries(self) -> Flags:
        """Which of the texts are queries."""
        texts = np.array(self._count, np.int64) + 1
        marks = np.zeros(len(self._sizes), bool)
        marks[np.cumsum(texts) - texts] = True
        return marks
