"""Filling the blanks of a text with one token each, by models that see both sides of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.inference.reading import (
    BLANK,
    Speller,
    batch_for,
    enclose,
    judging,
    logits_at,
    logits_of,
    refuse_long,
    segments_of,
)
from cloze.models.base import Bidirectional, TokenHead, TwoStreams
from cloze.models.padding import flat

AT_ONCE = 64  # texts


@dataclass(frozen=True)
class Guess:
    """One filling of a blank and how probable the model holds it to be."""

    token: str
    probability: float


@dataclass(frozen=True)
class Filled:
    """A text with its blanks filled by the best guesses; `blanks` has each blank's guesses, best first."""

    text: str
    blanks: tuple[tuple[Guess, ...], ...]


def fill_blanks(
    model: Bidirectional,
    head: TokenHead,
    tokenizer: Speller,
    texts: Sequence[str],
    k: int = 5,
    bare: bool = False,
    language: int | None = None,
    queries: bool = True,
) -> list[Filled]:
    """Each `[MASK]` of each text with its k best fillings; blanks of one text are filled independently of each other.
    `bare`: no special tokens are put around a text, for models that were trained on text without them. `language`: the number of the
    texts' language, None for none. `queries`: a model with two streams is asked by its second one; if not, by its first one at masks.

    Raises Refusal where a text has no blank, or more tokens than the model has positions, or where the tokenizer has no
    mask token. Special tokens are never guessed.
    """
    if k < 1:
        raise Refusal(f"k={k} must be at least 1 guess a blank.")
    if not texts:
        return []
    cut = [_cut(text, tokenizer, isinstance(model, TwoStreams) and queries) for text in texts]
    rows = [row for row, _ in cut]
    blanks = [at for _, at in cut]
    if not bare:
        before = len(enclose(model, [], tokenizer.vocabulary, before=True, queries=queries))
        blanks = [[i + before for i in at] for at in blanks]
        rows = [enclose(model, row, tokenizer.vocabulary, queries=queries) for row in rows]
    cls = tokenizer.vocabulary.special.get("cls")
    refuse_long(model, texts, rows)
    probabilities: list[list[float]] = []
    choices: list[list[int]] = []
    with judging(model, head):
        for first in range(0, len(rows), AT_ONCE):
            few = slice(first, first + AT_ONCE)
            logits = _asked(model, head, rows[few], blanks[few], cls, bare, language, queries)
            shares_of, tokens_of = best(logits, tokenizer.vocabulary, k)
            probabilities, choices = probabilities + shares_of, choices + tokens_of
    guesses = iter(zip(probabilities, choices, strict=True))
    filled = []
    for row, at in zip(rows, blanks, strict=True):
        said, ids = [], list(row)
        for place in at:
            shares, tokens = next(guesses)
            said.append(tuple(Guess(tokenizer.token(t), p) for t, p in zip(tokens, shares, strict=True)))
            ids[place] = tokens[0]
        filled.append(Filled(tokenizer.decode(ids), tuple(said)))
    return filled


def _cut(text: str, tokenizer: Speller, unseen: bool) -> tuple[list[int], list[int]]:
    """The ids of a text, and which of them are blanks; `unseen`: what stands in a blank is not looked at."""
    vocabulary = tokenizer.vocabulary
    if "mask" in vocabulary.special:
        row = tokenizer.encode(text.replace(BLANK, tokenizer.roles["mask"]), special=True)
        at = [i for i, token in enumerate(row) if token == vocabulary["mask"]]
    elif unseen:
        row, at = [], []
        for number, piece in enumerate(text.split(BLANK)):
            if number:
                at.append(len(row))
                row.append(0)
            row += tokenizer.encode(piece, special=True) if piece.strip() else []
    else:
        raise Refusal("this tokenizer has no mask token: a model trained with objective=mlm has one")
    if not at:
        raise Refusal(f"{text!r} has no blank: write [MASK] where a token is to be filled in")
    return row, at


def _asked(
    model: Bidirectional,
    head: TokenHead,
    rows: Sequence[Sequence[int]],
    blanks: Sequence[Sequence[int]],
    cls: int | None,
    bare: bool,
    language: int | None,
    queries: bool,
) -> Tensor:
    """(blanks, V) logits."""
    inputs = flat(rows)
    at = torch.tensor([start + i for start, own in zip(inputs.layout.offsets[:-1], blanks, strict=True) for i in own])
    if not isinstance(model, TwoStreams) or not queries:
        return logits_at(model, head, batch_for(model, inputs, language=language), at)
    inputs.order = torch.full_like(inputs.tokens, -1).index_fill(0, at, 0)  # each blank from what is given alone
    inputs.queries, inputs.segments = at, segments_of(model, inputs.tokens, cls, bare)
    states = model(batch_for(model, inputs)).queries
    assert states is not None
    return logits_of(model, head, states)


def best(logits: Tensor, vocabulary: Vocabulary, k: int) -> tuple[list[list[float]], list[list[int]]]:
    """The k likeliest tokens of each row that are not special, with their probabilities."""
    probabilities = logits.softmax(-1)
    probabilities[:, list(vocabulary.special_ids)] = 0.0
    shares, choices = probabilities.topk(min(k, probabilities.shape[1]))
    return shares.tolist(), choices.tolist()
