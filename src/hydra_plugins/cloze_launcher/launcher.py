"""A Hydra launcher that runs every job of a multirun in its own process.

Hydra's own launcher runs all jobs inside one process: one job that exits or is killed takes the sweep with it, and under DDP the
child ranks replay the command line with `-m` and start the whole sweep again. Here a job is a plain `python -m cloze train …`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ProcessLauncher(Launcher):
    """One process a job, one after the other."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from cloze.multirun import Job, finished

        returned = []
        for number, overrides in enumerate(job_overrides, start=initial_job_idx):
            words = [word for word in overrides if not word.startswith("hydra")]
            folder = Path(str(self.config.hydra.sweep.dir)) / str(number)
            print(f"job {number + 1}: {' '.join(words)}", flush=True)
            command: list[Any] = [sys.executable, "-m", "cloze", "train", *words, f"output_dir={folder}"]
            exit_code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
            finished.append(Job(tuple(words), folder, exit_code))
            result = JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED)
            result.return_value = exit_code
            returned.append(result)
        return returned


SETTINGS = {"_target_": "hydra_plugins.cloze_launcher.launcher.ProcessLauncher"}
ConfigStore.instance().store(group="hydra/launcher", name="cloze", node=SETTINGS, provider="cloze")
