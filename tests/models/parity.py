"""What the parity tests of the encoders share: random padded batches for theirs, the same as flat batches for ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cloze.models.base import Batch, Sequences
from cloze.models.layout import Layout, Way


@dataclass
class Padded:
    """A batch as transformers takes it: (B, L) each."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor

    def flat(self) -> Batch:
        """The same batch, real tokens only."""
        real = self.attention_mask.bool()
        lengths = self.attention_mask.sum(1).tolist()
        positions = torch.cat([torch.arange(n) for n in lengths])
        return Batch(Sequences(self.input_ids[real], Layout(lengths), positions, self.token_type_ids[real]), {}, {}, {})


def padded(vocabulary: int, lengths: list[int], segments: int, pad: int, seed: int = 0) -> Padded:
    """Random tokens that are never the padding token; each sequence's second half is the last segment."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    place = torch.arange(max(lengths)).expand(shape)
    ends = torch.tensor(lengths)[:, None]
    tokens = torch.randint(0, vocabulary - 1, shape, generator=generator)
    tokens += tokens >= pad
    return Padded(
        tokens.where(place < ends, torch.tensor(pad)),
        (place < ends).long(),
        ((place >= ends // 2) & (place < ends)).long() * (segments - 1),
    )


def scramble(module: torch.nn.Module, seed: int = 0, scale: float = 0.1) -> None:
    """Every parameter random, biases and norms too: nothing may pass because it is 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)


def laid_out(batch: Batch, way: Way, stride: int | None) -> tuple[Batch, Tensor]:
    """The batch's inputs under another layout, and which of its rows hold tokens; what fills a stride is token 3."""
    inputs = batch.inputs
    layout = Layout(inputs.layout.lengths, inputs.layout.pattern, stride=stride, way=way)
    if stride is None:
        return Batch(Sequences(inputs.tokens, layout, inputs.positions), {}, {}, {}), torch.arange(len(inputs.tokens))
    places = torch.arange(stride).expand(len(layout.lengths), stride)
    real = (places < torch.tensor(layout.lengths)[:, None]).flatten().nonzero().squeeze(1)
    tokens = torch.full((len(layout.lengths) * stride,), 3)
    tokens[real] = inputs.tokens
    return Batch(Sequences(tokens, layout, places.flatten()), {}, {}, {}), real


def reached(embedding: torch.nn.Module, scalar: Callable[[], Tensor]) -> list[list[int]]:
    """For each time that `scalar` looks into `embedding`: the rows of what it gave that the gradient of the scalar reaches."""
    given: list[Tensor] = []

    def keep(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        output.retain_grad()
        given.append(output)

    hook = embedding.register_forward_hook(keep)
    scalar().backward()
    hook.remove()
    return [(x.grad.abs().sum(1) > 0).nonzero().squeeze(1).tolist() for x in given if x.grad is not None]
