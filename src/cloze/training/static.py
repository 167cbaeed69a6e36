"""hardware.layout=padded: the model computes in static shapes, and everybody else sees what it gives without the filling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from cloze.models.base import Backbone, Batch, HiddenStates
from cloze.models.static_shapes import pad


def make_static(model: Backbone, length: int) -> None:
    """From now on every batch of an objective is padded to `length` tokens a sequence on its way into the model, its hidden states
    cut back. Texts that the model goes on with, for samples, are not.

    Weights, names and results stay what they were: these are hooks around `model(batch)`.
    """
    places: list[tuple[Tensor, Tensor | None] | None] = []  # of the batch that is in the model now

    def fill(_: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        batch: Batch = arguments[0]
        if not batch.counts:  # nothing is to be learnt of it: a text that grows from call to call has no static shape
            places.append(None)
            return arguments
        inputs, rows = pad(batch.inputs, length)
        decoder, decoder_rows = (None, None) if batch.decoder is None else pad(batch.decoder, length)
        places.append((rows, decoder_rows))
        return (replace(batch, inputs=inputs, decoder=decoder), *arguments[1:])

    def cut(_: Any, __: tuple[Any, ...], states: HiddenStates) -> HiddenStates:
        there = places.pop()
        if there is None:
            return states
        rows, decoder_rows = there
        last = rows if decoder_rows is None else decoder_rows
        return replace(
            states,
            last=states.last[last],
            layers=[layer[last] for layer in states.layers],
            encoder=None if states.encoder is None else states.encoder[rows],
        )

    model.register_forward_pre_hook(fill)
    model.register_forward_hook(cut)
