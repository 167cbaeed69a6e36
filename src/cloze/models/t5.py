"""T5: an encoder-decoder that reads one text and writes another (Raffel et al. 2019, https://arxiv.org/abs/1910.10683).

This is version 1.0, the paper's: ReLU feed-forward, tied embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models import conversion
from cloze.models.base import Batch, EncoderDecoder, HiddenStates, Sequences
from cloze.models.cache import Cache, computed_once, kept
from cloze.models.checks import above_zero, positive, rates
from cloze.models.conversion import Portable, Rule, Weights
from cloze.models.layers.attention import attend
from cloze.models.layers.dropout import drop
from cloze.models.layers.heads import TiedHead
from cloze.models.layout import Layout


class RelativeBias(nn.Module):
    """A number for each head and each bucket of distances, added to the attention scores: lengths -> (heads, Lq, Lk).

    Half of the buckets (of each side's, where both sides are seen) hold one distance each; the others grow
    logarithmically up to `furthest`, from where on all distances share the last one.
    """

    def __init__(self, heads: int, buckets: int, furthest: int, both_sides: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(buckets, heads))
        self.furthest, self.both_sides = furthest, both_sides

    def bucket(self, distance: Tensor) -> Tensor:
        """Bucket of each distance (key's position minus query's), same shape."""
        buckets = self.weight.shape[0]
        first = torch.zeros_like(distance)
        if self.both_sides:
            buckets //= 2
            first = torch.where(distance > 0, buckets, 0)
            distance = distance.abs()
        else:
            distance = (-distance).clamp(min=0)
        exact = buckets // 2
        growth = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.furthest / exact)
        logarithmic = (exact + (growth * (buckets - exact)).long()).clamp(max=buckets - 1)
        return first + torch.where(distance < exact, distance, logarithmic)

    def forward(self, length: int) -> Tensor:
        distance = torch.arange(1 - length, length, device=self.weight.device)
        by_distance = F.embedding(self.bucket(distance), self.weight).t()  # (heads, 2 * length - 1)
        # row q holds the distances -q … length-1-q: windows over by_distance, the last one first
        return by_distance.unfold(1, length, 1).flip(1)

    def at(self, positions: Tensor) -> Tensor:
        """One query a sequence, at `positions` (B,), and keys at 0, 1, …, the furthest of them: (B, heads, 1, Lk)."""
        distance = torch.arange(int(positions.max()) + 1, device=positions.device) - positions[:, None]
        return F.embedding(self.bucket(distance), self.weight).permute(0, 2, 1)[:, :, None]


class Attention(nn.Module):
    """Multi-head attention without biases and without scaling, to the sequence itself or to the memory: (N, width) ->
    same.
    """

    def __init__(self, width: int, heads: int, head_width: int, dropout: float, cross: bool = False) -> None:
        super().__init__()
        self.heads, self.head_width, self.dropout, self.cross = heads, head_width, dropout, cross
        inner = heads * head_width
        if cross:
            self.query = nn.Linear(width, inner, bias=False)
            self.key_value = nn.Linear(width, 2 * inner, bias=False)
        else:
            self.qkv = nn.Linear(width, 3 * inner, bias=False)
        self.output = nn.Linear(inner, width, bias=False)

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        bias: Tensor | None = None,
        memory: Tensor | None = None,
        memory_layout: Layout | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        shape = (self.heads, self.head_width)
        if memory_layout is not None:
            queries = self.query(x).unflatten(-1, shape)
            keys, values = computed_once(
                cache, self, lambda: self.key_value(memory).unflatten(-1, (2, *shape)).unbind(1), memory_layout
            )
            seen: Layout | None = memory_layout
        else:
            queries, keys, values = self.qkv(x).unflatten(-1, (3, *shape)).unbind(1)
            keys, values, seen = kept(cache, self, keys, values, layout)
        gathered = attend(
            queries,
            keys,
            values,
            layout,
            seen,
            bias=bias,
            scale=1.0,
            dropout=self.dropout,
            training=self.training,
        )
        projected: Tensor = self.output(gathered.flatten(1))
        return projected

    def initialise(self, factor: float) -> None:
        """The queries' deviation makes up for the missing scaling of the scores."""
        inner = self.heads * self.head_width
        width = self.output.out_features
        query, others = factor * (width * self.head_width) ** -0.5, factor * width**-0.5
        if self.cross:
            nn.init.normal_(self.query.weight, std=query)
            nn.init.normal_(self.key_value.weight, std=others)
        else:
            nn.init.normal_(self.qkv.weight[:inner], std=query)
            nn.init.normal_(self.qkv.weight[inner:], std=others)
        nn.init.normal_(self.output.weight, std=factor * inner**-0.5)


class FeedForward(nn.Module):
    """Two dense layers without biases, ReLU and dropout between them: (N, width) -> same."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(width, inner, bias=False)
        self.outer = nn.Linear(inner, width, bias=False)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.outer(drop(F.relu(self.inner(x)), self.dropout, self.training))
        return projected

    def initialise(self, factor: float) -> None:
        """Deviations go by how many numbers each output is a sum of."""
        nn.init.normal_(self.inner.weight, std=factor * self.inner.in_features**-0.5)
        nn.init.normal_(self.outer.weight, std=factor * self.outer.in_features**-0.5)


class Layer(nn.Module):
    """Each sub-layer reads the normed stream and adds to it; in the decoder the second one looks at the memory."""

    def __init__(
        self, width: int, heads: int, head_width: int, inner: int, dropout: float, epsilon: float, decoder: bool
    ) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=epsilon)
        self.attention = Attention(width, heads, head_width, dropout)
        if decoder:
            self.cross_attention_norm = nn.RMSNorm(width, eps=epsilon)
            self.cross_attention = Attention(width, heads, head_width, dropout, cross=True)
        self.feed_forward_norm = nn.RMSNorm(width, eps=epsilon)
        self.feed_forward = FeedForward(width, inner, dropout)
        self.dropout = dropout

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        bias: Tensor,
        memory: Tensor | None = None,
        memory_layout: Layout | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        x = x + self._dropped(self.attention(self.attention_norm(x), layout, bias, cache=cache))
        if memory_layout is not None:
            normed = self.cross_attention_norm(x)
            x = x + self._dropped(self.cross_attention(normed, layout, None, memory, memory_layout, cache))
        return x + self._dropped(self.feed_forward(self.feed_forward_norm(x)))

    def _dropped(self, x: Tensor) -> Tensor:
        return drop(x, self.dropout, self.training)


class Stack(nn.Module):
    """The encoder or the decoder: layers that share one relative bias, and a final norm."""

    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        head_width: int,
        inner: int,
        buckets: int,
        furthest: int,
        dropout: float,
        epsilon: float,
        decoder: bool,
    ) -> None:
        super().__init__()
        self.relative_bias = RelativeBias(heads, buckets, furthest, both_sides=not decoder)
        self.layers = nn.ModuleList(
            Layer(width, heads, head_width, inner, dropout, epsilon, decoder) for _ in range(layers)
        )
        self.final_norm = nn.RMSNorm(width, eps=epsilon)
        self.dropout = dropout

    def forward(
        self,
        x: Tensor,
        inputs: Sequences,
        layout: Layout,
        memory: Tensor | None = None,
        memory_layout: Layout | None = None,
        cache: Cache | None = None,
    ) -> list[Tensor]:
        """The embedding's output and every layer's, the last one normed. With a filled cache x is one new token a sequence."""
        grows = cache is not None and cache.filled
        bias = self.relative_bias.at(inputs.positions) if grows else self.relative_bias(layout.longest)
        states = [drop(x, self.dropout, self.training)]
        for layer in self.layers:
            states.append(layer(states[-1], layout, bias, memory, memory_layout, cache))
        states[-1] = drop(self.final_norm(states[-1]), self.dropout, self.training)
        return states


class T5(EncoderDecoder, Portable):
    """Pre-norm encoder and decoder with RMS norms, relative positions in buckets and one embedding for all three uses.

    There are no position tables, so no sequence is too long. `layers` counts the encoder's; the decoder has as many
    unless `decoder_layers` says otherwise.
    """

    model_type: ClassVar[str] = "t5"
    caches = True

    def __init__(
        self,
        vocabulary: int,
        length: int,
        pooler: bool,
        layers: int = 6,
        decoder_layers: int | None = None,
        width: int = 512,
        heads: int = 8,
        head_width: int = 64,
        inner: int = 2048,
        buckets: int = 32,
        furthest: int = 128,
        dropout: float = 0.1,
        norm_epsilon: float = 1e-6,
        initializer_factor: float = 1.0,
    ) -> None:
        super().__init__()
        positive(layers=layers, width=width, heads=heads, head_width=head_width, inner=inner)
        if decoder_layers is not None:
            positive(decoder_layers=decoder_layers)
        above_zero(norm_epsilon=norm_epsilon, initializer_factor=initializer_factor)
        rates(dropout=dropout)
        if buckets < 4 or buckets % 4:
            raise Refusal(f"model.buckets={buckets} must be a multiple of 4, at least 4; T5 has 32.")
        if furthest <= buckets // 2:
            raise Refusal(
                f"model.furthest={furthest} must be more than model.buckets / 2 = {buckets // 2}: "
                "nearer distances have buckets of their own."
            )
        self.width = width
        self.word = nn.Embedding(vocabulary, width)
        shape = (width, heads, head_width, inner, buckets, furthest, dropout, norm_epsilon)
        self.encoder = Stack(layers, *shape, decoder=False)
        self.decoder = Stack(layers if decoder_layers is None else decoder_layers, *shape, decoder=True)
        self._initialise(initializer_factor)

    def _initialise(self, factor: float) -> None:
        nn.init.normal_(self.word.weight, std=factor)
        for module in self.modules():
            if isinstance(module, Attention | FeedForward):
                module.initialise(factor)
            elif isinstance(module, RelativeBias):
                nn.init.normal_(module.weight, std=factor * self.width**-0.5)
            elif isinstance(module, nn.RMSNorm):
                nn.init.constant_(module.weight, factor)

    @property
    def word_embedding(self) -> Tensor:
        return self.word.weight

    def token_head(self) -> TiedHead:
        return TiedHead(self.width**-0.5)

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        inputs, outputs, cache = batch.inputs, batch.decoder, batch.cache
        if cache is not None and cache.filled:  # the decoder's layers have what they take from the encoder
            states = None
        else:
            encoded = self.encoder(self.word(inputs.tokens), inputs, inputs.layout)
            states = encoded[-1]
            if outputs is None:  # the encoder alone, for its vectors
                return HiddenStates(states, encoded if every_layer else [], encoder=states)
        assert outputs is not None
        # a decoder reads from left to right whatever the layout's maker said
        layout = outputs.layout.seen_as("causal") if outputs.layout.pattern == "bidirectional" else outputs.layout
        decoded = self.decoder(self.word(outputs.tokens), outputs, layout, states, inputs.layout, cache)
        return HiddenStates(decoded[-1], decoded if every_layer else [], encoder=states)

    def pool(self, states: HiddenStates, batch: Batch) -> Tensor:
        """The mean of the encoder's states of each sequence."""
        assert states.encoder is not None
        layout = batch.inputs.layout
        lengths = torch.tensor(layout.lengths, device=states.encoder.device)
        rows = layout.rows.view(len(lengths), -1)[layout.real]
        which = torch.repeat_interleave(lengths)
        sums = states.encoder.new_zeros(len(lengths), self.width).index_add(0, which, states.encoder[rows])
        return sums / lengths[:, None]

    def depth(self, parameter_name: str) -> int:
        """The decoder's layers lie above the encoder's. A bias table lies with the first layer that it serves."""
        stack, _, rest = parameter_name.partition(".")
        if stack == "word":
            return 0
        below = 0 if stack == "encoder" else len(self.encoder.layers)
        here = len(self.encoder.layers if stack == "encoder" else self.decoder.layers)
        part, _, rest = rest.partition(".")
        return below + {"layers": int(rest.split(".")[0]) + 1 if part == "layers" else 1, "final_norm": here}.get(
            part, 1
        )

    # Hugging Face

    @classmethod
    def _rules(cls, layers: int, decoder_layers: int) -> list[Rule]:
        names: dict[str, str | tuple[str, ...]] = {"word": "shared"}
        for stack, count in (("encoder", layers), ("decoder", decoder_layers)):
            names[f"{stack}.final_norm"] = f"{stack}.final_layer_norm"
            names[f"{stack}.relative_bias"] = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias"
            feed_forward = 1 if stack == "encoder" else 2
            for i in range(count):
                ours, theirs = f"{stack}.layers.{i}.", f"{stack}.block.{i}.layer."
                own, cross = theirs + "0.SelfAttention.", theirs + "1.EncDecAttention."
                names |= {
                    ours + "attention_norm": theirs + "0.layer_norm",
                    ours + "attention.qkv": (own + "q", own + "k", own + "v"),
                    ours + "attention.output": own + "o",
                    ours + "feed_forward_norm": theirs + f"{feed_forward}.layer_norm",
                    ours + "feed_forward.inner": theirs + f"{feed_forward}.DenseReluDense.wi",
                    ours + "feed_forward.outer": theirs + f"{feed_forward}.DenseReluDense.wo",
                }
                if stack == "decoder":
                    names |= {
                        ours + "cross_attention_norm": theirs + "1.layer_norm",
                        ours + "cross_attention.query": cross + "q",
                        ours + "cross_attention.key_value": (cross + "k", cross + "v"),
                        ours + "cross_attention.output": cross + "o",
                    }
        return conversion.rules({f"model.{ours}": theirs for ours, theirs in names.items()}, ("weight",))

    @classmethod
    def from_transformers(
        cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], Weights]:
        conversion.demand(config, {"feed_forward_proj": ("relu",), "tie_word_embeddings": (True,)})
        layers = config.get("num_layers", 6)
        decoder_layers = config.get("num_decoder_layers")
        settings = {
            "layers": layers,
            "decoder_layers": None if decoder_layers == layers else decoder_layers,
            "width": config.get("d_model", 512),
            "heads": config.get("num_heads", 8),
            "head_width": config.get("d_kv", 64),
            "inner": config.get("d_ff", 2048),
            "buckets": config.get("relative_attention_num_buckets", 32),
            "furthest": config.get("relative_attention_max_distance", 128),
            "dropout": float(config.get("dropout_rate", 0.1)),
            "norm_epsilon": config.get("layer_norm_epsilon", 1e-6),
            "initializer_factor": float(config.get("initializer_factor", 1.0)),
        }
        table = cls._rules(layers, layers if decoder_layers is None else decoder_layers)
        # copies of the one embedding; and a bias of the cross-attention that old checkpoints carry and nothing reads
        ignored = ("*embed_tokens.weight", "lm_head.weight", "decoder.*.EncDecAttention.relative_attention_bias.weight")
        return settings, conversion.load(table, weights, ignored)

    @classmethod
    def to_transformers(
        cls, settings: Mapping[str, Any], weights: Mapping[str, Tensor], vocabulary: Vocabulary
    ) -> tuple[dict[str, Any], Weights]:
        layers = settings["layers"]
        decoder_layers = layers if settings["decoder_layers"] is None else settings["decoder_layers"]
        pad = vocabulary.special.get("pad")
        config = {
            "model_type": cls.model_type,
            "architectures": ["T5ForConditionalGeneration"],
            "vocab_size": len(weights["model.word.weight"]),
            "num_layers": layers,
            "num_decoder_layers": decoder_layers,
            "d_model": settings["width"],
            "num_heads": settings["heads"],
            "d_kv": settings["head_width"],
            "d_ff": settings["inner"],
            "relative_attention_num_buckets": settings["buckets"],
            "relative_attention_max_distance": settings["furthest"],
            "dropout_rate": settings["dropout"],
            "layer_norm_epsilon": settings["norm_epsilon"],
            "initializer_factor": settings["initializer_factor"],
            "feed_forward_proj": "relu",
            "is_encoder_decoder": True,
            "tie_word_embeddings": True,
            "decoder_start_token_id": pad,
            "pad_token_id": pad,
            "eos_token_id": vocabulary.special.get("eos"),
        }
        return config, conversion.store(cls._rules(layers, decoder_layers), weights)
