"""What a generated corpus has just made up, kept for the next reader: training the tokenizer and tokenising read the same documents."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from cloze.data.base import Corpus, Record

KEPT = 32 << 20  # bytes, compressed, of one corpus

_parts: WeakKeyDictionary[Corpus, dict[Any, bytes]] = WeakKeyDictionary()


def kept(corpus: Corpus, part: Any) -> Iterator[Record]:
    """As `corpus.read(part)`; the records of a generated corpus are kept for `taken`, while there is room."""
    if not corpus.generated:
        return corpus.read(part)
    records = list(corpus.read(part))
    packed = zlib.compress(pickle.dumps(records, protocol=5), 1)
    parts = _parts.setdefault(corpus, {})
    if sum(map(len, parts.values())) + len(packed) <= KEPT:
        parts[part] = packed
    return iter(records)


def taken(corpus: Corpus, part: Any) -> Iterator[Record]:
    """As `corpus.read(part)`, from what is kept where it is, which is kept no longer."""
    packed = _parts.get(corpus, {}).pop(part, None)
    return corpus.read(part) if packed is None else iter(pickle.loads(zlib.decompress(packed)))


def forget(corpus: Corpus) -> None:
    """Lets go of all that is kept of a corpus."""
    _parts.pop(corpus, None)
