"""What counting makes of a text: n-gram language models with interpolated Kneser-Ney smoothing, the baselines that a neural language
model has to beat (Kneser and Ney 1995; Chen and Goodman 1998, https://dash.harvard.edu/handle/1/25104739, where the discounts are from).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloze.data.base import TokenizedCorpus, Vocabulary
from cloze.errors import Refusal
from cloze.evaluation import Evaluation
from cloze.objectives.windows import ends_of_text, stream

Counts = NDArray[np.int64]


def whole_stream(corpus: TokenizedCorpus, vocabulary: Vocabulary) -> Counts:
    """A split from its first end-of-text to its last: end-of-text, document, end-of-text, document, …, end-of-text."""
    ends = ends_of_text(corpus)
    row = np.array([[0, ends[-1], 0, len(corpus)]], np.int64)
    return stream(corpus, row, vocabulary["eos"])


@dataclass
class _Order:
    """The n-grams of one length that the training text has.

    keys (n,), rising: number of the n-gram without its last token, times the vocabulary, plus that token; the n-gram's number is its
    place. counts (n,): how often it occurs or, of shorter n-grams, after how many different tokens. totals (contexts,): the sum of
    counts behind each context. left (contexts,): what the discounts take from them, which goes to the shorter n-grams.
    """

    keys: Counts
    counts: Counts
    totals: Counts
    left: NDArray[np.float64]
    discounts: NDArray[np.float64]  # (4,): of counts 0, 1, 2, and 3 or more

    def find(self, keys: Counts, known: NDArray[np.bool_]) -> Counts:
        """The number of each n-gram, -1 where there is none."""
        place = np.searchsorted(self.keys, keys)
        place[place == len(self.keys)] = 0
        return np.where(known & (self.keys[place] == keys), place, -1)


class KneserNey:
    """Counts of a stream (N,) of tokens below `vocabulary`, with contexts of up to `order` - 1 tokens.

    p(w | context) = (count - discount) / total + left / total * p(w | shorter context), down to even odds for all words. Counts of
    all but the longest n-grams are of the different tokens before them. Discounts are those of Chen and Goodman, one for counts of
    1, of 2 and of more; where a text is so small that they do not come out between 0 and the count, half of 1 is taken.
    """

    def __init__(self, tokens: Counts, vocabulary: int, order: int = 5) -> None:
        if order < 1:
            raise Refusal(f"order={order} must be at least 1.")
        if len(tokens) < order:
            raise Refusal(f"a text of {len(tokens)} tokens has no n-gram of {order}.")
        self.vocabulary, self.order = vocabulary, order
        tokens = np.asarray(tokens, np.int64)
        keys: list[Counts] = []
        numbers: list[Counts] = []  # of the n-gram that ends at each place, from place n - 1 on
        firsts: list[Counts] = []  # where each n-gram first ends
        for n in range(1, order + 1):
            here = tokens[n - 1 :] + (numbers[-1][:-1] * vocabulary if n > 1 else 0)
            unique, first, number = np.unique(here, return_index=True, return_inverse=True)
            keys.append(unique)
            numbers.append(number)
            firsts.append(first)
        self._orders = []
        for n in range(1, order + 1):
            if n == order:
                counts = np.bincount(numbers[-1], minlength=len(keys[-1]))
            else:  # a longer n-gram that first ends at its place p ends this one's place p + 1
                counts = np.bincount(numbers[n - 1][firsts[n] + 1], minlength=len(keys[n - 1]))
            contexts = len(keys[n - 2]) if n > 1 else 1
            self._orders.append(_order(keys[n - 1], counts, keys[n - 1] // vocabulary, contexts))

    def nats(self, tokens: Counts) -> NDArray[np.float64]:
        """(N - 1,): -log p of every token of a stream but the first, given up to `order` - 1 tokens before it."""
        tokens = np.asarray(tokens, np.int64)
        targets = tokens[1:]
        probability = np.full(len(targets), 1 / self.vocabulary)
        context = np.zeros(
            len(targets), np.int64
        )  # number of the n-gram that ends before each target, -1 for none; of no token: 0
        before: Counts = context
        for n, order in enumerate(self._orders, 1):
            if n > 1:  # the n - 1 tokens before the target: those before the previous one, and the previous one
                shorter = self._orders[n - 2]
                previous = np.concatenate([[-1 if n > 2 else 0], before[:-1]])
                context = shorter.find(previous * self.vocabulary + tokens[:-1], previous >= 0)
                before = context
            known = context >= 0
            place = np.where(known, context, 0)
            total = np.where(known, order.totals[place], 0)
            found = order.find(place * self.vocabulary + targets, known)
            count = np.where(found >= 0, order.counts[found], 0)
            heard = total > 0
            divisor = np.where(heard, total, 1)
            own = (count - order.discounts[np.minimum(count, 3)]) / divisor
            probability = np.where(heard, own + order.left[place] / divisor * probability, probability)
        nats: NDArray[np.float64] = -np.log(probability)
        return nats

    def evaluate(self, corpus: TokenizedCorpus, vocabulary: Vocabulary) -> Evaluation:
        """What a split costs: each of its tokens, and the end of each document."""
        nats = self.nats(whole_stream(corpus, vocabulary))
        unknown = int((np.asarray(corpus.tokens) == vocabulary["unk"]).sum()) if "unk" in vocabulary.special else 0
        return Evaluation(
            "left to right", float(nats.sum()), len(nats), len(corpus), len(corpus.tokens), unknown, corpus.words,
            corpus.bytes, corpus.characters, self.order, 1,
        )  # fmt: skip


def _order(keys: Counts, counts: Counts, context: Counts, contexts: int) -> _Order:
    discounts = _discounts(counts)
    sizes = np.minimum(counts, 3)
    totals = np.bincount(context, weights=counts, minlength=contexts).astype(np.int64)
    left: NDArray[np.float64] = np.bincount(context, weights=discounts[sizes], minlength=contexts).astype(np.float64)
    return _Order(keys, counts, totals, left, discounts)


def _discounts(counts: Counts) -> NDArray[np.float64]:
    """(4,): what is taken from counts of 0 (nothing), 1, 2, and 3 or more."""
    seen = np.bincount(np.minimum(counts, 5), minlength=5)[1:5].astype(float)  # how many have counts of 1, 2, 3, 4
    discounts = np.array([0.0, 0.5, 0.5, 0.5])
    if seen[0] and seen[1]:
        share = seen[0] / (seen[0] + 2 * seen[1])
        for count in (1, 2, 3):
            if seen[count - 1]:
                discount = count - (count + 1) * share * seen[count] / seen[count - 1]
                if 0 < discount < count:
                    discounts[count] = discount
    return discounts
