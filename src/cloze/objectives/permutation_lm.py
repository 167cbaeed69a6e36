"""Permutation language modelling: tokens are predicted one after the other in a random order, each from those before it in that
order wherever they stand (XLNet: Yang et al. 2019, https://arxiv.org/abs/1906.08237).
"""

from __future__ import annotations

import copy
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cloze.data import keyed
from cloze.data.base import Packed, Sample, Text, TokenizedCorpus, Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Batch, HiddenStates, TwoStreams
from cloze.objectives import orders
from cloze.objectives.base import ExampleBuilder, Examples, Tally
from cloze.objectives.corruption import beginnings, by_sequence, ngram_distribution, ranges, select_tokens
from cloze.objectives.every_token import EveryToken
from cloze.objectives.windows import ends_of_text, places_of, whole, windows

Documents = Literal["packed", "apart", "continued"]


class PermutationExamples(ExampleBuilder):
    """Windows of a text, of each of which one token in `one_in` is predicted, and [SEP] [CLS] behind it (XLNet's [CLS] is the last).

    Every document stands between two end-of-text tokens, which are tokens like others. [SEP] and [CLS] are never predicted. All tokens
    that are neither predicted nor these two are given: every prediction sees them. The predicted ones and the two stand in a random
    order, and a prediction sees those of lower rank.

    `unit=span`: spans of up to `longest` whole words, as XLNet's released code draws them (`orders.select_spans`; its test for where
    a word begins looks at the wrong token, so that its spans end after n tokens: not repeated here). `unit=token`: each choice of
    tokens is as likely as any other, the paper's partial prediction with K = `one_in`. With `one_in` 1 all tokens are predicted.

    `order=left_to_right`, with `one_in` 1, predicts every token from those before it, as causal language models do: bits per byte of a
    text can be compared with theirs. A window then begins with the last token of the window before, which is given, so that each token
    behind the first end-of-text is predicted exactly once.

    `documents=packed`: one document after the other in full windows. `apart`: a window never holds two documents. `continued`: the
    windows follow each other without overlap and without [SEP] and [CLS], for a memory that is carried from batch to batch; what is
    left of the text at its end is not read. The code's halves, of which one is reused as memory, and its pairs of segments, whose
    loss the paper drops, are not there.

    Validation predicts single tokens at random, one in `judged_one_in`, whatever training does.
    """

    special_tokens: ClassVar[tuple[str, ...]] = ("cls", "sep", "eos")

    def __init__(
        self,
        vocabulary: Vocabulary,
        length: int,
        one_in: int = 6,
        unit: Literal["span", "token"] = "span",
        longest: int | None = None,
        order: Literal["permutation", "left_to_right"] = "permutation",
        documents: Documents = "packed",
        judged_one_in: int = 6,
    ) -> None:
        for name, value in (("one_in", one_in), ("judged_one_in", judged_one_in)):
            if value < 1:
                raise Refusal(
                    f"objective.{name}={value} must be at least 1: one token in so many is predicted; XLNet's is 6."
                )
        if one_in > max(length, 6):  # shorter texts than the usual 6 have one target all the same
            raise Refusal(
                f"objective.one_in={one_in} is more than length={length}: one token of every text would be predicted whatever it says. "
                f"Take at most {length}."
            )
        if longest is not None and (unit == "token" or one_in == 1):
            why = "objective.unit=token" if unit == "token" else "objective.one_in=1, where all tokens are predicted"
            raise Refusal(f"objective.longest={longest} has no effect with {why}.")
        if longest is not None and longest < 1:
            raise Refusal(f"objective.longest={longest} must be at least 1 (words); XLNet's is 5.")
        if order == "left_to_right" and one_in != 1:
            raise Refusal(
                f"objective.order=left_to_right predicts every token: objective.one_in={one_in} has no effect with it; "
                "take objective.one_in=1."
            )
        self.continuous = documents == "continued"
        shortest = 1 if self.continuous else 4
        if length < shortest:
            raise Refusal(f"length={length} must be at least {shortest} tokens for objective=permutation_lm.")
        self.vocabulary, self.length, self.documents = vocabulary, length, documents
        self.one_in, self.unit, self.order, self.judged_one_in = one_in, unit, order, judged_one_in
        self.distribution = ngram_distribution(longest or 5)
        self._functional = np.array([] if self.continuous else [vocabulary["sep"], vocabulary["cls"]], np.int64)

    def left_to_right(self) -> PermutationExamples:
        """The same windows, every token of which is predicted from those before it: what bits per byte of a text are taken from."""
        other = copy.copy(self)
        other.one_in, other.order = 1, "left_to_right"
        return other

    def judge(self) -> PermutationExamples:
        judge = copy.copy(self)
        judge.one_in, judge.unit, judge.order = self.judged_one_in, "token", "permutation"
        return judge

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        """Rows as `windows.places_of` takes them."""
        ends = ends_of_text(corpus)
        if len(ends) < 2:
            raise Refusal("the corpus has no tokens: objective=permutation_lm needs at least one document.")
        if self.continuous:  # from behind the first end-of-text, which no causal model predicts either
            cut = whole(windows(ends[[0, -1]] + 1, self.length), self.length) - np.array([0, 1])
        else:
            cut = windows(ends if self.documents == "apart" else ends[[0, -1]], self.length - len(self._functional) - 1)
        table = np.concatenate([cut, np.searchsorted(ends, cut, side="right") - 1], axis=1)
        return Examples(corpus, table, cut[:, 1] - cut[:, 0] + 1 + len(self._functional))

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        corpus, rows, lengths = examples.corpus, examples.table[indices], examples.lengths[indices]
        places = places_of(corpus, rows)
        sizes = lengths - len(self._functional)
        words = np.where(places < 0, True, corpus.word_starts[places])
        text = np.where(places < 0, self.vocabulary["eos"], corpus.tokens[places].astype(np.int64))
        predicted, drawn = self._choose(words, sizes, lengths, keys)

        # the text's places among all tokens, and behind each text those of [SEP] and [CLS]
        at = ranges(beginnings(lengths), sizes)
        tokens = np.empty(int(lengths.sum()), np.int64)
        functional = np.ones(len(tokens), bool)
        functional[at] = False
        tokens[at], tokens[functional] = text, np.tile(self._functional, len(rows))
        queries = at[predicted]
        ranked = functional.copy()
        ranked[queries] = True
        reading = self.order == "left_to_right"
        ranks = orders.reading_ranks(ranked, lengths) if reading else orders.random_ranks(ranked, lengths, keys)
        segments = None if self.continuous else np.where(functional & (tokens == self.vocabulary["cls"]), 2, 0)
        return Sample(
            inputs=Packed(tokens, lengths, segments, order=ranks, queries=queries),
            targets={"tokens": tokens[queries]},
            counts={"permutation_lm": len(queries)},
            extra={"drawn": drawn, "functional": functional},
        )

    def _choose(
        self, words: NDArray[np.bool_], sizes: NDArray[np.int64], lengths: NDArray[np.int64], keys: keyed.Keys
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Which tokens of the texts are predicted, and the lengths in words that were drawn for spans."""
        none = np.empty(0, np.int64)
        if self.one_in == 1:
            predicted = np.ones(len(words), bool)
            if self.order == "left_to_right" and not self.continuous:
                predicted[beginnings(sizes)] = False
            return predicted, none
        counts = orders.target_counts(lengths, self.one_in, sizes)
        if self.unit == "span":
            return orders.select_spans(words, sizes, counts, self.one_in, self.distribution, keys)
        predicted = np.zeros(len(words), bool)
        predicted[select_tokens(np.ones(len(words), bool), sizes, counts, keys).at] = True
        return predicted, none

    def _predicted(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many tokens of each example are predicted: (B,) -> (B,)."""
        sizes = lengths - len(self._functional)
        if self.order == "left_to_right" and not self.continuous:
            return sizes - 1
        return sizes if self.one_in == 1 else orders.target_counts(lengths, self.one_in, sizes)

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        return {"permutation_lm": int(self._predicted(examples.lengths[indices]).sum())}

    def explain(self, sample: Sample) -> list[list[str]]:
        inputs = sample.inputs
        ends = inputs.tokens == self.vocabulary["eos"]
        words = np.where(sample.extra["functional"] | ends, "special", "").astype(object)
        words[inputs.queries] = "target"
        return by_sequence(words, inputs.lengths)

    def tally(self, sample: Sample) -> dict[str, Tally]:
        inputs = sample.inputs
        assert inputs.order is not None and inputs.queries is not None
        tallies = {
            f"targets, one in {self.one_in}, rounded down": Tally(
                float(self._predicted(inputs.lengths).sum()), len(inputs.queries), len(inputs.tokens)
            ),
            "[SEP] and [CLS] among the targets": Tally.share(
                0.0, int(sample.extra["functional"][inputs.queries].sum()), len(inputs.queries)
            ),
        }
        # pairs of neighbours in the order that have no token in common: 0 and 1, 2 and 3, …
        ordered = np.flatnonzero(inputs.order >= 0)
        sequence = np.repeat(np.arange(len(inputs.lengths)), inputs.lengths)[ordered]
        ordered = ordered[np.lexsort((inputs.order[ordered], sequence))]
        first = np.flatnonzero((inputs.order[ordered] % 2 == 0)[:-1] & (np.diff(np.sort(sequence)) == 0))
        forward = int((ordered[first] < ordered[first + 1]).sum())
        share = 1.0 if self.order == "left_to_right" else 0.5
        tallies["neighbours in the order that stand in reading order"] = Tally.share(share, forward, len(first))
        if len(drawn := sample.extra["drawn"]):
            for length, share in enumerate(self.distribution, start=1):
                tallies[f"lengths drawn: {length} word{'s' * (length > 1)}"] = Tally.share(
                    float(share), int((drawn == length).sum()), len(drawn)
                )
        return tallies


class PermutationLM(EveryToken[TwoStreams, Text]):
    """Cross-entropy of the predicted tokens, from the states that do not know them, with the family's own head."""

    Examples = PermutationExamples
    term = "permutation_lm"
    task, queries = "fill", True

    def asked(self, states: HiddenStates, batch: Batch) -> Tensor:
        assert states.queries is not None
        return states.queries
