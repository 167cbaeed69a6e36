"""What everything here needs: a model put into judging mode, texts as batches, logits where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Backbone, Batch, Bidirectional, Sequences, TokenHead, TwoStreams

BLANK = "[MASK]"  # accepted in every text, however the tokenizer writes its mask token


class Speller(Protocol):
    """What is needed of a tokenizer."""

    roles: dict[str, str]
    vocabulary: Vocabulary

    def encode(self, text: str, special: bool = False) -> list[int]: ...
    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str: ...
    def token(self, id: int) -> str: ...


@contextmanager
def judging(*modules: Any) -> Iterator[None]:
    """Without gradients and dropout; every module is put back as it was."""
    kept = [module for module in modules if isinstance(module, nn.Module)]
    training = [module.training for module in kept]
    try:
        for module in kept:
            module.eval()
        with torch.no_grad():
            yield
    finally:
        for module, was in zip(kept, training, strict=True):
            module.train(was)


def device_of(model: Backbone) -> torch.device:
    """Where the model lies."""
    return next(model.parameters()).device


def batch_for(
    model: Backbone, inputs: Sequences, decoder: Sequences | None = None, language: int | None = None
) -> Batch:
    """A batch with nothing but texts in it, where the model lies; all in one language, for models that tell languages apart, or in
    none."""
    if model.languages is not None and language is not None:
        inputs.languages = torch.full_like(inputs.tokens, language)
    return Batch(inputs, {}, {}, {}, decoder).to(device_of(model))


def refuse_long(model: Backbone, texts: Sequence[str], rows: Sequence[Sequence[int]], room: int = 0) -> None:
    """Refuses a text whose tokens, and `room` more, are more than the model has positions for."""
    most = model.positions
    for text, row in zip(texts, rows, strict=True):
        if most is not None and len(row) + room > most:
            begin = text if len(text) <= 40 else f"{text[:40]}…"
            what = f"reads at most {most}" + (" with what it writes" if room else "")
            raise Refusal(f"{begin!r} is too long: it has {len(row)} tokens, the model {what}. Cut the text.")


def embedding_for(model: Backbone, head: TokenHead) -> Tensor:
    """The word embedding that a head is lent; nothing where it has a table of its own: one that is computed (ELMo's, from every
    word's characters) is then not."""
    nothing = torch.empty(0, device=next(model.parameters()).device)
    own = head.table(nothing)
    return model.word_embedding if own is nothing else own.detach()


def logits_of(model: Backbone, head: TokenHead, states: Tensor) -> Tensor:
    """(M, V) logits of (M, width) hidden states, in 32 bits."""
    logits: Tensor = head(states, embedding_for(model, head)).float()
    return logits


def logits_at(model: Backbone, head: TokenHead, batch: Batch, at: Tensor) -> Tensor:
    """(M, V) logits at rows `at` (M,) of the hidden states, in 32 bits."""
    states = model(batch).last
    return logits_of(model, head, states[at.to(states.device)])


def enclose(
    model: Backbone,
    ids: Sequence[int],
    vocabulary: Vocabulary,
    length: int | None = None,
    before: bool = False,
    queries: bool = True,
) -> list[int]:
    """A text's ids with the special tokens around them that the family's texts have, within `length` tokens; with `before` only
    those that stand before it. `queries`: see `frame_of`.
    """
    opening, closing = (
        [vocabulary[role] for role in roles if role in vocabulary.special] for roles in frame_of(model, queries)
    )
    if before:
        return opening
    room = None if length is None else max(length - len(opening) - len(closing), 0)
    return [*opening, *ids[:room], *closing]


def frame_of(model: Backbone, queries: bool = True) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The roles of the special tokens before and behind a text. A model with two streams whose second one was not trained (`queries`
    False) has read texts as other models that see both sides."""
    kind = model if queries or not isinstance(model, TwoStreams) else Bidirectional
    return kind.opening, kind.closing


def segments_of(model: Backbone, tokens: Tensor, cls: int | None, bare: bool = False) -> Tensor | None:
    """(N,) segments of plain texts for a family that was trained with them: XLNet's [CLS] has a segment of its own, the third.

    None for other families, and for texts that are `bare`: read in training as they stand, one after the other.
    """
    if bare or not isinstance(model, TwoStreams):
        return None
    return torch.zeros_like(tokens) if cls is None else torch.where(tokens == cls, 2, 0)


def rows_of(tokens: Tensor, lengths: Sequence[int]) -> list[list[int]]:
    """Flat tokens as a list of ids for each sequence."""
    return [part.tolist() for part in torch.split(tokens, list(lengths))]
