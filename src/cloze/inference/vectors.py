"""Vectors for a text's tokens, of any layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from cloze.errors import Refusal
from cloze.inference.reading import batch_for, enclose, judging, refuse_long, segments_of
from cloze.models.base import Backbone
from cloze.models.padding import flat

if TYPE_CHECKING:
    from cloze.data.tokenizers import Tokenizer

AT_ONCE = 64  # texts
Layer = int | Literal["last", "all", "mix"]


@dataclass(frozen=True)
class Vectors:
    """The tokens of one text, as the vocabulary writes them, and their vectors: (tokens, width), or (layers, tokens, width) of all
    layers, the embedding's output first."""

    tokens: tuple[str, ...]
    values: Tensor


def vectors(
    model: Backbone,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    one_sided: bool = False,
    layer: Layer = "last",
    language: int | None = None,
    queries: bool = True,
) -> list[Vectors]:
    """The hidden states of each text's tokens, special ones included, on the CPU. An encoder-decoder gives its encoder's; a model
    that reads characters (ELMo) gives those of the text's words, whether its vocabulary has them or not.

    `one_sided`: tokens see only what stands before them. `layer`: a number (0 is the embedding's output), "last", "all", or "mix",
    the mean of all, which is where ELMo's weighted sum begins before a task has learnt the weights
    (https://arxiv.org/abs/1802.05365, equation 1). `queries`: see `cloze.inference.reading.frame_of`. Raises Refusal for a layer
    that is not there.
    """
    found: list[Vectors] = []
    for first in range(0, len(texts), AT_ONCE):
        few = texts[first : first + AT_ONCE]
        if (of_words := getattr(model, "vectors", None)) is not None:
            words = [tokenizer.words(text) for text in few]
            with judging(model):
                states = of_words(words)
            found += [
                Vectors(tuple(own), _picked(list(layers.unbind(0)), layer).cpu())
                for own, layers in zip(words, states, strict=True)
            ]
        else:
            found += _of_tokens(model, tokenizer, few, one_sided, layer, language, queries)
    return found


def _of_tokens(
    model: Backbone,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    one_sided: bool,
    layer: Layer,
    language: int | None,
    queries: bool,
) -> list[Vectors]:
    vocabulary = tokenizer.vocabulary
    rows = [enclose(model, tokenizer.encode(text, special=True), vocabulary, queries=queries) for text in texts]
    if any(not row for row in rows):
        raise Refusal("a text is empty: there is no token to give a vector for")
    refuse_long(model, texts, rows)
    inputs = flat(rows, "causal" if one_sided else "bidirectional")
    inputs.segments = segments_of(model, inputs.tokens, vocabulary.special.get("cls"), bare=not queries)
    with judging(model):
        states = model(batch_for(model, inputs, language=language), every_layer=True)
    picked = _picked(states.layers, layer).cpu()
    parts = torch.split(picked, [len(row) for row in rows], dim=-2)
    return [
        Vectors(tuple(tokenizer.token(token) for token in row), part.clone())
        for row, part in zip(rows, parts, strict=True)
    ]


def _picked(layers: Sequence[Tensor], layer: Layer) -> Tensor:
    if layer == "all":
        return torch.stack(list(layers))
    if layer == "mix":
        return torch.stack(list(layers)).mean(0)
    number = len(layers) - 1 if layer == "last" else layer
    if not isinstance(number, int) or not 0 <= number < len(layers):
        raise Refusal(f"layer={layer} is not there; accepted: 0 (the embedding) … {len(layers) - 1}, last, all, mix.")
    return layers[number]
