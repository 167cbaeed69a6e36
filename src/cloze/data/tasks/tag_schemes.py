"""How tags of words say where spans begin and end: https://aclanthology.org/E99-1023 tells the schemes apart.

IOB1: B- only where a span touches another one of its kind. IOB2: B- at the beginning of each span. IOBES (BILOU, BMES): the last word of a
span and a span of one word are marked too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

Scheme = Literal["iob1", "iob2", "iobes", "plain"]

_SPAN = re.compile(r"O|_|([BIESLUM])-.+")  # _ is the tag of a word without one
_OUTSIDE = ("O", "_")
_AS_IOB2 = {"B": "B", "S": "B", "U": "B", "I": "I", "M": "I", "E": "I", "L": "I"}


def scheme_of(sentences: Iterable[Sequence[str]]) -> Scheme:
    """The scheme that tags are written in. IOB1 and IOB2 are told apart by the first words of spans that follow no other span:
    all I- is IOB1; one B- makes it IOB2, since IOB1 never has one there."""
    letters: set[str] = set()
    first: set[str] = set()
    for tags in sentences:
        before = "O"
        for tag in tags:
            match = _SPAN.fullmatch(tag)
            if match is None:
                return "plain"
            if match[1]:
                letters.add(match[1])
                if before in _OUTSIDE:
                    first.add(match[1])
            before = tag
    if not letters:
        return "plain"
    if letters - {"B", "I"}:
        return "iobes"
    return "iob1" if first == {"I"} else "iob2"


def as_iob2(tags: Sequence[str], scheme: Scheme) -> tuple[str, ...]:
    """The tags of a sentence in IOB2, or as they are, where they are in it already or mark no spans."""
    if scheme == "iobes":
        return tuple(
            _AS_IOB2[match[1]] + tag[1:] if (match := _SPAN.fullmatch(tag)) and match[1] else tag for tag in tags
        )
    if scheme != "iob1":
        return tuple(tags)
    found = []
    before = "O"
    for tag in tags:
        begins = tag.startswith("I-") and (before in _OUTSIDE or before[2:] != tag[2:])
        found.append(f"B{tag[1:]}" if begins else tag)
        before = tag
    return tuple(found)
