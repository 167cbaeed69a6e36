"""BART's noises, for a whole batch at a time (Lewis et al. 2019, section 2.2, https://arxiv.org/abs/1910.13461).

Pure functions from damaged texts to more damaged ones. Every draw is a function of its text's key, so what happens to a text does
not depend on its batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cloze.data import keyed
from cloze.objectives.corruption import beginnings, ranges, select_tokens

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Become = Literal["one_mask", "masks", "nothing"]


@dataclass(frozen=True)
class Texts:
    """B texts in flat arrays of N tokens, one text after the other.

    tokens (N,); word_starts (N,): begins a word; noise (N,): stands there because of noise; lengths (B,).
    """

    tokens: Integers
    word_starts: Booleans
    noise: Booleans
    lengths: Integers

    @classmethod
    def of(cls, tokens: Integers, word_starts: Booleans, lengths: Integers) -> Texts:
        """Texts without noise so far. The first token of each begins a word, even where it is only the rest of one."""
        starts = word_starts.copy()
        starts[beginnings(lengths)[lengths > 0]] = True
        return cls(tokens, starts, np.zeros(len(tokens), bool), lengths)

    def take(self, index: Integers, lengths: Integers) -> Texts:
        """The tokens at `index`, as texts of `lengths`."""
        return Texts(self.tokens[index], self.word_starts[index], self.noise[index], lengths)

    @property
    def owner(self) -> Integers:
        """(N,): the text that each token belongs to."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


@dataclass(frozen=True)
class Spans:
    """What `infill` hid: K spans in all, text by text in the order in which they stand there.

    owner (K,) the text; drawn (K,) lengths in words as they were drawn, sizes (K,) as they are, the last one drawn for a text being
    cut to what was left of its number; tokens (K,) how many tokens that is.
    """

    owner: Integers
    drawn: Integers
    sizes: Integers
    tokens: Integers


def rounded_up(counts: Integers, share: float) -> Integers:
    """A share of each of `counts`, rounded up; what is a whole number but for the last binary digit stays one."""
    parts: Integers = np.ceil(counts * share - 1e-9).astype(np.int64)
    return parts


def poisson(mean: float) -> NDArray[np.float64]:
    """The probabilities of 0, 1, 2, …, as far as a number of 53 random bits can tell them from 0."""
    logarithms = [n * math.log(mean) - mean - math.lgamma(n + 1) for n in range(int(mean + 12 * math.sqrt(mean) + 40))]
    probabilities: NDArray[np.float64] = np.exp(logarithms)
    probabilities /= probabilities.sum()
    return probabilities


def span_lengths(budget: Integers, mean: float, keys: keyed.Keys) -> tuple[Integers, Integers]:
    """Lengths drawn from a Poisson distribution until they make up each text's `budget` (B,) of words.

    Returns (B, D) as drawn and (B,) how many of a row are used, the last of which is to be cut to what is left.
    """
    cumulative = np.cumsum(poisson(mean))
    cumulative[-1] = 1.0
    count = int(budget.max(initial=0) / mean * 1.5) + 8
    while True:
        drawn = np.searchsorted(cumulative, keyed.uniform(keys[:, None], np.arange(count)[None, :]), side="right")
        reached = np.cumsum(drawn, axis=1)
        if (reached[:, -1] >= budget).all():
            used = np.where(budget > 0, (reached < budget[:, None]).sum(axis=1) + 1, 0)
            return drawn.astype(np.int64), used
        count *= 2


def _mingled(kept: Integers, added: Integers, keys: keyed.Keys) -> tuple[Integers, Integers]:
    """Puts `added` (B,) new things among `kept` (B,) ones, every way equally likely: for all things in their new order the text
    (I,), and the number of the added one (I,), -1 where it is one of those kept (which stay in order)."""
    count = kept + added
    owner = np.repeat(np.arange(len(count)), count)
    number = ranges(np.zeros_like(count), count)
    order = np.lexsort((keyed.bits(keys[owner], number), owner))
    return owner, np.maximum((number - kept[owner])[order], -1)


def infill(
    texts: Texts, share: float, mean: float, become: Become, mask: int, room: int, keys: keyed.Keys
) -> tuple[Texts, Spans]:
    """Text infilling: hides a share of each text's words, rounded up, in spans whose lengths come from a Poisson distribution.

    Each span becomes one mask (`one_mask`), so that a span of no word puts a mask in; a mask for each of its tokens (`masks`); or
    `nothing`. Spans do not overlap and every way to place them is equally likely. Where spans of no word would make a text longer
    than `room` tokens, the last of them are left out.
    """
    words = np.bincount(texts.owner[texts.word_starts], minlength=len(texts.lengths))
    budget = np.minimum(rounded_up(words, share), words)
    drawn, used = span_lengths(budget, mean, keyed.stream(keys, "lengths"))
    owner, number = _mingled(words - budget, used, keyed.stream(keys, "place"))
    is_span = number >= 0
    at = owner[is_span], number[is_span]
    before = np.cumsum(drawn, axis=1) - drawn
    sizes = np.ones(len(owner), np.int64)
    sizes[is_span] = np.minimum(drawn[at], (budget[:, None] - before)[at])
    # kept words and spans together are all words, in order: where each begins and how many tokens it has
    edges = np.append(np.flatnonzero(texts.word_starts), len(texts.tokens))
    first = np.cumsum(sizes) - sizes
    tokens = edges[first + sizes] - edges[first]
    written = tokens.copy()
    if become != "masks":
        written[is_span] = become == "one_mask"
    empty = is_span & (sizes == 0)
    if become == "one_mask":
        over = np.bincount(owner, written, minlength=len(words)).astype(np.int64) - room
        number_of_empty = np.cumsum(empty) - np.repeat(_before(empty, words - budget + used), words - budget + used)
        dropped = empty & (
            number_of_empty > (np.bincount(owner[empty], minlength=len(words)) - np.maximum(over, 0))[owner]
        )
        written[dropped] = 0
        is_span &= ~dropped
    lengths = np.bincount(owner, written, minlength=len(words)).astype(np.int64)
    source = np.full(int(written.sum()), -1)
    copied = number < 0
    source[ranges((np.cumsum(written) - written)[copied], written[copied])] = ranges(
        edges[first[copied]], tokens[copied]
    )
    spans = Spans(owner[is_span], drawn[owner[is_span], number[is_span]], sizes[is_span], tokens[is_span])
    return _filled(texts, source, lengths, mask), spans


def _before(things: Booleans, counts: Integers) -> Integers:
    """How many of the flat `things` stand before each text's, which has `counts` (B,) places."""
    return np.concatenate([[0], np.cumsum(things)])[beginnings(counts)]


def _filled(texts: Texts, source: Integers, lengths: Integers, mask: int) -> Texts:
    """The tokens at `source`, a mask where that is -1."""
    new = source < 0
    index = np.maximum(source, 0)
    if not len(texts.tokens):
        return texts
    taken = texts.take(index, lengths)
    return Texts(np.where(new, mask, taken.tokens), taken.word_starts | new, taken.noise | new, lengths)


def _chosen(texts: Texts, share: float, keys: keyed.Keys) -> Integers:
    """Places of a share, rounded up, of each text's tokens that are not noise."""
    own = np.bincount(texts.owner[~texts.noise], minlength=len(texts.lengths))
    return select_tokens(~texts.noise, texts.lengths, rounded_up(own, share), keys).at


def mask_tokens(texts: Texts, share: float, mask: int, keys: keyed.Keys) -> Texts:
    """Token masking: a mask in the place of a share of the tokens, rounded up; tokens that are noise already are left alone."""
    at = _chosen(texts, share, keyed.stream(keys, "mask"))
    tokens, noise = texts.tokens.copy(), texts.noise.copy()
    tokens[at], noise[at] = mask, True
    return Texts(tokens, texts.word_starts, noise, texts.lengths)


def delete_tokens(texts: Texts, share: float, keys: keyed.Keys) -> Texts:
    """Token deletion: a share of the tokens, rounded up, is gone without a trace; noise stays."""
    stays = np.ones(len(texts.tokens), bool)
    stays[_chosen(texts, share, keyed.stream(keys, "delete"))] = False
    return texts.take(np.flatnonzero(stays), np.bincount(texts.owner[stays], minlength=len(texts.lengths)))


def insert_masks(texts: Texts, share: float, mask: int, keys: keyed.Keys) -> Texts:
    """Random insertion: as many masks as a share of the tokens, rounded up, anywhere among them."""
    added = rounded_up(texts.lengths, share)
    _, number = _mingled(texts.lengths, added, keyed.stream(keys, "insert"))
    source = np.where(number < 0, np.cumsum(number < 0) - 1, -1)
    return _filled(texts, source, texts.lengths + added, mask)


def permute_sentences(
    texts: Texts, sizes: Integers, counts: Integers, share: float, keys: keyed.Keys
) -> tuple[Texts, Integers]:
    """Sentence permutation: a share of each text's sentences, rounded up, change places among themselves.

    sizes (S,): the sentences' tokens, text by text; counts (B,): sentences of each text. Returns the texts, and (S,) which sentence
    stands in each place.
    """
    owner = np.repeat(np.arange(len(counts)), counts)
    number = ranges(np.zeros_like(counts), counts)
    moved = rounded_up(counts, share)
    ranks = np.lexsort((keyed.bits(keyed.stream(keys, "sentences")[owner], number), owner))
    moves = np.zeros(len(sizes), bool)
    moves[ranks[ranges(beginnings(counts), moved)]] = True
    places = np.flatnonzero(moves)
    draws = keyed.bits(keyed.stream(keys, "order")[owner[places]], number[places])
    order = np.arange(len(sizes))
    order[places] = places[np.lexsort((draws, owner[places]))]
    starts = texts.word_starts.copy()
    starts[beginnings(sizes)[sizes > 0]] = (
        True  # a sentence that begins in the middle of a word stays apart from what it comes to follow
    )
    marked = Texts(texts.tokens, starts, texts.noise, texts.lengths)
    return marked.take(ranges(beginnings(sizes)[order], sizes[order]), texts.lengths), order


def rotate(texts: Texts, share: float, keys: keyed.Keys) -> tuple[Texts, Integers]:
    """Document rotation: with probability `share` a text begins with one of its tokens, each as likely as any other, and what stood
    before that comes at the end. Returns the texts, and (B,) the number of the token that each begins with, -1 where it was left.
    """
    draws = keyed.uniform(keyed.stream(keys, "rotate"), np.zeros(1, np.int64))
    first = keyed.integers(keyed.stream(keys, "first"), np.zeros(1, np.int64), texts.lengths)
    first = np.where((draws < share) & (texts.lengths > 0), first, -1)
    lengths = np.repeat(texts.lengths, texts.lengths)
    place = ranges(np.zeros_like(texts.lengths), texts.lengths)
    turned = (place + np.repeat(np.maximum(first, 0), texts.lengths)) % np.maximum(lengths, 1)
    return texts.take(turned + np.repeat(beginnings(texts.lengths), texts.lengths), texts.lengths), first


def randomise(texts: Texts, share: float, mask: int, replacements: Integers, keys: keyed.Keys) -> Texts:
    """Each mask becomes, with probability `share`, one of the tokens `replacements`."""
    at = np.flatnonzero(texts.noise & (texts.tokens == mask))
    owner = texts.owner[at]
    place = at - beginnings(texts.lengths)[owner]
    chosen = keyed.uniform(keyed.stream(keys, "random")[owner], place) < share
    drawn = keyed.integers(keyed.stream(keys, "token")[owner[chosen]], place[chosen], len(replacements))
    tokens = texts.tokens.copy()
    tokens[at[chosen]] = replacements[drawn]
    return Texts(tokens, texts.word_starts, texts.noise, texts.lengths)


def framed(tokens: Integers, lengths: Integers, before: list[int], after: list[int]) -> tuple[Integers, Integers]:
    """Every text with the tokens `before` in front of it and `after` behind it: flat tokens and lengths."""
    longer = lengths + len(before) + len(after)
    starts = beginnings(longer)
    result = np.empty(int(longer.sum()), np.int64)
    result[ranges(starts + len(before), lengths)] = tokens
    result[starts[:, None] + np.arange(len(before))] = before
    result[(starts + len(before) + lengths)[:, None] + np.arange(len(after))] = after
    return result, longer
