"""Replaced token detection: a small generator fills masks, and the model tells of every token whether it was replaced (ELECTRA:
Clark et al. 2020, https://arxiv.org/abs/2003.10555).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cloze.data import keyed
from cloze.data.base import Sample, Text, Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Batch, Discriminator, TokenHead
from cloze.models.layers.feed_forward import Activation, activate
from cloze.models.layers.initialization import truncated_normal
from cloze.objectives.base import ExampleBuilder, Examples, Objective, StepOutput, Term
from cloze.objectives.corruption import Unit, beginnings
from cloze.objectives.cross_entropy import PIECE, token_cross_entropy
from cloze.objectives.formats import Format
from cloze.objectives.mlm import MaskedExamples
from cloze.objectives.shares import check_share

if TYPE_CHECKING:
    from torchmetrics import Metric


class ReplacedExamples(MaskedExamples):
    """The generator's inputs: those of masked language modelling, of whose selected tokens a share `mask` becomes [MASK] and the rest
    stays (the published code's 0.85; the paper masks all).

    `chance` (M,) is a number in [0, 1) for each selected token, with which what the generator proposes for it is drawn: keyed as
    every draw is, so a validation repeats itself and a resumed run goes on exactly.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        length: int,
        mask_ratio: float = 0.15,
        unit: Unit = "token",
        longest: int | None = None,
        stop: float | None = None,
        mask: float = 0.85,
        max_predictions: int | None = None,
        judged_at: float | None = 0.15,
        format: Format = "full_sentences",
        short_share: float | None = None,
    ) -> None:
        check_share("mask", mask)
        super().__init__(
            vocabulary,
            length,
            mask_ratio,
            unit,
            longest,
            stop,
            mask=mask,
            random=0.0,
            keep=1 - mask,
            max_predictions=max_predictions,
            judged_at=judged_at,
            format=format,
            short_share=short_share,
        )

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        sample = super().sample(examples, indices, keys)
        at, lengths = sample.targets["at"], sample.inputs.lengths
        sequence = np.searchsorted(np.cumsum(lengths), at, side="right")
        chance = keyed.uniform(keyed.stream(keys, "generator")[sequence], at - beginnings(lengths)[sequence])
        # single precision rounds the highest numbers up to 1, which no cumulated probability is sure to reach
        sample.targets["chance"] = np.minimum(chance.astype(np.float32), np.float32(1 - 2**-24))
        sample.counts = {"generator": len(at), "discriminator": int(lengths.sum())}
        return sample

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        if self.unit != "token" or self._pairs is not None:  # a pair's length is known when it has been drawn
            return ExampleBuilder.counts(self, examples, indices, keys)
        selected = super().counts(examples, indices, keys)["mlm"]
        return {"generator": selected, "discriminator": int(examples.lengths[indices].sum())}

    def judge(self) -> MaskedExamples:
        """Single tokens at the rate `judged_at`, each of them masked as `mask` says."""
        judge = super().judge()
        judge.mask, judge.random = self.mask, self.random
        return judge


class DiscriminatorHead(nn.Module):
    """Dense layer, the model's activation, one number: (N, width) -> (N,) logits, above 0 where the token is thought replaced."""

    def __init__(self, width: int, activation: Activation, deviation: float) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.dense = nn.Linear(width, width)
        self.output = nn.Linear(width, 1)
        truncated_normal(self, deviation)

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.output(activate(self.dense(hidden), self.activation)).squeeze(-1)
        return logits


class ReplacedToken(Objective[Discriminator, Text]):
    """The generator's cross-entropy at the selected tokens, and the discriminator's at every token, special ones too.

    What the generator proposes is drawn from its softmax (at `temperature`), and no gradient goes through the draw. A proposal that is
    the token itself counts as original.
    """

    Examples = ReplacedExamples
    perplexity_of = "generator"

    def __init__(
        self,
        model: Discriminator,
        vocabulary: Vocabulary,
        generator_weight: float = 1.0,
        discriminator_weight: float = 50.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        for name, weight in (("generator_weight", generator_weight), ("discriminator_weight", discriminator_weight)):
            if not 0 <= weight < float("inf"):
                raise Refusal(f"objective.{name}={weight:g} must be 0 or more.")
        if not 0 < temperature < float("inf"):
            raise Refusal(f"objective.temperature={temperature:g} must be more than 0.")
        if model.generator is None:
            raise ValueError("the model was built without its generator")
        self.generator_weight, self.discriminator_weight = generator_weight, discriminator_weight
        self.temperature = temperature
        self.generator_head = model.generator.token_head()
        self.discriminator_head = DiscriminatorHead(model.width, model.activation, model.initializer_range)

    @classmethod
    def generates(cls, settings: dict[str, Any]) -> bool:
        return True

    def forward(self, model: Discriminator, batch: Batch) -> StepOutput:
        assert model.generator is not None
        at, tokens = batch.targets["at"], batch.targets["tokens"]
        proposing = model.generator(batch)
        hidden = proposing.last.index_select(0, at)
        embedding = model.generator.word_embedding
        generator, right = token_cross_entropy(self.generator_head, hidden, embedding, tokens)
        proposed = propose(self.generator_head, hidden, embedding, batch.targets["chance"], self.temperature)

        read = batch.inputs.tokens.index_copy(0, at, proposed)
        replaced = torch.zeros_like(read, dtype=torch.bool).index_copy(0, at, proposed != tokens)
        states = model(replace(batch, inputs=replace(batch.inputs, tokens=read)))
        logits = self.discriminator_head(states.last).float()
        discriminator = F.binary_cross_entropy_with_logits(logits, replaced.float(), reduction="sum")
        return StepOutput.of(
            states,
            {
                "generator": Term(generator, len(tokens), self.generator_weight),
                "discriminator": Term(discriminator, len(logits), self.discriminator_weight),
            },
            {"right": right, "replaced": replaced, "logits": logits.detach()},
        )

    def metrics(self) -> dict[str, Metric]:
        from torchmetrics import MeanMetric
        from torchmetrics.classification import BinaryAccuracy, BinaryAUROC, BinaryPrecision, BinaryRecall

        return {
            "generator_accuracy": MeanMetric(),
            "replaced": MeanMetric(),
            "accuracy": BinaryAccuracy(),
            "precision": BinaryPrecision(),
            "recall": BinaryRecall(),
            "auc": BinaryAUROC(thresholds=200),  # a fixed number of bins: nothing grows with the validation split
        }

    def measure(self, metrics: dict[str, Metric], output: StepOutput, batch: Batch) -> None:
        logits, replaced = output.predictions["logits"], output.predictions["replaced"]
        metrics["generator_accuracy"].update(output.predictions["right"].float())
        metrics["replaced"].update(replaced.float())
        probabilities = logits.sigmoid()
        for name in ("accuracy", "precision", "recall", "auc"):
            metrics[name].update(probabilities, replaced.long())


@torch.no_grad()
def propose(head: TokenHead, hidden: Tensor, embedding: Tensor, chance: Tensor, temperature: float = 1.0) -> Tensor:
    """(M,) tokens drawn from the head's softmax: where the cumulated probability passes `chance` (M,). A piece of rows at a time, so
    that the logits of all never exist."""
    rows = max(1, PIECE // embedding.shape[0])
    drawn = []
    for start in range(0, len(hidden), rows):
        piece = slice(start, start + rows)
        logits = head(hidden[piece], embedding).float()
        cumulated = (logits / temperature).softmax(-1).cumsum(-1)
        # of what the sum came to, which rounding keeps from being 1
        passed = torch.searchsorted(cumulated, chance[piece, None] * cumulated[:, -1:], right=True)
        drawn.append(passed.squeeze(1).clamp_(max=embedding.shape[0] - 1))
    return torch.cat(drawn) if drawn else torch.empty(0, dtype=torch.int64, device=hidden.device)
