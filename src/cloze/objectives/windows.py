"""Cutting a long stretch of tokens into examples.

The *stream* of a corpus is end-of-text, document, end-of-text, document, …, end-of-text.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloze.data import languages
from cloze.data.base import TokenizedCorpus
from cloze.errors import Refusal
from cloze.objectives.corruption import beginnings, ranges


def windows(edges: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """(n, 2) rows (start, end): each stretch between two of `edges` (k+1,) in windows of `length`, in order.

    The last window of a stretch is shorter where it must be.
    """
    pieces = -(-np.diff(edges) // length)
    number = ranges(np.zeros_like(pieces), pieces)
    starts = np.repeat(edges[:-1], pieces) + number * length
    return np.stack([starts, np.minimum(starts + length, np.repeat(edges[1:], pieces))], axis=1).astype(np.int64)


def whole(cut: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """The rows of `cut`, as `windows` makes it, that are `length` tokens long: what text that goes on from batch to batch is read in.
    Raises Refusal where there is none."""
    full: NDArray[np.int64] = cut[cut[:, 1] - cut[:, 0] == length]
    if not len(full):
        tokens = int((cut[:, 1] - cut[:, 0]).sum())
        raise Refusal(
            f"length={length} is more than the {tokens} tokens that a split of this corpus has; take length={tokens}."
        )
    return full


def ends_of_text(corpus: TokenizedCorpus) -> NDArray[np.int64]:
    """(D+1,): where in the stream the end-of-text token before each document stands, and the closing one."""
    ends: NDArray[np.int64] = corpus.sentences[corpus.documents] + np.arange(len(corpus.documents))
    return ends


def places_of(corpus: TokenizedCorpus, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each token of the stream from each row's start to its end, that one included, its place among the corpus's tokens; -1 for an
    end-of-text.

    `rows` (n, 4): start and end, and the last document that begins at or before each of them (the number of documents for the
    closing end-of-text).
    """
    document_of, is_end = _documents(corpus, rows)
    place = ranges(rows[:, 0], rows[:, 1] - rows[:, 0] + 1)
    # before place p of document d stand d + 1 ends
    places: NDArray[np.int64] = np.where(is_end, -1, place - document_of - 1)
    return places


def stream(corpus: TokenizedCorpus, rows: NDArray[np.int64], end_of_text: int) -> NDArray[np.int64]:
    """The tokens of the stream from each row's start to its end, that one included, one row after the other. Rows as `places_of` takes
    them."""
    places = places_of(corpus, rows)
    tokens: NDArray[np.int64] = np.where(places < 0, end_of_text, corpus.tokens[places].astype(np.int64))
    return tokens


def stream_languages(corpus: TokenizedCorpus, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The languages of what `stream` gives, an end-of-text's being that of the document behind it; None where there is one only."""
    if corpus.languages is None:
        return None
    return languages.of_documents(corpus, np.minimum(_documents(corpus, rows)[0], len(corpus) - 1))


def _documents(corpus: TokenizedCorpus, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """For each token of `stream`: the last document whose end-of-text stands at or before it, and whether it is that end-of-text."""
    start, end, first, last = rows.T
    sizes = end - start + 1
    offsets = beginnings(sizes)
    # where the ends of text stand among these tokens: those inside each row …
    inside = last - first
    document = ranges(first + 1, inside)
    is_end = np.zeros(int(sizes.sum()), np.int64)
    is_end[corpus.sentences[corpus.documents[document]] + document + np.repeat(offsets - start, inside)] = 1
    # … tell which document each token belongs to …
    passed = np.cumsum(is_end)
    document_of = passed + np.repeat(first - passed[offsets], sizes)
    # … and a row may begin with one
    is_end[offsets] = corpus.sentences[corpus.documents[first]] + first == start
    return document_of, is_end == 1
