"""`-m` with a Hydra launcher by name (`hydra/launcher=joblib`): the grid is handed to that launcher, job by job.

Without one, `-m` is a study like any other (cloze.studies): jobs in processes of ours, with a record, a table and a resume. A launcher's
worker only starts such a process too, so that no job shares seeds, memory or its end with another.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

from cloze.compose import compose, conf_directory, grid, parse
from cloze.errors import Refusal, did_you_mean
from cloze.folder import RunFolder

# Hydra's plugins by the launchers that they bring, and the extra that installs each
EXTRAS = {"joblib": "joblib", "submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray", "ray_aws": "ray"}


def names_a_launcher(words: Sequence[str]) -> bool:
    """Whether the words choose a launcher of Hydra's."""
    return any(_key(word) == "hydra/launcher" for word in words)


def run_grid(words: Sequence[str]) -> int:
    """Hands the grid to the launcher; 0 where every job is done, 1 where any is not.

    The same sentence with the same hydra.sweep.dir goes on: what is done stays. Raises Refusal where the launcher is not installed, and,
    naming the job, where one cannot be.
    """
    for word in words:
        if word.startswith(("output_dir=", "resume=")):
            raise Refusal(f"{word} has no effect with a launcher of Hydra's; its folders lie in hydra.sweep.dir=FOLDER")
        if word.startswith("sweeps"):
            raise Refusal(f"{word} is run by processes of ours; a launcher of Hydra's takes -m and several values")
    jobs = grid(words)
    _refuse_missing(words)
    _check_all(jobs)
    import hydra

    folder, words = _with_folder(words)
    sys.argv = [sys.argv[0], "-m", *words]
    for number in range(len(jobs)):
        _ended(folder, number).unlink(missing_ok=True)
    hydra.main(config_path=str(conf_directory()), config_name="config", version_base="1.3")(_run_here)()
    failed = 0
    for number, job in enumerate(jobs):
        if reason := _reason(folder, number):
            failed += 1
            print(f"job {number} ({' '.join(job)}): {reason}")
    print(f"{len(jobs) - failed} of {len(jobs)} jobs done: cloze compare {folder}")
    return 1 if failed else 0


def _reason(folder: Path, number: int) -> str:
    """Why a job is not done; empty where it is. A run that lies in its folder may be another one's, by which the job was refused: so the
    job's own end decides, too."""
    run = RunFolder(folder / str(number))
    facts = run.facts()
    try:
        exit_code, _, error = _ended(folder, number).read_text(encoding="utf-8").partition(" ")
    except OSError:  # the launcher, or its machine, ended before the job did
        return f"it has not ended, see {run.path}"
    if exit_code == "0" and facts.get("status") == "done":
        return ""
    return error or str(facts.get("reason") or f"ended with exit code {exit_code}, see {run.path}")


def _ended(folder: Path, number: int | str) -> Path:
    """Where a job's worker leaves its exit code and what it said last: launchers do not all hand on what a job returns. Beside the run's
    folder, which a run takes only if it is empty."""
    return folder / f"{number}.ended"


def _with_folder(words: Sequence[str]) -> tuple[Path, list[str]]:
    """The folder that the jobs' folders lie in, and the words with it."""
    for word in words:
        if _key(word) == "hydra.sweep.dir":
            return Path(str(parse([word])[0].value())), list(words)
    now = datetime.datetime.now()
    folder = Path(f"outputs/{now:%Y-%m-%d}/{now:%H-%M-%S}-sweep")
    return folder, [*words, f"hydra.sweep.dir={folder}"]


def _refuse_missing(words: Sequence[str]) -> None:
    """Raises Refusal where Hydra does not have the launcher, with what would install it."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    name = next(word.partition("=")[2] for word in words if _key(word) == "hydra/launcher")
    Plugins.instance()  # finds what is installed, and that tells the store
    there = [each.removesuffix(".yaml") for each in ConfigStore.instance().list("hydra/launcher")]
    if name in there:
        return
    if name in EXTRAS:
        raise Refusal(f"hydra/launcher={name} is not installed: pip install 'cloze[{EXTRAS[name]}]'")
    raise Refusal(f"hydra/launcher={name} is not there{did_you_mean(name, {*there, *EXTRAS} - {'basic'})}")


def _check_all(jobs: Sequence[Sequence[str]]) -> None:
    from cloze.environment import prepare

    prepare()
    from cloze.check import check
    from cloze.run import initialised
    from cloze.starting import complete

    refused = []
    for job in jobs:
        try:
            check(initialised(compose(complete(job)[0]))[1])
        except Refusal as fault:
            refused.append(f"{' '.join(job)}: {fault}")
    if refused:
        raise Refusal("\n".join([*refused, f"{len(refused)} of {len(jobs)} jobs cannot be; nothing was started"]))


def _run_here(config: object) -> None:
    """What a launcher (joblib, submitit) runs in its own worker: a process of the job's own, from its checkpoint where it has one."""
    from hydra.core.hydra_config import HydraConfig

    from cloze.suites import process
    from cloze.suites.glue import written

    hydra = HydraConfig.get()
    words = [str(word) for word in hydra.overrides.task]
    folder = Path(hydra.sweep.dir) / str(hydra.sweep.subdir)
    log = folder / f"{hydra.job.name}.log"  # Hydra has opened it for what nobody says: a run takes an empty folder only
    if log.is_file() and not log.stat().st_size:
        log.unlink()
    ended = process.train([*words, f"output_dir={written(str(folder))}", "resume=auto"])
    _ended(folder.parent, folder.name).write_text(f"{ended.exit_code} {ended.error}", encoding="utf-8")


def _key(word: str) -> str:
    return word.lstrip("+").partition("=")[0]
