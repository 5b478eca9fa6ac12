"""Cues of an option: what can be seen of it without the history, as a number whose rank may betray the right one."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.preprocessing import normalize

from pmem.audit.corpus import Corpus, Floats, Ints, Layout

BLOCK = 2_000
"""Questions whose words are compared at once."""
DIGITS = 5
"""Cues are rounded to so many decimals, so that options with equal words are equal whatever the sums' order."""


class Places(NamedTuple):
    """Where the right option stands among all of its question by a cue.

    less: options with a smaller value; equal: options with the same value, itself among them.
    """

    less: Ints
    equal: Ints


class Words(NamedTuple):
    """Tf-idf vectors of length 1, of queries (n rows) and options (one row each). Labels play no part in them."""

    queries: csr_array
    options: csr_array
    idf: Floats


def words(corpus: Corpus) -> Words:
    """Weigh the words of all texts."""
    queries, options = corpus.counts()
    weights = TfidfTransformer(norm=None).fit(options)
    unit = [
        csr_array(normalize(weights.transform(counts, copy=False), copy=False), dtype=np.float32)
        for counts in (queries, options)
    ]
    return Words(unit[0], unit[1], weights.idf_)


def cues(corpus: Corpus, layout: Layout, weighed: Words) -> dict[str, Floats]:
    """Cue -> n x most options.

    characters, words: length; overlap: cosine of the option's tf-idf vector with the query's; likeness: its mean
    cosine with the question's other options; rarity: the mean inverse document frequency of its different words.
    """
    overlap, likeness = _cosines(layout, weighed)
    options = weighed.options
    present = csr_array((np.ones(options.nnz, np.int8), options.indices, options.indptr), shape=options.shape)
    rarity = (present @ weighed.idf) / np.maximum(present.sum(axis=1, dtype=np.int64), 1)
    values = {
        "characters": corpus.characters,
        "words": corpus.words,
        "overlap": overlap.round(DIGITS),
        "likeness": likeness.round(DIGITS),
        "rarity": rarity.round(DIGITS),
    }
    return {name: layout.padded(value) for name, value in values.items()}


def _cosines(layout: Layout, weighed: Words) -> tuple[Floats, Floats]:
    """Of each option with its query, and with the question's other options on average."""
    starts = np.concatenate([[0], np.cumsum(layout.options)])
    overlap, likeness = np.zeros(starts[-1]), np.zeros(starts[-1])
    for first in range(0, len(layout.options), BLOCK):
        last = min(first + BLOCK, len(layout.options))
        count = layout.options[first:last]
        at = slice(starts[first], starts[last])
        own = np.repeat(np.arange(last - first), count)  # the question of each option
        options = weighed.options[at]
        overlap[at] = options.multiply(weighed.queries[first:last][own]).sum(axis=1)
        member = csr_array((np.ones(len(own), np.float32), (own, np.arange(len(own)))))
        with_all = options.multiply((member @ options)[own]).sum(axis=1)
        with_itself = options.multiply(options).sum(axis=1)
        likeness[at] = (with_all - with_itself) / (count[own] - 1)
    return overlap, likeness


def places(values: Floats, gold: Ints) -> Places:
    """The right option's place by a cue (n x most options, NaN where there is none)."""
    right = values[np.arange(len(gold)), gold][:, None]
    return Places((values < right).sum(axis=1), (values == right).sum(axis=1))


def ranks(values: Floats) -> Floats:
    """Each option's rank by a cue, from 0 (the least) to 1 (the most); equal ones share theirs; NaN for none."""
    count = (~np.isnan(values)).sum(axis=1, keepdims=True)
    found = np.full(values.shape, np.nan)
    for place in range(values.shape[1]):
        one = values[:, place : place + 1]
        below = (values < one).sum(axis=1) + ((values == one).sum(axis=1) - 1) / 2
        found[:, place] = np.where(np.isnan(one[:, 0]), np.nan, below / (count[:, 0] - 1))
    return found
