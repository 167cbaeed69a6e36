"""What a model says of a fixed batch."""

from __future__ import annotations

import torch
from torch import Tensor

from cloze.models.base import Backbone, Batch, EncoderDecoder, HiddenStates
from tests.models.test_layouts import LENGTHS, sequences


def batch(model: Backbone, name: str = "") -> Batch:
    """Sequences of different lengths; an encoder-decoder has some for its decoder too."""
    pattern = "prefix" if name == "unilm" else "bidirectional"
    inputs = sequences(
        LENGTHS["encoder"], pattern, None, segments=name in ("bert", "albert", "unilm", "electra", "xlnet")
    )
    decoder = sequences(LENGTHS["decoder"], "causal", None, False) if isinstance(model, EncoderDecoder) else None
    return Batch(inputs, {}, {}, {}, decoder=decoder)


def read(model: Backbone, given: Batch, every_layer: bool = False) -> HiddenStates:
    """Without gradients."""
    with torch.no_grad():
        found: HiddenStates = model(given, every_layer=every_layer)
    return found


def states(model: Backbone, name: str = "") -> Tensor:
    """(N, width) of the last layer."""
    return read(model, batch(model, name)).last
