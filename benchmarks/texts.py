"""Text of real length for the benchmarks: Wikipedia's articles where ../shared/data has them, else what every Python carries."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WIKIPEDIA = Path(__file__).resolve().parents[2] / "shared" / "data" / "lm" / "enwiki"
PIECE = re.compile(r"[A-Za-z]{1,7}|[0-9]{1,3}|[^\sA-Za-z0-9]|[^\x00-\x7F]{1,3}")


def documents(limit: int = 4000) -> tuple[str, list[str]]:
    """What the text is, and its documents; articles of one line, which are stubs, are left out."""
    if WIKIPEDIA.is_dir():
        found: list[str] = []
        for path in sorted(WIKIPEDIA.rglob("wiki_*")):
            for body in re.findall(r"<doc [^>]*>\n(.*?)</doc>", path.read_text(encoding="utf-8"), re.DOTALL):
                if len(body.strip().splitlines()) >= 3:
                    found.append(body)
            if len(found) >= limit:
                break
        return f"{len(found)} articles of English Wikipedia", found
    from pydoc_data.topics import topics

    return f"{len(topics)} topics of Python's own documentation", list(topics.values())


def tokenised(vocabulary: int, reserved: int = 10) -> tuple[str, list[NDArray[np.int64]]]:
    """What the text is, and each document's token ids: pieces of words of at most seven letters, numbered by frequency.

    A stand-in for a trained tokenizer that gives about as many tokens a word (1.4) and the same skewed frequencies.
    """
    name, texts = documents()
    pieces = [PIECE.findall(text.lower()) for text in texts]
    ranked = [
        piece for piece, _ in Counter(piece for found in pieces for piece in found).most_common(vocabulary - reserved)
    ]
    number = {piece: reserved + rank for rank, piece in enumerate(ranked)}
    return name, [np.array([number.get(piece, 1) for piece in found], np.int64) for found in pieces]
