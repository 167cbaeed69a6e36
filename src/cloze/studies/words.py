"""Words of a study's runs: which setting each is about, whose win, and which decide what is learnt."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from cloze.compose import parse
from cloze.deciding import decides
from cloze.schema import as_word


def key_of(word: str) -> str:
    """The setting that a word is about."""
    return word.lstrip("+~").partition("=")[0]


def merged(*layers: Sequence[str]) -> tuple[str, ...]:
    """The words of all layers; one of a later layer takes the place of those of the same key, and a budget that of any budget."""
    found: list[str] = []
    for layer in layers:
        found = [word for word in found if not taken_by(word, layer)] + list(layer)
    return tuple(found)


def decisive(words: Sequence[str]) -> list[str]:
    """The words that can change what is learnt or what is known of it, in a fixed order."""
    # how often a run is validated changes nothing of it, but the curves, and what a search's pruner sees
    return sorted(word for word in words if decides(key_of(word)) or key_of(word) == "validation.every")


def grid(axes: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Every combination: an arm is called by the last part of each key, by the whole key where two have the same last part."""
    leaves = [key.rpartition(".")[2] for key in axes]
    titles = [leaf if leaves.count(leaf) == 1 else key for key, leaf in zip(axes, leaves, strict=True)]
    arms = {}
    for values in itertools.product(*axes.values()):
        name = ", ".join(f"{title}={value}" for title, value in zip(titles, values, strict=True))
        arms[name or "runs"] = tuple(f"{key}={value}" for key, value in zip(axes, values, strict=True))
    return arms


def spelt(value: Any) -> str:
    """A value of a YAML file as the value of a word."""
    if isinstance(value, list):
        return f"[{','.join(map(spelt, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{spelt(each)}" for key, each in value.items()) + "}"
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return str(int(value)) if whole else as_word(value)


def taken_by(word: str, layer: Sequence[str]) -> bool:
    key, keys = key_of(word), [key_of(each) for each in layer]
    return key in keys or (is_budget(key) and any(is_budget(each) for each in keys))


def is_budget(key: str) -> bool:
    return key.startswith("budget.") and key != "budget.otherwise_steps"


def axes(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The words with several values (`seed=1,2`), by key, and the others. Raises Refusal for what is no word."""
    several, plain = {}, []
    for word, override in zip(words, parse(words), strict=True):
        if override.is_sweep_override():
            several[str(override.get_key_element())] = list(override.sweep_string_iterator())
        else:
            plain.append(word)
    return several, plain
