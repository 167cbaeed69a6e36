"""What a head reads of a model: which layer's states, and how those of a sequence become one vector.

Layers: the last; another by its number; `static` (0: what the embeddings give, the same for a word wherever it stands); or a learnt
mixture of all (ELMo, https://arxiv.org/abs/1802.05365). Pooling: the family's own habit (BERT: a dense layer on [CLS]; decoders: the last
token; T5: the mean of the encoder), the first or last token, the mean, the maximum, or all three of last, maximum and mean
(ULMFiT, https://arxiv.org/abs/1801.06146).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from cloze.errors import Refusal
from cloze.models.base import Backbone, Batch, EncoderDecoder, HiddenStates
from cloze.models.layers.scalar_mix import ScalarMix
from cloze.models.layout import Layout

Layer = int | Literal["last", "static", "mix"]
Pooling = Literal["own", "first", "last", "mean", "max", "concat"]


class Readout(nn.Module):
    """`tokens` gives (rows, width) of every token, `pooled` (sequences, pooled_width). It does not keep the model."""

    def __init__(self, model: Backbone, layer: Layer = "last", pooling: Pooling = "own") -> None:
        super().__init__()
        self.count = layer_count(model)
        if isinstance(layer, int) and not 0 <= layer <= self.count:
            raise Refusal(
                f"objective.layer={layer} must lie in 0 … {self.count} (0: the embeddings), or be last, static or mix."
            )
        self.layer: Layer = {"static": 0, "last": self.count}.get(str(layer), layer)
        self.pooling = pooling
        self.mix = ScalarMix(self.count + 1) if layer == "mix" else None
        self.pooled_width = model.width * (3 if pooling == "concat" else 1)

    def states(self, model: Backbone, batch: Batch) -> HiddenStates:
        """The model's states, `last` being those of the layer that is read."""
        if self.layer == self.count:
            states: HiddenStates = model(batch)
            return states
        states = model(batch, every_layer=True)
        # a layer below is read as it is, without what the model does behind its last one
        read = self.mix(states.layers) if self.mix is not None else states.layers[int(self.layer)]
        encoder = read if states.encoder is not None and batch.decoder is None else states.encoder
        return replace(states, last=read, encoder=encoder)

    def pooled(self, model: Backbone, states: HiddenStates, batch: Batch) -> Tensor:
        """(sequences, pooled_width): one vector of each sequence, from what `states` gave."""
        if self.pooling == "own":
            return model.pool(states, batch)
        layout = layout_of(batch)
        return pool(states.last, layout, self.pooling)

    def idle(self, model: Backbone) -> list[str]:
        """Names of the parameters that nothing which is read depends on: layers above, and a decoder that is given nothing."""
        names = [name for name, _ in model.named_parameters()]
        found: set[str] = set()
        below = 0  # layers below the first of those that are counted
        if isinstance(model, EncoderDecoder):
            if not model.reads_twice:
                found = {name for name in names if name.startswith("decoder.")}
            elif self.layer == 0:  # what the decoder's embeddings give has seen nothing of the encoder
                found = {name for name in names if name.startswith("encoder.")}
            else:
                below = len(model.encoder.layers)  # type: ignore[union-attr, arg-type]
        if isinstance(self.layer, int) and self.layer < self.count:
            highest = below + self.layer
            found |= {name for name in names if model.depth(name) > highest and not name.startswith("pooler.")}
        return [name for name in names if name in found]


def layout_of(batch: Batch) -> Layout:
    """Where the states of a batch lie: the decoder's, where it has a copy of the text."""
    return (batch.inputs if batch.decoder is None else batch.decoder).layout


def pool(states: Tensor, layout: Layout, pooling: Pooling) -> Tensor:
    """(rows, width) -> (sequences, width), or three times that for `concat`: last, maximum, mean."""
    if pooling == "first":
        return states[layout.starts(states.device)]
    last = states[layout.lasts.to(states.device)]
    if pooling == "last":
        return last
    lengths = torch.tensor(layout.lengths, device=states.device)
    rows = layout.rows.view(len(lengths), -1)[layout.real].to(states.device)
    which, real = torch.repeat_interleave(lengths), states[rows]
    count, width = len(lengths), states.shape[1]
    mean = real.new_zeros(count, width).index_add(0, which, real) / lengths[:, None]
    if pooling == "mean":
        return mean
    places = which[:, None].expand(-1, width)
    highest = real.new_full((count, width), -torch.inf).scatter_reduce(0, places, real, "amax")
    return highest if pooling == "max" else torch.cat([last, highest, mean], -1)


def layer_count(model: Backbone) -> int:
    """How many layers of states a model gives behind its embeddings."""
    if isinstance(model, EncoderDecoder):
        stack = model.decoder if model.reads_twice else model.encoder
        return len(stack.layers)  # type: ignore[union-attr, arg-type]
    count = getattr(model, "layer_count", None)
    return int(count) if count is not None else len(model.layers)  # type: ignore[arg-type]
