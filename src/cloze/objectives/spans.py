"""T5's noise, for a whole batch at a time (Raffel et al. 2019, https://arxiv.org/abs/1910.10683, sections 3.1.4 and 3.3).

Pure functions on arrays. Every draw is a function of its example's key, so an example's spans do not depend on its
batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloze.data import keyed
from cloze.data.base import Packed
from cloze.errors import Refusal
from cloze.objectives.corruption import beginnings, ranges

Integers = NDArray[np.int64]


def span_counts(lengths: Integers, density: float, mean_span: float) -> tuple[Integers, Integers]:
    """How many tokens are noise, and in how many spans, for each length: (B,) -> (B,), (B,).

    Halves are rounded to the even number, as T5 does. At least one token is noise and at least one is not; a single
    token stays whole (no span at all).
    """
    noise = np.clip(np.round(lengths * density), 1, np.maximum(lengths - 1, 1)).astype(np.int64)
    # every span needs a token of its own, and so does the text before it
    spans = np.clip(np.round(noise / mean_span), 1, np.minimum(noise, np.maximum(lengths - noise, 1))).astype(np.int64)
    single = lengths < 2
    return np.where(single, 0, noise), np.where(single, 0, spans)


def corrupted_lengths(raw: int, density: float, mean_span: float) -> tuple[int, int]:
    """Lengths of what the encoder reads and of the target that `raw` tokens become, each with its end-of-text token.

    The target is counted as T5's released code makes it, without the final sentinel that the paper adds.
    """
    noise, spans = (int(count[0]) for count in span_counts(np.array([raw]), density, mean_span))
    return raw - noise + spans + 1, noise + spans + 1


def raw_length(length: int, density: float, mean_span: float) -> int:
    """The most raw tokens whose encoder input fits in `length`: 568 for 512 at density 0.15 and mean span 3.

    Raises Refusal where not even two tokens fit.
    """
    raw = length
    if corrupted_lengths(2, density, mean_span)[0] > length:
        raise Refusal(f"length={length} is too short for objective=span_corruption: it needs at least 3 tokens.")
    while corrupted_lengths(raw + 1, density, mean_span)[0] <= length:
        raw += 1
    while corrupted_lengths(raw, density, mean_span)[0] > length:
        raw -= 1
    return raw


def random_segmentation(items: Integers, segments: Integers, keys: keyed.Keys) -> Integers:
    """Cuts each of `items` (B,) into `segments` (B,) parts of at least one, every way equally likely: (B, most
    segments).

    Columns beyond a row's segments are 0.
    """
    rows, most = len(items), int(segments.max(initial=1))
    places = np.arange(max(int(items.max(initial=1)) - 1, 1))
    draws = keyed.uniform(keys[:, None], places[None, :])
    draws[places[None, :] >= items[:, None] - 1] = 2.0  # there is no cut after the last item
    if most < 2:
        cuts = np.zeros((rows, 0), np.int64)
    else:
        # the places of the smallest draws are a uniformly random set of cuts; which ones, not their order, matters
        cuts = np.argpartition(draws, min(most - 2, draws.shape[1] - 1), axis=1)[:, : most - 1]
        if (segments != most).any():  # rows with fewer cuts need the smallest of them, so these in order
            cuts = np.take_along_axis(cuts, np.argsort(np.take_along_axis(draws, cuts, 1), axis=1), 1)
        cuts = cuts.astype(np.int64) + 1
    beyond = np.arange(cuts.shape[1])[None, :] >= segments[:, None] - 1
    cuts = np.sort(np.where(beyond, items[:, None], cuts), axis=1)
    edges = np.concatenate([np.zeros((rows, 1), np.int64), cuts, items[:, None]], axis=1)
    return np.diff(edges, axis=1)


def noise_spans(lengths: Integers, density: float, mean_span: float, keys: keyed.Keys) -> tuple[Integers, Integers]:
    """Spans of each sequence, (B, S) tokens that are kept before each span and (B, S) tokens of the span, 0 where none.

    Kept and noise segments take turns, a kept one first, so each sequence ends in noise.
    """
    noise, spans = span_counts(lengths, density, mean_span)
    hidden = random_segmentation(noise, spans, keyed.stream(keys, "noise"))
    kept = random_segmentation(lengths - noise, spans, keyed.stream(keys, "kept"))
    return kept, hidden


def span_noise(kept: Integers, hidden: Integers) -> NDArray[np.bool_]:
    """Whether each token is noise, (N,), for the spans (B, S) that `noise_spans` drew."""
    segments = np.stack([kept, hidden], axis=2).reshape(-1)  # in reading order
    return np.repeat(np.arange(len(segments)) % 2 == 1, segments)


def iid_noise(lengths: Integers, density: float, keys: keyed.Keys, most: int) -> NDArray[np.bool_]:
    """Each token of each sequence is noise with probability `density`, (N,), whatever its neighbours are.

    A sequence's runs of noise beyond the first `most` are left as they are: there is a sentinel for so many.
    """
    noise = (
        keyed.uniform(np.repeat(keyed.stream(keys, "noise"), lengths), ranges(np.zeros_like(lengths), lengths))
        < density
    )
    return noise & (_run_numbers(run_starts(noise, lengths), lengths) < most)


def prefixes(lengths: Integers, keys: keyed.Keys) -> Integers:
    """How many tokens of each sequence (B,) are its beginning: each number from 1 to length - 1 is as likely as the others."""
    drawn = keyed.integers(keyed.stream(keys, "prefix"), np.zeros(1, np.int64), lengths - 1)
    return np.minimum(1 + drawn, lengths - 1)


def shuffled(tokens: Integers, lengths: Integers, keys: keyed.Keys) -> Integers:
    """The tokens of each sequence in a random order, (N,)."""
    draws = keyed.bits(np.repeat(keyed.stream(keys, "order"), lengths), ranges(np.zeros_like(lengths), lengths))
    return tokens[np.lexsort((draws, np.repeat(np.arange(len(lengths)), lengths)))]


def run_starts(noise: NDArray[np.bool_], lengths: Integers) -> NDArray[np.bool_]:
    """Whether each token is the first of a run of noise: (N,) -> (N,). A run ends with its sequence."""
    starts = noise.copy()
    starts[1:] &= ~noise[:-1]
    first = beginnings(lengths[lengths > 0])
    starts[first] = noise[first]
    return starts


def _run_numbers(starts: NDArray[np.bool_], lengths: Integers) -> Integers:
    """The number of the run, from 0 in each sequence, that each token is in or stands behind: (N,), -1 before the first."""
    passed = np.concatenate([[0], np.cumsum(starts)]).astype(np.int64)
    return passed[1:] - np.repeat(passed[beginnings(lengths)], lengths) - 1


def cut_spans(
    tokens: Integers,
    lengths: Integers,
    noise: NDArray[np.bool_],
    sentinels: Integers,
    end: int,
    final_sentinel: bool,
) -> tuple[Packed, Packed]:
    """What the encoder reads and what the decoder must write, from flat `tokens` (N,) of sequences of `lengths` (B,).

    Run number s of the tokens that are `noise` (N,) is replaced by sentinel s in the first and stands after sentinel s in
    the second; with `final_sentinel` the next one closes the second. Both end in `end`. Every token stands in exactly one
    of the two.
    """
    starts = run_starts(noise, lengths)
    of = np.repeat(np.arange(len(lengths)), lengths)
    sentinel = sentinels[np.maximum(_run_numbers(starts, lengths), 0)]
    # a run's first token makes room for the sentinel in the inputs; the other tokens of it vanish
    reads = ~noise | starts
    inputs = np.where(starts, sentinel, tokens)[reads]
    input_lengths = np.bincount(of[reads], minlength=len(lengths))

    at = np.flatnonzero(noise)
    places = np.arange(len(at)) + np.cumsum(starts[at])  # each with its run's sentinel and all earlier ones before it
    outputs = np.empty(len(at) + int(starts.sum()), np.int64)
    outputs[places] = tokens[at]
    outputs[places[starts[at]] - 1] = sentinel[at][starts[at]]
    runs = np.bincount(of[starts], minlength=len(lengths))
    output_lengths = np.bincount(of[at], minlength=len(lengths)) + runs

    ends = np.full((len(lengths), 1), end)
    closing = np.concatenate([sentinels[runs][:, None], ends], axis=1) if final_sentinel else ends
    return append(inputs, input_lengths, ends), append(outputs, output_lengths, closing)


def shift_right(sequences: Packed, start: int) -> Packed:
    """What a decoder reads to write `sequences`: each begins with `start` and loses its last token."""
    shifted = np.empty_like(sequences.tokens)
    shifted[1:] = sequences.tokens[:-1]
    shifted[beginnings(sequences.lengths)] = start
    return Packed(shifted, sequences.lengths)


def restore(inputs: Integers, outputs: Integers, sentinels: Integers, end: int) -> Integers:
    """The text of one example again: each sentinel of `inputs` replaced by what follows it in `outputs`."""
    known = set(sentinels.tolist())
    filling: dict[int, list[int]] = {}
    current: list[int] = []
    for token in outputs.tolist():
        if token == end:
            break
        if token in known:
            current = filling.setdefault(token, [])
        else:
            current.append(token)
    text: list[int] = []
    for token in inputs.tolist():
        if token == end:
            break
        text.extend(filling.get(token, []) if token in known else [token])
    return np.array(text, np.int64)


def append(tokens: Integers, lengths: Integers, tails: Integers) -> Packed:
    """Each sequence with its row of `tails` (B, n) behind it."""
    n = tails.shape[1]
    longer = lengths + n
    offsets = beginnings(longer)
    result = np.empty(int(longer.sum()), np.int64)
    result[np.arange(len(tokens)) + np.repeat(np.arange(len(lengths)) * n, lengths)] = tokens
    result[(offsets + lengths)[:, None] + np.arange(n)] = tails
    return Packed(result, longer)
