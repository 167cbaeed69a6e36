"""Runs that are drawn as one line: those of one configuration, of one arm of a study, or with the same value of a setting."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from cloze.dashboard.index import Entry
from cloze.dashboard.query import value_of
from cloze.dashboard.table import labels
from cloze.report import groups as report_groups
from cloze.report.statistics import spread
from cloze.report.words import decimals, number
from cloze.schema import as_word

CONFIGURATION = "configuration"  # everything that decides the weights but the seed
ARM = "arm"


@dataclass(frozen=True)
class Group:
    """Runs under one name. Where some are done, only these are averaged; else all."""

    name: str
    entries: Sequence[Entry]

    @property
    def members(self) -> Sequence[Entry]:
        """The runs whose mean is drawn and told."""
        return [entry for entry in self.entries if entry.status == "done"] or list(self.entries)

    def title(self, n: int) -> str:
        """The name, with `n`, of how many of its runs the line is, where it has several."""
        of = len(self.entries)
        if of == 1:
            return self.name
        return f"{self.name} ({n})" if n == of else f"{self.name} ({n} of {of})"

    def figure(self, key: str) -> str:
        """`2.31 ± 0.02`, mean and deviation over the members that have the figure, as the report says it; `(2 of 3)` after it
        where these are not all of the group's runs."""
        values = [float(entry.figures[key]) for entry in self.members if key in entry.figures]
        if not values:
            return ""
        found = spread(values)
        of = "" if len(values) == len(self.entries) else f" ({len(values)} of {len(self.entries)})"
        if found.deviation is None:
            return f"{number(found.mean, 3)}{of}"
        digits = decimals(found.deviation)
        return f"{number(found.mean, digits)} ± {number(found.deviation, digits)}{of}"


def grouped(entries: Sequence[Entry], by: str | None) -> list[Group]:
    """The groups in the order of their first runs. `by`: None (each run by itself), `configuration`, `arm`, or any key of a run."""
    if not by:
        names = labels(entries)
        return [Group(names[entry.id], [entry]) for entry in entries]
    found: dict[str, list[Entry]] = {}
    if by == CONFIGURATION:
        names = _configurations(entries)
        for entry in entries:
            found.setdefault(names[entry.id], []).append(entry)
    elif by == ARM:
        studies = {entry.place.study for entry in entries if entry.place}
        for entry in entries:
            arm = "no study" if not entry.place else entry.place.arm
            found.setdefault(f"{entry.place.study}: {arm}" if entry.place and len(studies) > 1 else arm, []).append(
                entry
            )
    else:
        for entry in entries:
            found.setdefault(f"{by.rpartition('.')[2]}={as_word(value_of(entry, by))}", []).append(entry)
    return [Group(name, members) for name, members in found.items()]


def _configurations(entries: Sequence[Entry]) -> dict[str, str]:
    """The report's name of each run's configuration; a run whose record cannot be read so is its own."""
    names = {entry.id: entry.id for entry in entries}
    keys = {entry.id: key for entry in entries if (key := _key(entry)) is not None}
    arms, _ = report_groups.of_runs([entry.run for entry in entries if entry.id in keys])
    order = list(dict.fromkeys(keys.values()))  # as of_runs has them: by the first run of each
    name = {key: arm.name for key, arm in zip(order, arms, strict=True)}
    return names | {run: name[key] for run, key in keys.items()}


def _key(entry: Entry) -> str | None:
    try:
        _ = entry.run.seed, entry.run.name
        return json.dumps(report_groups.configuration(entry.run), sort_keys=True, default=str)
    except (AttributeError, TypeError, ValueError):  # run.json of something else, or written by hand
        return None
