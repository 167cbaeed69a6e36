"""Bidirectional language modelling: every token from those before it, and, by another model, from those behind it (Peters et al.
2018, https://arxiv.org/abs/1802.05365; the authors' code: https://github.com/allenai/bilm-tf).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cloze.data import keyed
from cloze.data.base import Packed, Sample, Text, TokenizedCorpus, Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Batch, TwoDirections
from cloze.objectives.base import ExampleBuilder, Examples, Objective, StepOutput, Tally, Term
from cloze.objectives.corruption import beginnings, by_sequence
from cloze.objectives.cross_entropy import token_cross_entropy
from cloze.objectives.sampled_softmax import sampled_cross_entropy
from cloze.objectives.windows import ends_of_text, stream, whole, windows

if TYPE_CHECKING:
    from torchmetrics import Metric

DIRECTIONS = ("forward", "backward")


class BidirectionalExamples(ExampleBuilder):
    """Windows of `length` tokens over the documents, each of which stands between two end-of-text tokens. Every token but the first
    of the text is a target of the forward direction, every one but the last of the backward direction.

    `documents=continued`: one document after the other, the windows read in their order, each batch's sequences going on where those
    of the batch before ended; all are of one length, and what is left of the text at its end is never read.
    `documents=packed`: the same windows in any order, a shorter one at the end.
    `documents=apart`: a window never holds two documents, and each document is a text.

    A window's first and last token have their targets too, in the windows beside it.

    The table's columns: start and end in the stream of what is read, targets in the windows beside included; the last document that
    begins at or before each of them; and how many tokens before (0 or 1) and behind the window that is.
    """

    special_tokens: ClassVar[tuple[str, ...]] = ("eos",)

    def __init__(
        self, vocabulary: Vocabulary, length: int, documents: Literal["packed", "apart", "continued"] = "continued"
    ) -> None:
        if length < 1:
            raise Refusal(f"length={length} must be at least 1 token for objective=bilm.")
        self.vocabulary, self.length, self.documents = vocabulary, length, documents
        self.continuous = documents == "continued"

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        ends = ends_of_text(corpus)
        if len(ends) < 2:
            raise Refusal("the corpus has no tokens: objective=bilm needs at least one document.")
        if self.documents == "apart":
            # each document with both its ends: those between two documents count twice, which moves what comes after
            edges = ends + np.arange(len(ends))
            cut = windows(edges, self.length)
            text = np.searchsorted(edges, cut[:, 0], side="right") - 1
            cut -= text[:, None]
            first, last = ends[text], ends[text + 1]
        else:
            cut = windows(np.array([0, ends[-1] + 1]), self.length)
            if self.continuous:
                cut = whole(cut, self.length)
            first, last = ends[0], ends[-1]
        start, end = np.maximum(cut[:, 0] - 1, first), np.minimum(cut[:, 1], last)
        read = np.stack([start, end], axis=1)
        document = np.searchsorted(ends, read, side="right") - 1
        beside = np.stack([cut[:, 0] - start, end - cut[:, 1] + 1], axis=1)
        return Examples(corpus, np.concatenate([read, document, beside], axis=1), cut[:, 1] - cut[:, 0])

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        rows = examples.table[indices]
        start, end, _, _, before, behind = rows.T
        read = stream(examples.corpus, rows[:, :4], self.vocabulary["eos"])
        sizes = end - start + 1
        starts = beginnings(sizes)
        within = np.arange(len(read)) - np.repeat(starts, sizes)
        inside = (within >= np.repeat(before, sizes)) & (within < np.repeat(sizes - behind, sizes))
        # of what is read, the first has nothing before it and the last nothing behind it
        has_before, has_behind = within > 0, within < np.repeat(sizes - 1, sizes)
        place = np.cumsum(inside) - 1
        forward, backward = np.flatnonzero(inside & has_behind), np.flatnonzero(inside & has_before)
        return Sample(
            inputs=Packed(read[inside], sizes - before - behind),
            targets={
                "forward_at": place[forward],
                "forward": read[forward + 1],
                "backward_at": place[backward],
                "backward": read[backward - 1],
            },
            counts={"forward": len(forward), "backward": len(backward)},
        )

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        rows, lengths = examples.table[indices], examples.lengths[indices]
        return {
            "forward": int((lengths - 1 + rows[:, 5]).sum()),
            "backward": int((lengths - 1 + rows[:, 4]).sum()),
        }

    def explain(self, sample: Sample) -> list[list[str]]:
        words = np.where(sample.inputs.tokens == self.vocabulary["eos"], "special", "")
        return by_sequence(words, sample.inputs.lengths)

    def tally(self, sample: Sample) -> dict[str, Tally]:
        tokens = sample.inputs.tokens
        tallies = {}
        for direction, step, words in (("forward", 1, "next"), ("backward", -1, "previous")):
            at, targets = sample.targets[f"{direction}_at"], sample.targets[direction]
            edge = np.zeros(len(tokens), bool)  # whose neighbour is not in the window
            lengths = sample.inputs.lengths
            edge[(np.cumsum(lengths) if step == 1 else np.cumsum(lengths) - lengths + 1) - 1] = True
            asked = at[~edge[at]]
            tallies[f"{direction} targets of tokens with a neighbour in the window"] = Tally(
                float((~edge).sum()), float(len(asked)), int((~edge).sum())
            )
            tallies[f"{direction} targets that are the {words} token"] = Tally(
                float(len(asked)), float((targets[~edge[at]] == tokens[asked + step]).sum()), len(asked)
            )
        return tallies


class BidirectionalLM(Objective[TwoDirections, Text]):
    """A forward and a backward language model that share their output layer. The loss is the mean of both directions' cross-entropies:
    half of the paper's sum, as in its authors' code.

    With `negatives`, training goes by a softmax over each target and that many words drawn by chance (8192 in the paper's model), for
    vocabularies whose softmax is too dear; validation always takes the whole vocabulary. `perplexity` is the forward direction's.
    """

    Examples = BidirectionalExamples
    perplexity_of, scores_text = "forward", True

    def __init__(
        self, model: TwoDirections, vocabulary: Vocabulary, negatives: int | None = None, head_rows: int = 0
    ) -> None:
        super().__init__()
        if negatives is not None and negatives < 1:
            raise Refusal(f"objective.negatives={negatives} must be at least 1, or null for the whole vocabulary.")
        if head_rows < 0:
            raise Refusal(
                f"objective.head_rows={head_rows} must be 0 (chosen by size) or the number of tokens at a time."
            )
        self.head = model.token_head()
        self.negatives, self.head_rows = negatives, head_rows

    def forward(self, model: TwoDirections, batch: Batch) -> StepOutput:
        states = model(batch)
        embedding = self.head.table(states.last.new_empty(0)).detach()  # the head's own: no family has a table for both
        terms, predictions = {}, {}
        for direction, half in zip(DIRECTIONS, states.last.chunk(2, -1), strict=True):
            targets = batch.targets[direction]
            total, right = self._cross_entropy(half[batch.targets[f"{direction}_at"]], embedding, targets)
            terms[direction] = Term(total, len(targets), 0.5)
            predictions[f"right_{direction}"] = right
        return StepOutput.of(states, terms, predictions)

    def _cross_entropy(self, hidden: Tensor, embedding: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and self.negatives is not None:
            return sampled_cross_entropy(self.head, hidden, embedding, targets, self.negatives)
        return token_cross_entropy(self.head, hidden, embedding, targets, self.head_rows)

    def metrics(self) -> dict[str, Metric]:
        from torchmetrics import MeanMetric

        class Perplexity(MeanMetric):
            """exp of the mean of cross-entropies."""

            def compute(self) -> Tensor:
                mean: Tensor = super().compute()
                return mean.exp()

        return {
            "accuracy_forward": MeanMetric(),
            "accuracy_backward": MeanMetric(),
            "perplexity_backward": Perplexity(),
        }

    def measure(self, metrics: dict[str, Metric], output: StepOutput, batch: Batch) -> None:
        for direction in DIRECTIONS:
            metrics[f"accuracy_{direction}"].update(output.predictions[f"right_{direction}"].float())
        backward = output.terms["backward"]
        if backward.count:
            metrics["perplexity_backward"].update(backward.total.detach() / backward.count, backward.count)
