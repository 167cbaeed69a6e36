"""BERT (Devlin et al. 2018, https://arxiv.org/abs/1810.04805)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cloze.data.base import Vocabulary
from cloze.models import conversion
from cloze.models.base import Batch, HiddenStates
from cloze.models.checks import above_zero, fitting, positive, rates
from cloze.models.conversion import Rule, Weights
from cloze.models.encoder import Encoder, config_of, layer_names, settings_of
from cloze.models.layers.embeddings import Embeddings
from cloze.models.layers.encoder import EncoderLayer
from cloze.models.layers.feed_forward import Activation
from cloze.models.layers.initialization import pooling_layer, truncated_normal


class Bert(Encoder):
    """The encoder: embeddings, post-norm layers, and a pooler on [CLS] where the objective asks for one."""

    model_type = "bert"

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
        segments: int = 2,
        activation: Activation = "gelu",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        norm_epsilon: float = 1e-12,
        initializer_range: float = 0.02,
    ) -> None:
        super().__init__()
        positive(layers=layers, width=width, heads=heads, inner=inner, positions=positions, segments=segments)
        above_zero(norm_epsilon=norm_epsilon, initializer_range=initializer_range)
        rates(dropout=dropout, attention_dropout=attention_dropout)
        fitting(width, heads, length, positions)
        self.width, self.positions, self.initializer_range = width, positions, initializer_range
        self.embeddings = Embeddings(
            vocabulary, width, positions, segments, dropout, norm_epsilon, first_position=self.first_position
        )
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, inner, activation, dropout, attention_dropout, norm_epsilon)
            for _ in range(layers)
        )
        self.pooler = pooling_layer(width) if pooler else None
        truncated_normal(self, initializer_range)
        self._head = (width, width, vocabulary, self.head_activation or activation, norm_epsilon, initializer_range)

    first_position: ClassVar[int] = 0  # the row of the position table that a sequence's first token takes
    head_activation: ClassVar[Activation | None] = None  # of the token head, where it is not the layers'

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        x = self.embeddings(batch.inputs)
        states = [x]
        for layer in self.layers:
            x = layer(x, batch.inputs.layout)
            states.append(x)
        return HiddenStates(x, states if every_layer else [])

    def depth(self, parameter_name: str) -> int:
        part, *rest = parameter_name.split(".")
        return {"embeddings": 0, "layers": int(rest[0]) + 1 if part == "layers" else 0}.get(part, len(self.layers) + 1)

    # Hugging Face

    their_prefix = "bert."
    their_head: ClassVar[dict[str, str]] = {
        "objective.head.dense": "cls.predictions.transform.dense",
        "objective.head.norm": "cls.predictions.transform.LayerNorm",
    }
    their_head_bias = "cls.predictions.bias"
    their_pair_head = "cls.seq_relationship"

    @classmethod
    def _names(cls, layers: int) -> list[Rule]:
        model = {
            "embeddings.word": "embeddings.word_embeddings",
            "embeddings.position": "embeddings.position_embeddings",
            "embeddings.segment": "embeddings.token_type_embeddings",
        }
        modules: dict[str, str | tuple[str, ...]] = {
            "embeddings.norm": "embeddings.LayerNorm",
            "pooler": "pooler.dense",
        }
        for i in range(layers):
            modules |= layer_names(f"layers.{i}.", f"encoder.layer.{i}.")
        body = conversion.rules(model, ("weight",)) + conversion.rules(modules)
        heads = conversion.rules({**cls.their_head, "objective.pair_head": cls.their_pair_head})
        return [
            *(Rule(f"model.{rule.ours}", tuple(cls.their_prefix + name for name in rule.theirs)) for rule in body),
            *heads,
            Rule("objective.head.bias", (cls.their_head_bias,)),
        ]

    @classmethod
    def from_transformers(
        cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], Weights]:
        settings = settings_of(config)
        settings["positions"] -= cls._their_first_position(config)
        ours = conversion.load(
            cls._names(settings["layers"]),
            conversion.with_prefix(weights, cls.their_prefix, ("embeddings.", "encoder.", "pooler.")),
            ignored=(
                "*position_ids",
                "*token_type_ids",
                "*decoder.weight",
                "*decoder.bias",
                "classifier.*",
                "qa_outputs.*",
            ),
        )
        cls._shift_positions(ours, cls._their_first_position(config), cls.first_position)
        return settings, ours

    @classmethod
    def to_transformers(
        cls, settings: Mapping[str, Any], weights: Mapping[str, Tensor], vocabulary: Vocabulary
    ) -> tuple[dict[str, Any], Weights]:
        config: dict[str, Any] = {
            "model_type": cls.model_type,
            "architectures": [cls._their_class(weights)],
            **config_of(settings, weights["model.embeddings.word.weight"], vocabulary),
        }
        first = cls._their_first_position(config)
        config["max_position_embeddings"] += first
        shifted = dict(weights)
        cls._shift_positions(shifted, cls.first_position, first)
        return config, conversion.store(cls._names(settings["layers"]), shifted)

    @classmethod
    def _their_class(cls, weights: Mapping[str, Tensor]) -> str:
        """The class of theirs that has these heads."""
        if "objective.pair_head.weight" in weights and "objective.head.bias" in weights:
            return "BertForPreTraining"
        return "BertForMaskedLM" if "objective.head.bias" in weights else "BertModel"

    @classmethod
    def _their_first_position(cls, config: Mapping[str, Any]) -> int:
        """The row of their position table that a sequence's first token takes."""
        return 0

    @staticmethod
    def _shift_positions(weights: Weights, here: int, there: int) -> None:
        """Moves the position table's first used row from `here` to `there`; rows before it are never read."""
        name = "model.embeddings.position.weight"
        if here != there and name in weights:
            table = weights[name][here:]
            weights[name] = torch.cat([table.new_zeros(there, table.shape[1]), table])
