"""Every model × every objective: on which data it runs, or the sentence that refuses it. Walks the config folders, so that a new
choice shows up by itself.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloze.check import built_by, compatibility

if TYPE_CHECKING:
    from rich.console import Console

USUAL_DATA = "world"  # generated: what begins so needs no files and no settings


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
    for data in sorted(corpora, key=lambda choice: (not choice.startswith(USUAL_DATA), choice)):
        taken: dict[str, str | None] = {"model": model, "objective": objective, "data": data}
        found = compatibility(built_by("model")[model], built_by("objective")[objective], built_by("data")[data], taken)
        if not found:
            return Cell(model, objective, data)
        refused = refused or found
    return Cell(model, objective, None, refused[0])


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
    table = Table("objective", *rows, title="the data that it runs on, or a letter: why it is refused")
    for number, objective in enumerate(dict.fromkeys(cell.objective for cell in found)):
        table.add_row(objective, *(marks[number] for marks in rows.values()))
    console.print(table, markup=False)
    for mark, reason in notes.items():
        console.print(f"{mark}  {reason}", markup=False, highlight=False)
    for role, names in _roles().items():
        console.print(f"{', '.join(names)}: one that {role}", markup=False, highlight=False)


def markdown() -> str:
    """The whole table as a page shows it."""
    rows, notes = _marked(cells())
    objectives = list(built_by("objective"))
    lines = [f"| model | {' | '.join(objectives)} |", "|---" * (len(objectives) + 1) + "|"]
    lines += [f"| `{model}` | {' | '.join(marks)} |" for model, marks in rows.items()]
    lines += ["", *(f"- **{mark}**: {reason}." for mark, reason in notes.items())]
    lines += ["", "What the models are:", ""]
    lines += [f"- one that {role}: {', '.join(f'`{name}`' for name in names)}." for role, names in _roles().items()]
    return "\n".join(lines) + "\n"


def _roles() -> dict[str, list[str]]:
    """The models of each role, in words."""
    found: dict[str, list[str]] = {}
    for choice, family in built_by("model").items():
        found.setdefault(family.role, []).append(choice)
    return found


def _marked(found: Sequence[Cell]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """For each model a mark under each objective, the data or a letter; and the reason that each letter stands for."""
    reasons = list(dict.fromkeys(cell.reason for cell in found if cell.data is None))
    mark = dict(zip(reasons, string.ascii_lowercase, strict=False))
    rows: dict[str, list[str]] = {}
    for cell in found:
        rows.setdefault(cell.model, []).append(cell.data or mark[cell.reason])
    return rows, {letter: reason for reason, letter in mark.items()}
