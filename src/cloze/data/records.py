"""Labelled data, tokenised: the records of a split and their texts as arrays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from cloze.data import cache as caches
from cloze.data.base import Passage, Record, Tagged, TaskCorpus, Text, TokenizedRecords
from cloze.data.tokenizers import Tokenizer
from cloze.errors import Refusal

_AT_ONCE = 4096  # records that are handed to the tokenizer together


def tokenized_records(
    corpus: TaskCorpus,
    split: str,
    tokenizer: Tokenizer,
    reworded: Callable[[Sequence[Record], str], Sequence[Record]] = lambda records, task: records,
    say: Callable[[str], object] = lambda line: None,
) -> TokenizedRecords:
    """A split of a corpus of tasks. `reworded` says what an objective makes of the records' texts before they are tokenised. `say` gets a
    line or two for the user. Raises Refusal where the split is not there, malformed or empty."""
    started = time.perf_counter()
    records: Sequence[Record] = [
        record
        for part in corpus.parts(split)  # type: ignore[arg-type]
        for record in corpus.read(part)
    ]
    for note in corpus.notes():
        say(f"{split}: {note}")
    if not records:
        raise Refusal(f"the {split} split of this corpus holds no example")
    records = reworded(records, corpus.name)
    made = of_records(records, tokenizer, caches.digest("records", corpus.fingerprint(), split, tokenizer.fingerprint))
    seconds = time.perf_counter() - started
    say(f"tokenised {split}: {len(records):,} records, {len(made.tokens):,} tokens in {seconds:.1f} s")
    return made


def of_records(records: Iterable[Record], tokenizer: Tokenizer, fingerprint: str = "") -> TokenizedRecords:
    """Records as arrays. A word to be tagged that the tokenizer makes nothing of is its token for unknown words."""
    texts = [record for record in records if isinstance(record, Text)]
    ids: list[Any] = []
    starts: list[Any] = []
    lengths: list[Any] = []
    spans: list[Any] = []
    for begin in range(0, len(texts), _AT_ONCE):
        fields = [field for record in texts[begin : begin + _AT_ONCE] for field in record.fields]
        if not fields:
            continue
        if isinstance(texts[0], Passage):
            *made, places = tokenizer.encode_spans(fields)
            spans.append(places)
        else:
            made = list(tokenizer.encode_flat(fields))
        if isinstance(texts[0], Tagged) and not made[2].all():
            made = _without_gaps(made, tokenizer.vocabulary.special.get("unk", 0))
        for parts, part in zip((ids, starts, lengths), made, strict=True):
            parts.append(part)
    counts = [len(record.fields) for record in texts]
    return TokenizedRecords(
        tokens=np.concatenate(ids) if ids else np.empty(0, np.uint32),
        word_starts=np.concatenate(starts) if starts else np.empty(0, np.bool_),
        sentences=np.concatenate([[0], *lengths]).cumsum().astype(np.int64),
        documents=np.cumsum([0, *counts], dtype=np.int64),
        topics=np.full(len(texts), -1, np.int32),
        characters=sum(len(field) for record in texts for field in record.fields),
        fingerprint=fingerprint,
        records=tuple(texts),
        spans=np.concatenate(spans) if spans else None,
    )


def _without_gaps(made: list[Any], unknown: int) -> list[Any]:
    """The same ids, word starts and lengths with one unknown token for each text that has none."""
    ids, starts, lengths = made
    empty = np.flatnonzero(lengths == 0)
    places = (np.cumsum(lengths) - lengths)[empty]
    lengths = lengths.copy()
    lengths[empty] = 1
    return [np.insert(ids, places, unknown), np.insert(starts, places, True), lengths]
