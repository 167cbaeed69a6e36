"""What a search tries: the `search` part of a study file, held against what it may say.

    search:
      trials: 20
      space:
        optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
        model.dropout: {low: 0.0, high: 0.3, step: 0.1}
        model.layers: {low: 1, high: 4}
        schedule: {choices: [linear, cosine]}
      sampler: tpe
      pruner: median
      seed: 1

Two whole numbers bound whole numbers; with a decimal point in one of them, numbers with decimals between them are tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloze.deciding import decides
from cloze.errors import Refusal, did_you_mean
from cloze.studies.words import BARRED, key_of, spelt

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

SAMPLERS = ("tpe", "random", "gp", "qmc")
PRUNERS = ("median", "hyperband", "none")
_KEYS = ("trials", "space", "sampler", "pruner", "seed")
_RANGE = ("low", "high", "log", "step")


@dataclass(frozen=True)
class Search:
    """A search as its file says it.

    trials   how many, those that fail or are stopped early included
    space    for each key of the config, what it may be
    sampler  who proposes: Optuna's TPE (https://papers.nips.cc/paper/4443), chance, a Gaussian process, or quasi-random points
    pruner   which runs are stopped early: those that are worse at a validation than the median of the others
             (https://dl.acm.org/doi/10.1145/3097983.3098043), those that Hyperband gives no more (https://arxiv.org/abs/1603.06560), none
    seed     of the proposals; each run has the study's
    """

    trials: int
    space: Mapping[str, BaseDistribution]
    sampler: str = "tpe"
    pruner: str = "median"
    seed: int = 1

    def words(self, values: Mapping[str, Any]) -> list[str]:
        """The words of a trial."""
        return [f"{key}={written(values[key])}" for key in self.space]


def read(said: Any, where: str) -> Search:
    """The `search` part of a study file. Raises Refusal, all that is wrong with it in one message, and where Optuna is not installed;
    `where` is the file."""
    _refuse_missing()
    if not isinstance(said, Mapping):
        raise Refusal(f"{where}: search={said!r} must say trials: and space:")
    wrong = [f"search.{key} is not a setting{did_you_mean(str(key), _KEYS)}" for key in said if key not in _KEYS]
    trials, seed = said.get("trials"), said.get("seed", 1)
    if type(trials) is not int or trials < 1:
        wrong.append(
            f"search.trials={trials} must be a whole number from 1" if "trials" in said else "search.trials is missing"
        )
    if type(seed) is not int or seed < 0:
        wrong.append(f"search.seed={seed} must be a whole number from 0")
    for key, accepted, first in (("sampler", SAMPLERS, "tpe"), ("pruner", PRUNERS, "median")):
        value = said.get(key, first)
        if value not in accepted:
            wrong.append(f"search.{key}={value} is not there{did_you_mean(str(value), accepted)}")
    space = said.get("space")
    found: dict[str, BaseDistribution] = {}
    if not isinstance(space, Mapping) or not space:
        wrong.append("search.space must name at least one key: {low: …, high: …} or {choices: […]}")
    else:
        for key, each in space.items():
            try:
                _refuse_without_effect(str(key), found)
                found[str(key)] = distribution(each, f"search.space.{key}")
            except Refusal as fault:
                wrong.append(str(fault))
    if wrong:
        raise Refusal("\n".join(f"{where}: {each}" for each in wrong))
    assert isinstance(trials, int)
    return Search(trials, found, str(said.get("sampler", "tpe")), str(said.get("pruner", "median")), seed)


def distribution(said: Any, where: str) -> BaseDistribution:
    """What one key may be, as Optuna has it. Raises Refusal."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(said, Mapping) and "choices" in said:
        if further := [str(key) for key in said if key != "choices"]:
            raise Refusal(f"{where}.{further[0]} has no effect beside choices")
        return CategoricalDistribution(_choices(said["choices"], f"{where}.choices"))
    if not isinstance(said, Mapping) or not {"low", "high"} <= said.keys():
        raise Refusal(
            f"{where}={said!r} must be {{low: …, high: …}}, with log: true or step: … if wanted, or {{choices: […]}}"
        )
    for key in said:
        if key not in _RANGE:
            raise Refusal(f"{where}.{key} is not a setting{did_you_mean(str(key), (*_RANGE, 'choices'))}")
    low, high, log, step = said["low"], said["high"], said.get("log", False), said.get("step")
    for name, value in (("low", low), ("high", high), ("step", step)):
        if value is None and name == "step":
            continue
        if isinstance(value, str) and _is_number(value):  # YAML 1.1 takes 1e-4 for a text
            raise Refusal(
                f"{where}.{name}={value!r} is a text: YAML's numbers have a point and a sign, {float(value):.1e}"
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise Refusal(f"{where}.{name}={value!r} must be a number")
    if not isinstance(log, bool):
        raise Refusal(f"{where}.log={log!r} must be true or false")
    if low >= high:
        raise Refusal(f"{where}: low={low} must lie below high={high}")
    if log and step is not None:
        raise Refusal(f"{where}: log and step are one too many: numbers lie evenly in the logarithm, or step apart")
    if log and low <= 0:
        raise Refusal(f"{where}.low={low} must be above 0 where log is true")
    if step is not None and not 0 < step <= high - low:
        raise Refusal(f"{where}.step={step} must lie above 0 and within high - low = {high - low:g}")
    whole = isinstance(low, int) and isinstance(high, int) and isinstance(step, int | None)
    if whole:
        return IntDistribution(low, high, log=log, step=step or 1)
    return FloatDistribution(low, high, log=log, step=step)


def ends(each: BaseDistribution) -> list[Any]:
    """The values of a range at its ends; all of the choices."""
    from optuna.distributions import CategoricalDistribution

    if isinstance(each, CategoricalDistribution):
        return list(each.choices)
    return [each.low, each.high]  # type: ignore[attr-defined]


def written(value: Any) -> str:
    """A value as a word has it. Numbers have six digits: a command that can be read is the command that was run."""
    if isinstance(value, float):
        short = f"{value:.6g}"
        return short if any(mark in short for mark in ".en") else f"{short}.0"
    return spelt(value)


def _choices(said: Any, where: str) -> Sequence[Any]:
    """Scalars as they are; a list or mapping as a word has it, because Optuna's storage has no such thing."""
    if not isinstance(said, Sequence) or isinstance(said, str) or len(said) < 2:
        raise Refusal(f"{where}={said!r} must be a list of at least two")
    plain = [each if isinstance(each, str | int | float | bool | None) else _word(each) for each in said]
    names = [written(each) for each in plain]
    if twice := [name for name in names if names.count(name) > 1]:
        raise Refusal(f"{where}: {twice[0]} is there twice")
    return plain


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_word(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(_word(each) for each in value) + "]"
    return written(value)


def _refuse_without_effect(key: str, others: Iterable[str]) -> None:
    """Raises Refusal for a key whose values would change nothing, or would be another's."""
    where, setting = f"search.space.{key}", key_of(key)
    if why := BARRED.get(setting):
        raise Refusal(f"{where} cannot be searched: {why}")
    # hardware can be, because a budget in minutes, or a figure of speed, depends on it
    if key.startswith("~") or not (decides(setting) or setting.partition(".")[0] == "hardware"):
        raise Refusal(
            f"{where} cannot be searched: expected a setting that decides what a run learns, or one of hardware"
        )
    if twice := [other for other in others if key_of(other) == setting]:
        raise Refusal(f"{where} is there twice: {twice[0]} is the same setting")


def _refuse_missing() -> None:
    import importlib.util

    if importlib.util.find_spec("optuna") is None:
        raise Refusal("a search needs Optuna, which is not installed: pip install 'cloze[search]'")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
