"""Masked language modelling, alone or with a loss on pairs of segments.

Some tokens are hidden and predicted from both sides (BERT: Devlin et al. 2018, https://arxiv.org/abs/1810.04805). A second loss may
ask whether two segments follow each other (NSP) or in which order they stand (SOP: ALBERT, Lan et al. 2019,
https://arxiv.org/abs/1909.11942). How sentences are put into one input is a setting apart from that loss (RoBERTa: Liu et al. 2019,
https://arxiv.org/abs/1907.11692).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from cloze.data import keyed, languages
from cloze.data.base import Packed, Sample, Text, TokenizedCorpus, Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Backbone, Batch, Bidirectional
from cloze.models.layers.initialization import truncated_normal
from cloze.objectives import corruption
from cloze.objectives.base import ExampleBuilder, Examples, Objective, StepOutput, Tally, Term
from cloze.objectives.corruption import Rounding, Unit
from cloze.objectives.cross_entropy import token_cross_entropy
from cloze.objectives.formats import (
    SINGLE,
    Format,
    lay_out,
    pack_sentences,
    special_count,
    special_places,
    split_at_documents,
)
from cloze.objectives.pairs import Negatives, Pair, PairRules, Pairs, PairSampler
from cloze.objectives.shares import check_fates, check_share, tally_fates

if TYPE_CHECKING:
    from torchmetrics import Metric

LONGEST = {"ngram": 3, "span": 10}  # words, as ALBERT and SpanBERT have it
STOP = 0.2  # SpanBERT: the chance that a span ends after a word


class MaskedExamples(ExampleBuilder):
    """Inputs of [CLS] text [SEP], or [CLS] first [SEP] second [SEP], with some tokens hidden.

    A setting that is None takes its published value where it has an effect, and must stay None where it has none.
    """

    special_tokens = ("cls", "sep", "mask")

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
        format: Format = "full_sentences",
        short_share: float | None = None,
        pair: Pair = "none",
        negatives: Negatives | None = None,
        pair_rules: PairRules | None = None,
        judge: list[Literal["mlm", "nsp", "sop"]] | None = None,
    ) -> None:
        check_share("mask_ratio", mask_ratio, lowest_excluded=True)
        if judged_at is not None:
            check_share("judged_at", judged_at, lowest_excluded=True)
        check_fates(mask, random, keep)
        if max_predictions is not None and max_predictions < 1:
            raise Refusal(f"objective.max_predictions={max_predictions} must be at least 1, or null for no limit.")
        self.distribution = self._lengths(unit, longest, stop)
        if masking == "dynamic" and duplicates is not None:
            raise Refusal(
                f"objective.duplicates={duplicates} has no effect with objective.masking=dynamic, which never repeats a mask. "
                "Set objective.masking=static, or leave duplicates out."
            )
        if duplicates is not None and duplicates < 1:
            raise Refusal(f"objective.duplicates={duplicates} must be at least 1: the masks that each example has.")
        if short_share is not None:
            check_share("short_share", short_share)
            if format != "segment_pair":
                raise Refusal(
                    f"objective.short_share={short_share:g} has no effect with objective.format={format}: "
                    "only objective.format=segment_pair draws shorter targets."
                )
        self._check_pair(format, pair, negatives, pair_rules)
        shortest = special_count(format) + (1 if format in SINGLE else 2)
        if length < shortest:
            raise Refusal(
                f"length={length} leaves no room for text: objective.format={format} needs at least length={shortest} "
                f"({special_count(format)} special tokens and {shortest - special_count(format)} of text)."
            )
        if judge and length < 5:
            raise Refusal(f"objective.judge={list(judge)} asks about pairs of segments: they need at least length=5.")
        self._judged = tuple(judge or ())
        self.vocabulary, self.length = vocabulary, length
        self.mask_ratio, self.unit, self.rounding, self.max_predictions = mask_ratio, unit, rounding, max_predictions
        self.mask, self.random, self.random_tokens = mask, random, random_tokens
        self.duplicates = None if masking == "dynamic" else (duplicates or 10)
        self.judged_at, self.format, self.pair = judged_at, format, pair
        self._special = np.zeros(vocabulary.size, bool)
        self._special[list(vocabulary.special_ids)] = True
        self._ordinary = np.flatnonzero(~self._special)
        self._pairs = None
        if format not in SINGLE:
            self._pairs = PairSampler(
                pair,
                negatives or "random",
                pair_rules or "paper",
                room=length - special_count(format),
                short_share=0.0 if format == "sentence_pair" else 0.1 if short_share is None else short_share,
                sentences=format == "sentence_pair",
            )

    @staticmethod
    def _lengths(unit: Unit, longest: int | None, stop: float | None) -> NDArray[np.float64] | None:
        if longest is not None and unit not in LONGEST:
            raise Refusal(
                f"objective.longest={longest} has no effect with objective.unit={unit}: only ngram and span have lengths."
            )
        if stop is not None and unit != "span":
            raise Refusal(f"objective.stop={stop:g} has no effect with objective.unit={unit}: only span has it.")
        if longest is not None and longest < 1:
            raise Refusal(f"objective.longest={longest} must be at least 1 (words).")
        if stop is not None:
            check_share("stop", stop, lowest_excluded=True)
        if unit == "ngram":
            return corruption.ngram_distribution(longest or LONGEST[unit])
        if unit == "span":
            return corruption.span_distribution(longest or LONGEST[unit], STOP if stop is None else stop)
        return None

    @staticmethod
    def _check_pair(format: Format, pair: Pair, negatives: Negatives | None, rules: PairRules | None) -> None:
        if pair != "none" and format in SINGLE:
            raise Refusal(
                f"objective.pair={pair} needs two segments; objective.format={format} has one. "
                f"With objective.pair={pair}: objective.format=segment_pair|sentence_pair. "
                f"With objective.format={format}: objective.pair=none."
            )
        if negatives is not None and pair != "nsp":
            raise Refusal(
                f"objective.negatives={negatives} has no effect with objective.pair={pair}: only nsp takes partners from other documents. "
                "For such inputs without the loss: objective.pair=nsp objective.pair_loss_weight=0."
            )
        if rules is not None and pair == "none":
            raise Refusal(f"objective.pair_rules={rules} has no effect with objective.pair=none.")

    # examples

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        """Rows of `pack_sentences` or `chunk_sentences`, and behind them how many special tokens stand in the text itself: for pairs, in
        the whole corpus, as their partner may come from anywhere."""
        for task in self._judged:  # refuses, before anything is trained, a corpus that the judge could not use
            try:
                pair: Pair = "none" if task == "mlm" else task
                PairSampler(pair, "random", "paper", self.length - 3, 0.1, False).chunks(corpus)
            except Refusal as refusal:
                raise Refusal(f"objective.judge={task}: {refusal}") from None
        special = special_places(corpus, self._special)
        if self._pairs is None:
            rows = pack_sentences(corpus, self.length, across_documents=self.format == "full_sentences")
            inside = np.searchsorted(special, rows[:, 1]) - np.searchsorted(special, rows[:, 0])
            lengths = rows[:, 1] - rows[:, 0] + rows[:, 3] + 1
            spoken = languages.of_documents(corpus, rows[:, 2])
            return Examples(corpus, np.column_stack([rows, inside]), lengths, languages=spoken)
        chunks, notes = self._pairs.chunks(corpus)
        sizes = corpus.sentences[chunks[:, 1]] - corpus.sentences[chunks[:, 0]]
        table = np.column_stack([chunks, np.full(len(chunks), len(special))])
        spoken = languages.of_documents(corpus, chunks[:, 2])
        return Examples(corpus, table, np.minimum(sizes + 3, self.length), notes, languages=spoken)

    def read(
        self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys
    ) -> tuple[Packed, NDArray[np.bool_], NDArray[np.bool_] | None, Pairs | None]:
        """Examples before anything is hidden: (inputs, (N,) whether a token may be selected, (N,) whether it begins a word, pairs)."""
        corpus, rows = examples.corpus, examples.table[indices]
        pairs = None
        if self._pairs is None:
            starts, sizes, pieces = split_at_documents(corpus, rows)
        else:
            pairs = self._pairs.draw(corpus, rows, keys)
            there = pairs.sizes > 0
            starts, sizes, pieces = pairs.starts[there], pairs.sizes[there], there.sum(axis=1)
        inputs, candidates, word_starts = lay_out(
            corpus,
            starts,
            sizes,
            pieces,
            self.vocabulary["cls"],
            self.vocabulary["sep"],
            segments=pairs is not None,
            words=self.unit != "token",
        )
        if rows[:, -1].any():
            candidates &= ~self._special[inputs.tokens]
        return inputs, candidates, word_starts, pairs

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        inputs, candidates, word_starts, pairs = self.read(examples, indices, keys)
        wanted = self._wanted(inputs.lengths, keys)
        selection = corruption.select(
            self.unit, candidates, word_starts, inputs.lengths, wanted, keys, self.distribution
        )
        hidden = inputs.tokens[selection.at]
        tokens, actions = corruption.corrupt(
            inputs.tokens,
            inputs.lengths,
            selection,
            keys,
            self.vocabulary["mask"],
            self.mask,
            self.random,
            self.vocabulary.size if self.random_tokens == "vocabulary" else self._ordinary,
            together=self.unit == "span",
        )
        targets: dict[str, NDArray[Any]] = {"at": selection.at, "tokens": hidden}
        counts = {"mlm": len(hidden)}
        extra = {"actions": actions, "leaders": selection.leaders, "drawn": selection.drawn, "left": selection.left}
        if pairs is not None:
            extra["pairs"] = pairs
        if self.pair != "none" and pairs is not None:
            targets["pair"] = pairs.labels
            counts["pair"] = len(indices)
        return Sample(replace(inputs, tokens=tokens), targets, counts, extra=extra)

    def _wanted(self, lengths: NDArray[np.int64], keys: keyed.Keys) -> NDArray[np.int64]:
        return corruption.target_counts(lengths, self.mask_ratio, self.max_predictions, self.rounding, keys)

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        if self.unit != "token":
            return super().counts(
                examples, indices, keys
            )  # how well whole words fill the number is only known by trying
        rows = examples.table[indices]
        if self._pairs is None:
            lengths = examples.lengths[indices]
            available = lengths - rows[:, 3] - 1 - rows[:, 4]
        elif rows[:, -1].any():
            inputs, candidates, _, _ = self.read(examples, indices, keys)
            lengths = inputs.lengths
            available = np.add.reduceat(candidates, corruption.beginnings(lengths), dtype=np.int64)
        else:
            sizes = self._pairs.draw(examples.corpus, rows, keys).sizes
            available = sizes.sum(axis=1)
            lengths = available + 1 + (sizes > 0).sum(axis=1)
        counts = {"mlm": int(np.minimum(self._wanted(lengths, keys), available).sum())}
        return counts if self.pair == "none" else counts | {"pair": len(indices)}

    def keys(self, seed: int, epoch: int, indices: NDArray[np.int64]) -> keyed.Keys:
        """Static masking goes through `duplicates` fixed masks of each example (BERT's dupe_factor), one an epoch, and begins again."""
        return super().keys(seed, epoch if self.duplicates is None else epoch % self.duplicates, indices)

    def judge(self) -> MaskedExamples:
        """Single tokens at the rate `judged_at`, 80 % masked, 10 % replaced, 10 % kept, whatever training does; inputs as in training."""
        if self.judged_at is None:
            return self
        judge = copy.copy(self)
        judge.mask_ratio, judge.unit, judge.distribution = self.judged_at, "token", None
        judge.mask, judge.random, judge.random_tokens = 0.8, 0.1, "vocabulary"
        judge.rounding, judge.max_predictions = "nearest", None
        return judge

    # for the lens and the audit

    def explain(self, sample: Sample) -> list[list[str]]:
        return corruption.fates_in_words(sample, self._special)

    def tally(self, sample: Sample) -> dict[str, Tally]:
        at, extra = sample.targets["at"], sample.extra
        lengths = sample.inputs.lengths
        tokens = int(lengths.sum())
        exact = lengths * self.mask_ratio
        if self.rounding == "stochastic":
            exact = np.minimum(exact, np.inf if self.max_predictions is None else self.max_predictions)
            part = exact % 1
            expected, variance = float(exact.sum()), float((part * (1 - part)).sum())
        else:
            expected = float(corruption.target_counts(lengths, self.mask_ratio, self.max_predictions).sum())
            variance = 0.0
        expected -= float(extra["left"].sum())
        rounded = "at random" if self.rounding == "stochastic" else "in each input"
        words = "" if self.unit == "token" else ", as whole words fit"
        tallies = {
            f"selected, rounded {rounded}{words}": Tally(expected, len(at), tokens, variance),
            "special among the selected": Tally.share(0.0, int(self._special[sample.targets["tokens"]].sum()), len(at)),
        }
        # the tokens of a span share their fate: it is one trial
        fates = extra["actions"][at == extra["leaders"]] if self.unit == "span" else extra["actions"]
        of = "spans" if self.unit == "span" else "selected"
        tallies |= tally_fates(fates, self.mask, self.random, of)
        if self.distribution is not None:
            drawn = extra["drawn"]
            for length, share in enumerate(self.distribution, start=1):
                tallies[f"lengths drawn: {length} word{'s' * (length > 1)}"] = Tally.share(
                    share, int((drawn == length).sum()), len(drawn)
                )
        if self._pairs is not None:
            tallies |= self._pairs.tally(extra["pairs"])
        return tallies


class MaskedLM(Objective[Bidirectional, Text]):
    """Cross-entropy at the selected tokens, and of the pair's label: the mean over tokens plus `pair_loss_weight` times the mean over
    pairs (BERT: 1)."""

    Examples: ClassVar[type[MaskedExamples]] = MaskedExamples

    def __init__(
        self,
        model: Backbone,
        vocabulary: Vocabulary,
        pair: Pair = "none",
        pair_loss_weight: float | None = None,
        judge: list[Literal["mlm", "nsp", "sop"]] | None = None,
    ) -> None:
        super().__init__()
        if pair_loss_weight is not None and pair == "none":
            raise Refusal(f"objective.pair_loss_weight={pair_loss_weight:g} has no effect with objective.pair=none.")
        if pair_loss_weight is not None and not 0 <= pair_loss_weight < float("inf"):
            raise Refusal(f"objective.pair_loss_weight={pair_loss_weight:g} must be 0 or more.")
        self.pair = pair
        self.judge = tuple(judge or ())  # what `analysis.pair_judge` asks the finished model
        self.pair_loss_weight = 1.0 if pair_loss_weight is None else pair_loss_weight
        self.head = model.token_head()
        self.pair_head = None
        if pair != "none":
            self.pair_head = nn.Linear(model.width, 2)
            truncated_normal(self.pair_head, model.initializer_range)

    @classmethod
    def pools(cls, settings: dict[str, Any]) -> bool:
        return bool(settings.get("pair", "none") != "none")

    def forward(self, model: Bidirectional, batch: Batch) -> StepOutput:
        states = model(batch)
        targets = batch.targets["tokens"]
        hidden = states.last.index_select(0, batch.targets["at"])
        total, right = token_cross_entropy(self.head, hidden, model.word_embedding, targets)
        output = StepOutput.of(states, {"mlm": Term(total, len(targets))}, {"right": right})
        if self.pair_head is not None:
            labels = batch.targets["pair"]
            logits = self.pair_head(model.pool(states, batch)).float()
            loss = F.cross_entropy(logits, labels, reduction="sum")
            output.terms["pair"] = Term(loss, len(labels), self.pair_loss_weight)
            output.predictions["pair_right"] = logits.detach().argmax(-1) == labels
        return output

    def verdict(
        self,
        model: Bidirectional,
        builder: ExampleBuilder,
        train: TokenizedCorpus,
        validation: TokenizedCorpus,
        seed: int,
    ) -> dict[str, float]:
        """Masked words, NSP and SOP, where `judge` asks for them."""
        if not self.judge:
            return {}
        from cloze.analysis.pair_judge import PairJudge

        asked = PairJudge(self.judge, train, validation, builder.vocabulary, builder.length, seed)
        return asked(model, self)

    def metrics(self) -> dict[str, Metric]:
        from torchmetrics import MeanMetric

        names = ["accuracy"] if self.pair_head is None else ["accuracy", "pair_accuracy"]
        return {name: MeanMetric() for name in names}

    def measure(self, metrics: dict[str, Metric], output: StepOutput, batch: Batch) -> None:
        metrics["accuracy"].update(output.predictions["right"].float())
        if self.pair_head is not None:
            metrics["pair_accuracy"].update(output.predictions["pair_right"].float())
