"""What the list shows: after a change of the filter all rows, while runs go on only those that have changed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dash import html

from cloze.dashboard import table
from cloze.dashboard.grouping import grouped
from cloze.dashboard.index import Entry, Index
from cloze.dashboard.query import parse
from cloze.errors import Refusal


@dataclass(frozen=True)
class Wanted:
    """What is asked of the list. `columns` None: they are chosen from the runs."""

    filter: str = ""
    group: str | None = None
    columns: Sequence[str] | None = None


def filtered(index: Index, text: str) -> tuple[list[Entry], str]:
    """The runs that a filter lets through, the newest first, and what is wrong with it. A wrong filter lets all through."""
    entries = index.all()
    settings, figures = table.keys(entries)
    try:
        terms = parse(text or "", [*settings, *figures])
    except Refusal as fault:
        return entries, str(fault)
    return [entry for entry in entries if all(term.holds(entry) for term in terms)], ""


def listing(index: Index, wanted: Wanted, seen: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """What the page needs to have the list as it is now; None where `seen` (of the answer before) is still right.

    `rowData` and `columnDefs` are there where the runs or columns that are shown are others, else `rowTransaction` with what changed.
    """
    seen = seen or {}
    version = index.version
    asked = digest([wanted.filter, wanted.group, wanted.columns])
    fresh = seen.get("index") != index.born or seen.get("asked") != asked
    if not fresh and seen.get("version") == version and seen.get("behind") == index.behind:
        return None
    shown, fault = filtered(index, wanted.filter)
    every = index.all()
    columns = list(wanted.columns) if wanted.columns is not None else table.shown_columns(shown or every)
    names = (
        {entry.id: group.name for group in grouped(shown, wanted.group) for entry in group.entries}
        if wanted.group
        else {}
    )
    defs = table.columns(columns, shown, bool(wanted.group))
    called = table.labels(shown)
    order = digest(called)
    looks = digest(defs)
    answer: dict[str, Any] = {
        "counts": counts(every),
        "studies": studies(index),
        "note": note(len(shown), len(every), fault, index.behind),
        "any": bool(every),
        "columns": columns or wanted.columns,  # None where there are none yet: nobody has chosen to see none
        "seen": {
            "index": index.born,
            "asked": asked,
            "version": version,
            "behind": index.behind,
            "order": order,
            "looks": looks,
            "any": bool(every),
        },
    }
    if fresh or seen.get("looks") != looks:
        answer["columnDefs"] = defs
    if fresh or seen.get("order") != order or seen.get("looks") != looks:
        answer["rowData"] = [table.row(entry, called[entry.id], columns, names.get(entry.id, "")) for entry in shown]
    else:
        changed = {entry.id for entry in index.since(int(seen.get("version", 0)))}
        # a new run can rename the groups of others
        rows = [
            table.row(entry, called[entry.id], columns, names.get(entry.id, ""))
            for entry in shown
            if entry.id in changed or names
        ]
        answer["rowTransaction"] = {"update": rows, "async": False}
    return answer


def counts(entries: Sequence[Entry]) -> list[Any]:
    """How many runs have which status."""
    return [html.Span(f"{n:,} {status}", className=f"status {status}") for status, n in table.counts(entries)]


def studies(index: Index) -> list[Any]:
    """A button for each study: it shows the study's runs by arm."""
    found = []
    for study in sorted(index.studies.values(), key=lambda study: study.name):
        done = sum(job.status == "done" for job in study.jobs)
        failed = sum(job.status == "failed" for job in study.jobs)
        told = f"{done} of {len(study.jobs)} done" + (f", {failed} failed" if failed else "")
        found.append(
            html.Button(
                [html.B(study.name), " ", told],
                id={"kind": "study", "name": study.name},
                title=study.question,
                className="study" + (" failed" if failed else ""),
            )
        )
    return [html.Span("Studies", className="label"), *found] if found else []


def note(shown: int, every: int, fault: str, behind: int) -> list[Any]:
    """A sentence under the filter: what is wrong with it, else how many runs it lets through."""
    if fault:
        return [html.Span(fault, className="fault")]
    told = f"{shown:,} of {every:,} runs" if shown != every else f"{every:,} run{'' if every == 1 else 's'}"
    return [told, f"; the settings of {behind:,} are being read" if behind else ""]


def digest(value: Any) -> int:
    """A small number that is another one for other values."""
    return zlib.crc32(json.dumps(value, sort_keys=True, default=str).encode())
