"""From paragraphs to sentences: rules, no model, no download; good enough to pair sentences, the same on every machine.

A sentence ends at `. ! ? …` (and closing quotes or brackets) followed by white space and something that can begin a
sentence, unless the stop belongs to an abbreviation or an initial; or at a full-width stop (`。！？`), which needs no
space after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_CLOSING = "\"'”’»)\\]*_"
_OPENING = "\"'“‘«(\\[¿¡*_—-"
_BOUNDARY = re.compile(
    rf"""[.!?…؟۔।]+[{_CLOSING}]*[ ](?=[{_OPENING}]*(?P<next>\w))  # what must not be in lower case: looked at below
       | [。！？]+[」』”’）》]*[ ]?(?=.)                            # Chinese and Japanese stops need no space
    """,
    re.VERBOSE,
)
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘«]*$")

# A stop after these does not end a sentence, whatever follows.
_ABBREVIATIONS = frozenset(
    """mr mrs ms messrs dr prof rev hon st sr jr gen col lt maj capt sgt cpl cmdr adm gov sen rep pres supt mt ft
    e.g i.e cf c.f viz vs al approx ca resp esp incl excl a.k.a w.r.t""".split()
)
# A stop after these does not end a sentence where a number follows.
_NUMBERED = frozenset(
    """no nos fig figs eq eqs sec ch p pp ed vol vols art op ref refs
    jan feb mar apr jun jul aug sep sept oct nov dec""".split()
)


def split_sentences(text: str) -> list[str]:
    """The sentences of one paragraph, in order; runs of white space (line ends too) become single spaces.

    Blank text gives [].

    >>> split_sentences("Mr. Hyde paid 3.50 dollars. Why? Nobody knew.")
    ['Mr. Hyde paid 3.50 dollars.', 'Why?', 'Nobody knew.']
    """
    text = " ".join(text.split())
    sentences = []
    start = 0
    for match in _BOUNDARY.finditer(text):
        following = match["next"]
        if following is not None and (following.islower() or _is_abbreviation(text, start, match.start(), following)):
            continue
        sentences.append(text[start : match.end()].rstrip())
        start = match.end()
    if start < len(text):
        sentences.append(text[start:])
    return sentences


def _is_abbreviation(text: str, start: int, stop: int, following: str) -> bool:
    """Whether the single full stop at `stop` belongs to the word before it ("Dr.", "J.", "e.g.")."""
    if text[stop] != "." or text[stop + 1] != " ":
        return False
    match = _LAST_WORD.search(text, max(start, stop - 12), stop)
    word = match.group() if match else ""
    if word.isupper() and all(len(letter) == 1 for letter in word.split(".")):
        return word != "I"  # initials
    word = word.lower()
    if word in _NUMBERED:
        return following.isdigit()  # "No. 5", but "She said no. Then"
    return word in _ABBREVIATIONS


def sentences_of(paragraphs: Iterable[str]) -> tuple[str, ...]:
    """A document's sentences as `Text` wants them: a paragraph's last one ends in a newline, save the document's."""
    sentences: list[str] = []
    for paragraph in paragraphs:
        found = split_sentences(paragraph)
        if found:
            if sentences:
                sentences[-1] += "\n"
            sentences += found
    return tuple(sentences)
