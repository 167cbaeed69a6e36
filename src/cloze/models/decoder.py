"""What the decoders of GPT's kind have in common: learned positions, layers that see what stands before, a tied head."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cloze.data.base import Vocabulary
from cloze.models import conversion
from cloze.models.base import Batch, Causal, HiddenStates, Prefixed
from cloze.models.cache import Cache
from cloze.models.checks import above_zero, fitting, positive, rates
from cloze.models.conversion import Portable, Rule, Weights
from cloze.models.layers.attention import SelfAttention
from cloze.models.layers.dropout import drop
from cloze.models.layers.feed_forward import FeedForward
from cloze.models.layers.heads import TiedHead
from cloze.models.layout import Layout


class DecoderLayer(nn.Module):
    """Causal attention and feed-forward, each added to the stream: (N, width) -> same.

    `norm_first`: each reads the normed stream (GPT-2). Else the sum is normed (GPT).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        inner: int,
        dropout: float,
        attention_dropout: float,
        epsilon: float,
        norm_first: bool,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=epsilon)
        self.attention = SelfAttention(width, heads, attention_dropout)
        self.feed_forward_norm = nn.LayerNorm(width, eps=epsilon)
        self.feed_forward = FeedForward(width, inner, "gelu_tanh")
        self.dropout, self.norm_first = dropout, norm_first

    def forward(self, x: Tensor, layout: Layout, cache: Cache | None = None) -> Tensor:
        if self.norm_first:
            x = x + self._dropped(self.attention(self.attention_norm(x), layout, cache))
            return x + self._dropped(self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(x + self._dropped(self.attention(x, layout, cache)))
        normed: Tensor = self.feed_forward_norm(x + self._dropped(self.feed_forward(x)))
        return normed

    def _dropped(self, x: Tensor) -> Tensor:
        return drop(x, self.dropout, self.training)


class Decoder(Causal, Prefixed, Portable):
    """Word and position embeddings, `layers` decoder layers, where the family has one a final norm, a tied head."""

    caches = True
    norm_first: ClassVar[bool]  # and then there is a final norm
    their_embeddings: ClassVar[tuple[str, str]]  # transformers' names of the word and the position embedding
    final_norm: nn.LayerNorm | None

    def __init__(
        self,
        vocabulary: int,
        length: int,
        pooler: bool,
        layers: int = 12,
        width: int = 768,
        heads: int = 12,
        inner: int = 3072,
        positions: int = 1024,
        embedding_dropout: float = 0.1,
        attention_dropout: float = 0.1,
        dropout: float = 0.1,
        norm_epsilon: float = 1e-5,
        initializer_range: float = 0.02,
    ) -> None:
        super().__init__()
        positive(layers=layers, width=width, heads=heads, inner=inner, positions=positions)
        above_zero(norm_epsilon=norm_epsilon, initializer_range=initializer_range)
        rates(embedding_dropout=embedding_dropout, attention_dropout=attention_dropout, dropout=dropout)
        fitting(width, heads, length, positions)
        self.width, self.positions, self.initializer_range = width, positions, initializer_range
        self.embedding_dropout = embedding_dropout
        self.word = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(positions, width)
        self.layers = nn.ModuleList(
            DecoderLayer(width, heads, inner, dropout, attention_dropout, norm_epsilon, self.norm_first)
            for _ in range(layers)
        )
        self.final_norm = nn.LayerNorm(width, norm_epsilon) if self.norm_first else None
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" in name:
                nn.init.ones_(parameter)
            else:
                nn.init.normal_(parameter, std=self.deviation(name))

    @abstractmethod
    def deviation(self, parameter_name: str) -> float:
        """The deviation of the normal that a matrix begins with."""

    @property
    def word_embedding(self) -> Tensor:
        return self.word.weight

    def token_head(self) -> TiedHead:
        return TiedHead()

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        inputs = batch.inputs
        # a batch that says nothing of what is seen (a notebook's padded tensors) is still read from left to right only
        layout = inputs.layout.seen_as("causal") if inputs.layout.pattern == "bidirectional" else inputs.layout
        hidden = self.word(inputs.tokens) + self.position(inputs.positions)
        hidden = drop(hidden, self.embedding_dropout, self.training)
        states = [hidden]
        for layer in self.layers:
            hidden = layer(hidden, layout, batch.cache)
            states.append(hidden)
        if self.final_norm is not None:
            states[-1] = hidden = self.final_norm(
                hidden
            )  # as everywhere, the last of the layers is what the head reads
        return HiddenStates(hidden, states if every_layer else [])

    def pool(self, states: HiddenStates, batch: Batch) -> Tensor:
        """The last token's state: the only one that has seen the whole sequence."""
        layout = batch.inputs.layout
        lengths = torch.tensor(layout.lengths, device=states.last.device)
        return states.last[layout.starts(states.last.device) + lengths - 1]

    def depth(self, parameter_name: str) -> int:
        module, _, rest = parameter_name.partition(".")
        if module in ("word", "position"):
            return 0
        return int(rest.split(".")[0]) + 1 if module == "layers" else len(self.layers)

    # Hugging Face

    @classmethod
    def _rules(cls, layers: int) -> list[Rule]:
        word, position = cls.their_embeddings
        table = [Rule("model.word.weight", (f"{word}.weight",)), Rule("model.position.weight", (f"{position}.weight",))]
        if cls.norm_first:
            table += conversion.rules({"model.final_norm": "ln_f"})
        for i in range(layers):
            ours, theirs = f"model.layers.{i}", f"h.{i}"
            table += conversion.rules(
                {f"{ours}.attention_norm": f"{theirs}.ln_1", f"{ours}.feed_forward_norm": f"{theirs}.ln_2"}
            )
            for name, their_name in (
                ("attention.qkv", "attn.c_attn"),
                ("attention.output", "attn.c_proj"),
                ("feed_forward.inner", "mlp.c_fc"),
                ("feed_forward.outer", "mlp.c_proj"),
            ):
                table += [
                    Rule(f"{ours}.{name}.weight", (f"{theirs}.{their_name}.weight",), transposed=True),
                    Rule(f"{ours}.{name}.bias", (f"{theirs}.{their_name}.bias",)),
                ]
        return table

    @classmethod
    def from_transformers(
        cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], Weights]:
        conversion.demand(config, {"tie_word_embeddings": (True,)})
        width = config.get("n_embd", 768)
        settings = {
            "layers": config.get("n_layer", 12),
            "width": width,
            "heads": config.get("n_head", 12),
            "inner": config.get("n_inner") or 4 * width,
            "positions": config["n_positions"],
            "embedding_dropout": float(config.get("embd_pdrop", 0.1)),
            "attention_dropout": float(config.get("attn_pdrop", 0.1)),
            "dropout": float(config.get("resid_pdrop", 0.1)),
            "norm_epsilon": config.get("layer_norm_epsilon", 1e-5),
            "initializer_range": config.get("initializer_range", 0.02),
        }
        bare = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
        # lm_head is the embedding again; older checkpoints also carry the causal mask and the positions' numbers, fine-tuned ones a head
        ignored = (
            "lm_head.weight",
            "h.*.attn.bias",
            "h.*.attn.masked_bias",
            "position_ids",
            "score.*",
            "multiple_choice_head.*",
        )
        return settings, conversion.load(cls._rules(settings["layers"]), bare, ignored)

    @classmethod
    def to_transformers(
        cls, settings: Mapping[str, Any], weights: Mapping[str, Tensor], vocabulary: Vocabulary
    ) -> tuple[dict[str, Any], Weights]:
        end = vocabulary.special.get("eos")
        config = {
            "model_type": cls.model_type,
            "vocab_size": len(weights["model.word.weight"]),
            "n_positions": settings["positions"],
            "n_embd": settings["width"],
            "n_layer": settings["layers"],
            "n_head": settings["heads"],
            "embd_pdrop": settings["embedding_dropout"],
            "attn_pdrop": settings["attention_dropout"],
            "resid_pdrop": settings["dropout"],
            "layer_norm_epsilon": settings["norm_epsilon"],
            "initializer_range": settings["initializer_range"],
            "bos_token_id": vocabulary.special.get("bos", end),
            "eos_token_id": end,
            "pad_token_id": vocabulary.special.get("pad"),
            "tie_word_embeddings": True,
        }
        table = cls._rules(settings["layers"])
        return config, {f"transformer.{name}": tensor for name, tensor in conversion.store(table, weights).items()}
