"""sweeps/NAME.yaml: what a study's file may hold, and where the files lie. docs/sweeps.md is its description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from cloze.compose import conf_directory, parse
from cloze.errors import Refusal, did_you_mean
from cloze.report.comparison import Metric
from cloze.schema import faults
from cloze.studies.words import BARRED, BARRED_AFTER, grid, is_budget, key_of, spelt

OTHERS = ("wandb",)  # folders of sweeps/ whose files are of another make
Unit = Literal["steps", "tokens", "flops", "minutes"]


@dataclass(frozen=True)
class Budget:
    """What each run may use, the same for all arms."""

    unit: Unit
    amount: float

    @property
    def word(self) -> str:
        """As a word of a run."""
        return f"budget.{self.unit}={spelt(self.amount)}"

    @property
    def in_place_of_any(self) -> list[str]:
        """As words of a run whose experiment says a budget of its own."""
        units = ("steps", "tokens", "epochs", "flops", "minutes")
        return [self.word, *(f"budget.{unit}=null" for unit in units if unit != self.unit)]


@dataclass(frozen=True)
class Paper:
    """Whose question a study asks."""

    title: str = ""
    url: str = ""


@dataclass(frozen=True)
class Published:
    """A table that the paper prints: a row's name and its values, as many as there are columns."""

    rows: dict[str, list[str | float | None]] = field(default_factory=dict)
    columns: list[str | float] = field(default_factory=list)
    note: str = ""


class StudyFile:
    """A study's file: its keys are these parameters."""

    def __init__(
        self,
        words: list[str],
        arms: dict[str, list[str]] | None = None,
        grid: dict[str, list[Any]] | None = None,
        seeds: list[int] | None = None,
        question: str = "",
        paper: dict[str, Any] | None = None,
        published: dict[str, Any] | None = None,
        baseline: str | None = None,
        metrics: list[dict[str, Any]] | None = None,
        budget: dict[str, Any] | None = None,
        after: dict[str, list[str]] | None = None,
        minutes: float | None = None,
        parallel: int | None = None,
        search: dict[str, Any] | None = None,
    ) -> None:
        self.words, self.question, self.baseline = words, question, baseline
        self.arms, self.grid, self.seeds = arms or {}, grid or {}, seeds
        _refuse_malformed(paper, published)
        self.paper, self.published = paper or {}, published or {}
        self.after, self.minutes, self.parallel = after or {}, minutes, parallel
        self.metrics = tuple(_metric(each) for each in metrics or [])
        self.budget = None if budget is None else _budget(budget)
        self.search = search  # cloze.studies.space reads it

    def axes(self) -> dict[str, list[str]]:
        """The grid's words, by the setting that they are about."""
        return {key_of(key): [f"{key}={spelt(each)}" for each in values] for key, values in self.grid.items()}


def directory() -> Path:
    """`sweeps/` of the checkout, or the copy that an installed package carries."""
    return conf_directory().parent / "sweeps"


def shipped() -> dict[str, Path]:
    """The studies that are here, by name."""
    found = {path.relative_to(directory()).with_suffix("").as_posix(): path for path in directory().rglob("*.yaml")}
    return {name: path for name, path in sorted(found.items()) if name.split("/")[0] not in OTHERS}


def located(name: str) -> Path:
    """The file that `sweeps=NAME` means: one that is here, or one of the user's own. Raises Refusal where there is none."""
    known = shipped()
    if name in known:
        return known[name]
    if name.endswith((".yaml", ".yml")) and Path(name).is_file():
        return Path(name)
    raise Refusal(
        f"sweeps={name} is not there{did_you_mean(name, known)} A file of your own is sweeps=FOLDER/FILE.yaml."
    )


def read(path: Path) -> StudyFile:
    """A study's file. Raises Refusal, naming file and key, for what it must not hold."""
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as fault:
        raise Refusal(f"{path} cannot be read: {' '.join(str(fault).split())}") from None
    if not isinstance(content, dict):
        raise Refusal(f"{path} is not a study: it must hold words, and arms or a grid")
    try:
        node = _named(content)
    except Refusal as fault:
        raise Refusal(f"{path}: {fault}") from None
    if wrong := faults([StudyFile], node, str(path)):
        raise Refusal(
            "\n".join(fault.replace(f"{path}.", f"{path}: ").replace("StudyFile", "a study") for fault in wrong)
        )
    try:
        file = StudyFile(**node)
        _refuse(file)
    except Refusal as fault:
        raise Refusal(f"{path}: {fault}") from None
    return file


def _refuse(file: StudyFile) -> None:
    """Raises Refusal where the parts of a file do not go together."""
    if (bool(file.arms), bool(file.grid), file.search is not None).count(True) != 1:
        raise Refusal("a study has arms, {name: [words]}, a grid, {setting: [values]}, or a search: one of them")
    if empty := [key for key, values in file.grid.items() if not values]:
        raise Refusal(f"grid.{empty[0]} has no values")
    axes = file.axes()
    if len(axes) < len(file.grid):
        raise Refusal(f"grid: {', '.join(file.grid)}: one setting is there twice")
    if file.seeds == []:
        raise Refusal("seeds is empty: leave it out for the one seed 1, or name at least one")
    if file.seeds and "seed" in axes:
        raise Refusal(f"seeds: {file.seeds} beside grid.seed: both say the seeds; leave one of them out")
    arms = file.arms or grid({key: words for key, words in axes.items() if key != "seed"})
    if file.baseline is not None and file.baseline not in arms:
        raise Refusal(f"baseline: {file.baseline} is not an arm{did_you_mean(file.baseline, arms)}")
    for name, words in {"words": file.words, **arms}.items():
        if budget := [word for word in words if file.budget and is_budget(key_of(word))]:
            raise Refusal(
                f"{name}: {budget[0]} beside budget, which is {file.budget and file.budget.word} for all arms"
            )
    for name, words in {"words": file.words, **arms}.items():
        _refuse_words(name, words, BARRED)
    for name, words in file.after.items():
        _refuse_words(f"after.{name}", words, BARRED_AFTER)
    for name, value in (("parallel", file.parallel), ("minutes", file.minutes)):
        if value is not None and value <= 0:
            raise Refusal(f"{name}: {value} must be above 0")
    keys = [metric.key for metric in file.metrics]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise Refusal(f"metrics: {twice[0]} is there twice")
    for metric in file.metrics:
        of, part, _ = metric.key.partition(":")
        if part and of not in file.after:
            raise Refusal(
                f"metrics: {metric.key} is of an evaluation that after does not have{did_you_mean(of, file.after)}"
            )
    if file.budget and "budget" in file.after:
        raise Refusal("after: budget is not the name of an evaluation")


def _refuse_words(place: str, words: Sequence[str], barred: Mapping[str, str]) -> None:
    for word in words:
        if why := barred.get(key_of(word)):
            raise Refusal(f"{place}: {word} is not for the words of a run: {why}")
    for word, override in zip(words, parse(words), strict=True):
        if override.is_sweep_override():
            raise Refusal(
                f"{place}: {word} names several values, which a file has in its grid; put quotes around one value with commas"
            )


def _refuse_malformed(paper: dict[str, Any] | None, published: dict[str, Any] | None) -> None:
    """Raises Refusal where what is printed beside a table could not be."""
    for kind, node, name in ((Paper, paper, "paper"), (Published, published, "published")):
        if node and (wrong := faults([kind], node, name)):
            raise Refusal("; ".join(wrong))


def _metric(node: Mapping[str, Any]) -> Metric:
    keys = ("key", "title", "higher_is_better", "unit")
    if wrong := faults([Metric], {"title": str(node.get("key")), **node}, "metrics"):
        unknown = [key for key in node if key not in keys]
        raise Refusal(f"metrics.{unknown[0]} is not a setting{did_you_mean(unknown[0], keys)}" if unknown else wrong[0])
    return Metric(**{"title": str(node["key"]), **node})


def _budget(node: Mapping[str, Any]) -> Budget:
    if wrong := faults([Budget], dict(node), "budget"):
        raise Refusal("; ".join(wrong))
    if not node["amount"] > 0:
        raise Refusal(f"budget.amount={node['amount']} must be above 0")
    return Budget(**node)


def _named(value: Any) -> Any:
    """Keys as text: YAML reads 0.5 or true as what they are. Raises Refusal where two are the same then."""
    if not isinstance(value, dict):
        return value
    names = [str(key) for key in value]
    if twice := [name for name in names if names.count(name) > 1]:
        raise Refusal(f"{twice[0]} is there twice, as a text and as a value")
    return {name: _named(each) for name, each in zip(names, value.values(), strict=True)}
