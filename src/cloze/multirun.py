"""`-m`: every combination of comma-separated values. The whole grid is checked before its first job starts.

Jobs are handed to a Hydra launcher. The default one (hydra_plugins/cloze_launcher) runs each in a process of its own: its own
seeds, memory, process group and tracker; a job that raises, exits or is killed never ends the others.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from cloze.compose import compose, conf_directory, grid
from cloze.errors import Refusal, did_you_mean


@dataclass(frozen=True)
class Job:
    """One job of a grid and how it ended."""

    words: tuple[str, ...]
    folder: Path
    exit_code: int


finished: list[Job] = []  # filled by the launcher, read here when Hydra returns


def run_grid(words: Sequence[str]) -> int:
    """Runs the grid; 0 where every job did, 1 where any failed. Raises Refusal, naming the job, where one cannot be."""
    for word in words:
        if word.startswith(("output_dir=", "resume=")):
            raise Refusal(f"{word} has no effect on several runs; their folders lie in hydra.sweep.dir=FOLDER")
    jobs = grid(words)
    _check_all(jobs)
    import hydra

    finished.clear()
    sys.argv = [sys.argv[0], "-m", *words]
    hydra.main(config_path=str(conf_directory()), config_name="config", version_base="1.3")(_run_here)()
    if finished:
        _print_table()
    return 1 if any(job.exit_code for job in finished) else 0


def study(words: Sequence[str]) -> list[str]:
    """`sweeps=NAME …` spelt out: the study's own words, its grid, then the user's words, which win."""
    name = next(word.partition("=")[2] for word in words if word.startswith("sweeps="))
    folder = studies_directory()
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise Refusal(f"sweeps={name} is not there{did_you_mean(name, known)}")
    file = OmegaConf.to_container(OmegaConf.load(folder / f"{name}.yaml"))
    assert isinstance(file, dict)
    axes = [f"{key}={','.join(str(value) for value in values)}" for key, values in file["grid"].items()]
    own = [word for word in words if not word.startswith("sweeps=")]
    said = {word.partition("=")[0] for word in own}
    return [word for word in (*file["words"], *axes) if word.partition("=")[0] not in said] + own


def studies_directory() -> Path:
    """`sweeps/` of the checkout, or the copy that an installed package carries."""
    return conf_directory().parent / "sweeps"


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


def _print_table() -> None:
    import json

    from rich.console import Console
    from rich.table import Table

    table = Table(
        title="runs", caption="loss: of the language alone, in nats a predicted token; a pair loss is not in it"
    )
    for column in ("job", "status", "validation loss", "accuracy", "folder"):
        table.add_column(column, overflow="fold")
    for job in finished:
        record = job.folder / "run.json"
        facts = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
        metrics = facts.get("metrics", {})
        language = (v for k, v in metrics.items() if k.startswith("val/loss_") and k != "val/loss_pair")
        loss = next(language, metrics.get("val/loss"))
        right = metrics.get("val/accuracy", metrics.get("score/accuracy"))
        loss, accuracy = (f"{value:.4f}" if value is not None else "" for value in (loss, right))
        status = (
            str(facts.get("status", "failed"))
            if not job.exit_code
            else f"exit {job.exit_code}: {facts.get('reason') or 'see log.txt'}"
        )
        table.add_row(" ".join(job.words), status, loss, accuracy, str(job.folder))
    Console().print(table)
