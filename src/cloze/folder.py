"""The run folder: what a run leaves behind, a contract for people and tools. docs/run-folder.md is its description.

One process writes a folder at a time (a lock says so); the other ranks of a distributed run join it and write nothing.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from cloze.environment import PROCESS_VARIABLE
from cloze.errors import Refusal, RunFailure

FORMAT = 1  # of run.json and metrics.jsonl
Status = Literal["running", "done", "failed", "preempted"]

FOLDER_VARIABLE = (
    "CLOZE_RUN_FOLDER"  # the folder that rank 0 made: Lightning's launcher replays the command line in every rank
)
RESUME_VARIABLE = "CLOZE_RUN_RESUMED"

_held: set[Path] = set()  # a lock of the operating system does not stop a second run within the same process


def is_follower() -> bool:
    """Whether this process is a rank other than 0 of a distributed run: it joins the folder, prints nothing and records nothing."""
    return any(int(os.environ.get(name, "0") or 0) > 0 for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))


@dataclass
class RunFolder:
    """One run on disk. Make it with `RunFolder.take`; use it as a context manager, which holds the lock.

    `resumed` says that a run had begun here and is to go on. `follower` is True in the ranks that only join.
    """

    path: Path
    resumed: bool = False
    follower: bool = False
    _lock: IO[str] | None = field(default=None, repr=False)

    # --- taking a folder -------------------------------------------------------------------------------------------------

    @classmethod
    def take(
        cls, output_dir: str | Path | None, resume: str | None, name: str, root: str | Path = "outputs"
    ) -> RunFolder:
        """The folder that `output_dir` and `resume` ask for, made where it is not there yet.

        Neither given: outputs/<date>/<time>-<name>, made exclusively, so that two runs that start in the same second get two.
        resume=auto: output_dir's run if it has begun, else a new one there. resume=RUN: the run in that folder.
        Raises Refusal where the folder cannot be used: a file, not writable, holding a run that was not to be resumed.
        """
        if is_follower():
            joined = os.environ.get(FOLDER_VARIABLE) or output_dir or (resume if resume != "auto" else None)
            if joined is None:
                raise Refusal(
                    "output_dir is missing: ranks that SLURM or torchrun starts must all be told the run's folder"
                )
            path = Path(joined).absolute()
            if FOLDER_VARIABLE in os.environ:
                return cls(path, os.environ.get(RESUME_VARIABLE) == "1", follower=True)
            # Nobody told this rank. If rank 0 has begun the run by now, there is no checkpoint yet: it comes to the same
            return cls(path, resume is not None and (resume != "auto" or _has_run(path)), follower=True)
        if resume == "auto":
            if output_dir is None:
                raise Refusal("resume=auto goes on with the run in output_dir: say which one, output_dir=FOLDER")
            path = Path(output_dir).absolute()
            return cls(path, resumed=True) if _has_run(path) else cls._made(path)
        if resume is not None:
            path = Path(resume).absolute()
            if output_dir is not None and Path(output_dir).absolute() != path:
                raise Refusal(f"resume={resume} goes on in its own folder; leave output_dir={output_dir} out")
            if not path.is_dir():
                raise Refusal(f"resume={resume}: there is no such folder; expected the folder of a run, or auto")
            if not _has_run(path):
                raise Refusal(f"resume={resume} holds no run (no run.json)")
            return cls(path, resumed=True)
        if output_dir is not None:
            path = Path(output_dir).absolute()
            if _has_run(path):
                raise Refusal(
                    f"output_dir={output_dir} already holds a run ({cls(path).facts().get('status', 'no status')}); "
                    "resume=auto goes on with it, another output_dir begins a new one"
                )
            return cls._made(path)
        now = datetime.datetime.now()
        parent = Path(root).absolute() / f"{now:%Y-%m-%d}"
        _make(parent, exclusive=False)
        for suffix in ("", *(f"-{n}" for n in range(2, 10_000))):
            with contextlib.suppress(FileExistsError):
                path = parent / f"{now:%H-%M-%S}-{name}{suffix}"
                _make(path, exclusive=True)
                return cls(path)
        raise Refusal(f"{parent} is full of runs that began at {now:%H:%M:%S}")

    @classmethod
    def _made(cls, path: Path) -> RunFolder:
        if path.exists() and not path.is_dir():
            raise Refusal(f"output_dir={path} is a file; expected a folder")
        if path.is_dir() and not _is_fresh(path):
            raise Refusal(f"output_dir={path} is not empty and holds no run; choose another folder")
        _make(path, exclusive=False)
        return cls(path)

    def discard_if_fresh(self) -> None:
        """Gives the folder back, and takes it away again where nothing lies in it but what a run's beginning writes."""
        if self.follower or self.resumed or not self.path.is_dir():
            return
        with contextlib.suppress(Refusal):  # another run has taken it in the meantime: then it is that one's
            self.lock()
            if _is_fresh(self.path):
                shutil.rmtree(self.path)
        self.unlock()

    def __enter__(self) -> RunFolder:
        self.lock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unlock()

    def lock(self) -> None:
        """Takes the folder for this process. Raises Refusal where another run holds it. Dies with the process, so is never stale."""
        if self.follower or self._lock is not None:
            return
        if self.path in _held:
            raise Refusal(f"{self.path} is in use by another run of this process")
        try:
            # A record lock: forked data workers that outlive a killed run do not inherit it, as they would an flock
            file = (self.path / ".lock").open("a+", encoding="utf-8")
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                raise Refusal(
                    f"{self.path} is in use by {self.holder}; wait for it or choose another output_dir"
                ) from None
        except OSError as fault:
            raise Refusal(f"output_dir={self.path} cannot be written: {fault.strerror}") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self._lock = file
        _held.add(self.path)
        os.environ[FOLDER_VARIABLE], os.environ[RESUME_VARIABLE] = str(self.path), "1" if self.resumed else "0"
        os.environ[PROCESS_VARIABLE] = str(os.getpid())

    def is_held(self) -> bool:
        """Whether a process holds the lock now. It is asked for and not taken, so that a run that begins meanwhile is never refused."""
        if any(self.path.resolve() == each.resolve() for each in _held):
            return True  # and the file stays closed: closing it would give this process's own lock away
        darwin = sys.platform == "darwin"
        asked = (0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET) if darwin else (fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        layout = "qqihh" if darwin else "hhqqi"  # C's struct flock: the whole file, asked for by nobody
        try:
            with (self.path / ".lock").open("rb") as file:
                answer = struct.unpack(layout, fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(layout, *asked)))
        except OSError:
            return False
        return bool(answer[3 if darwin else 0] != fcntl.F_UNLCK)

    @property
    def holder(self) -> str:
        """Who holds the lock, where it is another process that does."""
        try:
            return (self.path / ".lock").read_text(encoding="utf-8").strip() or "another process"
        except OSError:
            return "another process"

    def unlock(self) -> None:
        """Gives the folder back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
            _held.discard(self.path)
            os.environ.pop(FOLDER_VARIABLE, None)
            os.environ.pop(RESUME_VARIABLE, None)
            os.environ.pop(PROCESS_VARIABLE, None)

    # --- what lies in it -------------------------------------------------------------------------------------------------

    @property
    def config(self) -> Path:
        """config.yaml: the composed run."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """checkpoints/: what resume= reads."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """model/: what init= reads."""
        return self.path / "model"

    @property
    def metrics(self) -> Path:
        """metrics.jsonl: one line a logged point."""
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """samples.txt: what the model makes of a few examples, at every validation."""
        return self.path / "samples.txt"

    @property
    def log(self) -> Path:
        """log.txt: what the terminal showed, and the tracebacks that it did not."""
        return self.path / "log.txt"

    def facts(self) -> dict[str, Any]:
        """run.json as it stands; empty before it is written."""
        try:
            content = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def record(self, status: Status | None = None, **facts: Any) -> dict[str, Any]:
        """Adds facts to run.json (whole file, replaced in one step) and returns it all. Followers record nothing."""
        content = {"format": FORMAT, **self.facts(), **({"status": status} if status else {}), **facts}
        if not self.follower:
            from cloze.models.storage import write_json

            with _told_of_disk(self.path):
                write_json(self.path / "run.json", content)
        return content

    def write(self, name: str, text: str) -> None:
        """A text file of the folder, replaced in one step."""
        if not self.follower:
            from cloze.models.storage import write_atomically

            with _told_of_disk(self.path):
                write_atomically(self.path / name, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def append(self, name: str, text: str, sync: bool = False) -> None:
        """Adds to a text file of the folder; the operating system has it when this returns, so that no kill can lose it."""
        if self.follower:
            return
        with _told_of_disk(self.path), (self.path / name).open("ab") as file:
            file.write(text.encode())
            file.flush()
            if sync:
                os.fsync(file.fileno())

    def note(self, line: str) -> None:
        """A line of log.txt with the time before it. Never raises: a full disk is told of by what matters."""
        now = datetime.datetime.now().isoformat(timespec="seconds")
        with contextlib.suppress(RunFailure):
            self.append("log.txt", "".join(f"{now} {each}\n" for each in line.splitlines() or [""]))

    def positions(self) -> dict[str, int]:
        """How far the growing files have come (bytes): what a checkpoint remembers."""
        return {file.name: file.stat().st_size if file.exists() else 0 for file in (self.metrics, self.samples)}

    def rewind(self, positions: dict[str, int]) -> None:
        """Cuts the growing files back to where a checkpoint saw them: what came later will come again, and stands there once."""
        if self.follower:
            return
        for file in (self.metrics, self.samples):
            length = positions.get(file.name, 0)
            if file.exists() and file.stat().st_size > length:
                os.truncate(file, length)

    def points(self) -> Iterator[dict[str, Any]]:
        """The lines of metrics.jsonl. A last line that a kill cut in half, and any that is no JSON object, is left out."""
        if self.metrics.exists():
            with self.metrics.open("rb") as file:
                for line in file:
                    with contextlib.suppress(ValueError):
                        if line.endswith(b"\n") and isinstance(point := json.loads(line), dict):
                            yield point

    def probe(self, size: int) -> None:
        """Before the first step: can a checkpoint of `size` bytes be written here, and the next one beside it? Refusal if not."""
        if self.follower:
            return
        try:
            self.checkpoints.mkdir(exist_ok=True)
            file = self.checkpoints / ".probe.tmp"
            try:
                with file.open("wb") as stream:
                    _reserve(stream.fileno(), size)
            finally:
                file.unlink(missing_ok=True)
        except OSError as fault:
            raise Refusal(
                f"output_dir={self.path} cannot take a checkpoint of {_megabytes(size)}: {fault.strerror}"
            ) from None
        free, needed = shutil.disk_usage(self.checkpoints).free, int(2.2 * size)
        if free < needed:
            raise Refusal(
                f"output_dir={self.path} has {_megabytes(free)} free; two checkpoints of this run need {_megabytes(needed)}"
            )


def provenance() -> dict[str, Any]:
    """Where a run comes from: the code's git state, versions, the machine. For run.json."""
    packages = ("torch", "pytorch-lightning", "torchmetrics", "transformers", "tokenizers", "numpy", "hydra-core")
    versions = {"cloze": _version("cloze"), "python": platform.python_version()}
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "directory": str(Path.cwd()),  # which relative paths among the words are relative to
        "git": _git(),
        "versions": versions | {name: _version(name) for name in packages},
        "machine": {
            "host": socket.gethostname(),
            "system": platform.platform(),
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        },
    }


def _has_run(path: Path) -> bool:
    return (path / "run.json").exists()


def _is_fresh(path: Path) -> bool:
    """Whether a folder is empty, or holds only what a run that was killed before its run.json left (its lock came first)."""
    children = {child.name: child for child in path.iterdir()}
    if not children:
        return True
    began = children.pop(".lock", None) is not None
    saved = children.pop("checkpoints", None)
    if saved is not None and not (saved.is_dir() and all(_is_temporary(child.name) for child in saved.iterdir())):
        return False
    return began and all(name in ("log.txt", "config.yaml") or _is_temporary(name) for name in children)


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def _make(path: Path, exclusive: bool) -> None:
    try:
        path.mkdir(parents=True, exist_ok=not exclusive)
    except FileExistsError:
        raise
    except OSError as fault:
        raise Refusal(f"{path} cannot be made: {fault.strerror}") from None


@contextlib.contextmanager
def _told_of_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise RunFailure(f"{path} could not be written: {fault.strerror}") from fault


def _reserve(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate") and size:
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git() -> dict[str, Any] | None:
    """Commit and whether files differ from it, of the checkout that this code runs from; None where it is no checkout."""
    here = Path(__file__).parent

    def ask(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        if Path(ask("rev-parse", "--show-toplevel")) not in (here.parents[1], here.parents[0]):
            return None  # installed below some other project's checkout
        return {"commit": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return None
