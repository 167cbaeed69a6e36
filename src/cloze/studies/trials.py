"""A search's memory: trials in Optuna's sqlite storage, what comes next, what may be stopped early. It starts no process.

The proposals of trial n are drawn with a seed of (seed, n), so a search whose trials run one at a time proposes the same
again, stopped in between or not; only where a kill falls into a proposal itself, what it lacks is drawn anew. With several at a time
they also go by how far the others have come by then.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar

from cloze.deciding import LATER
from cloze.errors import Refusal, RunFailure
from cloze.studies.space import Search

if TYPE_CHECKING:
    import optuna

    from cloze.report.comparison import Metric

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")
Outcome = Literal["running", "done", "pruned", "failed"]
_STUDY = "search"  # its name in the storage: one a folder
_ASKED = "asked"


@dataclass(frozen=True)
class Tried:
    """A trial as the storage has it. `value` is of the metric: the last one, also of a run that was stopped early."""

    number: int
    words: tuple[str, ...]
    outcome: Outcome
    value: float | None
    reason: str = ""


def _stored(method: Callable[Concatenate[Trials, _Given], _Found]) -> Callable[Concatenate[Trials, _Given], _Found]:
    """A method that reads or writes the file. Raises RunFailure, naming the file, where that cannot be."""

    @wraps(method)
    def guarded(self: Trials, /, *given: _Given.args, **further: _Given.kwargs) -> _Found:
        from optuna.exceptions import OptunaError
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return method(self, *given, **further)
        except (OptunaError, SQLAlchemyError) as fault:
            raise RunFailure(
                f"{self.file}, the search's memory, cannot be used ({_first_cause(fault)}): the search is stopped"
            ) from fault

    return guarded


class Trials:
    """The trials of one search, kept in a file (sqlite). `asked` is what they were all asked (words, metric): it must stay the same.

    Those that run when the file is opened go on. Raises Refusal where the file holds another search.
    """

    def __init__(self, search: Search, metric: Metric, file: Path, asked: Mapping[str, Any] | None = None) -> None:
        self.search, self.metric, self.file = search, metric, file
        self._live: dict[int, optuna.trial.Trial] = {}
        self._open({**_asked(search, metric), **(asked or {})})

    @_stored
    def _open(self, asked: dict[str, Any]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # what goes wrong is said once, as a RunFailure
        optuna.logging.disable_propagation()
        search, file = self.search, self.file
        file.parent.mkdir(parents=True, exist_ok=True)
        self._study = optuna.create_study(
            storage=optuna.storages.RDBStorage(f"sqlite:///{file.absolute()}"),
            study_name=_STUDY,
            direction="maximize" if self.metric.higher_is_better else "minimize",
            pruner=_pruner(search),
            load_if_exists=True,
        )
        self._keep_to(asked)
        for trial in self._study.trials:
            if not trial.state.is_finished():
                self._proposed(trial.number, trial._trial_id)

    def _keep_to(self, asked: dict[str, Any]) -> None:
        """Holds what is asked now against what the file's trials were asked."""
        asked = json.loads(json.dumps(asked))
        recorded = self._study.user_attrs.get(_ASKED)
        if recorded is None:
            recorded = asked
            self._study.set_user_attr(_ASKED, asked)
        unsaid = {key: asked[key] for key in LATER if key in asked}  # in a file that is older than these
        # Optuna's own record of the direction is what it goes by, whatever create_study is told later
        before = {**unsaid, **recorded, "higher_is_better": self._study.direction.name == "MAXIMIZE"}
        asked["higher_is_better"] = self.metric.higher_is_better
        if before != asked:
            other = [key for key in sorted({*before, *asked}) if before.get(key) != asked.get(key)]
            told = "; ".join(f"{key} ({before.get(key)} there, {asked.get(key)} here)" for key in other)
            raise Refusal(
                f"{self.file.parent} holds another search than this one: {told}. Say output_dir=FOLDER for a new one."
            )

    # --- what comes next ---------------------------------------------------------------------------------------------------

    @_stored
    def next(self) -> Tried | None:
        """A new trial; None where there have been as many as there shall be."""
        number = len(self._study.trials)
        if number >= self.search.trials:
            return None
        return self._proposed(number)

    def _proposed(self, number: int, trial_id: int | None = None) -> Tried:
        """A new trial, or one that is there: Optuna stores value by value, so where a kill came in between it lacks some."""
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a sampler may change in Optuna's next release
            self._study.sampler = _sampler(self.search, number)
            trial = self._study.ask() if trial_id is None else optuna.Trial(self._study, trial_id)
            for key, each in self.search.space.items():
                trial._suggest(key, each)
        words = tuple(trial.user_attrs.get("words") or self.search.words(trial.params))
        trial.set_user_attr("words", list(words))
        self._live[number] = trial
        return Tried(number, words, "running", None)

    # --- while it runs -----------------------------------------------------------------------------------------------------

    @_stored
    def hopeless(self, tried: Tried, points: Iterable[Mapping[str, Any]]) -> bool:
        """Takes the points of a run's metrics.jsonl so far; whether the pruner, having seen a new one, would stop it.

        Runs are compared validation by validation, the n-th of one with the n-th of the others.
        """
        return self.note(tried, points) and bool(self._live[tried.number].should_prune())

    @_stored
    def note(self, tried: Tried, points: Iterable[Mapping[str, Any]]) -> bool:
        """Keeps the points' values of the metric, which later trials are held against; whether there was a new one."""
        trial = self._live[tried.number]
        values = [point[self.metric.key] for point in points if point.get(self.metric.key) is not None]
        seen = len(self._study.trials[tried.number].intermediate_values)
        for number, value in enumerate(values[seen:], start=seen + 1):
            trial.report(float(value), number)
        return len(values) > seen

    @_stored
    def end(
        self, tried: Tried, outcome: Literal["done", "pruned", "failed"], value: float | None, reason: str
    ) -> Tried:
        """Writes down how a trial ended. One that is done without a number of its metric has failed."""
        import optuna

        if outcome == "done" and (value is None or not math.isfinite(value)):
            said = f"has no {self.metric.key}" if value is None else f"ended with {self.metric.key}={value}"
            outcome, reason = "failed", f"the run {said}"
        trial = self._live.pop(tried.number)
        trial.set_user_attr("reason", reason)
        states = optuna.trial.TrialState
        state = {"done": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[outcome]
        self._study.tell(trial, value if outcome == "done" else None, state=state)
        return self.all()[tried.number]

    # --- what came out -----------------------------------------------------------------------------------------------------

    @_stored
    def all(self) -> list[Tried]:
        """In the order that they were proposed in."""
        names: dict[str, Outcome] = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed"}
        return [
            Tried(
                trial.number,
                tuple(trial.user_attrs["words"]),
                names.get(trial.state.name, "running"),
                trial.value if trial.value is not None else trial.intermediate_values.get(trial.last_step or -1),
                str(trial.user_attrs.get("reason") or ""),
            )
            for trial in self._study.trials
        ]

    def best(self) -> Tried | None:
        """The best of those that are done; the earlier of equals."""
        done = [(tried.value, tried) for tried in self.all() if tried.outcome == "done" and tried.value is not None]
        sign = -1 if self.metric.higher_is_better else 1
        return min(done, key=lambda pair: (sign * pair[0], pair[1].number))[1] if done else None

    @_stored
    def importance(self) -> dict[str, float]:
        """How much of the metric's variance each setting explains, from 0 to 1: fANOVA (https://proceedings.mlr.press/v32/hutter14.html) as
        Optuna computes it. Empty where fewer than four trials are done, or all came to the same."""
        import optuna

        values = [tried.value for tried in self.all() if tried.outcome == "done"]
        if len(values) < 4 or len(set(values)) < 2:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self.search.seed)
            found = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        return {key: float(value) for key, value in found.items() if math.isfinite(value)}


def _asked(search: Search, metric: Metric) -> dict[str, Any]:
    from optuna.distributions import distribution_to_json

    space = {key: json.loads(distribution_to_json(each))["attributes"] for key, each in search.space.items()}
    return {"metric": metric.key, "space": space}


def _sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    import optuna

    from cloze.data import keyed

    seed = keyed.key(search.seed, "trial", number) & 0x7FFFFFFF
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if search.sampler == "qmc":  # one sequence of points: the storage remembers how far it has come
        return optuna.samplers.QMCSampler(seed=search.seed, scramble=True)
    startup = min(10, max(2, search.trials // 3))  # before there is something to go by
    if search.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)


def _pruner(search: Search) -> optuna.pruners.BasePruner:
    import optuna

    if search.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner()
    if search.pruner == "median":
        # the first validation says too little; with few trials the wait for others to be compared with is shorter
        return optuna.pruners.MedianPruner(n_startup_trials=min(5, max(2, search.trials // 4)), n_warmup_steps=1)
    return optuna.pruners.NopPruner()


def _first_cause(fault: BaseException) -> str:
    """What sqlite said: Optuna and SQLAlchemy put longer texts around it."""
    while fault.__cause__ is not None:
        fault = fault.__cause__
    return str(fault).partition("\n")[0]
