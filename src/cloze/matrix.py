"""Every model × every objective: on which data it runs, or the sentence that refuses it. Walks the config folders, so that a new
choice shows up by itself.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from cloze.check import built_by, compatibility, folded, plural
from cloze.compose import brought_objective
from cloze.data.base import Record, Text

if TYPE_CHECKING:
    from rich.console import Console

USUAL_DATA = "world"  # generated: what begins so needs no files and no settings
FITS = "✓"


def _usual(data: str, objective: str) -> tuple[bool | str, ...]:
    """What an objective's data are sorted by: the generated text, data that are there for this objective, data that can be trained on and
    not only be asked about, what is generated, and the alphabet."""
    brought = brought_objective(data)
    return data != USUAL_DATA, brought != objective, brought == "score", not data.startswith(USUAL_DATA), data


@dataclass(frozen=True)
class Cell:
    """A model under an objective: `data` it runs on, None where it does not and `sentence` says why."""

    model: str
    objective: str
    data: str | None
    sentence: str = ""

    @property
    def reason(self) -> str:
        """What the objective misses: the sentence without the names, which a column's and a row's heads say."""
        first = self.sentence.partition("; ")[0]
        return first.replace(f"objective={self.objective}", "the objective")


def cells(models: Sequence[str] = (), objectives: Sequence[str] = (), data: Sequence[str] = ()) -> list[Cell]:
    """All cells, model by model; only those of some models and objectives where they are named, and on some data only."""
    return [
        _cell(model, objective, data or tuple(built_by("data")))
        for model in (models or tuple(built_by("model")))
        for objective in (objectives or tuple(built_by("objective")))
    ]


def _cell(model: str, objective: str, corpora: Sequence[str]) -> Cell:
    refused: list[str] = []
    for data in _one_of_each_kind(objective, tuple(corpora)):
        taken: dict[str, str | None] = {"model": model, "objective": objective, "data": data}
        found = compatibility(built_by("model")[model], built_by("objective")[objective], built_by("data")[data], taken)
        if not found:
            return Cell(model, objective, data)
        refused = refused or found
    return Cell(model, objective, None, refused[0])


@cache
def _one_of_each_kind(objective: str, corpora: tuple[str, ...]) -> list[str]:
    """What fits goes by the records alone, so of the data with the same records the most usual one is asked about."""
    first: dict[type[Record], str] = {}
    for data in sorted(corpora, key=lambda choice: _usual(choice, objective)):
        first.setdefault(built_by("data")[data].reads, data)
    return list(first.values())


def show(
    console: Console, models: Sequence[str] = (), objectives: Sequence[str] = (), data: Sequence[str] = ()
) -> None:
    """At a terminal a table, with the reasons below it; the sentences themselves where a row or a column is asked for, and, a line
    each, where the output is read by a program."""
    found = cells(models, objectives, data)
    if not console.is_terminal:
        for cell in found:
            said = f"runs on data={cell.data}" if cell.data else cell.sentence
            print(f"model={cell.model}\tobjective={cell.objective}\t{said}")
        return
    from rich.table import Table

    if models or objectives or data:
        table = Table("model", "objective", "", show_lines=True)
        for cell in found:
            table.add_row(cell.model, cell.objective, f"runs on data={cell.data}" if cell.data else cell.sentence)
        console.print(table, markup=False)
        return
    rows, notes = _marked(found)
    table = Table(
        "objective",
        "data",
        *built_by("model"),
        title=f"{FITS} it runs, on these data among others; a letter: why it is refused",
    )
    for objective, marks in rows.items():
        table.add_row(objective, *marks)
    console.print(table, markup=False)
    for mark, reason in notes.items():
        console.print(f"{mark}  {reason}", markup=False, highlight=False)
    for line in _kinds():
        console.print(line, markup=False, highlight=False)
    for role, names in _roles().items():
        console.print(f"{', '.join(names)}: one that {role}", markup=False, highlight=False)


def markdown() -> str:
    """The whole table as a page shows it."""
    rows, notes = _marked(cells())
    models = list(built_by("model"))
    lines = [f"| objective | data | {' | '.join(models)} |", "|---" * (len(models) + 2) + "|"]
    lines += [f"| `{objective}` | `{marks[0]}` | {' | '.join(marks[1:])} |" for objective, marks in rows.items()]
    lines += ["", *(f"- **{mark}**: {reason}." for mark, reason in notes.items())]
    lines += ["", "What the objectives learn from:", ""]
    lines += [f"- {line}." for line in _kinds()]
    lines += ["", "What the models are:", ""]
    lines += [f"- one that {role}: {', '.join(f'`{name}`' for name in names)}." for role, names in _roles().items()]
    return "\n".join(lines) + "\n"


def _kinds() -> list[str]:
    """For each kind of records which objectives take them, and from which data."""
    takers: dict[type[Record], list[str]] = {}
    for choice, objective in built_by("objective").items():
        takers.setdefault(objective.record, []).append(choice)
    found = []
    for kind, names in takers.items():
        corpora = [choice for choice, corpus in built_by("data").items() if issubclass(corpus.reads, kind)]
        listed = (
            "those of any data, labelled ones being read as plain text" if kind is Text else f"data={folded(corpora)}"
        )
        found.append(f"{', '.join(names)}: {plural(kind)}, {listed}")
    return found


def _roles() -> dict[str, list[str]]:
    """The models of each role, in words."""
    found: dict[str, list[str]] = {}
    for choice, family in built_by("model").items():
        found.setdefault(family.role, []).append(choice)
    return found


def _marked(found: Sequence[Cell]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """For each objective its data and then, under each model, a mark; and the reason that each letter stands for."""
    reasons = list(dict.fromkeys(cell.reason for cell in found if cell.data is None))
    mark = dict(zip(reasons, string.ascii_lowercase, strict=False))
    rows: dict[str, list[str]] = {}
    for cell in found:
        rows.setdefault(cell.objective, [""]).append(FITS if cell.data else mark[cell.reason])
        rows[cell.objective][0] = rows[cell.objective][0] or cell.data or ""
    return rows, {letter: reason for reason, letter in mark.items()}
