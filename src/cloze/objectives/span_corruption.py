"""Span corruption: the decoder writes what the encoder does not see (T5: Raffel et al. 2019,
https://arxiv.org/abs/1910.10683).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from cloze.data import keyed
from cloze.data.base import Sample, Text, TokenizedCorpus, Vocabulary
from cloze.errors import Refusal
from cloze.models.base import EncoderDecoder
from cloze.objectives import spans
from cloze.objectives.base import ExampleBuilder, Examples, Tally
from cloze.objectives.corruption import by_sequence, ranges
from cloze.objectives.every_token import EveryToken
from cloze.objectives.windows import windows


class SpanExamples(ExampleBuilder):
    """Windows of raw tokens, as long as makes the encoder's input `length` tokens after corruption (568 for 512).

    A share `density` of each window's tokens is noise, in spans of `mean_span` tokens on average: each span is replaced
    by a sentinel of its own, and the target is the sentinels with the spans behind them. With `final_sentinel` one more
    sentinel closes the target, as the paper has it (figure 2); T5's released code leaves it out.

    `documents=packed` lets a window run over the ends of documents, as T5's does; `apart` gives each its own windows.
    Validation is always corrupted with `judged_density` and `judged_span`, so that arms can be compared.
    """

    special_tokens: ClassVar[tuple[str, ...]] = ("pad", "eos")
    sentinels: ClassVar[int] = 100

    def __init__(
        self,
        vocabulary: Vocabulary,
        length: int,
        density: float = 0.15,
        mean_span: float = 3.0,
        documents: Literal["packed", "apart"] = "packed",
        final_sentinel: bool = True,
        judged_density: float = 0.15,
        judged_span: float = 3.0,
    ) -> None:
        for name, share in (("density", density), ("judged_density", judged_density)):
            if not 0 < share < 1:
                raise Refusal(f"objective.{name}={share} must lie in (0, 1); T5's is 0.15.")
        for name, span in (("mean_span", mean_span), ("judged_span", judged_span)):
            if not 1 <= span < float("inf"):
                raise Refusal(f"objective.{name}={span} must be at least 1 token; T5's is 3.")
        self.vocabulary, self.length, self.documents = vocabulary, length, documents
        self.density, self.mean_span, self.final_sentinel = density, mean_span, final_sentinel
        self.judged_density, self.judged_span = judged_density, judged_span
        self.raw_length = spans.raw_length(length, density, mean_span)
        _, most = spans.span_counts(np.array([self.raw_length]), density, mean_span)
        needed = int(most[0]) + final_sentinel
        if needed > len(vocabulary.sentinels):
            raise Refusal(
                f"length={length} with objective.density={density} and objective.mean_span={mean_span} needs {needed} "
                f"sentinels; the tokenizer has {len(vocabulary.sentinels)}. Take a longer mean_span or a smaller length."
            )
        self._sentinels = np.array(vocabulary.sentinels, np.int64)

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        ends = corpus.sentences[corpus.documents]
        table = windows(ends[[0, -1]] if self.documents == "packed" else ends, self.raw_length)
        if not len(table):
            raise Refusal("the corpus has no tokens: objective=span_corruption needs at least one document.")
        lengths = table[:, 1] - table[:, 0]
        noise, count = spans.span_counts(lengths, self.density, self.mean_span)
        targets = noise + count + 1 + self.final_sentinel
        encoder = lengths - noise + count + 1
        return Examples(corpus, table, encoder, tokens=encoder + targets)

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        rows = examples.table[indices]
        lengths = rows[:, 1] - rows[:, 0]
        tokens = examples.corpus.tokens[ranges(rows[:, 0], lengths)].astype(np.int64)
        kept, hidden = spans.noise_spans(lengths, self.density, self.mean_span, keys)
        inputs, outputs = spans.cut_spans(
            tokens, lengths, kept, hidden, self._sentinels, self.vocabulary["eos"], self.final_sentinel
        )
        return Sample(
            inputs=inputs,
            decoder=spans.shift_right(outputs, self.vocabulary["pad"]),  # T5 has no token of its own to begin with
            targets={"tokens": outputs.tokens},
            counts={"span_corruption": len(outputs.tokens)},
        )

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        rows = examples.table[indices]
        noise, count = spans.span_counts(rows[:, 1] - rows[:, 0], self.density, self.mean_span)
        return {"span_corruption": int((noise + count + 1 + self.final_sentinel).sum())}

    def judge(self) -> SpanExamples:
        return SpanExamples(
            self.vocabulary,
            self.length,
            self.judged_density,
            self.judged_span,
            self.documents,
            self.final_sentinel,
            self.judged_density,
            self.judged_span,
        )

    def explain(self, sample: Sample) -> list[list[str]]:
        tokens = sample.inputs.tokens
        special = np.where(tokens == self.vocabulary["eos"], "special", "")
        words = np.where(np.isin(tokens, self._sentinels), "masked", special)
        return by_sequence(words, sample.inputs.lengths)

    def tally(self, sample: Sample) -> dict[str, Tally]:
        assert sample.decoder is not None
        inputs, outputs = sample.inputs, sample.targets["tokens"]
        row = np.repeat(np.arange(len(inputs.lengths)), inputs.lengths)
        count = np.bincount(row[np.isin(inputs.tokens, self._sentinels)], minlength=len(inputs.lengths))
        noise = sample.decoder.lengths - count - 1 - self.final_sentinel
        raw = inputs.lengths - 1 - count + noise
        expected_noise, expected_count = spans.span_counts(raw, self.density, self.mean_span)
        starts = np.flatnonzero(np.isin(outputs, self._sentinels))
        sizes = np.diff(starts, append=len(outputs))[: len(starts)] - 1
        if self.final_sentinel:  # it has no span behind it
            sizes = np.delete(sizes, np.cumsum(count + 1) - 1)
        else:  # the end-of-text token is no part of a sequence's last span
            sizes[np.cumsum(count)[count > 0] - 1] -= 1
        # of all ways to cut n tokens into k spans, a share (k - 1) / (n - 1) begins with a single token
        single = np.where(noise > 1, (count - 1) / np.maximum(noise - 1, 1), 1.0)
        return {
            f"hidden tokens (density {self.density:g}, rounded in each input)": Tally(
                float(expected_noise.sum()), float(noise.sum()), int(raw.sum())
            ),
            f"spans (mean length {self.mean_span:g}, rounded in each input)": Tally(
                float(expected_count.sum()), float(count.sum()), int(noise.sum())
            ),
            "spans of one token": Tally(
                float((count * single).sum()),
                float((sizes == 1).sum()),
                int(count.sum()),
                float((count * single * (1 - single)).sum()),
            ),
        }


class SpanCorruption(EveryToken[EncoderDecoder, Text]):
    """Cross-entropy of every token of the target, given the encoder's input and the target's tokens before it."""

    Examples = SpanExamples
    term = "span_corruption"
    task, begins = "fill", "pad"
