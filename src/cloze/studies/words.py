"""Words of a study's runs: which setting each is about, whose win, and which decide what is learnt."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from cloze.compose import parse
from cloze.deciding import decides
from cloze.errors import Refusal
from cloze.schema import as_word

ONE_RUN = ("plan", "show", "audit", "matrix")  # look at one run and train nothing
BARRED = {  # from the words of a study's file, and why
    "seed": "seeds has the seeds",
    "output_dir": "the study has the folders",
    "resume": "the same sentence again goes on where it stopped",
    **dict.fromkeys(ONE_RUN, "it looks at one run and trains nothing"),
}
BARRED_AFTER = {**BARRED, "init": "an evaluation starts from the model of its run"}


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
    """Every combination of words, given by the setting that they are about: an arm is called by the last part of each setting, by the
    whole where two have the same last part. Raises Refusal for a word that is there twice."""
    for words in axes.values():
        if twice := [word for word in words if words.count(word) > 1]:
            raise Refusal(f"{twice[0]} is there twice: every value is an arm of its own")
    leaves = [key.rpartition(".")[2] for key in axes]
    titles = [leaf if leaves.count(leaf) == 1 else key for key, leaf in zip(axes, leaves, strict=True)]
    arms = {}
    for words in itertools.product(*axes.values()):
        name = ", ".join(f"{title}={word.partition('=')[2]}" for title, word in zip(titles, words, strict=True))
        arms[name or "runs"] = words
    return arms


def spelt(value: Any) -> str:
    """A value of a YAML file as the value of a word."""
    if isinstance(value, list):
        return f"[{','.join(map(spelt, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{spelt(each)}" for key, each in value.items()) + "}"
    if isinstance(value, str) and not _is_one_value(value):
        from cloze.suites.glue import written

        return written(value)
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return str(int(value)) if whole else as_word(value)


def _is_one_value(text: str) -> bool:
    """Whether Hydra reads a text as one value: not as several, and not as a fault."""
    try:
        return not parse([f"key={text}"])[0].is_sweep_override()
    except Refusal:
        return False


def taken_by(word: str, layer: Sequence[str]) -> bool:
    key, keys = key_of(word), [key_of(each) for each in layer]
    return key in keys or (is_budget(key) and any(is_budget(each) for each in keys))


def is_budget(key: str) -> bool:
    return key.startswith("budget.") and key != "budget.otherwise_steps"


def axes(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The words with several values (`seed=1,2`) by their setting, as a word for each value; and the others. Raises Refusal for what is no
    word, and where something is said of a setting beside its several values."""
    several: dict[str, list[str]] = {}
    plain = []
    for word, override in zip(words, parse(words), strict=True):
        if not override.is_sweep_override():
            plain.append(word)
        elif (key := key_of(word)) in several:
            raise Refusal(f"{word}: {key} has several values in another word already; say all of them in one")
        else:
            several[key] = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    if both := [word for word in plain if key_of(word) in several]:
        raise Refusal(f"{both[0]}: {key_of(both[0])} has several values in another word; say one of the two")
    return several, plain
