"""Lightning's WandbLogger behind a guard: after its first failure it is silent, and training never waits for it for long."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytorch_lightning.loggers import WandbLogger

from cloze.tracking.base import TrackedRun

if TYPE_CHECKING:
    from cloze.tracking.wandb import Wandb

T = TypeVar("T")
log = logging.getLogger("cloze")


class GuardedWandbLogger(WandbLogger):
    """A W&B run in `<run folder>/wandb`."""

    def __init__(self, run: TrackedRun, settings: Wandb, online: bool) -> None:
        self._settings, self._run_facts, self._failed = settings, run, False
        self._lent: list[str] = []  # environment variables that are ours until the end
        import wandb

        quiet = wandb.Settings(
            silent=True, console="off", disable_git=True, disable_code=True, init_timeout=settings.timeout,
            login_timeout=settings.timeout, finish_timeout=3 * settings.timeout, finish_timeout_raises=False,
            x_disable_stats=not online, x_disable_meta=True,
            x_save_requirements=False,
        )  # fmt: skip
        super().__init__(
            name=run.folder.name, save_dir=str(run.folder), project=settings.project, entity=settings.entity,
            group=settings.group or run.group, job_type=run.kind, tags=[*run.tags, *(settings.tags or [])],
            config=dict(run.config), settings=quiet, mode="online" if online else "offline",
        )  # fmt: skip

        del self._wandb_init["anonymous"]  # W&B warns of it, even where it is None

    @property
    def experiment(self) -> Any:
        """The W&B run; where it cannot be had, an object that takes everything and does nothing."""
        if self._experiment is None and not self._failed:
            self._keep_files_below(str(self._run_facts.folder / "wandb" / "cache"))
            self._guard("begin", self._begin)
        return _Nothing() if self._failed or self._experiment is None else self._experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Sends one point."""
        if not self._failed:
            self._guard("take a point", lambda: WandbLogger.log_metrics(self, metrics, step), waiting=False)

    def log_samples(self, columns: Sequence[str], rows: Sequence[Sequence[str]], step: int) -> None:
        """Sends decoded samples as a table."""
        self.log_rows("samples", columns, rows, step)

    def log_rows(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[str]], step: int) -> None:
        """Sends a table of texts."""
        if not self._failed:
            table = [list(row) for row in rows]
            self._guard(f"take {key}", lambda: self.log_table(key, list(columns), table, step=step), waiting=False)

    def finalize(self, status: str) -> None:
        """Ends the W&B run, so that another can begin in this process."""
        if self._experiment is not None and not self._failed:
            code = 0 if status == "success" else 1
            experiment: Any = self._experiment
            self._guard("finish", lambda: experiment.finish(exit_code=code))
            self._experiment, self._failed = None, True
        for name in self._lent:
            os.environ.pop(name, None)
        self._lent = []

    def _begin(self) -> None:
        self._wandb_init["id"] = _identifier(self._run_facts.folder / "wandb" / "id.txt")
        WandbLogger.experiment.fget(self)  # type: ignore[attr-defined]

    def _keep_files_below(self, folder: str) -> None:
        """W&B's caches go below the run folder too, until the run ends, where the user has not said otherwise."""
        names = ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR")
        self._lent = [name for name in names if name not in os.environ]
        os.environ.update(dict.fromkeys(self._lent, folder))

    def _guard(self, what: str, call: Callable[[], T], waiting: bool = True) -> T | None:
        try:
            return _within(3 * self._settings.timeout, call) if waiting else call()
        except Exception as fault:
            self._failed = True
            first = (str(fault).splitlines() or [type(fault).__name__])[0]
            log.warning(f"W&B could not {what} and is left out from here on ({first}); metrics.jsonl has every point")
            return None


def _identifier(file: Path) -> str:
    """The W&B run's name for its server, drawn once for a folder: a resumed run goes on in the same place, and one that is trained anew,
    here or at the same path of another machine, does not write into it."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(secrets.token_hex(8), encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()


class _Nothing:
    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: None


def _within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns. Raises what it raises, and TimeoutError where it takes longer; it is then left behind."""
    results: list[T] = []
    faults: list[BaseException] = []

    def attempt() -> None:
        try:
            results.append(call())
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=attempt, daemon=True, name="tracking")
    thread.start()
    thread.join(seconds)
    if faults:
        raise faults[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return results[0]
