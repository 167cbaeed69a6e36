"""Prompt tuning: trained vectors that stand before every text (Lester et al. 2021, https://arxiv.org/abs/2104.08691).

A model reads each sequence `tokens` rows longer and gives its states without those rows, so nobody else sees them: neither what the
objective asks for nor the layout of what it asks about changes. They stand where the word embedding's vectors stand. The text keeps its
positions, so a frozen model reads it where it learnt to and no position table is outgrown; learnt positions, segments and languages of
the trained rows are those of the text's first token. An encoder-decoder has them before what the encoder reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from cloze.errors import Refusal, with_article
from cloze.models.base import Backbone, Batch, EncoderDecoder, HiddenStates, Sequences
from cloze.models.layers.adaptive import AdaptiveEmbedding
from cloze.models.layout import Layout


@dataclass(frozen=True)
class Rows:
    """Where the rows of longer sequences lie: those of the text (N,), and the prompt's (sequences * tokens,)."""

    text: Tensor
    prompt: Tensor


class Prompt(nn.Module):
    """(tokens, E): the vectors. It also knows what is being read now, between a model's beginning and its end."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)
        self.reading: list[
            Rows | None
        ] = []  # of each call of the model that has not ended; None: the texts are as they were
        self.waiting: Rows | None = None  # rows that the next vectors of words are to be given


def add_prompt(model: Backbone, tokens: int) -> None:
    """Puts `tokens` vectors before every text, each beginning as the vector of a word drawn by torch's generator.

    Raises Refusal where the model does not look its words up in a table, or has a prompt of another length.
    """
    there = prompt_of(model)
    if there == tokens:
        return
    if there is not None:
        raise Refusal(
            f"finetune.prompt_tokens={tokens}: the model has a prompt of {there} already; it goes on with finetune.prompt_tokens={there}"
        )
    words = _words(model)
    size = words.num_embeddings if isinstance(words, nn.Embedding) else words.vocabulary
    drawn = torch.randint(size, (tokens,), device=next(words.parameters()).device)
    with torch.no_grad():
        table: Tensor = words(drawn)
    model.prompt = Prompt(table.detach().clone())
    model.register_forward_pre_hook(_longer)
    model.register_forward_hook(_as_before)
    words.register_forward_hook(_Insert(model.prompt))


def prompt_of(model: nn.Module) -> int | None:
    """How many vectors stand before a model's texts; None where there are none."""
    prompt = getattr(model, "prompt", None)
    return len(prompt.table) if isinstance(prompt, Prompt) else None


def _words(model: Backbone) -> nn.Embedding | AdaptiveEmbedding:
    for module in model.modules():
        if isinstance(module, AdaptiveEmbedding):
            return module
        if isinstance(module, nn.Embedding) and module.weight is model.word_embedding:
            return module
    raise Refusal(
        f"finetune.adapter=prompt: {with_article(type(model).__name__)} has no table of words that vectors could be added to"
    )


class _Insert:
    """Writes the prompt over the vectors of the rows that were made for it, once for each reading."""

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt

    def __call__(self, _: nn.Module, __: tuple[Any, ...], vectors: Tensor) -> Tensor:
        rows, table = self._prompt.waiting, self._prompt.table
        if rows is None:
            return vectors
        self._prompt.waiting = None
        return vectors.index_copy(0, rows.prompt, table.repeat(len(rows.prompt) // len(table), 1).to(vectors.dtype))


def _longer(model: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Before the model reads."""
    prompt, batch = model.prompt, arguments[0]
    assert isinstance(prompt, Prompt) and isinstance(batch, Batch)
    if batch.memory is not None or batch.continues:
        raise Refusal("finetune.adapter=prompt: text that goes on from batch to batch has no beginning to stand before")
    goes_on = batch.cache is not None and batch.cache.filled
    if goes_on and not isinstance(model, EncoderDecoder):  # the layers have kept what they took from the prompt
        prompt.reading.append(None)
        return arguments
    inputs, rows = lengthened(batch.inputs, len(prompt.table))
    prompt.reading.append(rows)
    prompt.waiting = None if goes_on else rows  # what the encoder read is kept, too; only where it lay is asked again
    return (replace(batch, inputs=inputs), *arguments[1:])


def _as_before(model: nn.Module, arguments: tuple[Any, ...], states: HiddenStates) -> HiddenStates:
    """After it has read. `arguments` are the ones that `_longer` gave."""
    prompt, batch = model.prompt, arguments[0]
    assert isinstance(prompt, Prompt) and isinstance(batch, Batch)
    rows = prompt.reading.pop()
    if rows is None:
        return states
    encoder = None if states.encoder is None else states.encoder[rows.text]
    if batch.decoder is not None:
        return replace(states, encoder=encoder)
    layers = [layer[rows.text] for layer in states.layers]
    return replace(states, last=states.last[rows.text], layers=layers, encoder=encoder, memory=None)


def lengthened(sequences: Sequences, tokens: int) -> tuple[Sequences, Rows]:
    """The same sequences with `tokens` rows before each, and where what lies now."""
    old = sequences.layout
    if old.stride is not None:
        raise Refusal("finetune.adapter=prompt needs hardware.layout=packed")
    prefix = None if old.prefix is None else [n + tokens for n in old.prefix]
    layout = Layout([n + tokens for n in old.lengths], old.pattern, prefix, way=old.way, device=old.device)
    starts = torch.tensor(layout.offsets[:-1])[:, None]
    sequence = torch.repeat_interleave(torch.tensor(old.lengths))
    text = torch.arange(old.offsets[-1]) + tokens * (sequence + 1)
    there = sequences.tokens.device
    rows = Rows(text.to(there), (starts + torch.arange(tokens)).flatten().to(there))
    firsts = _firsts(old.offsets, there)

    def among(values: Tensor, filling: Tensor | int) -> Tensor:
        longer = values.new_empty(layout.offsets[-1]).index_copy(0, rows.text, values)
        if isinstance(filling, int):
            return longer.index_fill(0, rows.prompt, filling)
        return longer.index_copy(0, rows.prompt, filling.repeat_interleave(tokens))

    def like_the_first(values: Tensor) -> Tensor:
        return among(values, values[firsts] if len(values) else 0)

    return Sequences(
        like_the_first(sequences.tokens),
        layout,
        like_the_first(sequences.positions),
        None if sequences.segments is None else like_the_first(sequences.segments),
        None if sequences.languages is None else like_the_first(sequences.languages),
        None if sequences.order is None else among(sequences.order, -1),  # given: every token sees it
        None if sequences.queries is None else rows.text[sequences.queries],
    ), rows


def _firsts(offsets: Sequence[int], device: torch.device) -> Tensor:
    """The row of each sequence's first token; of an empty one that of some other, whose kind does not matter."""
    last = max(offsets[-1] - 1, 0)
    return torch.tensor([min(start, last) for start in offsets[:-1]], device=device)
