"""The dashboard's filter: words that a run's path, name, status or arm holds, and `key=value` of any setting or figure.

sop val/loss<2.1 seed=1,2 objective.pair!=none status=done
"""

from __future__ import annotations

import operator
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cloze.dashboard.index import Entry
from cloze.errors import Refusal, nearest
from cloze.schema import as_word

FACTS = ("status", "study", "arm", "seed", "name", "folder", "model", "objective", "step", "tokens", "seconds", "began")
_TERM = re.compile(r"([\w./@+-]+?)(!=|<=|>=|=|<|>|~)(.*)", re.DOTALL)
_ORDER: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_BETWEEN = re.compile(r",(?! )")
_NOTHING = object()


def value_of(entry: Entry, key: str) -> Any:
    """What a run has of a key: a fact of FACTS, a setting or a figure; None where it has none."""
    found = _value(entry, key)
    return None if found is _NOTHING else found


def _value(entry: Entry, key: str) -> Any:
    if key in FACTS:
        return _fact(entry, key)
    if key in entry.figures:
        return entry.figures[key]
    return entry.settings.get(key, _NOTHING)


def _fact(entry: Entry, key: str) -> Any:
    if key in ("step", "tokens", "seconds"):
        return entry.count(key)
    if key in ("study", "arm"):
        return getattr(entry.place, key) if entry.place else None
    if key == "folder":
        return entry.id
    if key == "name":
        return entry.run.name
    return getattr(entry, key) if key in ("status", "seed", "began") else entry.fact(key)


@dataclass(frozen=True)
class Term:
    """One condition. `key` is None for a word that is looked for in what names the run."""

    key: str | None
    sign: str
    value: str

    def holds(self, entry: Entry) -> bool:
        """Whether a run is shown. A run that does not have the key fails every condition but `!=`."""
        if self.key is None:
            texts = (
                entry.id,
                entry.run.name,
                entry.status,
                *((entry.place.study, entry.place.arm) if entry.place else ()),
            )
            return any(self.value.casefold() in text.casefold() for text in texts)
        have = _value(entry, self.key)
        if have is _NOTHING:
            return self.sign == "!="
        if self.sign in _ORDER:
            left, right = _number(have), _number(self.value)
            return left is not None and right is not None and _ORDER[self.sign](left, right)
        if self.sign == "~":
            return self.value.casefold() in as_word(have).casefold()
        return any(_same(have, value) for value in self._values()) == (self.sign == "=")

    def _values(self) -> list[str]:
        """What a comma separates, but for the names of a grid's arms (`lr=0.1, of=[mlm,sop]`): these are joined by a comma
        and a space, and have commas in their lists; so one name alone is itself."""
        return [self.value, *_BETWEEN.split(self.value)]


def parse(text: str, keys: Iterable[str]) -> list[Term]:
    """The conditions of a filter. `keys` are the settings and figures that some run has; the end of one is enough where only one ends so.

    Raises Refusal, one sentence, for a key that no run has, an end that several have, and a `<` beside no number.
    """
    try:
        words = shlex.split(text)
    except ValueError:  # a quotation mark without its other one: still being typed
        words = text.replace('"', " ").replace("'", " ").split()
    known = [*FACTS, *keys]
    return [_term(word, known) for word in words]


def _term(word: str, known: list[str]) -> Term:
    match = _TERM.fullmatch(word)
    if not match:
        return Term(None, "", word)
    said, sign, value = match.groups()
    found = meant(said, known)
    if len(found) > 1:
        raise Refusal(f"{said} may be {' or '.join(found)}")
    if not found:
        guess = nearest(said, known) or next((name for name in known if said in name), None)
        hint = f"; did you mean {guess}?" if guess else ""
        raise Refusal(f"{said} is no setting or figure of any run here{hint}")
    if sign in _ORDER and _number(value) is None:
        raise Refusal(f"{said}{sign}{value}: {value or 'nothing'} is not a number")
    return Term(found[0], sign, value)


def meant(said: str, known: Iterable[str]) -> list[str]:
    """The keys that may be meant: itself, else all that end in it after a dot or a slash."""
    names = list(dict.fromkeys(known))
    return [said] if said in names else [name for name in names if name.endswith((f".{said}", f"/{said}"))]


def _same(have: Any, said: str) -> bool:
    left, right = _number(have), _number(said)
    if left is not None and right is not None:
        return left == right
    return as_word(have).casefold() == said.casefold()


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
