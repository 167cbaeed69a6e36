"""RoBERTa (Liu et al. 2019, https://arxiv.org/abs/1907.11692): BERT's encoder with one segment, no sentence pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from cloze.models.bert import Bert
from cloze.models.layers.feed_forward import Activation


class Roberta(Bert):
    """BERT's architecture. As in the published weights the first two rows of the position table are never read."""

    model_type = "roberta"
    between: ClassVar[tuple[str, ...]] = ("sep", "sep")
    first_position = 2
    head_activation = "gelu"  # whatever the layers have, as in transformers
    their_prefix = "roberta."
    their_head: ClassVar[dict[str, str]] = {
        "objective.head.dense": "lm_head.dense",
        "objective.head.norm": "lm_head.layer_norm",
    }
    their_head_bias = "lm_head.bias"
    their_pair_head = "pair_head"  # theirs has none: kept so that a model comes back whole, unread by transformers

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
        segments: int = 1,
        activation: Activation = "gelu",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        norm_epsilon: float = 1e-5,
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

    @classmethod
    def _their_class(cls, weights: Mapping[str, Tensor]) -> str:
        return "RobertaForMaskedLM" if "objective.head.bias" in weights else "RobertaModel"

    @classmethod
    def _their_first_position(cls, config: Mapping[str, Any]) -> int:
        # transformers counts positions from the id of the padding token
        pad = config.get("pad_token_id")
        return (1 if pad is None else int(pad)) + 1
