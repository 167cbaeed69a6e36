"""Span corruption: the decoder writes what the encoder does not see, and its variants (T5: Raffel et al. 2019,
https://arxiv.org/abs/1910.10683, section 3.3).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from cloze.data import keyed
from cloze.data.base import Packed, Sample, Text, TokenizedCorpus, Vocabulary
from cloze.errors import Refusal
from cloze.models.base import EncoderDecoder
from cloze.objectives import spans
from cloze.objectives.base import ExampleBuilder, Examples, Tally
from cloze.objectives.corruption import beginnings, by_sequence, ranges
from cloze.objectives.every_token import EveryToken
from cloze.objectives.windows import windows

Noise = Literal["spans", "iid", "drop", "deshuffle", "prefix"]
_USUAL = {"density": 0.15, "mean_span": 3.0, "judged_density": 0.15, "judged_span": 3.0, "final_sentinel": True}


@dataclass(frozen=True)
class _Raw:
    """The windows' tokens (N,), the windows' lengths (B,), and which tokens are noise (N,)."""

    tokens: NDArray[np.int64]
    lengths: NDArray[np.int64]
    noise: NDArray[np.bool_]


class SpanExamples(ExampleBuilder):
    """Windows of raw tokens, as long as fit when they are corrupted: 568 for the `length` 512 with T5's own noise.

    `noise` says what the encoder reads:

    - `spans`: a share `density` of each window's tokens is noise, in spans of `mean_span` tokens on average (T5);
    - `iid`: each token is noise with probability `density`;
    - `drop`: the same, and what is noise is left out without a trace; the target is what was left out;
    - `deshuffle`: all tokens, in a random order; the target is the text;
    - `prefix`: the text up to a place drawn evenly; the target is the rest.

    With the first two, `target` says what the decoder writes. `spans`: each run of noise is replaced by a sentinel of its
    own, and the target is the sentinels with the runs behind them. With `final_sentinel` one more closes the target, as
    the paper has it (figure 2); T5's released code leaves it out. `all`: the whole text, and each token of noise is
    replaced by one and the same sentinel or, a share `random` of them, by a random token (0.1: as BERT; 0: as MASS).

    `documents=packed` lets a window run over the ends of documents, as T5's does; `apart` gives each its own windows.
    Validation has the same noise, always with `judged_density` and `judged_span`, so that arms can be compared.
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
        noise: Noise = "spans",
        target: Literal["spans", "all"] = "spans",
        random: float = 0.0,
    ) -> None:
        for name, share in (("density", density), ("judged_density", judged_density)):
            if not 0 < share < 1:
                raise Refusal(f"objective.{name}={share} must lie in (0, 1); T5's is 0.15.")
        for name, span in (("mean_span", mean_span), ("judged_span", judged_span)):
            if not 1 <= span < float("inf"):
                raise Refusal(f"objective.{name}={span} must be at least 1 token; T5's is 3.")
        if not 0 <= random <= 1:
            raise Refusal(f"objective.random={random} must lie in [0, 1]; as BERT it is 0.1.")
        self.vocabulary, self.length, self.documents = vocabulary, length, documents
        self.density, self.mean_span, self.final_sentinel = density, mean_span, final_sentinel
        self.judged_density, self.judged_span = judged_density, judged_span
        self.noise, self.target, self.random = noise, target, random
        self.marked = noise in ("spans", "iid") and target == "spans"  # runs of noise have sentinels of their own
        self._refuse_without_effect()
        self._sentinels = np.array(vocabulary.sentinels, np.int64)
        self._words = np.setdiff1d(np.arange(vocabulary.size), np.array(sorted(vocabulary.special_ids)))
        self.raw_length = self._raw_length()
        self._refuse_sentinels("density", "mean_span")
        if (density, mean_span) != (judged_density, judged_span):
            judge = copy.copy(self)  # what `judge` makes, under the names that its rates have here
            judge.density, judge.mean_span = judged_density, judged_span
            judge.raw_length = judge._raw_length()
            judge._refuse_sentinels("judged_density", "judged_span")

    def _refuse_sentinels(self, density: str, span: str) -> None:
        """Raises Refusal where the rates, which the settings of these names say, can need more sentinels than there are."""
        needed, there = self._most_sentinels(), len(self.vocabulary.sentinels)
        if needed > there:
            drawn = self.noise == "spans"
            rates = f"objective.{density}={self.density}" + (f" and objective.{span}={self.mean_span}" if drawn else "")
            longer = f"a larger objective.{span}, " if drawn else ""
            raise Refusal(
                f"length={self.length} with {rates} needs {needed} sentinels; the tokenizer has {there}. "
                f"Take {longer}a lower objective.{density} or a smaller length."
            )

    def _refuse_without_effect(self) -> None:
        rates = ("density", "judged_density")
        idle: list[str] = [] if self.noise == "spans" else ["mean_span", "judged_span"]
        idle += rates if self.noise in ("deshuffle", "prefix") else []
        idle += [] if self.marked else ["final_sentinel"]
        for name in idle:
            if (value := getattr(self, name)) != _USUAL[name]:
                also = f" and objective.target={self.target}" if self.noise in ("spans", "iid") else ""
                raise Refusal(f"objective.{name}={value} has no effect with objective.noise={self.noise}{also}.")
        if self.target == "all" and self.noise not in ("spans", "iid"):
            raise Refusal(
                f"objective.target=all has no effect with objective.noise={self.noise}, whose target is "
                f"{'always the whole text' if self.noise == 'deshuffle' else 'what the encoder does not see'}."
            )
        if self.random and (self.marked or self.target == "spans"):
            raise Refusal(f"objective.random={self.random} has no effect: it goes with objective.target=all.")

    def _raw_length(self) -> int:
        """The most raw tokens whose encoder input surely fits."""
        if self.noise == "spans" and self.marked:
            return spans.raw_length(self.length, self.density, self.mean_span)
        if self.length < 3:
            raise Refusal(
                f"length={self.length} is too short for objective=span_corruption: it needs at least 3 tokens."
            )
        return self.length - 1

    def _most_sentinels(self) -> int:
        if not self.marked:
            return 1 if self.target == "all" else 0
        if self.noise == "spans":
            _, most = spans.span_counts(np.array([self.raw_length]), self.density, self.mean_span)
            return int(most[0]) + self.final_sentinel
        # four deviations above the mean and more: a window beyond that, which is rare, keeps a run or two of its noise
        mean = self.raw_length * self.density * (1 - self.density)
        return min(int(np.ceil(mean + 4 * np.sqrt(mean))), (self.raw_length + 1) // 2) + self.final_sentinel

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        ends = corpus.sentences[corpus.documents]
        table = windows(ends[[0, -1]] if self.documents == "packed" else ends, self.raw_length)
        if not len(table):
            raise Refusal("the corpus has no tokens: objective=span_corruption needs at least one document.")
        lengths = table[:, 1] - table[:, 0]
        read, written = self._expected(lengths)
        return Examples(corpus, table, read, tokens=read + written)

    def _expected(self, lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tokens that the encoder reads and the decoder writes, on average where chance decides: (B,) each."""
        if self.marked:
            noise, runs = spans.span_counts(lengths, self.density, self.mean_span)
            if self.noise == "iid":
                share = self.density * (1 - self.density)
                noise, runs = (
                    np.rint(n).astype(np.int64) for n in (lengths * self.density, lengths * share + self.density**2)
                )
            return lengths - noise + runs + 1, noise + runs + 1 + self.final_sentinel
        if self.noise in ("drop", "prefix"):
            noise = np.rint(lengths * (self.density if self.noise == "drop" else 0.5)).astype(np.int64)
            return lengths - noise + 1, noise + 1
        return lengths + 1, lengths + 1

    def _raw(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> _Raw:
        rows = examples.table[indices]
        lengths = rows[:, 1] - rows[:, 0]
        tokens = examples.corpus.tokens[ranges(rows[:, 0], lengths)].astype(np.int64)
        return _Raw(tokens, lengths, self._hidden(lengths, keys))

    def _hidden(self, lengths: NDArray[np.int64], keys: keyed.Keys) -> NDArray[np.bool_]:
        """Which tokens are noise: (N,)."""
        if self.noise == "spans":
            return spans.span_noise(*spans.noise_spans(lengths, self.density, self.mean_span, keys))
        if self.noise in ("iid", "drop"):
            most = len(self._sentinels) - self.final_sentinel if self.marked else int(lengths.max(initial=0))
            return spans.iid_noise(lengths, self.density, keys, most)
        if self.noise == "prefix":
            return ranges(np.zeros_like(lengths), lengths) >= np.repeat(spans.prefixes(lengths, keys), lengths)
        return np.ones(int(lengths.sum()), bool)

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        inputs, outputs = self._corrupted(self._raw(examples, indices, keys), keys)
        return Sample(
            inputs=inputs,
            decoder=spans.shift_right(outputs, self.vocabulary["pad"]),  # T5 has no token of its own to begin with
            targets={"tokens": outputs.tokens},
            counts={"span_corruption": len(outputs.tokens)},
        )

    def _corrupted(self, raw: _Raw, keys: keyed.Keys) -> tuple[Packed, Packed]:
        """What the encoder reads and what the decoder must write."""
        end = self.vocabulary["eos"]
        if self.marked:
            return spans.cut_spans(raw.tokens, raw.lengths, raw.noise, self._sentinels, end, self.final_sentinel)
        if self.noise in ("drop", "prefix"):
            return self._closed(raw, raw.tokens, ~raw.noise), self._closed(raw, raw.tokens, raw.noise)
        if self.noise == "deshuffle":
            read = spans.shuffled(raw.tokens, raw.lengths, keys)
        else:
            read = self._masked(raw, keys)
        every = np.ones(len(raw.tokens), bool)
        return self._closed(raw, read, every), self._closed(raw, raw.tokens, every)

    def _closed(self, raw: _Raw, tokens: NDArray[np.int64], which: NDArray[np.bool_]) -> Packed:
        """Each window's tokens that are chosen, (N,), with the end-of-text token behind them."""
        chosen = np.concatenate([[0], np.cumsum(which)])
        starts = beginnings(raw.lengths)
        lengths = chosen[starts + raw.lengths] - chosen[starts]
        return spans.append(tokens[which], lengths, np.full((len(lengths), 1), self.vocabulary["eos"]))

    def _masked(self, raw: _Raw, keys: keyed.Keys) -> NDArray[np.int64]:
        """The text with a sentinel or a random token in the place of each token that is noise."""
        each = np.repeat(keyed.stream(keys, "replace"), raw.lengths)
        place = ranges(np.zeros_like(raw.lengths), raw.lengths)
        drawn = keyed.uniform(each, place) < self.random
        words = self._words[keyed.integers(keyed.stream(each, "token"), place, len(self._words))]
        return np.where(raw.noise, np.where(drawn, words, self._sentinels[0]), raw.tokens)

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        rows = examples.table[indices]
        lengths = rows[:, 1] - rows[:, 0]
        if self.noise in ("iid", "drop", "prefix") and self.target == "spans":
            noise = self._hidden(lengths, keys)
            written = noise.sum() + len(lengths)
            if self.marked:
                written += spans.run_starts(noise, lengths).sum() + len(lengths) * self.final_sentinel
            return {"span_corruption": int(written)}
        return {"span_corruption": int(self._expected(lengths)[1].sum())}

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
            self.noise,
            self.target,
            self.random,
        )

    def explain(self, sample: Sample) -> list[list[str]]:
        tokens = sample.inputs.tokens
        words = np.where(tokens == self.vocabulary["eos"], "special", "").astype("<U8")
        words[np.isin(tokens, self._sentinels)] = "masked"
        if self.target == "all":
            words[(tokens != sample.targets["tokens"]) & (words == "")] = "replaced"
        return by_sequence(words, sample.inputs.lengths)

    def tally(self, sample: Sample) -> dict[str, Tally]:
        assert sample.decoder is not None
        read, written = sample.inputs.lengths - 1, sample.decoder.lengths - 1
        if self.target == "all":
            return self._tally_masks(sample)
        if self.noise == "deshuffle":
            return {"tokens that are where they were": _matches(sample)}
        raw = read + written
        if self.noise == "drop":
            share = Tally.share(self.density, float(written.sum()), int(raw.sum()))
            return {f"tokens left out (density {self.density:g})": share}
        if self.noise == "prefix":
            most = np.maximum(raw - 1, 0)  # evenly from 1 to most
            variance = (most**2 - 1).clip(0).sum() / 12
            even = Tally(float(((most + 1) / 2 * (most > 0)).sum()), float(read.sum()), int(raw.sum()), float(variance))
            return {"tokens before the place where the text is cut (half)": even}
        row = np.repeat(np.arange(len(read)), sample.inputs.lengths)
        count = np.bincount(row[np.isin(sample.inputs.tokens, self._sentinels)], minlength=len(read))
        noise = written - count - self.final_sentinel
        raw = read - count + noise
        if self.noise == "iid":
            share = Tally.share(self.density, float(noise.sum()), int(raw.sum()))
            return {f"hidden tokens (density {self.density:g})": share}
        return self._tally_spans(sample, raw, noise, count)

    def _tally_masks(self, sample: Sample) -> dict[str, Tally]:
        """A random token that is the right one looks like a kept one."""
        tokens, targets = sample.inputs.tokens, sample.targets["tokens"]
        masked = tokens == self._sentinels[0]
        replaced = ~masked & (tokens != targets)
        raw = sample.inputs.lengths - 1
        seen = self.random * (1 - 1 / len(self._words))
        if self.noise == "iid":
            trials, shares = int(raw.sum()), (self.density * (1 - self.random), self.density * seen)
        else:
            trials = int(spans.span_counts(raw, self.density, self.mean_span)[0].sum())
            shares = (1 - self.random, seen)
        return {
            f"tokens masked (density {self.density:g})": Tally.share(shares[0], float(masked.sum()), trials),
            f"tokens replaced by others (random {self.random:g})": Tally.share(
                shares[1], float(replaced.sum()), trials
            ),
        }

    def _tally_spans(
        self, sample: Sample, raw: NDArray[np.int64], noise: NDArray[np.int64], count: NDArray[np.int64]
    ) -> dict[str, Tally]:
        outputs = sample.targets["tokens"]
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


def _matches(sample: Sample) -> Tally:
    """Places at which input and target agree, against what an even choice among all orders gives."""
    expected = variance = 0.0
    texts = np.split(sample.targets["tokens"], beginnings(sample.inputs.lengths)[1:])
    for text in texts:
        words = text[:-1]  # without the end-of-text token
        n, counts = len(words), np.unique(words, return_counts=True)[1].astype(float)
        squares = (counts**2).sum()
        if n > 1:
            both = (squares**2 - (counts**4).sum() + (counts**2 * (counts - 1) ** 2).sum()) / (n * (n - 1))
            variance += squares / n + both - (squares / n) ** 2
        expected += squares / n if n else 0.0
    seen = int((sample.inputs.tokens == sample.targets["tokens"]).sum()) - len(texts)
    return Tally(expected, float(seen), len(sample.inputs.tokens) - len(texts), variance)


class SpanCorruption(EveryToken[EncoderDecoder, Text]):
    """Cross-entropy of every token of the target, given the encoder's input and the target's tokens before it."""

    Examples = SpanExamples
    term = "span_corruption"
    begins = "pad"

    @classmethod
    def teaches(cls, settings: dict[str, Any]) -> str | None:
        """To fill what sentinels stand for, or to write a whole text where no run of noise has a sentinel of its own."""
        marked = settings.get("noise", "spans") in ("spans", "iid") and settings.get("target", "spans") == "spans"
        return "fill" if marked else "rewrite"
