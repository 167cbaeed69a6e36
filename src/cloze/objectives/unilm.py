"""UniLM's mixture: hidden tokens are predicted from both sides, from the left, from the right, or from a source and the left
(Dong et al. 2019, https://arxiv.org/abs/1905.03197). One encoder learns all four, as each example's attention pattern says.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from cloze.data import keyed, languages
from cloze.data.base import Packed, Sample, Text, TokenizedCorpus, Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Backbone, Batch, Steerable
from cloze.objectives import corruption
from cloze.objectives.base import ExampleBuilder, Examples, StepOutput, Tally
from cloze.objectives.corruption import beginnings
from cloze.objectives.every_token import EveryToken
from cloze.objectives.formats import lay_out, pack_sentences, special_places
from cloze.objectives.shares import check_fates, check_share, tally_fates

if TYPE_CHECKING:
    from torchmetrics import Metric

PATTERNS = ("bidirectional", "sequence_to_sequence", "left_to_right", "right_to_left")
BIDIRECTIONAL, SEQUENCE_TO_SEQUENCE, LEFT_TO_RIGHT, RIGHT_TO_LEFT = range(4)
PUBLISHED = (2.0, 2.0, 1.0, 1.0)
SEGMENTS = np.array([[0, 1], [4, 5], [2, 2], [3, 3]])  # of each pattern: of the first piece of text, of the second


class MixedExamples(ExampleBuilder):
    """Stretches of one document, each read under a pattern that is drawn anew each time.

    bidirectional         [CLS] first [SEP] second [SEP], all of it seen by all: BERT's cloze
    sequence_to_sequence  the same, its source ([CLS] first [SEP]) seen by all, its target from left to right
    left_to_right         [CLS] text [SEP], a token sees what stands before it
    right_to_left         the same laid in reverse order, the tokens keeping their positions: a token sees what stands behind it

    A pair is cut between two sentences, where there are two. The four are drawn in the proportions given. In each, tokens are
    hidden as BERT hides them, wherever they stand, singly or (a share `ngrams`) two or three in a row, and predicted where they
    stand. The paper's next-sentence loss on bidirectional examples is left out: RoBERTa found it to be of no use.

    The table's columns: start and end among the corpus's tokens, and how many special tokens (unknown words) stand in between.
    """

    special_tokens = ("cls", "sep", "mask")

    def __init__(
        self,
        vocabulary: Vocabulary,
        length: int,
        bidirectional: float = 2.0,
        sequence_to_sequence: float = 2.0,
        left_to_right: float = 1.0,
        right_to_left: float = 1.0,
        mask_ratio: float = 0.15,
        ngrams: float = 0.2,
        mask: float = 0.8,
        random: float = 0.1,
        keep: float = 0.1,
        judged_at: float | None = 0.15,
    ) -> None:
        proportions = (bidirectional, sequence_to_sequence, left_to_right, right_to_left)
        for name, proportion in zip(PATTERNS, proportions, strict=True):
            if not 0 <= proportion < float("inf"):
                raise Refusal(f"objective.{name}={proportion:g} is a proportion: it must be 0 or more.")
        if not sum(proportions):
            raise Refusal(f"objective.{', objective.'.join(PATTERNS)} are all 0: no example would have a pattern.")
        check_share("mask_ratio", mask_ratio, lowest_excluded=True)
        if judged_at is not None:
            check_share("judged_at", judged_at, lowest_excluded=True)
        check_share("ngrams", ngrams)
        check_fates(mask, random, keep)
        if length < 5:
            raise Refusal(f"length={length} leaves no room for a pair: objective=unilm needs at least length=5.")
        self.vocabulary, self.length = vocabulary, length
        self.shares = np.array(proportions) / sum(proportions)
        self.mask_ratio, self.ngrams, self.mask, self.random, self.judged_at = (
            mask_ratio,
            ngrams,
            mask,
            random,
            judged_at,
        )
        self._special = np.zeros(vocabulary.size, bool)
        self._special[list(vocabulary.special_ids)] = True

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        rows = pack_sentences(corpus, self.length - 1, across_documents=False)  # a pair has one special token more
        if not len(rows):
            raise Refusal("the corpus has no tokens: objective=unilm needs at least one document.")
        special = special_places(corpus, self._special)
        inside = np.searchsorted(special, rows[:, 1]) - np.searchsorted(special, rows[:, 0])
        spoken = languages.of_documents(corpus, rows[:, 2])
        return Examples(corpus, np.column_stack([rows[:, :2], inside]), rows[:, 1] - rows[:, 0] + 3, languages=spoken)

    def _patterns(
        self, corpus: TokenizedCorpus, rows: NDArray[np.int64], keys: keyed.Keys
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(B,) each example's pattern, and (B,) the tokens of its first piece of text: all where there is no second."""
        chance, cut = keyed.uniform(keyed.stream(keys, "pattern"), np.arange(2)[:, None])
        cumulative = np.cumsum(self.shares)
        cumulative[self.shares.nonzero()[0][-1] :] = 1.0
        patterns = np.searchsorted(cumulative, chance, side="right")
        start, size = rows[:, 0], rows[:, 1] - rows[:, 0]
        # the sentences that begin inside, and any token where none does
        first = np.searchsorted(corpus.sentences, start, side="right")
        count = np.searchsorted(corpus.sentences, rows[:, 1], side="left") - first
        sentence = corpus.sentences[np.minimum(first + (cut * count).astype(np.int64), len(corpus.sentences) - 1)]
        split = np.where(count > 0, sentence - start, np.minimum(1 + (cut * (size - 1)).astype(np.int64), size))
        return patterns, np.where(patterns <= SEQUENCE_TO_SEQUENCE, split, size)

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        rows = examples.table[indices]
        patterns, first = self._patterns(examples.corpus, rows, keys)
        starts = np.stack([rows[:, 0], rows[:, 0] + first], axis=1)
        sizes = np.stack([first, rows[:, 1] - rows[:, 0] - first], axis=1)
        there = sizes > 0
        inputs, candidates, _ = lay_out(
            examples.corpus,
            starts[there],
            sizes[there],
            there.sum(axis=1),
            self.vocabulary["cls"],
            self.vocabulary["sep"],
            segments=True,
            words=False,
        )
        if rows[:, -1].any():
            candidates &= ~self._special[inputs.tokens]
        lengths = inputs.lengths
        selection = self._select(candidates, lengths, keys)
        tokens, actions = corruption.corrupt(
            inputs.tokens,
            lengths,
            selection,
            keys,
            self.vocabulary["mask"],
            self.mask,
            self.random,
            self.vocabulary.size,
        )
        pattern_of = np.repeat(patterns, lengths)
        assert inputs.segments is not None
        segments = SEGMENTS[pattern_of, inputs.segments]
        # where each token lies: right to left is the same text from its end
        offsets = np.repeat(beginnings(lengths), lengths)
        positions = np.arange(len(tokens)) - offsets
        reverse = pattern_of == RIGHT_TO_LEFT
        place = np.where(reverse, offsets + np.repeat(lengths, lengths) - 1 - positions, offsets + positions)
        order = np.empty_like(place)
        order[place] = np.arange(len(place))
        at = place[selection.at]
        rising = np.argsort(at)
        hidden = selection.at[rising]
        return Sample(
            Packed(
                tokens[order],
                lengths,
                segments[order],
                positions[order],
                None if inputs.languages is None else inputs.languages[order],
            ),
            targets={"at": at[rising], "tokens": inputs.tokens[hidden], "patterns": pattern_of[hidden]},
            counts={"unilm": len(at)},
            prefix=np.choose(patterns, [lengths, first + 2, 0, 0]),
            extra={
                "actions": actions[rising],
                "patterns": patterns,
                "drawn": selection.drawn,
                "left": selection.left,
            },
        )

    def _select(
        self, candidates: NDArray[np.bool_], lengths: NDArray[np.int64], keys: keyed.Keys
    ) -> corruption.Selection:
        wanted = corruption.target_counts(lengths, self.mask_ratio)
        if not self.ngrams:
            return corruption.select_tokens(candidates, lengths, wanted, keys)
        distribution = np.array([1 - self.ngrams, self.ngrams / 2, self.ngrams / 2])
        every = np.ones(len(candidates), bool)  # n-grams of tokens: each counts as a word
        return corruption.select_words(candidates, every, lengths, wanted, keys, distribution)

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        rows = examples.table[indices]
        _, first = self._patterns(examples.corpus, rows, keys)
        size = rows[:, 1] - rows[:, 0]
        wanted = corruption.target_counts(size + 2 + (first < size), self.mask_ratio)
        return {"unilm": int(np.minimum(wanted, size - rows[:, -1]).sum())}

    def judge(self) -> MixedExamples:
        """The published proportions, single tokens at the rate `judged_at`, 80/10/10, whatever training does."""
        if self.judged_at is None:
            return self
        judge = copy.copy(self)
        judge.shares = np.array(PUBLISHED) / sum(PUBLISHED)
        judge.mask_ratio, judge.ngrams, judge.mask, judge.random = self.judged_at, 0.0, 0.8, 0.1
        return judge

    def explain(self, sample: Sample) -> list[list[str]]:
        return corruption.fates_in_words(sample, self._special)

    def tally(self, sample: Sample) -> dict[str, Tally]:
        at, extra = sample.targets["at"], sample.extra
        patterns, count = extra["patterns"], len(extra["patterns"])
        wanted = corruption.target_counts(sample.inputs.lengths, self.mask_ratio) - extra["left"]
        tallies = {
            f"examples {name.replace('_', ' ')}": Tally.share(portion, int((patterns == number).sum()), count)
            for number, (name, portion) in enumerate(zip(PATTERNS, self.shares, strict=True))
        }
        tallies["selected, rounded in each input"] = Tally(
            float(wanted.sum()), len(at), int(sample.inputs.lengths.sum())
        )
        tallies["special among the selected"] = Tally.share(
            0.0, int(self._special[sample.targets["tokens"]].sum()), len(at)
        )
        tallies |= tally_fates(extra["actions"], self.mask, self.random)
        if self.ngrams:
            for length, portion in enumerate((1 - self.ngrams, self.ngrams / 2, self.ngrams / 2), start=1):
                tallies[f"lengths drawn: {length} token{'s' * (length > 1)}"] = Tally.share(
                    portion, int((extra["drawn"] == length).sum()), len(extra["drawn"])
                )
        return tallies


class Mixed(EveryToken[Steerable, Text]):
    """Cross-entropy at the hidden tokens, whatever the pattern that they are predicted under."""

    Examples: ClassVar[type[ExampleBuilder]] = MixedExamples
    term = "unilm"

    def __init__(self, model: Backbone, vocabulary: Vocabulary, head_rows: int = 0) -> None:
        super().__init__(model, vocabulary, head_rows)
        segments = getattr(model, "segments", None)
        if segments is not None and segments < SEGMENTS.max() + 1:
            raise Refusal(
                f"model.segments={segments} is too few for objective=unilm, which marks each pattern by segments of its own: "
                f"it needs model.segments={SEGMENTS.max() + 1}."
            )

    def metrics(self) -> dict[str, Metric]:
        from torchmetrics import MeanMetric

        return super().metrics() | {f"accuracy_{name}": MeanMetric() for name in PATTERNS}

    def measure(self, metrics: dict[str, Metric], output: StepOutput, batch: Batch) -> None:
        super().measure(metrics, output, batch)
        right, patterns = output.predictions["right"].float(), batch.targets["patterns"]
        for number, name in enumerate(PATTERNS):
            # weights, not a choice of rows: how many there are would have to be asked of the device
            metrics[f"accuracy_{name}"].update(right, (patterns == number).float())
