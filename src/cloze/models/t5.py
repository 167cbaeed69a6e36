"""T5: an encoder-decoder that reads one text and writes another (Raffel et al. 2019, https://arxiv.org/abs/1910.10683).

The paper's model, version 1.0, has a ReLU feed-forward and tied embeddings. Version 1.1, on which mT5
(https://arxiv.org/abs/2010.11934) and Flan-T5 (https://arxiv.org/abs/2210.11416) are built, has a gated feed-forward
(https://arxiv.org/abs/2002.05202) and an output layer of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models import conversion
from cloze.models.base import Batch, EncoderDecoder, HiddenStates, Sequences, TokenHead
from cloze.models.cache import Cache, computed_once, kept
from cloze.models.checks import above_zero, positive, rates
from cloze.models.conversion import Portable, Rule, Weights
from cloze.models.layers.attention import attend
from cloze.models.layers.dropout import drop
from cloze.models.layers.heads import TiedHead, UntiedHead
from cloze.models.layout import Layout

Kind = Literal["relu", "gated_gelu"]
Losses = dict[str, list[Tensor]]  # what each layer of a kind must add, by its name


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
    """Two dense layers without biases, an activation and dropout between them: (N, width) -> same.

    `relu`: max(0, inner). `gated_gelu`: the inner layer is twice as wide, GELU (tanh) of one half times the other.
    """

    def __init__(self, width: int, inner: int, dropout: float, kind: Kind = "relu") -> None:
        super().__init__()
        self.inner = nn.Linear(width, inner if kind == "relu" else 2 * inner, bias=False)
        self.outer = nn.Linear(inner, width, bias=False)
        self.dropout, self.kind = dropout, kind

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.outer(drop(self._inside(self.inner(x)), self.dropout, self.training))
        return projected

    def _inside(self, x: Tensor) -> Tensor:
        if self.kind == "relu":
            return F.relu(x)
        gate, linear = x.chunk(2, dim=-1)
        return F.gelu(gate, approximate="tanh") * linear

    def initialise(self, factor: float) -> None:
        """Deviations go by how many numbers each output is a sum of."""
        nn.init.normal_(self.inner.weight, std=factor * self.inner.in_features**-0.5)
        nn.init.normal_(self.outer.weight, std=factor * self.outer.in_features**-0.5)


class Layer(nn.Module):
    """Each sub-layer reads the normed stream and adds to it; in the decoder the second one looks at the memory."""

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        feed_forward: nn.Module,
        dropout: float,
        epsilon: float,
        decoder: bool,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=epsilon)
        self.attention = Attention(width, heads, head_width, dropout)
        if decoder:
            self.cross_attention_norm = nn.RMSNorm(width, eps=epsilon)
            self.cross_attention = Attention(width, heads, head_width, dropout, cross=True)
        self.feed_forward_norm = nn.RMSNorm(width, eps=epsilon)
        self.feed_forward = feed_forward
        self.dropout = dropout

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        bias: Tensor,
        memory: Tensor | None = None,
        memory_layout: Layout | None = None,
        cache: Cache | None = None,
        losses: Losses | None = None,
    ) -> Tensor:
        x = x + self._dropped(self.attention(self.attention_norm(x), layout, bias, cache=cache))
        if memory_layout is not None:
            normed = self.cross_attention_norm(x)
            x = x + self._dropped(self.cross_attention(normed, layout, None, memory, memory_layout, cache))
        return x + self._dropped(self.fed_forward(self.feed_forward_norm(x), layout, cache, losses))

    def fed_forward(self, x: Tensor, layout: Layout, cache: Cache | None, losses: Losses | None) -> Tensor:
        """What is added last; a layer with losses of its own puts them into `losses`."""
        fed: Tensor = self.feed_forward(x)
        return fed

    def _dropped(self, x: Tensor) -> Tensor:
        return drop(x, self.dropout, self.training)


class Stack(nn.Module):
    """The encoder or the decoder: layers that share one relative bias, and a final norm."""

    def __init__(
        self, layers: Iterable[Layer], relative_bias: RelativeBias, width: int, dropout: float, epsilon: float
    ) -> None:
        super().__init__()
        self.relative_bias = relative_bias
        self.layers = nn.ModuleList(layers)
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
        losses: Losses | None = None,
    ) -> list[Tensor]:
        """The embedding's output and every layer's, the last one normed. With a filled cache x is one new token a sequence."""
        if (
            cache is not None and cache.filled
        ):  # distances go by the keys that are kept, wherever the text's positions begin
            bias = self.relative_bias.at(torch.tensor(cache.lengths, device=x.device))
        else:
            bias = self.relative_bias(layout.longest)
        states = [drop(x, self.dropout, self.training)]
        for layer in self.layers:
            states.append(layer(states[-1], layout, bias, memory, memory_layout, cache, losses))
        states[-1] = drop(self.final_norm(states[-1]), self.dropout, self.training)
        return states


def refuse_shape(
    layers: int,
    decoder_layers: int | None,
    width: int,
    heads: int,
    head_width: int,
    inner: int,
    buckets: int,
    furthest: int,
    norm_epsilon: float,
) -> None:
    """Refuses settings of a shape that cannot be, by their name."""
    positive(layers=layers, width=width, heads=heads, head_width=head_width, inner=inner)
    if decoder_layers is not None:
        positive(decoder_layers=decoder_layers)
    above_zero(norm_epsilon=norm_epsilon)
    if buckets < 4 or buckets % 4:
        raise Refusal(f"model.buckets={buckets} must be a multiple of 4, at least 4; T5 has 32.")
    if furthest <= buckets // 2:
        raise Refusal(
            f"model.furthest={furthest} must be more than model.buckets / 2 = {buckets // 2}: "
            "nearer distances have buckets of their own."
        )


class TextToText(EncoderDecoder, Portable):
    """What T5 and those that are built like it have in common: two stacks and one word embedding for both.

    There are no position tables, so no sequence is too long.
    """

    caches = True
    reads_twice: ClassVar[bool] = False
    word: nn.Embedding
    encoder: Stack
    decoder: Stack

    def __init__(self, vocabulary: int, width: int, encoder: Stack, decoder: Stack) -> None:
        super().__init__()
        self.width = width
        self.word = nn.Embedding(vocabulary, width)
        self.encoder, self.decoder = encoder, decoder

    @property
    def word_embedding(self) -> Tensor:
        return self.word.weight

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        inputs, outputs, cache = batch.inputs, batch.decoder, batch.cache
        losses: Losses = {}
        if cache is not None and cache.filled:  # the decoder's layers have what they take from the encoder
            states = None
        else:
            encoded = self.encoder(self.word(inputs.tokens), inputs, inputs.layout, losses=losses)
            states = encoded[-1]
            if outputs is None:  # the encoder alone, for its vectors
                return HiddenStates(states, encoded if every_layer else [], self.weighted(losses), encoder=states)
        assert outputs is not None
        # a decoder reads from left to right whatever the layout's maker said
        layout = outputs.layout.seen_as("causal") if outputs.layout.pattern == "bidirectional" else outputs.layout
        decoded = self.decoder(self.word(outputs.tokens), outputs, layout, states, inputs.layout, cache, losses)
        return HiddenStates(decoded[-1], decoded if every_layer else [], self.weighted(losses), encoder=states)

    def weighted(self, losses: Losses) -> dict[str, Tensor]:
        """What the layers' own losses come to, each with its weight."""
        return {}

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


class T5(TextToText):
    """Pre-norm encoder and decoder with RMS norms, relative positions in buckets and one embedding for all three uses.

    `layers` counts the encoder's; the decoder has as many unless `decoder_layers` says otherwise. With `tied` false the
    output layer has weights of its own, and what it reads is not scaled.
    """

    model_type: ClassVar[str] = "t5"
    other_types: ClassVar[tuple[str, ...]] = ("mt5",)

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
        feed_forward: Kind = "relu",
        tied: bool = True,
        buckets: int = 32,
        furthest: int = 128,
        dropout: float = 0.1,
        norm_epsilon: float = 1e-6,
        initializer_factor: float = 1.0,
    ) -> None:
        refuse_shape(layers, decoder_layers, width, heads, head_width, inner, buckets, furthest, norm_epsilon)
        above_zero(initializer_factor=initializer_factor)
        rates(dropout=dropout)

        def stack(count: int, decoder: bool) -> Stack:
            made = (
                Layer(
                    width,
                    heads,
                    head_width,
                    FeedForward(width, inner, dropout, feed_forward),
                    dropout,
                    norm_epsilon,
                    decoder,
                )
                for _ in range(count)
            )
            return Stack(made, RelativeBias(heads, buckets, furthest, not decoder), width, dropout, norm_epsilon)

        super().__init__(
            vocabulary, width, stack(layers, False), stack(layers if decoder_layers is None else decoder_layers, True)
        )
        self.tied, self.factor = tied, initializer_factor
        nn.init.normal_(self.word.weight, std=initializer_factor)
        for module in self.modules():
            if isinstance(module, Attention | FeedForward):
                module.initialise(initializer_factor)
            elif isinstance(module, RelativeBias):
                nn.init.normal_(module.weight, std=initializer_factor * width**-0.5)
            elif isinstance(module, nn.RMSNorm):
                nn.init.constant_(module.weight, initializer_factor)

    def token_head(self) -> TokenHead:
        if self.tied:
            return TiedHead(self.width**-0.5)
        return UntiedHead(self.word.num_embeddings, self.width, self.factor * self.width**-0.5, bias=False)

    # Hugging Face

    @classmethod
    def _rules(cls, layers: int, decoder_layers: int, feed_forward: Kind) -> list[Rule]:
        names = their_names(layers, decoder_layers)
        for stack, count, last in (("encoder", layers, 1), ("decoder", decoder_layers, 2)):
            for i in range(count):
                ours, theirs = f"{stack}.layers.{i}.feed_forward.", f"{stack}.block.{i}.layer.{last}.DenseReluDense."
                names[ours + "inner"] = theirs + "wi" if feed_forward == "relu" else (theirs + "wi_0", theirs + "wi_1")
                names[ours + "outer"] = theirs + "wo"
        table = conversion.rules({f"model.{ours}": theirs for ours, theirs in names.items()}, ("weight",))
        return [*table, Rule("objective.head.weight", ("lm_head.weight",))]

    @classmethod
    def from_transformers(
        cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], Weights]:
        multilingual = config.get("model_type") == "mt5"  # always as version 1.1
        config = {"feed_forward_proj": "gated-gelu" if multilingual else "relu", **config}
        conversion.demand(config, {"feed_forward_proj": ("relu", "gated-gelu")})
        kind: Kind = "relu" if config["feed_forward_proj"] == "relu" else "gated_gelu"
        # transformers tells version 1.1 by what its config.json says of tying, and then does not scale what the output
        # layer reads; whether that layer's weights are the embedding's all the same is left to the checkpoint
        scaled = config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True) is not False)
        tied = bool(scaled) and not multilingual
        settings = {**their_shape(config), "feed_forward": kind, "tied": tied}
        settings["initializer_factor"] = float(config.get("initializer_factor", 1.0))
        weights = dict(weights)
        output, word = weights.pop("lm_head.weight", None), weights.get("shared.weight")
        if not tied and word is not None:
            weights["lm_head.weight"] = word if output is None else output
        elif output is not None and word is not None and not torch.equal(output, word):
            raise Refusal(
                "the checkpoint's lm_head.weight is not its shared.weight, although config.json has "
                f"tie_word_embeddings={config.get('tie_word_embeddings', True)}: the two do not belong together."
            )
        table = cls._rules(settings["layers"], settings["decoder_layers"] or settings["layers"], kind)
        return settings, conversion.load(table, weights, UNREAD)

    @classmethod
    def to_transformers(
        cls, settings: Mapping[str, Any], weights: Mapping[str, Tensor], vocabulary: Vocabulary
    ) -> tuple[dict[str, Any], Weights]:
        decoder_layers = settings["decoder_layers"] or settings["layers"]
        config = {
            "model_type": cls.model_type,
            "architectures": ["T5ForConditionalGeneration"],
            **their_config(settings, weights, vocabulary),
            "initializer_factor": settings["initializer_factor"],
            "feed_forward_proj": settings["feed_forward"].replace("_", "-"),
            "tie_word_embeddings": settings["tied"],
        }
        return config, conversion.store(
            cls._rules(settings["layers"], decoder_layers, settings["feed_forward"]), weights
        )


# copies of the one embedding; and a bias of the cross-attention that old checkpoints carry and nothing reads
UNREAD = ("*embed_tokens.weight", "decoder.*.EncDecAttention.relative_attention_bias.weight")
_SHAPE = {
    "layers": ("num_layers", 6),
    "width": ("d_model", 512),
    "heads": ("num_heads", 8),
    "head_width": ("d_kv", 64),
    "inner": ("d_ff", 2048),
    "buckets": ("relative_attention_num_buckets", 32),
    "furthest": ("relative_attention_max_distance", 128),
    "dropout": ("dropout_rate", 0.1),
    "norm_epsilon": ("layer_norm_epsilon", 1e-6),
}  # ours: theirs, and what theirs is where it is not said


def their_names(layers: int, decoder_layers: int) -> dict[str, str | tuple[str, ...]]:
    """transformers' names of all modules but the feed-forwards, by ours."""
    names: dict[str, str | tuple[str, ...]] = {"word": "shared"}
    for stack, count in (("encoder", layers), ("decoder", decoder_layers)):
        names[f"{stack}.final_norm"] = f"{stack}.final_layer_norm"
        names[f"{stack}.relative_bias"] = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias"
        for i in range(count):
            ours, theirs = f"{stack}.layers.{i}.", f"{stack}.block.{i}.layer."
            own, cross = theirs + "0.SelfAttention.", theirs + "1.EncDecAttention."
            names |= {
                ours + "attention_norm": theirs + "0.layer_norm",
                ours + "attention.qkv": (own + "q", own + "k", own + "v"),
                ours + "attention.output": own + "o",
                ours + "feed_forward_norm": theirs + f"{1 if stack == 'encoder' else 2}.layer_norm",
            }
            if stack == "decoder":
                names |= {
                    ours + "cross_attention_norm": theirs + "1.layer_norm",
                    ours + "cross_attention.query": cross + "q",
                    ours + "cross_attention.key_value": (cross + "k", cross + "v"),
                    ours + "cross_attention.output": cross + "o",
                }
    return names


def their_shape(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ours that a config.json's entries stand for."""
    settings = {ours: config.get(theirs, usual) for ours, (theirs, usual) in _SHAPE.items()}
    settings["dropout"] = float(settings["dropout"])
    decoder_layers = config.get("num_decoder_layers")
    settings["decoder_layers"] = None if decoder_layers == settings["layers"] else decoder_layers
    return settings


def their_config(settings: Mapping[str, Any], weights: Mapping[str, Tensor], vocabulary: Vocabulary) -> dict[str, Any]:
    """The same the other way, with the ids of the tokens that transformers asks for."""
    pad = vocabulary.special.get("pad")
    return {
        "vocab_size": len(weights["model.word.weight"]),
        **{theirs: settings[ours] for ours, (theirs, _) in _SHAPE.items()},
        "num_decoder_layers": settings["decoder_layers"] or settings["layers"],
        "is_encoder_decoder": True,
        "decoder_start_token_id": pad,
        "pad_token_id": pad,
        "eos_token_id": vocabulary.special.get("eos"),
    }
