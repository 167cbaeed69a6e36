"""What is being looked at, as the page's address says it: a reload, a bookmark and the back button keep it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from cloze.report.collect import AXES, Axis


@dataclass(frozen=True)
class State:
    """The settings of the page. `columns` and `metrics` are None where the address says nothing: then they are chosen from the runs."""

    filter: str = ""
    group: str | None = None
    columns: Sequence[str] | None = None
    metrics: Sequence[str] | None = None
    axis: Axis = "step"
    smooth: float = 0.0
    log: Sequence[str] = ()
    select: Sequence[str] = ()
    run: str | None = None
    other: str | None = None


def from_query(query: str) -> State:
    """The state in the part of an address after `?`. What makes no sense there is passed over."""
    said = parse_qs(query, keep_blank_values=True)

    def one(key: str) -> str | None:
        return said[key][0] if said.get(key) else None

    def listed(key: str) -> list[str] | None:
        return [word for word in said[key][0].split(",") if word] if key in said else None

    axis = one("x")
    return State(
        filter=one("filter") or "",
        group=one("group"),
        columns=listed("columns"),
        metrics=listed("metrics"),
        axis=axis if axis in AXES else "step",
        smooth=_share(one("smooth")),
        log=tuple(word for word in listed("log") or () if word in ("x", "y")),
        select=tuple(said.get("select", ())),
        run=one("run"),
        other=one("other"),
    )


def _share(text: str | None) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return min(value, 0.99) if value > 0 else 0.0
