"""ELECTRA (Clark et al. 2020, https://arxiv.org/abs/2003.10555): an encoder that tells replaced tokens, and a smaller one that
replaces them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models import conversion
from cloze.models.base import Batch, Bidirectional, Discriminator, HiddenStates
from cloze.models.checks import above_zero, fitting, positive, rates
from cloze.models.conversion import Rule, Weights
from cloze.models.encoder import Encoder, config_of, layer_names, settings_of
from cloze.models.layers.embeddings import Embeddings
from cloze.models.layers.encoder import EncoderLayer
from cloze.models.layers.feed_forward import Activation
from cloze.models.layers.heads import TransformedHead
from cloze.models.layers.initialization import pooling_layer, truncated_normal


class Tower(nn.Module):
    """Embedded tokens projected to the width, where that is another, and the layers: (N, E) -> the states of each, (N, width)."""

    def __init__(
        self,
        embedding_width: int,
        layers: int,
        width: int,
        heads: int,
        inner: int,
        activation: Activation,
        dropout: float,
        attention_dropout: float,
        epsilon: float,
    ) -> None:
        super().__init__()
        self.projection = nn.Linear(embedding_width, width) if embedding_width != width else None
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, inner, activation, dropout, attention_dropout, epsilon) for _ in range(layers)
        )

    def forward(self, embedded: Tensor, batch: Batch) -> list[Tensor]:
        states = [embedded if self.projection is None else self.projection(embedded)]
        for layer in self.layers:
            states.append(layer(states[-1], batch.inputs.layout))
        return states


class Generator(Bidirectional):
    """A small masked language model that has its embeddings, their norm included, from the discriminator."""

    def __init__(self, embeddings: Embeddings, tower: Tower, width: int, head: tuple[Any, ...]) -> None:
        super().__init__()
        self.tower, self.width, self._head = tower, width, head
        self._shared = (embeddings,)  # in a tuple: lent, not its own, so its weights are counted and stored once

    @property
    def word_embedding(self) -> Tensor:
        return self._shared[0].word.weight

    def token_head(self) -> TransformedHead:
        return TransformedHead(*self._head)

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        states = self.tower(self._shared[0](batch.inputs), batch)
        return HiddenStates(states[-1], states if every_layer else [])

    def depth(self, parameter_name: str) -> int:
        return _depth(parameter_name, len(self.tower.layers))


class Electra(Encoder, Discriminator):
    """BERT's encoder with an embedding of a width of its own, and a generator where the objective asks for one.

    The generator is `generator_size` times as wide and has `generator_layers` times as many layers, heads of 64 and a feed-forward
    layer of four times its width, as the published code makes it; its embeddings are the discriminator's.
    """

    model_type = "electra"

    def __init__(
        self,
        vocabulary: int,
        length: int,
        pooler: bool,
        generator: bool = False,
        layers: int = 12,
        width: int = 256,
        heads: int = 4,
        inner: int = 1024,
        embedding_width: int = 128,
        generator_size: float = 0.25,
        generator_layers: float = 1.0,
        positions: int = 512,
        segments: int = 2,
        activation: Activation = "gelu",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        norm_epsilon: float = 1e-12,
        initializer_range: float = 0.02,
    ) -> None:
        super().__init__()
        positive(layers=layers, width=width, heads=heads, inner=inner, embedding_width=embedding_width)
        positive(positions=positions, segments=segments)
        above_zero(norm_epsilon=norm_epsilon, initializer_range=initializer_range)
        rates(dropout=dropout, attention_dropout=attention_dropout)
        fitting(width, heads, length, positions)
        for name, share in (("generator_size", generator_size), ("generator_layers", generator_layers)):
            if not 0 < share <= 1:
                raise Refusal(f"model.{name}={share:g} must lie in (0, 1]: a part of the discriminator's.")
        self.width, self.positions, self.initializer_range = width, positions, initializer_range
        self.activation: Activation = activation
        self.embeddings = Embeddings(vocabulary, embedding_width, positions, segments, dropout, norm_epsilon)
        rest = activation, dropout, attention_dropout, norm_epsilon
        self.tower = Tower(embedding_width, layers, width, heads, inner, *rest)
        self.pooler = pooling_layer(width) if pooler else None
        self.generator: Generator | None = None
        self._head = _head(width, embedding_width, vocabulary, norm_epsilon, initializer_range)
        if generator:
            small = generator_shape(layers, width, generator_size, generator_layers)
            if small["width"] % small["heads"]:
                near = max(1, round(small["width"] / 64)) * 64 / width
                raise Refusal(
                    f"model.generator_size={generator_size:g} of model.width={width} is {small['width']}, which {small['heads']} heads "
                    f"do not divide; the nearest that does is model.generator_size={near:g}."
                )
            tower = Tower(embedding_width, small["layers"], small["width"], small["heads"], small["inner"], *rest)
            head = _head(small["width"], embedding_width, vocabulary, norm_epsilon, initializer_range)
            self.generator = Generator(self.embeddings, tower, small["width"], head)
        truncated_normal(self, initializer_range)

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        states = self.tower(self.embeddings(batch.inputs), batch)
        return HiddenStates(states[-1], states if every_layer else [])

    @property
    def layer_count(self) -> int:
        """The discriminator's."""
        return len(self.tower.layers)

    def depth(self, parameter_name: str) -> int:
        """The generator's layers are counted from its own bottom."""
        return _depth(parameter_name.removeprefix("generator."), len(self.tower.layers))

    # Hugging Face: the discriminator is a model of its own there, and so is the generator, with a copy of the embeddings

    @classmethod
    def _names(cls, layers: int, ours: str = "model.") -> list[Rule]:
        tables = {
            "model.embeddings.word": "electra.embeddings.word_embeddings",
            "model.embeddings.position": "electra.embeddings.position_embeddings",
            "model.embeddings.segment": "electra.embeddings.token_type_embeddings",
        }
        head = "objective.head" if ours == "model." else "objective.generator_head"
        modules: dict[str, str | tuple[str, ...]] = {
            "model.embeddings.norm": "electra.embeddings.LayerNorm",
            f"{ours}tower.projection": "electra.embeddings_project",
            f"{head}.dense": "generator_predictions.dense",
            f"{head}.norm": "generator_predictions.LayerNorm",
        }
        if ours == "model.":
            modules |= {
                "model.pooler": "electra.pooler",  # theirs has none: kept so that a model comes back whole
                "objective.pair_head": "pair_head",  # likewise
                "objective.discriminator_head.dense": "discriminator_predictions.dense",
                "objective.discriminator_head.output": "discriminator_predictions.dense_prediction",
            }
        for i in range(layers):
            modules |= layer_names(f"{ours}tower.layers.{i}.", f"electra.encoder.layer.{i}.")
        bias = Rule(f"{head}.bias", ("generator_lm_head.bias",))
        return [*conversion.rules(tables, ("weight",)), *conversion.rules(modules), bias]

    @classmethod
    def from_transformers(
        cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], Weights]:
        """A discriminator or a generator, each as a model without the other: theirs do not say which belong together."""
        settings = {**settings_of(config), "embedding_width": config["embedding_size"]}
        ours = conversion.load(
            cls._names(settings["layers"]),
            conversion.with_prefix(weights, "electra.", ("embeddings", "encoder.", "pooler.")),
            ignored=("*position_ids", "*token_type_ids", "generator_lm_head.weight", "classifier.*", "qa_outputs.*"),
        )
        return settings, ours

    @classmethod
    def to_transformers(
        cls, settings: Mapping[str, Any], weights: Mapping[str, Tensor], vocabulary: Vocabulary
    ) -> tuple[dict[str, Any], Weights]:
        kind = "ElectraModel"
        if "objective.discriminator_head.dense.weight" in weights:
            kind = "ElectraForPreTraining"
        elif "objective.head.bias" in weights:
            kind = "ElectraForMaskedLM"
        shape = {name: settings[name] for name in ("layers", "width", "heads", "inner")}
        config = cls._config(kind, shape, settings, weights, vocabulary)
        return config, conversion.store(cls._names(settings["layers"]), weights)

    @classmethod
    def companions(
        cls, settings: Mapping[str, Any], weights: Mapping[str, Tensor], vocabulary: Vocabulary
    ) -> dict[str, tuple[dict[str, Any], Weights]]:
        """The generator, where there is one: an ElectraForMaskedLM with a copy of the shared embeddings."""
        if not any(name.startswith("model.generator.") for name in weights):
            return {}
        shape = generator_shape(
            settings["layers"], settings["width"], settings["generator_size"], settings["generator_layers"]
        )
        kind = "ElectraForMaskedLM" if "objective.generator_head.bias" in weights else "ElectraModel"
        config = cls._config(kind, shape, settings, weights, vocabulary)
        return {"generator": (config, conversion.store(cls._names(shape["layers"], "model.generator."), weights))}

    @classmethod
    def _config(
        cls,
        kind: str,
        shape: Mapping[str, int],
        settings: Mapping[str, Any],
        weights: Mapping[str, Tensor],
        vocabulary: Vocabulary,
    ) -> dict[str, Any]:
        return {
            "model_type": cls.model_type,
            "architectures": [kind],
            "embedding_size": settings["embedding_width"],
            **config_of({**settings, **shape}, weights["model.embeddings.word.weight"], vocabulary),
        }


def generator_shape(layers: int, width: int, size: float, depth: float) -> dict[str, int]:
    """Layers, width, heads and inner width of a generator of `size` and `depth` times a discriminator's width and layers."""
    small = max(1, round(width * size))
    return {"layers": max(1, round(layers * depth)), "width": small, "heads": max(1, small // 64), "inner": 4 * small}


def _head(width: int, embedding_width: int, vocabulary: int, epsilon: float, deviation: float) -> tuple[Any, ...]:
    """What `TransformedHead` is made of. Its activation is GELU whatever the layers', as in transformers."""
    return width, embedding_width, vocabulary, "gelu", epsilon, deviation


def _depth(parameter_name: str, layers: int) -> int:
    part, *rest = parameter_name.split(".")
    if part == "tower" and rest[0] == "layers":
        return int(rest[1]) + 1
    return 0 if part in ("tower", "embeddings") else layers + 1
