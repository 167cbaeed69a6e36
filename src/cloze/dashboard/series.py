"""metrics.jsonl read as it grows: only what was appended since the last look, kept as columns of numbers."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from cloze.report.collect import Axis, Curve

_PROOF = 64  # bytes before the place that was read up to: if they have changed, the file was cut back and written on

Stamp = tuple[int, int, int]


def stamp(file: Path) -> Stamp | None:
    """What changes when a file does (which file, size, time); None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class Series:
    """The points of one run. `refresh` reads on; the rest answers from memory.

    A last line without its end is left for the next time; a line that is no JSON object is left out and counted in `broken`. When a
    resumed run cuts the file back, it is read from its beginning again.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._stamp: Stamp | None = None
        self._reset()

    def _reset(self) -> None:
        self.count = 0  # points read
        self.broken = 0
        self.last: dict[str, float] = {}
        self._offset = 0
        self._proof = b""
        self._rows: dict[str, array[int]] = {}
        self._values: dict[str, array[float]] = {}
        self._cache: dict[str, tuple[int, NDArray[np.int64], NDArray[np.float64]]] = {}

    def refresh(self) -> bool:
        """Reads what is new. Whether anything was. A file that is gone has no points."""
        now = stamp(self.file)
        if now == self._stamp:
            return False
        replaced = now is None or self._stamp is None or now[0] != self._stamp[0] or now[1] < self._offset
        self._stamp = now
        try:
            if now is None:
                raise FileNotFoundError
            with self.file.open("rb") as stream:
                stream.seek(max(0, self._offset - len(self._proof)))
                if not replaced and stream.read(len(self._proof)) != self._proof:
                    replaced = True
                if replaced:
                    self._reset()
                stream.seek(self._offset)
                new = stream.read()
        except OSError:
            had = self.count
            self._reset()
            return bool(had)
        whole = new[: new.rfind(b"\n") + 1]
        if whole:
            self._offset += len(whole)
            self._proof = (self._proof + whole)[-_PROOF:]
            self._take(whole.splitlines())
        return bool(whole) or replaced

    def _take(self, lines: Iterable[bytes]) -> None:
        last = dict(self.last)  # another one: what was told before is being read
        for line in lines:
            try:
                point = orjson.loads(line)
            except orjson.JSONDecodeError:
                self.broken += 1
                continue
            if not isinstance(point, dict):
                self.broken += 1
                continue
            for key, value in point.items():
                if type(value) is float or type(value) is int:
                    if key not in self._values:
                        self._values[key], self._rows[key] = array("d"), array("q")
                    self._values[key].append(value)
                    self._rows[key].append(self.count)
                    if "/" in key:
                        last[key] = float(value)
                else:
                    last.pop(key, None)  # null, a loss that is no number any more: there is no last figure
            self.count += 1
        self.last = last

    @property
    def metrics(self) -> list[str]:
        """The names that have been logged, `val/loss` and the like."""
        return [key for key in self._values if "/" in key]

    def latest(self, key: str) -> float | None:
        """The last value of a column, `step` and the like included."""
        values = self._values.get(key)
        return values[-1] if values else None

    def curve(self, metric: str, axis: Axis, facts: Mapping[str, Any]) -> Curve:
        """As `Run.curve`: the points that have the metric and the axis. FLOPs are tokens times `flops_per_token` of run.json."""
        rate = facts.get("flops_per_token")
        if metric not in self._values or (axis == "flops" and not isinstance(rate, int | float)):
            return _EMPTY
        rows, y = self._column(metric)
        at, x = self._column("tokens" if axis == "flops" else axis)
        if not np.array_equal(at, rows):
            places = np.searchsorted(at, rows)
            both = places < len(at)
            both[both] = at[places[both]] == rows[both]
            x, y = x[places[both]], y[both]
        return Curve(x * float(rate) if axis == "flops" and rate else x, y)

    def _column(self, key: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        if key not in self._values:
            return np.empty(0, np.int64), np.empty(0)
        size = len(self._values[key])
        kept = self._cache.get(key)
        if kept is None or kept[0] != size:
            kept = (size, np.array(self._rows[key], np.int64), np.array(self._values[key]))
            self._cache[key] = kept
        return kept[1], kept[2]


_EMPTY = Curve(np.empty(0), np.empty(0))


def tail(file: Path, size: int = 20_000) -> str:
    """The last lines of a text file, about `size` bytes; empty where there is none."""
    try:
        with file.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, end - size))
            text = stream.read()
    except OSError:
        return ""
    if end > size:
        text = text[text.find(b"\n") + 1 :]
    return text.decode("utf-8", errors="replace")
