"""Which tokens are hidden, and what stands in their place: pure functions on a whole batch of sequences in flat arrays.

A batch is N tokens of B sequences one after the other. Every draw is a function of (the sequence's key, a position within the
sequence): what happens to a sequence does not depend on the batch that it is in.

The units that are selected:

- tokens (BERT: Devlin et al. 2018, https://arxiv.org/abs/1810.04805);
- whole words (BERT's later option);
- n-grams of whole words, a length n drawn in proportion to 1/n (ALBERT: Lan et al. 2019, https://arxiv.org/abs/1909.11942);
- spans of whole words, a length drawn from a clipped geometric distribution (SpanBERT: Joshi et al. 2019,
  https://arxiv.org/abs/1907.10529).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cloze.data import keyed
from cloze.data.base import Sample

Places = NDArray[np.int64]
Unit = Literal["token", "whole_word", "ngram", "span"]
Rounding = Literal["nearest", "stochastic"]

# One unsigned number a token orders a batch: sequence, then chance, then position. 28 bits of chance make a tie, which the earlier
# position wins, a matter of 1 in 268 million.
_POSITION_BITS, _CHANCE_BITS = 16, 28
_SEQUENCE_BITS = 64 - _POSITION_BITS - _CHANCE_BITS

# What is done with a selected token.
MASKED, REPLACED, KEPT = 0, 1, 2


def ranges(starts: NDArray[Any], lengths: NDArray[Any]) -> Places:
    """start, start + 1, … of every range, one range after the other: (n,) and (n,) -> (sum of lengths,)."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    places: Places = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return places


def beginnings(lengths: NDArray[Any]) -> Places:
    """Where each sequence begins in the flat arrays: (B,) -> (B,)."""
    starts: Places = np.cumsum(lengths) - lengths
    return starts


def by_sequence(values: NDArray[Any], lengths: NDArray[Any]) -> list[list[Any]]:
    """A flat array as a list for each sequence: (N,) and (B,) -> B lists."""
    return [part.tolist() for part in np.split(values, beginnings(lengths)[1:])]


@dataclass(frozen=True)
class Selection:
    """Which tokens were selected.

    at      (M,) their places in the flat arrays, in rising order
    leaders (M,) the place of the first token of the n-gram or span that each belongs to (itself, for the other units)
    drawn   (K,) the lengths in words that were drawn for n-grams and spans, empty for the other units
    left    (B,) how many of a sequence's number could not be had: no word that is still free is that short
    """

    at: Places
    leaders: Places
    drawn: Places
    left: Places


def target_counts(
    lengths: NDArray[np.int64],
    ratio: float,
    max_predictions: int | None = None,
    rounding: Rounding = "nearest",
    keys: keyed.Keys | None = None,
) -> NDArray[np.int64]:
    """How many tokens of each sequence are to be selected: (B,) lengths, special tokens included as BERT counts -> (B,).

    `nearest` (BERT): round(length * ratio), halves to the even number, at least 1. `stochastic` (RoBERTa's code):
    floor(length * ratio + U) with U uniform in [0, 1), whose mean is exact and which may be 0; it needs `keys`.
    """
    wanted = lengths * ratio
    if rounding == "stochastic":
        if keys is None:
            raise ValueError("stochastic rounding draws a number for each sequence: it needs keys")
        counts = np.floor(wanted + keyed.uniform(keyed.stream(keys, "count"), np.zeros(1, np.int64)))
    else:
        counts = np.maximum(1, np.rint(wanted))
    counts = np.minimum(counts, lengths)
    if max_predictions is not None:
        counts = np.minimum(counts, max_predictions)
    return counts.astype(np.int64)


def _in_random_order(
    sequences: Places, positions: Places, lengths: NDArray[np.int64], keys: keyed.Keys
) -> tuple[Places, Places]:
    """A random order within each sequence of the things at (sequence, position), given in rising order.

    Returns (their sequences, their positions) in the new order; the sequences stay in rising order.
    """
    chance = keyed.bits(keyed.stream(keys, "select")[sequences], positions) >> np.uint64(64 - _CHANCE_BITS)
    if len(lengths) > 1 << _SEQUENCE_BITS or (len(lengths) and int(lengths.max()) > 1 << _POSITION_BITS):
        order = np.lexsort((positions, chance, sequences))
        return sequences[order], positions[order]
    packed = sequences.astype(np.uint64) << np.uint64(_POSITION_BITS + _CHANCE_BITS)
    packed |= chance << np.uint64(_POSITION_BITS)
    packed |= positions.astype(np.uint64)
    packed.sort()  # three times as fast as an argsort of the same
    low = np.uint64((1 << _POSITION_BITS) - 1)
    return (packed >> np.uint64(_POSITION_BITS + _CHANCE_BITS)).astype(np.int64), (packed & low).astype(np.int64)


def select_tokens(
    candidates: NDArray[np.bool_], lengths: NDArray[np.int64], counts: NDArray[np.int64], keys: keyed.Keys
) -> Selection:
    """`counts` (B,) tokens of each sequence, or all candidates where there are fewer; each subset is as likely as any other.

    candidates (N,) bool: may be selected (no special token is).
    """
    starts = beginnings(lengths)
    places = np.flatnonzero(candidates)
    sequences = np.repeat(np.arange(len(lengths)), lengths)[places]
    available = np.bincount(sequences, minlength=len(lengths))
    sequences, positions = _in_random_order(sequences, places - starts[sequences], lengths, keys)
    taken = np.minimum(counts, available)
    first = ranges(beginnings(available), taken)
    at = starts[sequences[first]] + positions[first]
    at.sort()
    return Selection(at, at, np.empty(0, np.int64), counts - taken)


@dataclass
class _Words:
    """The words that may be selected, in reading order: W of them in B sequences.

    places (W,) of the first token; sizes (W,) in tokens; sequences (W,); last (W,): the number of the last word that follows
    without a gap (special tokens and ends of sequences are gaps).
    """

    places: Places
    sizes: Places
    sequences: Places
    last: Places


def _words(candidates: NDArray[np.bool_], word_starts: NDArray[np.bool_], lengths: NDArray[np.int64]) -> _Words:
    before = np.zeros(len(candidates), bool)
    before[1:] = candidates[:-1]
    starts = beginnings(lengths)
    before[starts[lengths > 0]] = False
    begins = candidates & (word_starts | ~before)
    places = np.flatnonzero(begins)
    # a word goes on over the candidates behind its first token
    number = np.cumsum(begins) - 1
    sizes = np.bincount(number[candidates], minlength=len(places))
    sequences = np.repeat(np.arange(len(lengths)), lengths)[places]
    ends_run = np.ones(len(places), bool)
    ends_run[:-1] = (places[:-1] + sizes[:-1] != places[1:]) | (sequences[:-1] != sequences[1:])
    last = np.flatnonzero(ends_run)[np.cumsum(ends_run) - ends_run] if len(places) else np.empty(0, np.int64)
    return _Words(places, sizes, sequences, last)


def select_words(
    candidates: NDArray[np.bool_],
    word_starts: NDArray[np.bool_],
    lengths: NDArray[np.int64],
    counts: NDArray[np.int64],
    keys: keyed.Keys,
    distribution: NDArray[np.float64] | None = None,
) -> Selection:
    """Whole words of at most `counts` (B,) tokens together, such that no further word would fit.

    The words of a sequence are gone through in random order. Without `distribution` a word is taken where it fits into what is left
    (BERT's rule: one that does not fit is passed over). With it, the share of each length 1, 2, …, a length is drawn, and as many
    consecutive words are taken from the first word in that order at which all of them are free; the last span of a sequence is cut to
    what is left. Lengths are drawn before a place is looked for and are kept until one is found, so short spans are not favoured.
    """
    words = _words(candidates, word_starts, lengths)
    total = len(words.places)
    starts = beginnings(lengths)
    available = np.bincount(words.sequences, minlength=len(lengths))
    first = beginnings(available)
    order = np.empty(total, np.int64)
    sequences, positions = _in_random_order(words.sequences, words.places - starts[words.sequences], lengths, keys)
    if total:
        order = np.searchsorted(words.places, starts[sequences] + positions)
    taken = np.zeros(total, bool)
    left = counts.copy()
    if distribution is None:
        _take_words(words, order, first, first + available, left, taken)
        leader_word, drawn = np.arange(total), np.empty(0, np.int64)
    else:
        leader_word, drawn = _take_spans(words, order, first, first + available, left, taken, keys, distribution)
    chosen = np.flatnonzero(taken)
    sizes = words.sizes[chosen]
    at = ranges(words.places[chosen], sizes)
    leaders = np.repeat(words.places[leader_word[chosen]], sizes) if distribution is not None else at
    return Selection(at, leaders, drawn, left)


def _take_words(words: _Words, order: Places, at: Places, end: Places, left: Places, taken: NDArray[np.bool_]) -> None:
    """Goes through all sequences' words together, one of each at a time; changes `taken` and `left`."""
    active = np.flatnonzero((left > 0) & (at < end))
    at = at.copy()
    while len(active):
        word = order[at[active]]
        size = words.sizes[word]
        fits = size <= left[active]
        taken[word[fits]] = True
        left[active] -= size * fits
        at[active] += 1
        active = active[(left[active] > 0) & (at[active] < end[active])]


def _take_spans(
    words: _Words,
    order: Places,
    first: Places,
    end: Places,
    left: Places,
    taken: NDArray[np.bool_],
    keys: keyed.Keys,
    distribution: NDArray[np.float64],
) -> tuple[Places, Places]:
    """Places spans in all sequences together, one try in each at a time; changes `taken` and `left`.

    Returns (each word's span, by the number of its first word; the lengths drawn). A first round wants all words of a span free; a
    second one, for sequences that it left unfilled, takes what is free of it.
    """
    leader = np.arange(len(words.places))
    cumulative = np.cumsum(distribution)
    cumulative[-1] = 1.0
    longest = len(distribution)
    offsets = np.arange(longest)
    tokens_before = np.concatenate([[0], np.cumsum(words.sizes)])
    # all the lengths that a sequence can need, drawn at once: each span takes a token at least
    numbers = np.arange(int(left.max(initial=0)) + 1)
    draws = keyed.uniform(keyed.stream(keys, "span")[:, None], numbers[None, :])
    lengths = np.searchsorted(cumulative, draws, side="right") + 1
    spans = np.zeros(len(left), np.int64)  # how many of them have been placed
    drawn: list[Places] = []
    for whole in (True, False):
        at = first.copy()
        active = np.flatnonzero((left > 0) & (at < end))
        while len(active):
            start = order[at[active]]
            wanted = lengths[active, spans[active]]
            reach = start[:, None] + offsets  # (active, longest)
            inside = (offsets < wanted[:, None]) & (reach <= words.last[start][:, None])
            free = inside & ~taken[np.minimum(reach, len(taken) - 1)]
            free = np.logical_and.accumulate(free, axis=1)
            placed = free.sum(axis=1) == wanted if whole else free[:, 0]
            tokens = tokens_before[np.minimum(reach + 1, len(taken))] - tokens_before[start][:, None]
            take = free & (tokens <= left[active][:, None])
            placed &= take[:, 0]
            take = take[placed]
            flat = reach[placed][take]
            taken[flat] = True
            number = take.sum(axis=1)
            leader[flat] = np.repeat(start[placed], number)
            sequence = active[placed]
            left[sequence] -= tokens[placed, number - 1]
            drawn.append(wanted[placed])
            spans[sequence] += 1
            at[active] += 1
            active = active[(left[active] > 0) & (at[active] < end[active])]
    return leader, np.concatenate(drawn) if drawn else np.empty(0, np.int64)


def ngram_distribution(longest: int = 3) -> NDArray[np.float64]:
    """ALBERT's lengths: the share of n is in proportion to 1/n, for n = 1 … longest."""
    weights: NDArray[np.float64] = 1.0 / np.arange(1, longest + 1)
    weights /= weights.sum()
    return weights


def span_distribution(longest: int = 10, stop: float = 0.2) -> NDArray[np.float64]:
    """SpanBERT's lengths: a span stops after each word with probability `stop`; cut off at `longest` and scaled to sum 1."""
    weights: NDArray[np.float64] = stop * np.power(1.0 - stop, np.arange(longest, dtype=np.float64))
    weights /= weights.sum()
    return weights


def select(
    unit: Unit,
    candidates: NDArray[np.bool_],
    word_starts: NDArray[np.bool_] | None,
    lengths: NDArray[np.int64],
    counts: NDArray[np.int64],
    keys: keyed.Keys,
    distribution: NDArray[np.float64] | None = None,
) -> Selection:
    """What is selected in a batch, by the unit's rule. All but `token` need `word_starts` (N,), n-grams and spans a distribution."""
    if unit == "token":
        return select_tokens(candidates, lengths, counts, keys)
    if word_starts is None:
        raise ValueError(f"unit={unit} goes by words: it needs word_starts")
    if unit != "whole_word" and distribution is None:
        raise ValueError(f"unit={unit} needs the distribution of its lengths")
    distribution = None if unit == "whole_word" else distribution
    return select_words(candidates, word_starts, lengths, counts, keys, distribution)


def corrupt(
    tokens: NDArray[np.int64],
    lengths: NDArray[np.int64],
    selection: Selection,
    keys: keyed.Keys,
    mask_token: int,
    mask: float,
    random: float,
    replacements: int | NDArray[np.int64],
    together: bool = False,
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Puts [MASK], a random token or the token itself in the place of the selected ones.

    `mask` and `random` are the shares of the first two. `replacements` is what random tokens are drawn from: the size of the
    vocabulary (all of it, as BERT does) or the ids themselves. With `together` the tokens of a span share their fate (SpanBERT).

    Returns (a copy of `tokens` with the changes, (M,) MASKED | REPLACED | KEPT).
    """
    sequences = np.searchsorted(np.cumsum(lengths), selection.at, side="right")
    starts = beginnings(lengths)[sequences]
    drawn_at = selection.leaders if together else selection.at
    fate = keyed.uniform(keyed.stream(keys, "replace")[sequences], drawn_at - starts)
    actions = np.where(fate < mask, MASKED, np.where(fate < mask + random, REPLACED, KEPT)).astype(np.int8)
    changed = tokens.copy()
    changed[selection.at[actions == MASKED]] = mask_token
    replaced = actions == REPLACED
    at = selection.at[replaced]
    choices = replacements if isinstance(replacements, int) else len(replacements)
    drawn = keyed.integers(keyed.stream(keys, "token")[sequences[replaced]], at - starts[replaced], choices)
    changed[at] = drawn if isinstance(replacements, int) else replacements[drawn]
    return changed, actions


def fates_in_words(sample: Sample, special: NDArray[np.bool_]) -> list[list[str]]:
    """For the lens: what was done to each token, from `targets["at"]` and `extra["actions"]`. special (V,) bool."""
    words = np.full(len(sample.inputs.tokens), "", dtype=object)
    words[special[sample.inputs.tokens]] = "special"
    names = np.array(["masked", "replaced", "kept"], dtype=object)
    words[sample.targets["at"]] = names[sample.extra["actions"]]
    return by_sequence(words, sample.inputs.lengths)
