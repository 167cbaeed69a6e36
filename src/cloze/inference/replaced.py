"""Telling which tokens of a text were replaced: what ELECTRA's discriminator learns (https://arxiv.org/abs/2003.10555)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from cloze.inference.reading import Speller, batch_for, enclose, judging, refuse_long, rows_of
from cloze.models.base import Backbone
from cloze.models.padding import flat

AT_ONCE = 64  # texts


@dataclass(frozen=True)
class Doubted:
    """A text's tokens, as the vocabulary writes them, and how probable the model holds it to be that each was replaced."""

    text: str
    tokens: tuple[str, ...]
    probabilities: tuple[float, ...]


def replaced_tokens(
    model: Backbone, discriminator: nn.Module, tokenizer: Speller, texts: Sequence[str]
) -> list[Doubted]:
    """Of each text's tokens, special ones left out, the probability that they do not belong there.

    `discriminator` makes one logit of each hidden state. Raises Refusal for texts longer than the model has positions.
    """
    rows = [enclose(model, tokenizer.encode(text, special=True), tokenizer.vocabulary) for text in texts]
    refuse_long(model, texts, rows)
    found = []
    special = tokenizer.vocabulary.special_ids
    with judging(model, discriminator):
        for first in range(0, len(rows), AT_ONCE):
            few = flat(rows[first : first + AT_ONCE])
            shares = discriminator(model(batch_for(model, few)).last).float().sigmoid().cpu()
            for text, row, own in zip(
                texts[first : first + AT_ONCE],
                rows[first : first + AT_ONCE],
                rows_of(shares, few.layout.lengths),
                strict=True,
            ):
                kept = [
                    (tokenizer.token(token), share)
                    for token, share in zip(row, own, strict=True)
                    if token not in special
                ]
                found.append(Doubted(text, tuple(token for token, _ in kept), tuple(share for _, share in kept)))
    return found
