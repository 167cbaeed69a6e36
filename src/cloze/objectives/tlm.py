"""Translation language modelling: masked language modelling on a text and its translation side by side (XLM: Lample and Conneau
2019, https://arxiv.org/abs/1901.07291). To predict a hidden word the model can look at the other language.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from cloze.data import keyed
from cloze.data.base import Packed, Parallel, Record, TokenizedCorpus, Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Backbone, Bidirectional
from cloze.objectives.base import Examples, Objective
from cloze.objectives.corruption import Rounding, Unit, ranges
from cloze.objectives.formats import chain, lay_out, special_places
from cloze.objectives.mlm import MaskedExamples, MaskedLM
from cloze.objectives.pairs import Pairs

SPECIAL = 4  # [CLS] x [SEP] [CLS] y [SEP]


class TranslationExamples(MaskedExamples):
    """Inputs of [CLS] text [SEP] [CLS] its translation [SEP], tokens hidden in both; each half looks like an input of masked language
    modelling. (XLM writes </s> for both [CLS] and [SEP]: its four </s>.)

    Positions begin again at 0 in the second half. Each token says its language, and for models that know segments instead (BERT) the
    halves are segments 0 and 1. Which language comes first is drawn anew each time. An input has as many consecutive sentences as fit with
    their translations, at most `sentences`; a sentence that does not fit with its translation is left out, never cut.

    The table's columns: the first sentence, the first one of the translation, how many sentences, and the special tokens inside.
    """

    reads: ClassVar[type[Record]] = Parallel

    def __init__(
        self,
        vocabulary: Vocabulary,
        length: int,
        mask_ratio: float = 0.15,
        unit: Unit = "token",
        longest: int | None = None,
        stop: float | None = None,
        mask: float = 0.8,
        random: float = 0.1,
        keep: float = 0.1,
        random_tokens: Literal["vocabulary", "ordinary"] = "vocabulary",
        rounding: Rounding = "nearest",
        max_predictions: int | None = None,
        masking: Literal["dynamic", "static"] = "dynamic",
        duplicates: int | None = None,
        judged_at: float | None = 0.15,
        sentences: int | None = None,
    ) -> None:
        if length < SPECIAL + 2:
            raise Refusal(
                f"length={length} leaves no room for a text and its translation: objective=tlm needs at least length={SPECIAL + 2}."
            )
        if sentences is not None and sentences < 1:
            raise Refusal(f"objective.sentences={sentences} must be at least 1, or null for as many as fit.")
        super().__init__(
            vocabulary, length, mask_ratio, unit, longest, stop, mask, random, keep, random_tokens, rounding, max_predictions, masking,
            duplicates, judged_at, format="doc_sentences",
        )  # fmt: skip
        self.sentences = sentences

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        first, second, notes = self._pairs_of(corpus)
        sizes = np.diff(corpus.sentences)
        cost = sizes[first] + sizes[second]
        # what goes on: the next sentence of the same document, translated by the next sentence of the same document
        document = np.repeat(np.arange(len(corpus)), np.diff(corpus.documents))
        breaks = (np.diff(first) != 1) | (np.diff(second) != 1)
        breaks |= (np.diff(document[first]) != 0) | (np.diff(document[second]) != 0)
        run = np.concatenate([[0], np.cumsum(breaks)])
        ends = np.concatenate([[0], np.cumsum(cost)])
        successor = np.searchsorted(ends, ends[:-1] + self.length - SPECIAL, side="right") - 1
        successor = np.minimum(successor, np.searchsorted(run, run, side="right"))
        if self.sentences is not None:
            successor = np.minimum(successor, np.arange(len(first)) + self.sentences)
        start = chain(successor)
        stop = successor[start]
        count = stop - start
        special = special_places(corpus, self._special)
        inside = np.zeros(len(start), np.int64)
        for sentence in (first[start], second[start]):
            edges = np.searchsorted(special, corpus.sentences[np.stack([sentence, sentence + count])])
            inside += edges[1] - edges[0]
        table = np.stack([first[start], second[start], count, inside], axis=1)
        return Examples(corpus, table, ends[stop] - ends[start] + SPECIAL, notes)

    def _pairs_of(self, corpus: TokenizedCorpus) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
        """Sentences and their translations, each pair once, those that are too long left out, and what to say of that."""
        translations = np.empty(0, np.int64) if corpus.translations is None else np.asarray(corpus.translations)
        first = np.flatnonzero(translations >= 0)
        if not len(first):
            raise Refusal(
                "objective=tlm needs sentences with translations: this split has none. With data=world_parallel: data.translated=1."
            )
        second = translations[first]
        once = (translations[second] != first) | (first < second)
        first, second = first[once], second[once]
        sizes = np.diff(corpus.sentences)
        fits = sizes[first] + sizes[second] <= self.length - SPECIAL
        if not fits.any():
            shortest = int((sizes[first] + sizes[second]).min()) + SPECIAL
            raise Refusal(
                f"length={self.length} is too short for objective=tlm: no sentence fits with its translation; the shortest needs "
                f"length={shortest}."
            )
        left_out = int((~fits).sum())
        notes: tuple[str, ...] = ()
        if left_out:
            notes = (
                f"{left_out:,} of {len(fits):,} sentences are too long with their translation for length={self.length}: left out.",
            )
        return first[fits], second[fits], notes

    def read(
        self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys
    ) -> tuple[Packed, NDArray[np.bool_], NDArray[np.bool_] | None, Pairs | None]:
        corpus, rows = examples.corpus, examples.table[indices]
        swapped = (keyed.bits(keyed.stream(keys, "side"), np.zeros(1, np.int64)) >> np.uint64(63)).astype(bool)
        sides = np.where(swapped[:, None], rows[:, [1, 0]], rows[:, [0, 1]]).ravel()
        starts = corpus.sentences[sides]
        sizes = corpus.sentences[sides + np.repeat(rows[:, 2], 2)] - starts
        # laid out as inputs of their own, then taken two by two
        halves, candidates, word_starts = lay_out(
            corpus,
            starts,
            sizes,
            np.ones(len(sides), np.int64),
            self.vocabulary["cls"],
            self.vocabulary["sep"],
            segments=False,
            words=self.unit != "token",
        )
        if rows[:, 3].any():
            candidates &= ~self._special[halves.tokens]
        inputs = replace(
            halves,
            lengths=halves.lengths.reshape(-1, 2).sum(axis=1),
            segments=np.repeat(np.arange(len(sides)) % 2, halves.lengths),
            positions=ranges(np.zeros(len(sides), np.int64), halves.lengths),
        )
        return inputs, candidates, word_starts, None

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        if self.unit != "token":
            return super().counts(examples, indices, keys)
        lengths = examples.lengths[indices]
        available = lengths - SPECIAL - examples.table[indices, 3]
        return {"mlm": int(np.minimum(self._wanted(lengths, keys), available).sum())}


class TranslationLM(MaskedLM, Objective[Bidirectional, Parallel]):
    """Cross-entropy at the selected tokens of both languages."""

    Examples = TranslationExamples

    def __init__(self, model: Backbone, vocabulary: Vocabulary) -> None:
        super().__init__(model, vocabulary)
