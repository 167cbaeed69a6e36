"""The four ways of putting sentences into one input that RoBERTa's authors compared (Liu et al. 2019, section 4.2,
https://arxiv.org/abs/1907.11692), as tables of examples: which sentences or tokens of a corpus each example reads.

- full_sentences: whole sentences up to the length, going on into the next document behind an extra separator;
- doc_sentences: the same, but never more than one document;
- segment_pair: runs of sentences of one document, to be cut into two segments (BERT's input);
- sentence_pair: two sentences.

The pair *formats* say nothing about a pair *loss*: that is `pairs.py`.
"""

from __future__ import annotations

from array import array
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cloze.data import languages
from cloze.data.base import Packed, TokenizedCorpus
from cloze.objectives.corruption import Places, beginnings, ranges

Format = Literal["segment_pair", "sentence_pair", "full_sentences", "doc_sentences"]
BLOCK = 1 << 20  # how much of a corpus is looked at in one go
SINGLE = ("full_sentences", "doc_sentences")


def special_count(form: Format) -> int:
    """Special tokens of an input: [CLS] and [SEP], and a second [SEP] behind the second half of a pair."""
    return 2 if form in SINGLE else 3


def special_places(corpus: TokenizedCorpus, special: NDArray[np.bool_]) -> Places:
    """Where special tokens (an unknown word's) stand among the corpus's own. special (V,) bool."""
    found = [
        np.flatnonzero(special[corpus.tokens[start : start + BLOCK]]) + start
        for start in range(0, len(corpus.tokens), BLOCK)
    ]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _pieces(corpus: TokenizedCorpus, room: int) -> tuple[Places, Places]:
    """Sentences, those longer than `room` tokens cut into pieces of `room`: (edges (P+1,), the document of each (P,))."""
    sentences = np.asarray(corpus.sentences)
    sizes = np.diff(sentences)
    parts = -(-sizes // room)
    documents = np.repeat(np.arange(len(corpus)), np.diff(corpus.documents))
    if parts.max(initial=1) == 1:
        return sentences, documents
    number = ranges(np.zeros(len(parts), np.int64), parts)
    edges = np.append(np.repeat(sentences[:-1], parts) + number * room, sentences[-1])
    return edges, np.repeat(documents, parts)


def chain(successors: NDArray[np.int64]) -> Places:
    """0, successors[0], successors[successors[0]], … as long as it is within the array."""
    visited = array("q")
    at = 0
    while at < len(successors):
        begin = at
        steps = successors[
            begin : begin + BLOCK
        ].tolist()  # plain numbers are followed ten times as fast; not all at once
        while at - begin < len(steps):
            visited.append(at)
            at = steps[at - begin]
    return np.frombuffer(visited, dtype=np.int64).copy()


def pack_sentences(corpus: TokenizedCorpus, length: int, across_documents: bool) -> Places:
    """Fills inputs of at most `length` tokens with whole sentences, one input after the other.

    Each token of the corpus stands in exactly one input. [CLS] and the last [SEP] take two places, and with `across_documents` so
    does the one separator where a document ends inside. A sentence that is longer than an input is cut.

    Returns (n, 4) rows: start and end among the corpus's tokens, the first document, how many documents.
    """
    room = length - 2
    edges, documents = _pieces(corpus, room)
    pieces = len(documents)
    # what pieces i … j-1 take: edges[j] - edges[i], and a separator for each change of document in between
    cost = edges[1:] + documents
    successor = np.searchsorted(cost, room + edges[:-1] + documents, side="right")
    if not across_documents:
        successor = np.minimum(successor, np.searchsorted(documents, documents, side="right"))
    elif corpus.languages is not None:  # an input is in one language
        run = languages.runs(corpus)[documents]
        successor = np.minimum(successor, np.searchsorted(run, run, side="right"))
    first = chain(np.maximum(successor, np.arange(pieces) + 1))
    ends = np.append(first[1:], pieces)
    between = documents[ends - 1] - documents[first] + 1
    return np.stack([edges[first], edges[ends], documents[first], between], axis=1)


def chunk_sentences(
    corpus: TokenizedCorpus, room: int, shortest: int, pairs_only: bool = False
) -> tuple[Places, Places]:
    """Runs of sentences of one document for pairs: (n, 3) rows (first sentence, behind the last, document), and the documents skipped.

    A run takes sentences until it has `room` tokens or the document ends (so it may be longer than `room`: pairs are cut at their
    outer and inner ends when they are drawn); with `pairs_only` it takes two. `shortest` is the least number of sentences: at 2 a
    document of one sentence is skipped, and a last sentence that would be alone takes the one before it along.
    """
    sentences, documents = np.asarray(corpus.sentences), np.asarray(corpus.documents)
    count = len(sentences) - 1
    document = np.repeat(np.arange(len(corpus)), np.diff(documents))
    begin = np.arange(count)
    if pairs_only:
        successor = begin + 2
    else:
        successor = np.searchsorted(sentences, sentences[:-1] + room, side="left")
    last = documents[document + 1]
    successor = np.minimum(np.maximum(successor, begin + shortest), last)
    first = chain(successor)
    table = np.stack([first, successor[first], document[first]], axis=1)
    alone = table[:, 1] - table[:, 0] < shortest
    table[alone, 0] -= 1  # in a document of one sentence that is the sentence before the document
    outside = table[:, 0] < documents[table[:, 2]]
    return table[~outside], table[outside, 2]


def lay_out(
    corpus: TokenizedCorpus,
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    pieces: NDArray[np.int64],
    first_token: int,
    separator: int,
    segments: bool,
    words: bool,
) -> tuple[Packed, NDArray[np.bool_], NDArray[np.bool_] | None]:
    """Inputs from pieces of a corpus: [CLS] piece [SEP] piece [SEP] …

    starts (P,) and sizes (P,): the pieces, as ranges of the corpus's tokens. pieces (B,): how many belong to each input.
    With `segments` the pieces of an input are numbered 0, 1, … ([CLS] and each [SEP] count to the piece beside them on the left).

    Where the corpus has languages, special tokens are in that of the piece that they belong to.

    Returns the inputs; (N,) whether it is a token of the corpus; with `words`, (N,) whether it begins a word or a piece.
    """
    batch = len(pieces)
    begins_input = np.zeros(len(starts), bool)
    begins_input[beginnings(pieces)] = True
    taken = sizes + 1 + begins_input
    lengths = np.add.reduceat(taken, beginnings(pieces))
    total = int(lengths.sum())
    at = beginnings(taken) + begins_input
    target = ranges(at, sizes)
    source = ranges(starts, sizes)
    tokens = np.full(total, separator, dtype=np.int64)
    tokens[beginnings(lengths)] = first_token
    tokens[target] = corpus.tokens[source]
    from_corpus = np.zeros(total, bool)
    from_corpus[target] = True
    word_starts = None
    if words:
        word_starts = np.ones(total, bool)
        word_starts[target] = corpus.word_starts[source]
        word_starts[at[sizes > 0]] = True
    numbers = np.repeat(ranges(np.zeros(batch, np.int64), pieces), taken) if segments else None
    spoken = languages.of_places(corpus, starts)
    if spoken is not None:
        spoken = np.repeat(spoken, taken)
    return Packed(tokens, lengths, numbers, languages=spoken), from_corpus, word_starts


def split_at_documents(corpus: TokenizedCorpus, rows: NDArray[np.int64]) -> tuple[Places, Places, Places]:
    """Rows of `pack_sentences` cut where a document ends: (starts (P,), sizes (P,), pieces of each row (B,))."""
    pieces = rows[:, 3]
    number = ranges(np.zeros(len(rows), np.int64), pieces)
    owner = np.repeat(np.arange(len(rows)), pieces)
    document = rows[owner, 2] + number
    starts = np.maximum(corpus.sentences[corpus.documents[document]], rows[owner, 0])
    ends = np.minimum(corpus.sentences[corpus.documents[document + 1]], rows[owner, 1])
    return starts, ends - starts, pieces
