"""ALBERT (Lan et al. 2019, https://arxiv.org/abs/1909.11942): BERT with a factorised embedding and shared layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models import conversion
from cloze.models.base import Batch, HiddenStates
from cloze.models.checks import above_zero, fitting, positive, rates
from cloze.models.conversion import Rule, Weights
from cloze.models.encoder import OUR_ACTIVATIONS, THEIR_ACTIVATIONS, Encoder
from cloze.models.layers.embeddings import Embeddings
from cloze.models.layers.encoder import AttentionSublayer, FeedForwardSublayer
from cloze.models.layers.feed_forward import Activation
from cloze.models.layers.initialization import pooling_layer, truncated_normal

Sharing = Literal["all", "attention", "ffn", "none"]


class Albert(Encoder):
    """The encoder. Layer i runs the `inner_groups` attention and feed-forward sublayers of its group, one after the other.

    What `sharing` names has one set of weights a group; the rest has its own in every layer. A sublayer's norm is shared
    where the sublayer is.
    """

    model_type = "albert"

    def __init__(
        self,
        vocabulary: int,
        length: int,
        pooler: bool,
        layers: int = 12,
        width: int = 768,
        heads: int = 12,
        inner: int = 3072,
        embedding_width: int = 128,
        sharing: Sharing = "all",
        layer_groups: int = 1,
        inner_groups: int = 1,
        positions: int = 512,
        segments: int = 2,
        activation: Activation = "gelu_tanh",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        norm_epsilon: float = 1e-12,
        initializer_range: float = 0.02,
    ) -> None:
        super().__init__()
        positive(layers=layers, width=width, heads=heads, inner=inner, embedding_width=embedding_width)
        positive(layer_groups=layer_groups, inner_groups=inner_groups, positions=positions, segments=segments)
        above_zero(norm_epsilon=norm_epsilon, initializer_range=initializer_range)
        rates(dropout=dropout, attention_dropout=attention_dropout)
        fitting(width, heads, length, positions)
        if layer_groups > layers:
            raise Refusal(f"model.layer_groups={layer_groups} must lie between 1 and model.layers={layers}.")
        self.width, self.positions, self.initializer_range = width, positions, initializer_range
        self.embeddings = Embeddings(vocabulary, embedding_width, positions, segments, dropout, norm_epsilon)
        self.projection = nn.Linear(embedding_width, width)
        shared = _order(layers, layer_groups, inner_groups)
        own = list(range(layers * inner_groups))
        # which attention and which feed-forward sublayer each place in the stack runs
        self.attention_order = shared if sharing in ("all", "attention") else own
        self.feed_forward_order = shared if sharing in ("all", "ffn") else own
        self.inner_groups = inner_groups
        self.attentions = nn.ModuleList(
            AttentionSublayer(width, heads, dropout, attention_dropout, norm_epsilon)
            for _ in range(max(self.attention_order) + 1)
        )
        self.feed_forwards = nn.ModuleList(
            FeedForwardSublayer(width, inner, activation, dropout, norm_epsilon)
            for _ in range(max(self.feed_forward_order) + 1)
        )
        self.pooler = pooling_layer(width) if pooler else None
        truncated_normal(self, initializer_range)
        self._head = (width, embedding_width, vocabulary, activation, norm_epsilon, initializer_range)

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        x = self.projection(self.embeddings(batch.inputs))
        states = [x]
        for place, (attention, feed_forward) in enumerate(
            zip(self.attention_order, self.feed_forward_order, strict=True)
        ):
            x = self.feed_forwards[feed_forward](self.attentions[attention](x, batch.inputs.layout))
            if (place + 1) % self.inner_groups == 0:
                states.append(x)
        return HiddenStates(x, states if every_layer else [])

    @property
    def layer_count(self) -> int:
        """Layers as the published settings count them: shared ones as often as they are run."""
        return len(self.attention_order) // self.inner_groups

    def depth(self, parameter_name: str) -> int:
        """A shared sublayer lies as deep as the first layer that runs it."""
        part, *rest = parameter_name.split(".")
        orders = {"attentions": self.attention_order, "feed_forwards": self.feed_forward_order}
        if part in orders:
            return orders[part].index(int(rest[0])) // self.inner_groups + 1
        return 0 if part in ("embeddings", "projection") else self.layer_count + 1

    # Hugging Face

    @classmethod
    def _names(cls, groups: int, inner_groups: int) -> list[Rule]:
        tables = {
            "model.embeddings.word": "albert.embeddings.word_embeddings",
            "model.embeddings.position": "albert.embeddings.position_embeddings",
            "model.embeddings.segment": "albert.embeddings.token_type_embeddings",
        }
        modules: dict[str, str | tuple[str, ...]] = {
            "model.embeddings.norm": "albert.embeddings.LayerNorm",
            "model.projection": "albert.encoder.embedding_hidden_mapping_in",
            "model.pooler": "albert.pooler",
            "objective.head.dense": "predictions.dense",
            "objective.head.norm": "predictions.LayerNorm",
            "objective.pair_head": "sop_classifier.classifier",
        }
        for group in range(groups):
            for layer in range(inner_groups):
                n = group * inner_groups + layer
                theirs = f"albert.encoder.albert_layer_groups.{group}.albert_layers.{layer}."
                modules |= {
                    f"model.attentions.{n}.qkv": tuple(
                        theirs + f"attention.{name}" for name in ("query", "key", "value")
                    ),
                    f"model.attentions.{n}.output": theirs + "attention.dense",
                    f"model.attentions.{n}.norm": theirs + "attention.LayerNorm",
                    f"model.feed_forwards.{n}.inner": theirs + "ffn",
                    f"model.feed_forwards.{n}.outer": theirs + "ffn_output",
                    f"model.feed_forwards.{n}.norm": theirs + "full_layer_layer_norm",
                }
        bias = Rule("objective.head.bias", ("predictions.bias",))
        return [*conversion.rules(tables, ("weight",)), *conversion.rules(modules), bias]

    @classmethod
    def from_transformers(
        cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], Weights]:
        conversion.demand(
            config,
            {
                "position_embedding_type": ("absolute", None),
                "tie_word_embeddings": (True,),
                "hidden_act": tuple(THEIR_ACTIVATIONS),
            },
        )
        settings = {
            "layers": config["num_hidden_layers"],
            "width": config["hidden_size"],
            "heads": config["num_attention_heads"],
            "inner": config["intermediate_size"],
            "embedding_width": config["embedding_size"],
            "sharing": "all",
            "layer_groups": config.get("num_hidden_groups", 1),
            "inner_groups": config.get("inner_group_num", 1),
            "positions": config["max_position_embeddings"],
            "segments": config["type_vocab_size"],
            "activation": THEIR_ACTIVATIONS[config.get("hidden_act", "gelu_new")],
            "dropout": float(config.get("hidden_dropout_prob", 0.0)),
            "attention_dropout": float(config.get("attention_probs_dropout_prob", 0.0)),
            "norm_epsilon": config.get("layer_norm_eps", 1e-12),
            "initializer_range": config.get("initializer_range", 0.02),
        }
        ours = conversion.load(
            cls._names(settings["layer_groups"], settings["inner_groups"]),
            conversion.with_prefix(weights, "albert.", ("embeddings.", "encoder.", "pooler.")),
            ignored=(
                "*position_ids",
                "*token_type_ids",
                "*decoder.weight",
                "*decoder.bias",
                "classifier.*",
                "qa_outputs.*",
            ),
        )
        return settings, ours

    @classmethod
    def to_transformers(
        cls, settings: Mapping[str, Any], weights: Mapping[str, Tensor], vocabulary: Vocabulary
    ) -> tuple[dict[str, Any], Weights]:
        """Theirs shares all or nothing: a model that shares one of the two is written with a copy in every layer."""
        layers, inner_groups = settings["layers"], settings["inner_groups"]
        groups = settings["layer_groups"] if settings["sharing"] == "all" else layers
        names = cls._names(groups, inner_groups)
        spread = dict(weights)
        if groups != settings["layer_groups"]:
            for n, shared in enumerate(_order(layers, settings["layer_groups"], inner_groups)):
                for kind, sharer in (("attentions", "attention"), ("feed_forwards", "ffn")):
                    if settings["sharing"] == sharer:
                        prefix = f"model.{kind}.{shared}."
                        copies = {k: v for k, v in weights.items() if k.startswith(prefix)}
                        spread |= {f"model.{kind}.{n}." + k.removeprefix(prefix): v for k, v in copies.items()}
        with_pair, with_head = "objective.pair_head.weight" in weights, "objective.head.bias" in weights
        their_class = (
            "AlbertForPreTraining" if with_pair and with_head else "AlbertForMaskedLM" if with_head else "AlbertModel"
        )
        config = {
            "model_type": cls.model_type,
            "architectures": [their_class],
            "vocab_size": len(weights["model.embeddings.word.weight"]),
            "embedding_size": settings["embedding_width"],
            "num_hidden_layers": layers,
            "num_hidden_groups": groups,
            "inner_group_num": inner_groups,
            "hidden_size": settings["width"],
            "num_attention_heads": settings["heads"],
            "intermediate_size": settings["inner"],
            "max_position_embeddings": settings["positions"],
            "type_vocab_size": settings["segments"],
            "hidden_act": OUR_ACTIVATIONS[settings["activation"]],
            "hidden_dropout_prob": settings["dropout"],
            "attention_probs_dropout_prob": settings["attention_dropout"],
            "layer_norm_eps": settings["norm_epsilon"],
            "initializer_range": settings["initializer_range"],
            **{f"{role}_token_id": vocabulary.special.get(role) for role in ("pad", "bos", "eos")},
        }
        return config, conversion.store(names, spread)


def _order(layers: int, groups: int, inner_groups: int) -> list[int]:
    """Which shared sublayer each place in the stack runs: layers are dealt to the groups in runs as equal as can be."""
    # floating point as in transformers, which rounds some uneven runs otherwise than whole numbers would
    return [int(layer / (layers / groups)) * inner_groups + j for layer in range(layers) for j in range(inner_groups)]
