"""Prefix language modelling: the beginning of a text is seen whole, the rest is predicted from left to right (T5's
comparison of architectures: Raffel et al. 2019, https://arxiv.org/abs/1910.10683, section 3.2; Liu et al. 2018,
https://arxiv.org/abs/1801.10198).
"""

from __future__ import annotations

import copy
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cloze.data import keyed
from cloze.data.base import Sample, Text, Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Prefixed
from cloze.objectives.base import Examples, Tally
from cloze.objectives.clm import CausalExamples
from cloze.objectives.corruption import beginnings, by_sequence, ranges
from cloze.objectives.every_token import EveryToken


class PrefixExamples(CausalExamples):
    """The windows of causal language modelling, of each of which a prefix is seen whole.

    A window of n tokens has n targets, the token after each. With a prefix of p tokens the first p - 1 of them lie in it, seen by
    all, and are not predicted; the last of the prefix predicts the first behind it. `prefix` is the share p / n, rounded, of which
    at least one token is; None draws p from 1 … n, each as likely. Validation has the share `judged_prefix`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        length: int,
        documents: Literal["packed", "apart"] = "packed",
        prefix: float | None = None,
        judged_prefix: float | None = 0.5,
    ) -> None:
        super().__init__(vocabulary, length, documents)
        for name, share in (("prefix", prefix), ("judged_prefix", judged_prefix)):
            if share is not None and not 0 <= share <= 1:
                near = f" Did you mean {share / (10 if share < 10 else 100):g}?" if 1 < share <= 100 else ""
                raise Refusal(f"objective.{name}={share:g} must lie in [0, 1], or be null for a draw.{near}")
        self.prefix, self.judged_prefix = prefix, judged_prefix

    def _prefixes(self, lengths: NDArray[np.int64], keys: keyed.Keys) -> NDArray[np.int64]:
        """(B,): how many tokens of each window all may see."""
        if self.prefix is None:
            return 1 + keyed.integers(keyed.stream(keys, "prefix"), np.zeros(1, np.int64), lengths)
        rounded: NDArray[np.int64] = np.maximum(1, np.rint(lengths * self.prefix)).astype(np.int64)
        return rounded

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        whole = super().sample(examples, indices, keys)
        lengths = whole.inputs.lengths
        prefix = self._prefixes(lengths, keys)
        at = ranges(beginnings(lengths) + prefix - 1, lengths - prefix + 1)
        return Sample(
            inputs=whole.inputs,
            targets={"at": at, "tokens": whole.targets["tokens"][at]},
            counts={"prefix_lm": len(at)},
            prefix=prefix,
        )

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        lengths = examples.lengths[indices]
        return {"prefix_lm": int((lengths - self._prefixes(lengths, keys) + 1).sum())}

    def judge(self) -> PrefixExamples:
        judge = copy.copy(self)
        judge.prefix = self.judged_prefix
        return judge

    def explain(self, sample: Sample) -> list[list[str]]:
        words = np.where(sample.inputs.tokens == self.vocabulary["eos"], "special", "").astype(object)
        words[sample.targets["at"]] = "target"
        return by_sequence(words, sample.inputs.lengths)

    def tally(self, sample: Sample) -> dict[str, Tally]:
        assert sample.prefix is not None
        lengths, prefix = sample.inputs.lengths, sample.prefix
        tokens = int(lengths.sum())
        if self.prefix is None:
            seen = Tally(float((lengths + 1).sum()) / 2, int(prefix.sum()), tokens, float((lengths**2 - 1).sum()) / 12)
        else:
            seen = Tally(float(np.maximum(1, np.rint(lengths * self.prefix)).sum()), int(prefix.sum()), tokens)
        return {
            "tokens of the prefix": seen,
            "targets: tokens behind it, the last of it predicting the first": Tally(
                float((lengths - prefix + 1).sum()), len(sample.targets["at"]), tokens
            ),
        }


class PrefixLM(EveryToken[Prefixed, Text]):
    """Predicts every token behind the prefix, from the prefix and what stands between, with the family's own head."""

    Examples = PrefixExamples
    term = "prefix_lm"
    task = "continue"
    prefixes = True
