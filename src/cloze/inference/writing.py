"""Going on with a text, writing what its sentinels stand for, writing it again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.inference.decoding import Decoding
from cloze.inference.generate import generate
from cloze.inference.reading import BLANK, Speller, enclose, refuse_long
from cloze.models.base import Backbone, EncoderDecoder, TokenHead

TOKENS = 60  # at most, of what is written for blanks or written again, where nobody says how many


def continue_text(
    model: Backbone,
    head: TokenHead,
    tokenizer: Speller,
    texts: Sequence[str],
    decoding: Decoding | None = None,
    whole: bool = False,
    by_mask: bool = False,
    bare: bool = False,
    language: int | None = None,
    cached: bool = True,
) -> list[str]:
    """What the model writes after each text, up to the end of the text or as far as `decoding` says; the text itself left out.

    `whole`: the text is seen from both sides, as models are trained under objective=prefix_lm. `by_mask`: the model predicts a token
    where a mask token stands for it, as under objective=unilm. `bare`: it was trained on text without segments. `language`: the
    number of the texts' language, None for none. It also ends where the model has no more positions. Raises Refusal where a text leaves no
    position to write at.
    """
    vocabulary = tokenizer.vocabulary
    opening = _before_a_document(model, vocabulary, by_mask)
    rows = [[*opening, *tokenizer.encode(text, special=True)] for text in texts]
    if any(not row for row in rows):
        raise Refusal("a text is empty, and this tokenizer has no token that texts begin with: write at least a word")
    refuse_long(model, texts, rows, room=1)
    prefix = [len(row) for row in rows] if whole else None
    segment = 2 if getattr(model, "segments", 0) > 2 else 0  # UniLM's for texts read from left to right
    mask = (vocabulary["mask"], segment) if by_mask else None
    ways: dict[str, Any] = {"prefix": prefix, "mask": mask, "bare": bare, "language": language, "cached": cached}
    written = generate(model, head, rows, _end(vocabulary), decoding, **ways)
    return [tokenizer.decode(row) for row in written]


def _before_a_document(model: Backbone, vocabulary: Vocabulary, by_mask: bool) -> list[int]:
    """Language models are trained with the end-of-text token before every document; others have texts between their own tokens."""
    if "eos" in vocabulary.special and not by_mask:
        return [vocabulary["eos"]]
    return enclose(model, [], vocabulary, before=True)


def _end(vocabulary: Vocabulary) -> int:
    """The token after which nothing is written; -1, which is none, where the tokenizer has no such token."""
    return next((vocabulary[role] for role in ("eos", "sep") if role in vocabulary.special), -1)


def fill_spans(
    model: EncoderDecoder,
    head: TokenHead,
    tokenizer: Speller,
    texts: Sequence[str],
    decoding: Decoding | None = None,
    cached: bool = True,
) -> list[str]:
    """Each text with its sentinels (<extra_id_0>, <extra_id_1>, …) replaced by what the model writes for them.

    `[MASK]` stands for the next sentinel that the text does not use. A sentinel that the model writes nothing for is left out. At most
    `TOKENS` tokens where `decoding` is not given. Raises Refusal where a text has no blank, one sentinel twice, one that the tokenizer
    does not have, or more blanks than there are sentinels.
    """
    vocabulary = tokenizer.vocabulary
    if not vocabulary.sentinels:
        raise Refusal("this tokenizer has no sentinels: a model trained with objective=span_corruption has them")
    numbers = {token: number for number, token in enumerate(vocabulary.sentinels)}
    rows = []
    for text in texts:
        row = tokenizer.encode(_with_sentinels(text, len(numbers)), special=True)
        if not any(token in numbers for token in row):
            raise Refusal(f"{text!r} has no blank: write <extra_id_0> where a span is to be filled in")
        rows.append([*row, vocabulary["eos"]])
    refuse_long(model, texts, rows)
    starts = [[vocabulary["pad"]] for _ in rows]
    decoding = decoding or Decoding(tokens=TOKENS)
    written = generate(model, head, starts, vocabulary["eos"], decoding, rows, cached=cached)
    return [tokenizer.decode(put_back(row, said, numbers)) for row, said in zip(rows, written, strict=True)]


def _with_sentinels(text: str, count: int) -> str:
    """The text with a sentinel of its own, of `count`, for each `[MASK]`. Raises Refusal."""
    said = [int(number) for number in re.findall(r"<extra_id_(\d+)>", text)]
    for number in said:
        if number >= count:
            raise Refusal(
                f"<extra_id_{number}> is no sentinel of this model, which has <extra_id_0> … <extra_id_{count - 1}>: write one of these, "
                "or [MASK] for the next one"
            )
        if said.count(number) > 1:
            raise Refusal(
                f"{text!r} has <extra_id_{number}> more than once; each blank needs a sentinel of its own: write [MASK] for the next one"
            )
    free = [number for number in range(count) if number not in said]
    blanks = text.count(BLANK)
    if blanks > len(free):
        begin = text if len(text) <= 40 else f"{text[:40]}…"
        raise Refusal(f"{begin!r} has {blanks + len(said)} blanks; this model has {count} sentinels. Cut the text.")
    for number in free[:blanks]:
        text = text.replace(BLANK, f"<extra_id_{number}>", 1)
    return text


def rewrite(
    model: EncoderDecoder,
    head: TokenHead,
    tokenizer: Speller,
    texts: Sequence[str],
    decoding: Decoding | None = None,
    begins: str = "eos",
    cached: bool = True,
) -> list[str]:
    """Each text as the model writes it again, `[MASK]` standing for any number of tokens: what denoising teaches.

    `begins` is the role of the token that the decoder begins with. At most `TOKENS` tokens where `decoding` is not given.
    """
    vocabulary = tokenizer.vocabulary
    mask = tokenizer.roles.get("mask", "<extra_id_0>" if vocabulary.sentinels else None)
    if mask is None and any(BLANK in text for text in texts):
        raise Refusal("this tokenizer has no mask token, so a text cannot have [MASK]s here")
    texts = [text if mask is None else text.replace(BLANK, mask) for text in texts]
    rows = [enclose(model, tokenizer.encode(text, special=True), vocabulary) for text in texts]
    refuse_long(model, texts, rows)
    starts = [[vocabulary[begins]] for _ in rows]
    written = generate(model, head, starts, _end(vocabulary), decoding or Decoding(tokens=TOKENS), rows, cached=cached)
    return [tokenizer.decode(row) for row in written]


def fill_fragments(
    model: EncoderDecoder,
    head: TokenHead,
    tokenizer: Speller,
    texts: Sequence[str],
    decoding: Decoding | None = None,
    cached: bool = True,
) -> list[str]:
    """Each text with its `[MASK]`s, one for each token and all in a row, replaced by what the model writes for them: what
    objective=masked_fragment teaches (https://arxiv.org/abs/1905.02450).

    The decoder begins with a mask where the first of them stands. Raises Refusal where a text has none, or other words among them.
    """
    vocabulary = tokenizer.vocabulary
    rows, first, sizes = [], [], []
    for text in texts:
        marked = text.replace(BLANK, tokenizer.roles["mask"])
        row = [*tokenizer.encode(marked, special=True), vocabulary["eos"]]
        at = [i for i, token in enumerate(row) if token == vocabulary["mask"]]
        if not at:
            raise Refusal(f"{text!r} has no blank: write [MASK] for each token that is to be filled in")
        if at[-1] - at[0] + 1 != len(at):
            raise Refusal(
                f"{text!r} has blanks in several places; this model fills one fragment: write its [MASK]s in a row"
            )
        rows.append(row)
        first.append(at[0])
        sizes.append(len(at))
    refuse_long(model, texts, rows)
    starts = [[vocabulary["mask"]] for _ in rows]
    decoding = decoding or Decoding(tokens=max(sizes, default=1))
    written = generate(
        model, head, starts, vocabulary["eos"], decoding, rows, positions=first, limits=sizes, cached=cached
    )
    return [
        tokenizer.decode([*row[:begin], *said, *row[begin + size :]])
        for row, begin, size, said in zip(rows, first, sizes, written, strict=True)
    ]


def put_back(row: Sequence[int], said: Sequence[int], sentinels: dict[int, int]) -> list[int]:
    """`row` with each sentinel replaced by the tokens that follow it in `said`."""
    spans = dict(stretches(said, sentinels))
    return [t for token in row for t in (spans.get(token, []) if token in sentinels else [token])]


def stretches(row: Sequence[int], sentinels: dict[int, int]) -> list[tuple[int | None, list[int]]]:
    """A row cut before each of its sentinels: (sentinel, what follows it), None for what stands before the first."""
    cut: list[tuple[int | None, list[int]]] = [(None, [])]
    for token in row:
        if token in sentinels:
            cut.append((token, []))
        else:
            cut[-1][1].append(token)
    return cut
