"""What a trained model says: fills blanks, goes on with a text, writes what sentinels stand for.

These functions take a model and its head as they are (any device, training or not) and leave them so; they draw on no
global randomness, so calling them while training changes nothing. A text's special tokens ("[MASK]", "<extra_id_0>")
are recognised where the text writes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Backbone, Batch, Bidirectional, Causal, EncoderDecoder, Sequences, TokenHead
from cloze.models.padding import flat

BLANK = "[MASK]"  # accepted in every text, however the tokenizer writes its mask token


class Speller(Protocol):
    """What is needed of a tokenizer."""

    roles: dict[str, str]
    vocabulary: Vocabulary

    def encode(self, text: str, special: bool = False) -> list[int]: ...
    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str: ...
    def token(self, id: int) -> str: ...


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


@dataclass(frozen=True)
class Samples:
    """A table of what a model says now: column names and rows of words."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


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
    return model.word_embedding.device


def _batch(inputs: Sequences, decoder: Sequences | None, model: Backbone) -> Batch:
    return Batch(inputs, {}, {}, {}, decoder).to(device_of(model))


def _refuse_long(model: Backbone, texts: Sequence[str], rows: Sequence[Sequence[int]], room: int = 0) -> None:
    """Refuses a text whose tokens, and `room` more, are more than the model has positions for."""
    most = model.positions
    for text, row in zip(texts, rows, strict=True):
        if most is not None and len(row) + room > most:
            begin = text if len(text) <= 40 else f"{text[:40]}…"
            what = f"reads at most {most}" + (" with what it writes" if room else "")
            raise Refusal(f"{begin!r} is too long: it has {len(row)} tokens, the model {what}. Cut the text.")


def _logits(model: Backbone, head: TokenHead, batch: Batch, at: Tensor) -> Tensor:
    """(M, V) logits at rows `at` (M,) of the hidden states, in 32 bits."""
    states = model(batch).last
    logits: Tensor = head(states[at.to(states.device)], model.word_embedding).float()
    return logits


def enclose(ids: list[int], vocabulary: Vocabulary, length: int | None = None) -> list[int]:
    """[CLS] text [SEP], as far as the tokenizer has them, within `length` tokens."""
    before = [vocabulary[role] for role in ("cls",) if role in vocabulary.special]
    after = [vocabulary[role] for role in ("sep",) if role in vocabulary.special]
    room = None if length is None else max(length - len(before) - len(after), 0)
    return [*before, *ids[:room], *after]


def fill_blanks(
    model: Bidirectional, head: TokenHead, tokenizer: Speller, texts: Sequence[str], k: int = 5
) -> list[Filled]:
    """Each `[MASK]` of each text with its k best fillings; blanks of one text are filled independently of each other.

    Raises Refusal where a text has no blank, or more tokens than the model has positions, or where the tokenizer has no
    mask token. Special tokens are never guessed.
    """
    vocabulary = tokenizer.vocabulary
    if "mask" not in vocabulary.special:
        raise Refusal("this tokenizer has no mask token: a model trained with objective=mlm has one")
    if not texts:
        return []
    mask = vocabulary["mask"]
    rows = []
    for text in texts:
        row = enclose(tokenizer.encode(text.replace(BLANK, tokenizer.roles["mask"]), special=True), vocabulary)
        if mask not in row:
            raise Refusal(f"{text!r} has no blank: write [MASK] where a token is to be filled in")
        rows.append(row)
    _refuse_long(model, texts, rows)
    batch = _batch(flat(rows), None, model)
    at = torch.nonzero(batch.inputs.tokens == mask).squeeze(1)
    with judging(model, head):
        probabilities, choices = _best(_logits(model, head, batch, at), vocabulary, k)
    guesses = iter(zip(probabilities, choices, strict=True))
    filled = []
    for row in rows:
        blanks, ids = [], []
        for token in row:
            if token != mask:
                ids.append(token)
                continue
            shares, tokens = next(guesses)
            blanks.append(tuple(Guess(tokenizer.token(t), p) for t, p in zip(tokens, shares, strict=True)))
            ids.append(tokens[0])
        filled.append(Filled(tokenizer.decode(ids), tuple(blanks)))
    return filled


def _best(logits: Tensor, vocabulary: Vocabulary, k: int) -> tuple[list[list[float]], list[list[int]]]:
    """The k likeliest tokens of each row that are not special, with their probabilities."""
    probabilities = logits.softmax(-1)
    probabilities[:, list(vocabulary.special_ids)] = 0.0
    shares, choices = probabilities.topk(min(k, probabilities.shape[1]))
    return shares.tolist(), choices.tolist()


def continue_text(
    model: Causal,
    head: TokenHead,
    tokenizer: Speller,
    texts: Sequence[str],
    tokens: int = 30,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
) -> list[str]:
    """What the model writes after each text, up to `tokens` tokens or the end of the text; the text itself left out.

    temperature 0 takes the likeliest token each time (greedy). Above 0 it draws, with keyed randomness, from the
    `top_k` likeliest (0 = all) and from the smallest set that holds `top_p` of the probability
    (https://arxiv.org/abs/1904.09751). It also ends where the model has no more positions. Raises Refusal where a text
    leaves no position to write at.
    """
    end = tokenizer.vocabulary["eos"]
    # training puts the end-of-text token before every document
    rows = [[end, *tokenizer.encode(text, special=True)] for text in texts]
    _refuse_long(model, texts, rows, room=1)
    written = _generate(model, head, rows, None, tokens, end, temperature, top_k, top_p, seed)
    return [tokenizer.decode(row) for row in written]


def fill_spans(
    model: EncoderDecoder,
    head: TokenHead,
    tokenizer: Speller,
    texts: Sequence[str],
    tokens: int = 60,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
) -> list[str]:
    """Each text with its sentinels (<extra_id_0>, <extra_id_1>, …) replaced by what the model writes for them.

    `[MASK]` stands for the next sentinel. A sentinel that the model writes nothing for is left out.
    """
    vocabulary = tokenizer.vocabulary
    if not vocabulary.sentinels:
        raise Refusal("this tokenizer has no sentinels: a model trained with objective=span_corruption has them")
    numbers = {token: number for number, token in enumerate(vocabulary.sentinels)}
    rows = []
    for text in texts:
        for number in range(text.count(BLANK)):
            text = text.replace(BLANK, f"<extra_id_{number}>", 1)
        row = tokenizer.encode(text, special=True)
        if not any(token in numbers for token in row):
            raise Refusal(f"{text!r} has no blank: write <extra_id_0> where a span is to be filled in")
        rows.append([*row, vocabulary["eos"]])
    _refuse_long(model, texts, rows)
    starts = [[vocabulary["pad"]] for _ in rows]
    written = _generate(model, head, starts, rows, tokens, vocabulary["eos"], temperature, top_k, top_p, seed)
    return [tokenizer.decode(_fill(row, said, numbers)) for row, said in zip(rows, written, strict=True)]


def _fill(row: Sequence[int], said: Sequence[int], sentinels: dict[int, int]) -> list[int]:
    """`row` with each sentinel replaced by the tokens that follow it in `said`."""
    spans = dict(_stretches(said, sentinels))
    return [t for token in row for t in (spans.get(token, []) if token in sentinels else [token])]


def _generate(
    model: Backbone,
    head: TokenHead,
    starts: list[list[int]],
    inputs: list[list[int]] | None,
    tokens: int,
    end: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
) -> list[list[int]]:
    """What is written after each of `starts`, to the end token or `tokens` long. With `inputs` the model reads those.

    The whole text is read again for each token. A model with a position table stops where the table ends.
    """
    most = model.positions
    rows = [list(row) for row in starts]
    open_rows = list(range(len(rows)))
    generator = torch.Generator().manual_seed(seed)
    with judging(model, head):
        for _ in range(tokens):
            open_rows = [i for i in open_rows if most is None or len(rows[i]) < most]
            if not open_rows:
                break
            written = flat([rows[i] for i in open_rows], "causal")
            if inputs is None:
                batch = _batch(written, None, model)
            else:
                batch = _batch(flat([inputs[i] for i in open_rows]), written, model)
            lasts = torch.tensor(written.layout.offsets[1:]) - 1
            logits = _logits(model, head, batch, lasts).cpu()
            chosen = _choose(logits, temperature, top_k, top_p, generator)
            for i, token in zip(open_rows, chosen, strict=True):
                rows[i].append(token)
            open_rows = [i for i, token in zip(open_rows, chosen, strict=True) if token != end]
    said = [row[len(start) :] for row, start in zip(rows, starts, strict=True)]
    return [row[:-1] if row and row[-1] == end else row for row in said]


def _choose(logits: Tensor, temperature: float, top_k: int, top_p: float, generator: torch.Generator) -> list[int]:
    """One token a row of (B, V) logits."""
    if temperature == 0:
        greedy: list[int] = logits.argmax(-1).tolist()
        return greedy
    ordered, tokens = (logits / temperature).sort(-1, descending=True)
    shares = ordered.softmax(-1)
    if top_k:
        shares[:, top_k:] = 0.0
    # a token stays while those before it hold less than top_p
    shares[shares.cumsum(-1) - shares >= top_p * shares.sum(-1, keepdim=True)] = 0.0
    place = torch.multinomial(shares, 1, generator=generator)
    drawn: list[int] = tokens.gather(1, place).squeeze(1).tolist()
    return drawn


# --------------------------------------------------------------------------------------------- while a model is trained


def samples(
    model: Backbone, objective: Any, tokenizer: Speller, batch: Batch, limit: int = 8, k: int = 3, context: int = 12
) -> Samples:
    """What the model says of the first sequences of a batch of its objective: blanks filled, texts continued.

    `limit` sequences, `k` guesses a blank, `context` tokens of text on either side of a blank (twice as many before a
    continuation). Objectives without a token head give an empty table.
    """
    head = getattr(objective, "head", None)
    if not isinstance(head, TokenHead):
        return Samples((), ())
    with judging(model, head):
        if isinstance(model, Bidirectional):
            return _filled_samples(model, head, tokenizer, batch, limit, k, context)
        if isinstance(model, EncoderDecoder):
            return _span_samples(model, head, tokenizer, batch, limit, context)
        if isinstance(model, Causal):
            return _continued_samples(model, head, tokenizer, batch, limit, context)
        return Samples((), ())


def _filled_samples(
    model: Bidirectional, head: TokenHead, tokenizer: Speller, batch: Batch, limit: int, k: int, context: int
) -> Samples:
    columns = ("text", "was", "guesses")
    if "at" not in batch.targets or "mask" not in tokenizer.vocabulary.special:
        return Samples(columns, ())
    tokens, mask = batch.inputs.tokens.tolist(), tokenizer.vocabulary["mask"]
    offsets = batch.inputs.layout.offsets
    chosen: dict[int, tuple[int, int]] = {}  # the first masked token of each sequence: where, and what stood there
    sequence = 0
    for at, was in zip(batch.targets["at"].tolist(), batch.targets["tokens"].tolist(), strict=True):
        while at >= offsets[sequence + 1]:
            sequence += 1
        if tokens[at] == mask and sequence not in chosen:
            chosen[sequence] = (at, was)
    if not chosen:
        return Samples(columns, ())
    chosen = dict(list(chosen.items())[:limit])
    at = torch.tensor([place for place, _ in chosen.values()])
    probabilities, choices = _best(_logits(model, head, batch, at), tokenizer.vocabulary, k)
    rows = []
    for (sequence, (place, was)), shares, guesses in zip(chosen.items(), probabilities, choices, strict=True):
        before = tokens[max(offsets[sequence], place - context) : place]
        after = tokens[place + 1 : min(offsets[sequence + 1], place + 1 + context)]
        text = f"{_words(before, tokenizer)} ____ {_words(after, tokenizer)}".strip()
        said = ", ".join(f"{tokenizer.token(g)} {share:.2f}" for g, share in zip(guesses, shares, strict=True))
        rows.append((text, tokenizer.token(was), said))
    return Samples(columns, tuple(rows))


def _words(ids: list[int], tokenizer: Speller) -> str:
    """A stretch of text with its masks left in, other special tokens left out."""
    special = tokenizer.vocabulary.special_ids - {tokenizer.vocabulary["mask"]}
    return _line(tokenizer.decode([token for token in ids if token not in special], skip_special=False))


def _line(text: str) -> str:
    """In one line: the end of a paragraph would break a table's row."""
    return " ".join(text.split())


def _continued_samples(
    model: Causal, head: TokenHead, tokenizer: Speller, batch: Batch, limit: int, context: int
) -> Samples:
    """The model goes on after the first half of each sequence."""
    rows = _rows(batch.inputs.tokens, batch.inputs.layout.lengths)[:limit]
    halves = [(row[: max(1, len(row) // 2)], row[max(1, len(row) // 2) :]) for row in rows]
    end = tokenizer.vocabulary["eos"]
    said = _generate(model, head, [half for half, _ in halves], None, 2 * context, end, 0.0, 0, 1.0, 0)
    shown = (
        (half[-2 * context :], rest[: 2 * context], words) for (half, rest), words in zip(halves, said, strict=True)
    )
    lines = tuple(tuple(_line(tokenizer.decode(ids)) for ids in row) for row in shown)
    return Samples(("text", "was", "written"), lines)


def _span_samples(
    model: EncoderDecoder, head: TokenHead, tokenizer: Speller, batch: Batch, limit: int, context: int, spans: int = 3
) -> Samples:
    """What the model writes for the first spans of each sequence, beside what stood there."""
    assert batch.decoder is not None
    vocabulary = tokenizer.vocabulary
    numbers = {token: number for number, token in enumerate(vocabulary.sentinels)}
    inputs = _rows(batch.inputs.tokens, batch.inputs.layout.lengths)[:limit]
    targets = _rows(batch.targets["tokens"], batch.decoder.layout.lengths)[:limit]
    cuts = [next((i for i, t in enumerate(row) if numbers.get(t) == spans), len(row)) for row in targets]
    most = max(cuts) + context  # some room for a model that writes longer spans than there were
    starts = [[vocabulary["pad"]] for _ in inputs]
    said = _generate(model, head, starts, inputs, most, vocabulary["eos"], 0.0, 0, 1.0, 0)
    lines = []
    for row, target, words in zip(inputs, targets, said, strict=True):
        there = [i for i, token in enumerate(row) if token in numbers][:spans]
        if not there:
            continue
        text = ""
        for token, stretch in _stretches(row[: there[-1] + 1 + context], numbers):
            gap = " ____ " if token is not None and numbers[token] < spans else " … " if token is not None else ""
            text += gap + tokenizer.decode(stretch)
        was, written = (
            dict(_stretches(ids, numbers)) for ids in ([t for t in target if t != vocabulary["eos"]], words)
        )
        asked = [row[i] for i in there]
        lines.append(
            (
                _line(text),
                " | ".join(_line(tokenizer.decode(was.get(token, []))) for token in asked),
                " | ".join(_line(tokenizer.decode(written.get(token, []))) for token in asked),
            )
        )
    return Samples(("text", "was", "written"), tuple(lines))


def _stretches(row: Sequence[int], sentinels: dict[int, int]) -> list[tuple[int | None, list[int]]]:
    """A row cut before each of its sentinels: (sentinel, what follows it), None for what stands before the first."""
    stretches: list[tuple[int | None, list[int]]] = [(None, [])]
    for token in row:
        if token in sentinels:
            stretches.append((token, []))
        else:
            stretches[-1][1].append(token)
    return stretches


def _rows(tokens: Tensor, lengths: Sequence[int]) -> list[list[int]]:
    return [part.tolist() for part in torch.split(tokens, list(lengths))]
