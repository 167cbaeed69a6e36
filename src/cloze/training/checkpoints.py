"""Checkpoints that survive kill -9, a full disk and a flipped bit, and the choice of the one to go on from.

A checkpoint is two files: `step-00000120.ckpt` (a Lightning checkpoint of plain types and tensors) and, written last, its manifest
`step-00000120.json` (size, SHA-256, step, format). Without a manifest that verifies, a checkpoint does not exist.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cloze.errors import Refusal, RunFailure

FORMAT = 1
_NAME = re.compile(r"step-(\d+)\.ckpt$")


@dataclass(frozen=True)
class Checkpointing:
    """When checkpoints are written and which are kept. `every` and `seconds` may both hold; the last step always has one.

    `best` names a metric of validation whose best value's checkpoint is kept beside the newest ones; None keeps none.
    """

    every: int | None = 500
    seconds: float | None = None
    keep: int = 2
    best: str | None = "val/loss"
    mode: Literal["min", "max"] = "min"

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise Refusal(f"checkpoint.every={self.every} must be at least 1 step, or null")
        if self.seconds is not None and not self.seconds > 0:
            raise Refusal(f"checkpoint.seconds={self.seconds} must be above 0, or null")
        if self.keep < 2:
            raise Refusal(
                f"checkpoint.keep={self.keep} must be at least 2: if the newest is damaged, the one before it is what is left"
            )


def save(checkpoint: Mapping[str, Any], path: Path) -> None:
    """`path` must end in .ckpt. Raises RunFailure where it cannot be written; an older checkpoint is never touched."""
    refuse_objects(checkpoint)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file, ThreadPoolExecutor(1) as beside:
            torch.save(checkpoint, file)
            file.flush()
            size = file.tell()
            digest = beside.submit(file_sha256, temporary)  # while the disk is busy
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)
        _write_manifest(path, checkpoint, size, digest.result())
    except (OSError, RuntimeError) as fault:  # torch turns a full disk into a RuntimeError
        temporary.unlink(missing_ok=True)
        step = checkpoint.get("global_step")
        raise RunFailure(f"{path.parent}: no checkpoint could be written at step {step}: {_cause(fault)}") from fault
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove(path: Path) -> None:
    """Takes a checkpoint away, its manifest first, so that half of one is never taken for a whole one."""
    path.with_suffix(".json").unlink(missing_ok=True)
    if path.is_dir() and not path.is_symlink():  # a damaged one
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"step-{step:08d}.ckpt"


def step_of(path: Path) -> int:
    """The optimizer step that a checkpoint's name says."""
    found = _NAME.search(path.name)
    return int(found.group(1)) if found else -1


def fault_of(path: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None where it verifies."""
    if not path.is_file():
        return "is missing" if not path.exists() else "is not a file"
    try:
        manifest = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        expected_size, expected_digest, form = manifest["bytes"], manifest["sha256"], manifest["format"]
    except (OSError, ValueError, KeyError, TypeError):
        return "has no whole manifest: it was not finished"
    if form != FORMAT:
        return f"has format {form}; this version reads {FORMAT}"
    size = path.stat().st_size
    if size != expected_size:
        return f"has {size:,} bytes; {expected_size:,} were written"
    if file_sha256(path) != expected_digest:
        return "has changed since it was written (its SHA-256 differs)"
    return None


def all_checkpoints(folder: Path) -> list[Path]:
    """Every checkpoint there seems to be, newest first, whether it verifies or not."""
    found = {folder / f"{path.stem}.ckpt" for path in folder.glob("step-*.*") if path.suffix in (".ckpt", ".json")}
    return sorted((path for path in found if step_of(path) >= 0), key=step_of, reverse=True)


def newest_valid(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that verifies, and a sentence for each newer one that does not.

    None where there never was one. Raises Refusal where there are some and none verifies: a run is not begun anew in silence.
    """
    faults: list[str] = []
    paths = all_checkpoints(folder)
    for path in paths:
        fault = fault_of(path)
        if fault is None:
            return path, faults
        faults.append(f"{path} {fault}")
    if len(paths) > 1 or any(path.with_suffix(".json").exists() for path in paths):
        raise Refusal(
            "\n".join([*faults, f"no checkpoint in {folder} can be used; a new run needs another output_dir"])
        )
    return None, faults


def sweep(folder: Path) -> None:
    """Removes what killed runs left half-written. Only under the folder's lock."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def retain(folder: Path, keep: int, best: int | None) -> None:
    """Removes all but the newest `keep` checkpoints and the best one."""
    for path in all_checkpoints(folder)[keep:]:
        if step_of(path) != best:
            remove(path)


def load(path: Path) -> dict[str, Any]:
    """A checkpoint's content on the CPU. Raises Refusal where it is not one of ours."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise Refusal(f"{path} is not there; expected a checkpoint") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as fault:
        raise Refusal(f"{path} is no checkpoint that can be read: {str(fault).splitlines()[0]}") from None
    if not isinstance(content, dict) or "cloze" not in content:
        raise Refusal(f"{path} is not a checkpoint of Cloze")
    return content


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_objects(content: Any, where: str = "checkpoint") -> None:
    """Raises TypeError, naming the place, where a checkpoint holds more than plain types and tensors: it could not be read back."""
    if content is None or isinstance(content, bool | int | float | str | bytes | Tensor):
        return
    if isinstance(content, Mapping):
        for key, value in content.items():
            refuse_objects(key, f"a key of {where}")
            refuse_objects(value, f"{where}[{key!r}]")
    elif isinstance(content, list | tuple | set):
        for number, value in enumerate(content):
            refuse_objects(value, f"{where}[{number}]")
    elif not isinstance(content, torch.Size | torch.dtype | torch.device):
        raise TypeError(f"{where} is a {type(content).__name__}: checkpoints hold plain types and tensors only")


def _write_manifest(path: Path, checkpoint: Mapping[str, Any], size: int, digest: str) -> None:
    """The mark of completeness."""
    content = {"format": FORMAT, "step": checkpoint.get("global_step"), "bytes": size, "sha256": digest}
    manifest = path.with_suffix(".json")
    temporary = manifest.with_name(f".{manifest.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(manifest)
    _sync_directory(path.parent)


def _sync_directory(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some network file systems cannot sync a directory
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _cause(fault: BaseException) -> str:
    """The words of the operating system, where a full disk or a limit is behind a fault."""
    seen: BaseException | None = fault
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        seen = seen.__context__
    return str(fault).splitlines()[0]
