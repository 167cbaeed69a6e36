"""A study: a question, arms, seeds, and what they are judged by. From sweeps/NAME.yaml, or from words with several values and `-m`.

    python train.py sweeps=mask_ratio                          sweeps/mask_ratio.yaml
    python train.py sweeps=mine/depth.yaml sweeps.parallel=2   a file of one's own, two jobs at a time
    python train.py -m seed=1,2,3 objective=mlm,mlm_sop        two arms of three seeds

docs/sweeps.md says what a file holds. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cloze.compose import parse
from cloze.errors import Refusal, did_you_mean
from cloze.report.comparison import Metric
from cloze.schema import fits, misfit
from cloze.studies.file import Budget, located, read
from cloze.studies.words import ONE_RUN, axes, decisive, grid, is_budget, key_of, merged, taken_by

SETTINGS: dict[str, Any] = {  # sweeps.NAME=…, and what each takes
    "parallel": int,  # jobs at a time
    "retries": int,  # how often a job that failed is tried again
    "seeds": list[int],  # in place of the file's
    "after": list[str],  # of the file's evaluations, those to run
    "trials": int,  # of a search
    "baseline": str,  # the arm that the others are held against
}
ROOT = Path("outputs/studies")


@dataclass(frozen=True)
class Study:
    """A study as it is to be run. `words` go into every job, `arms` are each arm's own, `after` the evaluations that follow a job."""

    name: str
    folder: Path
    words: tuple[str, ...]
    arms: Mapping[str, tuple[str, ...]]
    seeds: tuple[int, ...] = (1,)
    file: str | None = None
    question: str = ""
    paper: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, Any] = field(default_factory=dict)
    baseline: str | None = None
    metrics: tuple[Metric, ...] = ()
    budget: Budget | None = None
    after: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    minutes: float | None = None  # expected, on two cores
    parallel: int | None = None
    retries: int = 0
    search: Mapping[str, Any] | None = None  # what a search tries in place of arms (cloze.studies.space)
    trials: int | None = None  # how many of them, in place of the file's

    def training_words(self, arm: str, seed: int) -> tuple[str, ...]:
        """The words of an arm's run, but for its folder."""
        its = self.arms[arm]
        of_experiment = any(key_of(word) == "experiment" for word in (*self.words, *its))
        budget = [] if self.budget is None else self.budget.in_place_of_any if of_experiment else [self.budget.word]
        return merged(self.words, budget, its, [f"seed={seed}"])


def from_file(words: Sequence[str]) -> Study:
    """`sweeps=NAME …` understood: the file, and the user's words, which win. Raises Refusal, naming word, or file and key."""
    own, said = _divided(words)
    if "sweeps" not in own:
        raise Refusal(f"{next(iter(own.values()))} is about a study: say which one, sweeps=NAME")
    name = own["sweeps"].partition("=")[2].strip("'\"")
    path = located(name)
    file = read(path)
    several, plain = axes(said)
    of_file = file.axes()
    if (file.arms or file.search) and several.keys() - {"seed"}:
        key = next(key for key in several if key != "seed")
        what = "what is searched" if file.search else "the arms"
        values = ",".join(word.partition("=")[2] for word in several[key])
        raise Refusal(
            f"{key}={values}: {what} of {name} {'is' if file.search else 'are'} in its file, so a word has one value here"
        )
    of_file |= several | {key_of(word): [word] for word in plain if key_of(word) in of_file}
    seeds = _seeds(of_file.pop("seed", []), plain) or file.seeds or [1]
    kept = [word for word in plain if key_of(word) not in (*of_file, "seed")]
    arms = {arm: tuple(its) for arm, its in file.arms.items()} if file.arms else grid(of_file)
    for arm, its in arms.items():
        if both := [word for word in kept if taken_by(word, its)]:
            raise Refusal(f"{both[0]}: the arms of {name} differ in that ({arm}: {' '.join(its)})")
    baseline = file.baseline if file.baseline in arms else None  # a word may have left it out of the grid
    budget = file.budget
    if any(is_budget(key) for key in (*several, *map(key_of, plain))):
        budget = None  # what the user says holds in its place
    study = Study(
        name=path.stem, folder=ROOT / path.stem, words=merged(file.words, kept), arms=arms, seeds=tuple(seeds),
        file=str(path), question=file.question, paper=file.paper, published=file.published, baseline=baseline,
        metrics=file.metrics, budget=budget, after={each: tuple(its) for each, its in file.after.items()},
        minutes=file.minutes, parallel=file.parallel, search=file.search,
    )  # fmt: skip
    return _settled(study, own)


def from_words(words: Sequence[str]) -> Study:
    """`-m …`: an arm for every combination of values, each with every seed. The same words are the same folder. Raises Refusal."""
    own, said = _divided(words)
    several, plain = axes(said)
    seeds = _seeds(several.pop("seed", []), plain) or [1]
    kept = tuple(word for word in plain if key_of(word) != "seed")
    arms = grid(several)
    content = json.dumps([decisive(kept), sorted(arms.values())])
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    return _settled(Study("grid", ROOT / f"grid-{digest}", kept, arms, tuple(seeds)), own)


def _divided(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The words that are about the study, by their key, and those that are about its runs."""
    own: dict[str, str] = {}
    said = []
    for word in words:
        key = key_of(word)
        group, _, setting = key.partition(".")
        if group == "sweeps" and setting and setting not in SETTINGS:
            raise Refusal(f"{key} is not a setting{did_you_mean(key, [f'sweeps.{each}' for each in SETTINGS])}")
        if group == "hydra" or group.startswith("hydra/"):
            raise Refusal(f"{word} has no effect here: the study's folder is output_dir=FOLDER")
        if key in ONE_RUN:
            raise Refusal(f"{word} looks at one run: say it without sweeps= and -m")
        if key == "resume":
            if word.partition("=")[2] != "auto":
                raise Refusal(f"{word} has no effect on several runs: the same sentence again goes on where it stopped")
        elif group == "sweeps" or key == "output_dir":
            if key in own:
                raise Refusal(f"{word} beside {own[key]}: say one of the two")
            own[key] = word
        else:
            said.append(word)
    if "sweeps.seeds" in own and (seeds := [word for word in said if key_of(word) == "seed"]):
        raise Refusal(f"{own['sweeps.seeds']} beside {seeds[0]}: both say the seeds; say one of the two")
    return own, said


def _seeds(several: Sequence[str], plain: Sequence[str]) -> list[int]:
    """Those that words say; none where no word is about the seed."""
    words = several or [word for word in plain if key_of(word) == "seed"][-1:]
    said = [word.partition("=")[2] for word in words]
    if wrong := [seed for seed in said if not seed.isdigit() or int(seed) >= 2**63]:
        raise Refusal(f"seed={wrong[0]} must be a whole number from 0, below 2^63")
    return [int(seed) for seed in said]


def _settled(study: Study, own: Mapping[str, str]) -> Study:
    """The study with what `sweeps.…` and output_dir say. Raises Refusal for what cannot be."""
    said: dict[str, Any] = {}
    for key, word in own.items():
        name = key.partition(".")[2]
        if key == "output_dir":
            study = replace(study, folder=_folder(word))
        elif name == "baseline":  # arms of a grid have = and commas in their names, which Hydra would not read
            said[name] = word.partition("=")[2].strip("'\"")
        elif name:
            said[name] = _value(key, word)
    if "seeds" in said:
        said["seeds"] = tuple(said["seeds"])
    if "after" in said:
        if unknown := [each for each in said["after"] if each not in study.after]:
            raise Refusal(f"sweeps.after: {unknown[0]} is not there{did_you_mean(unknown[0], study.after)}")
        said["after"] = {each: its for each, its in study.after.items() if each in said["after"]}
        left_out = study.after.keys() - said["after"].keys()
        said["metrics"] = tuple(each for each in study.metrics if each.key.partition(":")[0] not in left_out)
    study = replace(study, **said)
    if not study.seeds or len(set(study.seeds)) < len(study.seeds) or min(study.seeds) < 0:
        raise Refusal(f"the seeds {list(study.seeds)} must be whole numbers from 0, each once")
    if study.trials is not None and study.search is None:
        raise Refusal(f"sweeps.trials={study.trials} has no effect: {study.name} has arms, and is no search")
    if study.baseline is not None and study.baseline not in study.arms:
        raise Refusal(f"the baseline {study.baseline} is not an arm{did_you_mean(study.baseline, study.arms)}")
    for name, least in (("parallel", 1), ("retries", 0)):
        if (value := getattr(study, name)) is not None and value < least:
            raise Refusal(f"sweeps.{name}={value} must be at least {least}")
    return study


def _folder(word: str) -> Path:
    override = parse([word])[0]
    value = None if override.is_sweep_override() else override.value()
    if not isinstance(value, str) or not value.strip():
        raise Refusal(
            f"{word} must be the name of one folder: output_dir=FOLDER, in quotes where it could be read otherwise"
        )
    return Path(value)


def _value(key: str, word: str) -> Any:
    override = parse([word])[0]
    value = list(override.sweep_iterator()) if override.is_sweep_override() else override.value()
    wanted = SETTINGS[key.partition(".")[2]]
    if wanted in (list[int], list[str]) and not isinstance(value, list):
        value = [value]
    if not fits(value, wanted):
        raise Refusal(misfit(key, value, wanted))
    return value
