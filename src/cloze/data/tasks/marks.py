"""Words of a text that a question is about, marked so that a model which reads only text can tell which are meant.

The signs are those of T5's WSC (https://arxiv.org/abs/1910.10683): `* a noun *`, `# a pronoun #`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cloze.data.tasks.fields import Fault

_WORD = re.compile(r"\S+")
_EDGES = ".,;:!?\"'()"


def marked(text: str, spans: Sequence[tuple[int, int, str]], gap: str = " ") -> str:
    """The text with a sign on each side of every span (start, end, sign), with `gap` between sign and span.

    One span may lie in another ("their" in "their mothers"): its signs then lie inside.
    """
    placed = []
    for start, end, sign in spans:
        placed.append(
            (end, 0, end - start, f"{gap}{sign}")
        )  # where one span ends and another begins, the end comes first,
        placed.append((start, 1, start - end, f"{sign}{gap}"))  # and of two that begin together the longer one
    for place, _, _, sign in sorted(placed, key=lambda each: each[:3], reverse=True):
        text = text[:place] + sign + text[place:]
    return text


def word_span(text: str, number: int, words: str) -> tuple[int, int, bool]:
    """Characters of `words` where they begin at word `number` (from 0; words are what white space parts), and whether they stood there.

    Where they do not, as in one row of SuperGLUE's development set, the nearest place where they stand is taken. Capitals and
    punctuation around the words do not count. Raises Fault where the text does not have them.
    """
    places = [match.span() for match in _WORD.finditer(text)]
    wanted = [_bare(word) for word in words.split()]
    if not wanted:
        raise Fault("the span is empty")
    found = [
        start
        for start in range(len(places) - len(wanted) + 1)
        if all(_bare(text[slice(*places[start + n])]) == word for n, word in enumerate(wanted))
    ]
    if not found:
        raise Fault(f"the text does not have the words {words!r} of its span at word {number}, nor elsewhere")
    nearest = min(found, key=lambda start: abs(start - number))
    start, end = places[nearest][0], places[nearest + len(wanted) - 1][1]
    while end - start > 1 and text[end - 1] in _EDGES and words[-1] not in _EDGES:
        end -= 1
    while end - start > 1 and text[start] in _EDGES and words[0] not in _EDGES:
        start += 1
    return start, end, nearest == number


def _bare(word: str) -> str:
    return word.strip(_EDGES).casefold() or word
