"""UniLM (Dong et al. 2019, https://arxiv.org/abs/1905.03197): BERT's encoder, whose attention pattern comes with each batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cloze.models.base import Steerable
from cloze.models.bert import Bert
from cloze.models.conversion import Weights
from cloze.models.layers.feed_forward import Activation

SEGMENTS = 6  # 0 and 1: bidirectional; 2: left to right; 3: right to left; 4 and 5: source and target


class UniLM(Bert, Steerable):
    """BERT's encoder under any pattern: the layout of a batch says what each token sees.

    One batch may hold all four patterns at once: a prefix as long as the sequence is bidirectional, one of 0 left to right,
    one in between sequence to sequence. Right to left is a sequence laid in reverse order with the positions that its
    tokens have in the text, under a prefix of 0: positions are learnt, so nothing else depends on the order of rows.
    """

    # transformers has no model type of its own for it: `model_type` is BERT's, whose directories it reads and writes

    def __init__(
        self,
        vocabulary: int,
        length: int,
        pooler: bool,
        layers: int = 12,
        width: int = 768,
        heads: int = 12,
        inner: int = 3072,
        positions: int = 512,
        segments: int = SEGMENTS,
        activation: Activation = "gelu",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        norm_epsilon: float = 1e-12,
        initializer_range: float = 0.02,
    ) -> None:
        super().__init__(
            vocabulary,
            length,
            pooler,
            layers,
            width,
            heads,
            inner,
            positions,
            segments,
            activation,
            dropout,
            attention_dropout,
            norm_epsilon,
            initializer_range,
        )
        self.segments = segments

    @classmethod
    def from_transformers(
        cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], Weights]:
        """A BERT's two segments become six: each new one begins as what it is most like, BERT's first or second segment."""
        settings, ours = super().from_transformers(config, weights)
        table = ours.get("model.embeddings.segment.weight")
        if table is not None and len(table) == 2:
            ours["model.embeddings.segment.weight"] = table[torch.tensor([0, 1, 0, 0, 0, 1])]
            settings["segments"] = SEGMENTS
        return settings, ours
