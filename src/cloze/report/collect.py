"""Runs on disk, read and never written: what the report, `cloze compare` and the dashboard know of a run (docs/run-folder.md).

A run that is being written now can be read at any moment: run.json is replaced whole, metrics.jsonl grows by whole lines.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args

import numpy as np
import yaml
from numpy.typing import NDArray

from cloze.errors import Refusal
from cloze.folder import RunFolder
from cloze.schema import leaves

Axis = Literal["step", "tokens", "flops", "seconds"]
AXES: tuple[Axis, ...] = ("step", "tokens", "flops", "seconds")
Status = Literal[
    "running", "stopped", "done", "failed", "preempted"
]  # stopped: it says running and no process holds it


@dataclass(frozen=True)
class Curve:
    """One metric of one run over its points: `x` (n,) on the chosen axis, `y` (n,), in the order that they were logged."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """One run folder as it stood when it was read. `facts` is run.json."""

    folder: Path
    facts: Mapping[str, Any] = field(repr=False)
    evaluations: Mapping[str, Run] = field(default_factory=dict, repr=False)  # a study's, after training, by name

    @property
    def name(self) -> str:
        """What the run is called, in characters that can be shown; its folder's name tells runs of one name apart."""
        name = str(self.facts.get("name") or self.folder.name)
        return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in name)

    @property
    def seed(self) -> int | None:
        """The seed that decided it. A run that trains nothing has no identity; its settings say the seed."""
        seed = self.identity.get("seed", self.settings.get("seed") if not self.identity else None)
        return None if seed is None else int(seed)

    @cached_property
    def status(self) -> Status:
        """What run.json says, but for a run that was killed with no chance to say so: it is `stopped`, no process holds its folder."""
        said: Any = self.facts.get("status")
        if said == "running" and not (folder := RunFolder(self.folder)).is_held():
            # it may have ended since run.json was read
            now = folder.facts().get("status")
            said = "stopped" if now == "running" else now
        status: Status = said if said in get_args(Status) else "failed"
        return status

    @property
    def identity(self) -> Mapping[str, Any]:
        """Every setting that decides the weights, flat (`model.layers`), references resolved."""
        found: Mapping[str, Any] = self.facts.get("identity") or {}
        return found

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """config.yaml, flat, references resolved: also what does not decide the weights. Empty where it cannot be read."""
        try:
            tree: Any = yaml.load((self.folder / "config.yaml").read_text(encoding="utf-8"), Loader=_LOADER)  # type: ignore[no-untyped-call]
        except (OSError, ValueError, yaml.YAMLError):
            return {}
        flat = dict(leaves(tree)) if isinstance(tree, dict) else {}
        return {key: _resolved(value, flat) for key, value in flat.items()}

    @cached_property
    def figures(self) -> Mapping[str, float]:
        """The last value of every metric (`val/loss`, `judge/sop_head_accuracy`, …); scores of a task as `score/<split>/<metric>`; those
        of an evaluation with its name before them (`mnli:score/validation/accuracy`).

        Of a run that is not done, as far as metrics.jsonl goes. A value that is not a finite number is left out.
        """
        found: dict[str, Any] = {}
        if (
            self.facts.get("status") == "done"
        ):  # a run that goes on with a longer budget still has those of its first end
            found |= self.facts.get("metrics") or {}
        if not found:
            for point in self.points:
                found |= {key: value for key, value in point.items() if "/" in key}
        for split, scores in (self.facts.get("scores") or {}).items():
            if isinstance(scores, dict):
                found |= {f"score/{split}/{name}": value for name, value in scores.items()}
        for name, run in self.evaluations.items():
            found |= {f"{name}:{key}": value for key, value in run.figures.items()}
        return {key: float(value) for key, value in found.items() if is_number(value)}

    @cached_property
    def points(self) -> Sequence[Mapping[str, Any]]:
        """The lines of metrics.jsonl."""
        return tuple(RunFolder(self.folder).points())

    def unreadable_lines(self) -> int:
        """How many whole lines of metrics.jsonl are no points, so that `points` has them not."""
        try:
            with RunFolder(self.folder).metrics.open("rb") as file:
                return sum(line.endswith(b"\n") for line in file) - len(self.points)
        except OSError:
            return 0

    def curve(self, metric: str, axis: Axis = "step") -> Curve:
        """A metric's points. FLOPs are tokens times run.json's `flops_per_token`; empty where a run does not say it."""
        name, _, rest = metric.partition(":")
        if rest and name in self.evaluations:
            return self.evaluations[name].curve(rest, axis)
        rate: Any = self.facts.get("flops_per_token") if axis == "flops" else 1
        column = "tokens" if axis == "flops" else axis
        xs, ys = [], []
        for point in self.points if rate else ():
            x, y = point.get(column), point.get(metric)
            if is_number(x) and is_number(y):
                xs.append(x * rate)
                ys.append(y)
        return Curve(np.asarray(xs, np.float64), np.asarray(ys, np.float64))

    @property
    def reason(self) -> str:
        """One sentence where it did not end well."""
        return str(self.facts.get("reason") or "")


def read(folder: Path) -> Run:
    """The run in a folder. Raises Refusal where there is none."""
    facts = RunFolder(folder).facts()
    if not facts:
        raise Refusal(f"{folder} holds no run (no run.json)")
    return Run(folder, facts)


def find(*roots: Path) -> tuple[list[Run], list[Path]]:
    """All runs at or below some folders, in the order of their paths, and the folders whose run.json cannot be read. Raises Refusal for a
    folder that is not there."""
    found: dict[Path, Run] = {}
    unread = []
    for root in roots:
        if not root.is_dir():
            raise Refusal(f"{root} is not a folder")
        for file in sorted(root.rglob("run.json")):
            folder = file.parent
            if (whole := folder.resolve()) in found or folder in unread:
                continue
            if facts := RunFolder(folder).facts():
                found[whole] = Run(folder, facts)
            else:
                unread.append(folder)
    return list(found.values()), unread


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a figure is one: finite, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def _resolved(value: Any, flat: Mapping[str, Any], depth: int = 5) -> Any:
    """A value that only names another setting, looked up; every other one as it stands."""
    if depth and isinstance(value, str) and (match := _REFERENCE.fullmatch(value)) and match[1] in flat:
        return _resolved(flat[match[1]], flat, depth - 1)
    return value
