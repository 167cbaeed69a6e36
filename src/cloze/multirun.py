"""`-m` with a Hydra launcher by name (`hydra/launcher=joblib`): the grid is handed to that launcher, job by job.

Without one, `-m` is a study like any other (cloze.studies): jobs in processes of ours, with a record, a table and a resume.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from cloze.compose import compose, conf_directory, grid
from cloze.errors import Refusal


def names_a_launcher(words: Sequence[str]) -> bool:
    """Whether the words choose a launcher of Hydra's."""
    return any(word.lstrip("+").startswith("hydra/launcher=") for word in words)


def run_grid(words: Sequence[str]) -> int:
    """Hands the grid to the launcher and returns its verdict: 0. Raises Refusal, naming the job, where one cannot be."""
    for word in words:
        if word.startswith(("output_dir=", "resume=")):
            raise Refusal(f"{word} has no effect with a launcher of Hydra's; its folders lie in hydra.sweep.dir=FOLDER")
    _check_all(grid(words))
    import hydra

    sys.argv = [sys.argv[0], "-m", *words]
    hydra.main(config_path=str(conf_directory()), config_name="config", version_base="1.3")(_run_here)()
    return 0


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


def _run_here(config: object) -> int:
    """What a launcher of another name (joblib, submitit, ray) runs in its own worker."""
    from hydra.core.hydra_config import HydraConfig

    from cloze.environment import prepare

    prepare()
    from cloze.run import execute
    from cloze.starting import complete

    words = [str(word) for word in HydraConfig.get().overrides.task]
    folder = Path(HydraConfig.get().sweep.dir) / str(HydraConfig.get().sweep.subdir)
    return execute(compose(complete([*words, f"output_dir={folder}"])[0]))
