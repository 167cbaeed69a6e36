"""While a model is trained: what it says now of the first sequences of a batch of its objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from cloze.inference.blanks import best
from cloze.inference.decoding import Decoding
from cloze.inference.generate import generate
from cloze.inference.reading import Speller, judging, logits_at, logits_of, rows_of
from cloze.inference.writing import stretches
from cloze.models.base import Backbone, Batch, Causal, Prefixed, TokenHead, TwoDirections, TwoStreams


@dataclass(frozen=True)
class Samples:
    """A table of what a model says now: column names and rows of words."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def samples(
    model: Backbone, objective: Any, tokenizer: Speller, batch: Batch, limit: int = 8, k: int = 3, context: int = 12
) -> Samples:
    """What the model says of the first sequences of a batch of its objective: blanks filled, texts continued or written again.

    `limit` sequences, `k` guesses a blank, `context` tokens of text on either side of a blank (twice as many before a
    continuation). What the batch asks for decides: the same model may learn to do several things. Of an objective without a
    token head, or one whose batches ask for nothing that can be shown, the table is empty.
    """
    if (shown := getattr(objective, "shown", None)) is not None:
        with judging(model, objective):
            return _judged_samples(batch, shown(objective(model, batch), batch)[:limit], tokenizer, 3 * context)
    head = getattr(objective, "head", None)
    if not isinstance(head, TokenHead):
        return Samples((), ())
    with judging(model, head):
        for stream in batch.streams.values():  # of several objectives: the first that has something to show
            if (table := samples(model, objective, tokenizer, stream, limit, k, context)).rows:
                return table
        if batch.decoder is not None:
            spans = bool(_sentinels(tokenizer) & set(batch.inputs.tokens.tolist()))
            written = _span_samples if spans else _written_samples
            return written(model, head, tokenizer, batch, limit, context)
        if _blanks(batch, tokenizer) or (isinstance(model, TwoStreams) and batch.inputs.queries is not None):
            return _filled_samples(model, head, tokenizer, batch, limit, k, context)
        one_sided = isinstance(model, Causal | Prefixed) and batch.inputs.layout.pattern != "bidirectional"
        if one_sided or isinstance(model, TwoDirections):
            return _continued_samples(model, head, tokenizer, batch, limit, context)
        return Samples((), ())


def _judged_samples(batch: Batch, judged: Sequence[tuple[int, str, str]], tokenizer: Speller, context: int) -> Samples:
    """Of labelled data: each sequence as it was read, what is right, and what the model says."""
    texts = rows_of(batch.inputs.tokens, batch.inputs.layout.lengths)
    rows = []
    for sequence, right, said in judged:
        text = _with_specials(texts[sequence][:context], tokenizer)
        rows.append((text + (" …" if len(texts[sequence]) > context else ""), right, said))
    return Samples(("text", "label", "said"), tuple(rows))


def _with_specials(ids: Sequence[int], tokenizer: Speller) -> str:
    """A stretch of text in one line, its special tokens apart from the words: decoded at once, a full stop would cling to one."""
    special, parts = tokenizer.vocabulary.special_ids, []
    for apart, group in groupby(ids, key=special.__contains__):
        stretch = list(group)
        parts += [tokenizer.token(token) for token in stretch] if apart else [tokenizer.decode(stretch)]
    return _line(" ".join(parts))


def _blanks(batch: Batch, tokenizer: Speller) -> bool:
    """Whether a mask token stands where something is to be predicted."""
    at, mask = batch.targets.get("at"), tokenizer.vocabulary.special.get("mask")
    return at is not None and mask is not None and bool((batch.inputs.tokens[at] == mask).any())


def _filled_samples(
    model: Backbone, head: TokenHead, tokenizer: Speller, batch: Batch, limit: int, k: int, context: int
) -> Samples:
    """The first masked token of each sequence (with two streams the first that is predicted), what stood there, and guesses."""
    queries = batch.inputs.queries
    asked = batch.targets["at"] if queries is None else queries
    tokens, mask = batch.inputs.tokens.tolist(), tokenizer.vocabulary.special.get("mask")
    offsets = batch.inputs.layout.offsets
    chosen: dict[int, tuple[int, int, int]] = {}  # of each sequence: which of those asked, where, and what stood there
    sequence = 0
    for number, (at, was) in enumerate(zip(asked.tolist(), batch.targets["tokens"].tolist(), strict=True)):
        while at >= offsets[sequence + 1]:
            sequence += 1
        if (queries is not None or tokens[at] == mask) and sequence not in chosen:
            chosen[sequence] = (number, at, was)
    chosen = dict(list(chosen.items())[:limit])
    if queries is None:
        logits = logits_at(model, head, batch, torch.tensor([place for _, place, _ in chosen.values()]))
    else:
        states = model(batch).queries
        assert states is not None
        logits = logits_of(model, head, states[torch.tensor([number for number, _, _ in chosen.values()])])
    probabilities, choices = best(logits, tokenizer.vocabulary, k)
    rows = []
    for (sequence, (_, place, was)), shares, guesses in zip(chosen.items(), probabilities, choices, strict=True):
        before = tokens[max(offsets[sequence], place - context) : place]
        after = tokens[place + 1 : min(offsets[sequence + 1], place + 1 + context)]
        text = f"{_words(before, tokenizer)} ____ {_words(after, tokenizer)}".strip()
        said = ", ".join(f"{tokenizer.token(g)} {share:.2f}" for g, share in zip(guesses, shares, strict=True))
        rows.append((text, tokenizer.token(was), said))
    return Samples(("text", "was", "guesses"), tuple(rows))


def _words(ids: list[int], tokenizer: Speller) -> str:
    """A stretch of text with its masks left in, other special tokens left out."""
    special = tokenizer.vocabulary.special_ids - {tokenizer.vocabulary.special.get("mask", -1)}
    return _line(tokenizer.decode([token for token in ids if token not in special], skip_special=False))


def _line(text: str) -> str:
    """In one line: the end of a paragraph would break a table's row."""
    return " ".join(text.split())


def _continued_samples(
    model: Backbone, head: TokenHead, tokenizer: Speller, batch: Batch, limit: int, context: int
) -> Samples:
    """The model goes on after the first half of each sequence, or after the prefix that it may see whole."""
    rows = rows_of(batch.inputs.tokens, batch.inputs.layout.lengths)[:limit]
    prefix = batch.inputs.layout.prefix
    cuts = [max(1, len(row) // 2) for row in rows] if prefix is None else list(prefix[:limit])
    halves = [(row[:cut], row[cut:]) for row, cut in zip(rows, cuts, strict=True)]
    end = tokenizer.vocabulary["eos"]
    starts = [half for half, _ in halves]
    language = None if batch.inputs.languages is None else 0
    ways: dict[str, Any] = {"prefix": None if prefix is None else cuts, "language": language}
    said = generate(model, head, starts, end, Decoding(2 * context), **ways)
    shown = (
        (half[-2 * context :], rest[: 2 * context], words) for (half, rest), words in zip(halves, said, strict=True)
    )
    lines = tuple(tuple(_line(tokenizer.decode(ids)) for ids in row) for row in shown)
    return Samples(("text", "was", "written"), lines)


def _sentinels(tokenizer: Speller) -> set[int]:
    return set(tokenizer.vocabulary.sentinels)


def _written_samples(
    model: Backbone, head: TokenHead, tokenizer: Speller, batch: Batch, limit: int, context: int
) -> Samples:
    """What the model writes for each text, from where the decoder begins, beside what it should write."""
    decoder = batch.decoder
    assert decoder is not None
    inputs = rows_of(batch.inputs.tokens, batch.inputs.layout.lengths)[:limit]
    begun = rows_of(decoder.tokens, decoder.layout.lengths)[:limit]
    positions = rows_of(decoder.positions, decoder.layout.lengths)[:limit]
    targets = rows_of(batch.targets["tokens"], decoder.layout.lengths)[:limit]
    vocabulary = tokenizer.vocabulary
    end = next((vocabulary[role] for role in ("eos", "sep") if role in vocabulary.special), -1)
    most = 2 * context
    said = generate(
        model,
        head,
        [row[:1] for row in begun],
        end,
        Decoding(most),
        inputs,
        [row[0] for row in positions],
        limits=[len(row) for row in targets],
    )
    lines = [
        (_words(row[:most], tokenizer), _line(tokenizer.decode(target[:most])), _line(tokenizer.decode(words)))
        for row, target, words in zip(inputs, targets, said, strict=True)
    ]
    return Samples(("text", "was", "written"), tuple(lines))


def _span_samples(
    model: Backbone, head: TokenHead, tokenizer: Speller, batch: Batch, limit: int, context: int, spans: int = 3
) -> Samples:
    """What the model writes for the first spans of each sequence, beside what stood there."""
    assert batch.decoder is not None
    vocabulary = tokenizer.vocabulary
    numbers = {token: number for number, token in enumerate(vocabulary.sentinels)}
    inputs = rows_of(batch.inputs.tokens, batch.inputs.layout.lengths)[:limit]
    targets = rows_of(batch.targets["tokens"], batch.decoder.layout.lengths)[:limit]
    starts = [row[:1] for row in rows_of(batch.decoder.tokens, batch.decoder.layout.lengths)[:limit]]
    cuts = [next((i for i, t in enumerate(row) if numbers.get(t) == spans), len(row)) for row in targets]
    most = max(cuts) + context  # some room for a model that writes longer spans than there were
    said = generate(model, head, starts, vocabulary["eos"], Decoding(most), inputs)
    lines = []
    for row, target, words in zip(inputs, targets, said, strict=True):
        there = [i for i, token in enumerate(row) if token in numbers][:spans]
        if not there:
            continue
        text = ""
        for token, stretch in stretches(row[: there[-1] + 1 + context], numbers):
            gap = " ____ " if token is not None and numbers[token] < spans else " … " if token is not None else ""
            text += gap + tokenizer.decode(stretch)
        was, written = (dict(stretches(ids, numbers)) for ids in ([t for t in target if t != vocabulary["eos"]], words))
        asked = [row[i] for i in there]
        lines.append((_line(text), _several(was, asked, tokenizer), _several(written, asked, tokenizer)))
    return Samples(("text", "was", "written"), tuple(lines))


def _several(spans: dict[int | None, list[int]], asked: Sequence[int], tokenizer: Speller) -> str:
    return " | ".join(_line(tokenizer.decode(spans.get(token, []))) for token in asked)
