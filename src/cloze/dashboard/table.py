"""The list of runs as rows and columns of the grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from cloze.dashboard.index import Entry
from cloze.dashboard.query import value_of
from cloze.report.figures import short
from cloze.schema import as_word

NUMBER = {"function": "params.value == null ? '' : d3.format('.4~g')(params.value)"}
COUNT = {"function": "params.value == null ? '' : d3.format(',d')(params.value)"}
TIME = {"function": "params.value == null ? '' : Duration(params.value)"}  # assets/dashboard.js
DATE = {"function": "(params.value || '').slice(0, 16).replace('T', ' ')"}
FIRST = ("val/", "judge/", "score/")  # figures that are shown without being asked for
DIGESTS = {"data", "tokenizer"}  # in run.json's identity
NAMES_ONLY = {
    "output_dir",
    "name",
    "seed",
    "cache_dir",
    "resume",
    "wandb.group",
}  # settings that tell runs apart by name alone


def keys(entries: Iterable[Entry]) -> tuple[list[str], list[str]]:
    """All settings and all figures that some run has."""
    settings: Counter[str] = Counter()
    figures: Counter[str] = Counter()
    for entry in entries:
        settings.update(entry.settings.keys())
        figures.update(entry.figures.keys())
    return sorted(settings), ordered(figures)


def ordered(metrics: Iterable[str]) -> list[str]:
    """Validation's metrics first, then the objective's verdicts, then training's."""
    return sorted(metrics, key=_place)


def _place(figure: str) -> tuple[int, str]:
    kinds = ("val/loss", *FIRST, "train/loss")
    return next((n for n, kind in enumerate(kinds) if figure.startswith(kind)), len(kinds)), figure


def shown_metrics(entries: Sequence[Entry], most: int = 1) -> list[str]:
    """The metrics to draw before anything is asked: those that most runs have, validation's before training's."""
    counts: Counter[str] = Counter()
    for entry in entries:
        counts.update(key for key in entry.figures if not key.startswith("score/"))
    return sorted(counts, key=lambda key: (_place(key)[0], -counts[key], _place(key)))[:most]


def shown_columns(entries: Sequence[Entry], settings: int = 4, figures: int = 4) -> list[str]:
    """The columns to show before anything is asked: settings that differ, few values first, and the figures that most runs have."""
    values: dict[str, set[str]] = {}
    counts: Counter[str] = Counter()
    for entry in entries:
        for key, value in entry.settings.items():
            values.setdefault(key, set()).add(as_word(value))
        counts.update(key for key in entry.figures if key.startswith(FIRST))
    differ = [key for key, found in values.items() if len(found) > 1 and key not in NAMES_ONLY | DIGESTS]
    differ.sort(key=lambda key: (len(values[key]), key))
    return differ[:settings] + sorted(counts, key=lambda key: (-counts[key], _place(key)))[:figures]


def columns(wanted: Sequence[str], entries: Sequence[Entry], grouped: bool) -> list[dict[str, Any]]:
    """The grid's columns: what every run has, then what is wanted. Figures and numbers have a filter for numbers."""
    found: list[dict[str, Any]] = [
        {"field": "name", "pinned": "left", "width": 240, "cellClass": "link", "tooltipField": "id"},
        {
            "field": "status",
            "width": 105,
            "cellClass": {"function": "'status ' + params.value"},
            "tooltipField": "reason",
        },
    ]
    if grouped:
        found.append({"field": "group", "width": 210, "tooltipField": "group"})
    if any(entry.place for entry in entries):
        found += [{"field": "study", "width": 130}, {"field": "arm", "width": 130}]
    found += [
        {"field": "seed", "width": 80, **_numeric(COUNT)},
        {"field": "step", "width": 95, **_numeric(COUNT)},
        {"field": "tokens", "width": 115, **_numeric(COUNT)},
        {"field": "seconds", "headerName": "time", "width": 112, **_numeric(TIME)},
    ]
    for key in wanted:
        numbers = all(isinstance(value, int | float) for e in entries if (value := value_of(e, key)) is not None)
        bools = any(isinstance(value_of(entry, key), bool) for entry in entries)
        kind = _numeric(NUMBER) if numbers and not bools else {"filter": "agTextColumnFilter"}
        found.append(
            {
                "field": key,
                "headerName": key,
                "headerTooltip": key,
                "width": max(110, min(240, 45 + 8 * len(key))),
                **kind,
            }
        )
    found.append({"field": "began", "width": 150, "valueFormatter": DATE})
    for column in found:
        column.setdefault("headerName", column["field"])  # the grid would write it its own way
    return found


def _numeric(formatter: dict[str, str]) -> dict[str, Any]:
    return {"filter": "agNumberColumnFilter", "type": "rightAligned", "valueFormatter": formatter}


def row(entry: Entry, label: str, wanted: Sequence[str], group: str = "") -> dict[str, Any]:
    """A run's row: only what its columns show."""
    found: dict[str, Any] = {
        "id": entry.id,
        "name": label,
        "status": entry.status,
        "reason": entry.reason,
        "group": group,
        "seed": entry.seed,
        "step": entry.count("step"),
        "tokens": entry.count("tokens"),
        "seconds": entry.count("seconds"),
        "began": entry.began,
    }
    if entry.place:
        found |= {"study": entry.place.study, "arm": entry.place.arm}
    for key in wanted:
        value = value_of(entry, key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        found[key] = value if value is None or is_number else short(value, 60)
    return found


def labels(entries: Sequence[Entry]) -> dict[str, str]:
    """What each run is called among these: its arm and seed, else its name, else, where several are called so, its folder."""
    studies = {entry.place.study for entry in entries if entry.place}
    found = {}
    for entry in entries:
        if entry.place:
            label = f"{entry.place.arm} · seed {entry.place.seed}"
            found[entry.id] = f"{entry.place.study}: {label}" if len(studies) > 1 else label
        else:
            found[entry.id] = entry.run.name
    often = Counter(found.values())
    return {name: label if often[label] == 1 else name for name, label in found.items()}


def counts(entries: Iterable[Entry]) -> list[tuple[str, int]]:
    """How many runs have which status, those that go on first."""
    order = ("running", "waiting", "done", "failed", "preempted", "stopped", "skipped", "unreadable")
    found = Counter(entry.status for entry in entries)
    return sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order))
