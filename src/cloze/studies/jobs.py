"""The jobs of a study, and whether each can be: all are checked before the first is started."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloze.deciding import deciding
from cloze.errors import Refusal
from cloze.studies.study import Study
from cloze.studies.words import key_of, merged

if TYPE_CHECKING:
    from cloze.check import Checked

_CARRIED = ("hardware", "tracking", "cache_dir", "trusted")  # what an evaluation has from the run that it follows
_ARCHITECTURE = ("model", "size", "tokenizer", "init", "experiment", "trusted")
LONGEST = 60  # letters of an arm's name in a folder's


@dataclass(frozen=True)
class Job:
    """One run of a study. `words` are all of its words but for output_dir and resume, `folder` lies below the study's."""

    name: str
    arm: str
    seed: int
    folder: Path
    words: tuple[str, ...]
    evaluation: str | None = None
    after: str | None = None  # the job whose model it starts from
    devices: int = 1  # CPU processes that share the job's cores
    trains: bool = True  # else there is nothing to resume


@dataclass(frozen=True)
class Checking:
    """What was found out when the jobs were checked."""

    jobs: tuple[Job, ...]
    remarks: tuple[str, ...]  # sentences for the user
    accelerated: bool  # whether a job asks for more than the CPU
    threads: int | None  # what hardware.threads says, where it says a number


def jobs_of(study: Study) -> list[Job]:
    """All runs, seed by seed, each evaluation behind the run whose model it takes. Raises Refusal where two would share a folder."""
    from cloze.suites.glue import written

    slugs = _slugs(study.arms)
    found = []
    for seed in study.seeds:
        for arm in study.arms:
            name = f"{slugs[arm]}-{seed}"
            words = study.training_words(arm, seed)
            found.append(Job(name, arm, seed, Path("runs") / name, words))
            start = f"init={written(str(study.folder / 'runs' / name))}"
            for evaluation, its in study.after.items():
                carried = [word for word in words if key_of(word).split(".")[0] in _CARRIED]
                own = f"{name}-{re.sub(r'[^A-Za-z0-9_.]+', '-', evaluation)}"
                all_of_it = merged(carried, its, [start, f"seed={seed}"])
                found.append(Job(own, arm, seed, Path("runs") / own, all_of_it, evaluation, name))
    names = [job.name for job in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Refusal(f"two jobs would both be called {twice[0]}: give arms and evaluations names that are told apart")
    return found


def check_all(study: Study, jobs: Sequence[Job]) -> Checking:
    """Holds every arm and every evaluation against the signatures. Raises Refusal with all that cannot be."""
    from cloze.environment import prepare

    prepare()
    refused, lost = [], 0
    done: dict[tuple[str, str | None], Checked] = {}
    known: dict[tuple[str, ...], Checked] = {}  # arms of one architecture have the same evaluations
    for arm in study.arms:
        kinds = {job.evaluation: job for job in jobs if job.arm == arm and job.seed == study.seeds[0]}
        for evaluation, job in kinds.items():
            words = job.words if evaluation is None else _as_if_there(job, kinds[None])
            try:
                if words not in known:
                    known[words] = _checked(words)
                done[arm, evaluation] = known[words]
            except Refusal as fault:
                where = arm if evaluation is None else f"{arm}, {evaluation}"
                refused += [f"{where}: {line}" for line in str(fault).splitlines()]
                lost += len(study.seeds)
    if refused:
        raise Refusal(
            "\n".join([*dict.fromkeys(refused), f"{lost} of {len(jobs)} jobs cannot be; nothing was started"])
        )
    hardware = {key: checked.nodes["hardware"].build() for key, checked in done.items()}
    resolved = {key: hardware[key].resolve(checked.top.batch_size) for key, checked in done.items()}
    asked = [each.threads for each in hardware.values() if isinstance(each.threads, int)]
    settings = {arm: deciding(done[arm, None].settings, resolved[arm, None].precision) for arm in study.arms}
    complete = []
    for job in jobs:
        key = (job.arm, job.evaluation)
        machine = resolved[key]
        complete.append(
            replace(
                job,
                words=(*job.words, *_group(study, done[key])),
                devices=machine.devices if machine.accelerator == "cpu" else 1,
                trains=done[key].objective.trains,
            )
        )
    return Checking(
        tuple(complete),
        (*_alike(settings), *_counted(study, settings)),
        any(machine.accelerator != "cpu" for machine in resolved.values()),
        max(asked) if asked else None,
    )


def _checked(words: Sequence[str]) -> Checked:
    from cloze.check import check
    from cloze.compose import compose
    from cloze.run import initialised
    from cloze.starting import complete

    return check(initialised(compose(complete(words)[0]))[1])


def _as_if_there(job: Job, first: Job) -> tuple[str, ...]:
    """The words of an evaluation whose model has yet to be trained: its architecture is said in place of init=."""
    model = [word for word in first.words if key_of(word).split(".")[0] in _ARCHITECTURE]
    words = [word for word in job.words if key_of(word) != "init" and word != "finetune=scratch"]
    if not any(key_of(word) in ("model", "init", "experiment") for word in model):
        model = ["model=bert", *model]  # the default of a run
    return merged(model, words)


def _group(study: Study, checked: Checked) -> list[str]:
    """W&B puts the study's runs into one group, unless a group is said."""
    from cloze.suites.glue import written

    tracking = checked.settings["tracking"]
    if str(tracking.get("_target_", "")) != "cloze.tracking.wandb.Wandb" or tracking.get("group") is not None:
        return []
    return [f"tracking.group={written(study.folder.name)}"]


def _alike(settings: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Arms that come to the same run, whatever their words. `settings`: of each arm those that decide."""
    same: dict[str, list[str]] = {}
    for arm, its in settings.items():
        same.setdefault(json.dumps(its, sort_keys=True, default=str), []).append(arm)
    for arms in same.values():
        if len(arms) > 1:
            yield (
                f"{' and '.join(arms)} are the same run: no setting that decides what is learnt differs, so with the same seed "
                "they end in the same weights"
            )


def _counted(study: Study, settings: dict[str, dict[str, Any]]) -> Iterator[str]:
    """That a budget in FLOPs is not the same number of steps for all seeds."""
    if len(study.seeds) > 1 and any(its.get("budget.flops") is not None for its in settings.values()):
        yield (
            "budget.flops is turned into steps by what a batch of the run itself takes, and batches go by the seed: "
            "seeds of one arm may end a few steps apart"
        )


def _slugs(arms: Iterable[str]) -> dict[str, str]:
    """A name for folders: letters, digits, points. Those that come to the same have a digest of the arm behind it, so that no name goes by
    the order of the arms."""
    slugs = {arm: re.sub(r"[^\w.]+", "-", arm).strip("-.")[:LONGEST] or "arm" for arm in arms}
    lower = [slug.lower() for slug in slugs.values()]  # not every file system tells cases apart
    return {
        arm: slug if lower.count(slug.lower()) == 1 else f"{slug}~{hashlib.sha256(arm.encode()).hexdigest()[:8]}"
        for arm, slug in slugs.items()
    }
