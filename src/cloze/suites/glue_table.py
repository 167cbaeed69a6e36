"""GLUE's table: one's own figures, mean and standard deviation over seeds, with the published rows below; for eyes and for programs.

Figures are percentages. One's own are of the development sets, the published ones of the leaderboard's test sets: the remarks say so.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from cloze.scoring.glue import ALBERT_TABLE, BERT_TABLE, GLUE, TASKS
from cloze.scoring.published import GLUE_DEV, GLUE_TEST

if TYPE_CHECKING:
    from rich.console import Console

Cell = tuple[str, str]  # a task and one of its metrics
Scores = Mapping[str, Mapping[str, float]]

COLUMNS: dict[Cell, tuple[str, str]] = {  # in the leaderboard's order, with the metrics of BERT's table
    ("cola", "matthews"): ("CoLA", "Matthews"),
    ("sst2", "accuracy"): ("SST-2", "accuracy"),
    ("mrpc", "f1"): ("MRPC", "F1"),
    ("stsb", "spearman"): ("STS-B", "Spearman"),
    ("qqp", "f1"): ("QQP", "F1"),
    ("mnli", "accuracy"): ("MNLI-m", "accuracy"),
    ("mnli_mismatched", "accuracy"): ("MNLI-mm", "accuracy"),
    ("qnli", "accuracy"): ("QNLI", "accuracy"),
    ("rte", "accuracy"): ("RTE", "accuracy"),
    ("wnli", "accuracy"): ("WNLI", "accuracy"),
    ("ax", "matthews"): ("AX", "Matthews"),
}
TITLES = {task: title for (task, _), (title, _) in COLUMNS.items()}
METRICS = {"matthews": "Matthews", "accuracy": "accuracy", "f1": "F1", "spearman": "Spearman", "pearson": "Pearson"}
CELLS: tuple[Cell, ...] = tuple((task, metric) for task in TITLES for metric in TASKS[f"glue/{task}"].metrics)
NONE = "-"

Part = tuple[str, tuple[Cell, ...]]  # what enters an average once, as the mean of its cells, and what it is called


def _part_of_glue(task: str) -> Part:
    sets = ("mnli", "mnli_mismatched") if task == "mnli" else (task,)
    name = "MNLI" if task == "mnli" else TITLES[task]
    return name, tuple((each, metric) for each in sets for metric in TASKS[f"glue/{task}"].metrics)


_ALBERT = {"squad1.1": "SQuAD 1.1", "squad2.0": "SQuAD 2.0", "mnli": "MNLI-m", "sst2": "SST-2", "race": "RACE"}
AVERAGES: dict[str, tuple[Part, ...]] = {  # as cloze.scoring.glue defines them
    "GLUE's": tuple(_part_of_glue(task) for task in GLUE),
    "BERT's": tuple((TITLES[task], ((task, metric),)) for task, metric in BERT_TABLE),
    "ALBERT's": tuple((_ALBERT[task], tuple((task, metric) for metric in metrics)) for task, metrics in ALBERT_TABLE),
}


@dataclass(frozen=True)
class Spread:
    """Values of several seeds. `deviation` is the sample's standard deviation, None of a single value."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def deviation(self) -> float | None:
        return stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        return f"{self.mean:.1f}" + (f" ± {self.deviation:.1f}" if self.deviation is not None else "")


@dataclass(frozen=True)
class Average:
    """A mean over the parts of a definition that are there, and the names of those and of all."""

    value: Spread
    there: tuple[str, ...]
    defined: tuple[str, ...]

    @property
    def whole(self) -> bool:
        return self.there == self.defined


@dataclass(frozen=True)
class Report:
    """What one model reached.

    `seeds` is {seed: {task: {metric: percentage}}} of the development sets; `remarks` are sentences below the table.
    """

    name: str
    seeds: Mapping[int, Scores]
    remarks: tuple[str, ...] = ()

    def spread(self, cell: Cell) -> Spread | None:
        """Over the seeds that have it."""
        task, metric = cell
        found = [each[task][metric] for each in self.seeds.values() if metric in each.get(task, {})]
        return Spread(tuple(found)) if found else None

    def average(self, parts: Sequence[Part]) -> Average | None:
        """Over the parts all of whose cells some seed has. Its spread is over the seeds that have all of these; where no seed does, it
        is the mean of the cells' means."""
        there = [(name, cells) for name, cells in parts if all(self.spread(cell) for cell in cells)]
        if not there:
            return None
        complete = [_mean(each, there) for each in self.seeds.values()]
        found = tuple(value for value in complete if value is not None)
        if not found:
            found = (fmean(fmean(self.spread(cell).mean for cell in cells) for _, cells in there),)  # type: ignore[union-attr]
        return Average(Spread(found), tuple(name for name, _ in there), tuple(name for name, _ in parts))

    # the table with the published rows

    def head(self) -> list[tuple[str, str]]:
        """Two lines of each column: what it is of and the metric."""
        return [("", ""), *COLUMNS.values(), ("mean", "")]

    def rows(self) -> list[list[str]]:
        """One's own row, then the published ones."""
        mean = self.average(AVERAGES["BERT's"])
        own = [str(self.spread(cell) or NONE) for cell in COLUMNS]
        rows = [[self.name, *own, str(mean.value) if mean else NONE]]
        for each in GLUE_TEST:
            figures = [each.scores.get(task, {}).get(metric) for task, metric in COLUMNS]
            value = each.average
            if mean is not None and not mean.whole:
                value = _mean(each.scores, [part for part in AVERAGES["BERT's"] if part[0] in mean.there])
            rows.append([each.system, *(_shown(figure) for figure in figures), _shown(value)])
        return rows

    def notes(self) -> list[str]:
        """What must be known to read the table."""
        mean = self.average(AVERAGES["BERT's"])
        runs = max((len(spread.values) for cell in CELLS if (spread := self.spread(cell))), default=0)
        over = "means and sample standard deviations over seeds, " if runs > 1 else ""
        notes = [
            f"{self.name}: percentages of the development sets, {over}the last step of each run.",
            f"The other rows: the leaderboard's test sets, {GLUE_TEST[0].source}: another set than one's own.",
        ]
        if mean is not None:
            those = f"the {len(mean.there)} of its {len(mean.defined)} columns that are there ({', '.join(mean.there)})"
            notes.append(
                f"mean: the average of BERT's paper, without WNLI{'' if mean.whole else f', over {those}, in every row'}."
            )
        return [*notes, *self.remarks]

    def averages(self) -> Iterator[str]:
        """One's own averages, a line each, with what is missing."""
        for name, parts in AVERAGES.items():
            found = self.average(parts)
            if found is None:
                yield f"{name} average: {NONE} (none of {', '.join(part for part, _ in parts)})"
                continue
            missing = [part for part in found.defined if part not in found.there]
            of = (
                f" over {len(found.there)} of {len(found.defined)}; missing: {', '.join(missing)}"
                if missing
                else " (complete)"
            )
            yield f"{name} average: {found.value}{of}"

    # all metrics

    def details(self) -> list[list[str]]:
        """All metrics of all tasks that are there: task, metric, figure, seeds, and published figures of the same set."""
        rows = [["task", "metric", "dev", "seeds", "published, dev"]]
        for cell in CELLS:
            spread = self.spread(cell)
            if spread is not None:
                task, metric = cell
                rows.append([TITLES[task], METRICS[metric], str(spread), str(len(spread.values)), _published(cell)])
        return rows

    # as files and on the screen

    def markdown(self) -> str:
        """All of it as Markdown, which reads as plain text too."""
        head = [" ".join(filter(None, lines)) for lines in self.head()]
        blocks = [_aligned([head, *self.rows()]), "\n".join(f"- {note}" for note in self.notes())]
        if len(self.details()) > 1:
            blocks.append(_aligned(self.details()))
        blocks.append("\n".join(f"- {line}" for line in self.averages()))
        return "\n\n".join(blocks) + "\n"

    def csv(self) -> str:
        """One line for each figure: system, set, task, metric, mean, standard deviation, number of seeds, source."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["system", "set", "task", "metric", "mean", "deviation", "seeds", "source"])
        for task, metric in CELLS:
            spread = self.spread((task, metric))
            if spread is not None:
                deviation = "" if spread.deviation is None else f"{spread.deviation:.4f}"
                writer.writerow(
                    [self.name, "dev", task, metric, f"{spread.mean:.4f}", deviation, len(spread.values), ""]
                )
        for each in GLUE_TEST:
            for task, scores in each.scores.items():
                for metric, value in scores.items():
                    writer.writerow([each.system, each.corpus, task, metric, value, "", "", each.source])
        return stream.getvalue()

    def content(self) -> dict[str, Any]:
        """For glue.json."""
        scores: dict[str, dict[str, Any]] = {}
        for task, metric in CELLS:
            if (spread := self.spread((task, metric))) is not None:
                scores.setdefault(task, {})[metric] = _spread(spread)
        averages = {
            name.removesuffix("'s"): {**_spread(found.value), "over": list(found.there), "of": list(found.defined)}
            for name, parts in AVERAGES.items()
            if (found := self.average(parts)) is not None
        }
        published = [
            {"system": p.system, "set": p.corpus, "scores": p.scores, "average": p.average, "source": p.source}
            for p in GLUE_TEST
        ]
        return {
            "name": self.name, "set": "dev", "scores": scores, "averages": averages, "published": published,
            "remarks": self.notes(),
        }  # fmt: skip

    def show(self, console: Console) -> None:
        """A table at a terminal, plain text elsewhere."""
        if not console.is_terminal:
            print(self.markdown(), end="", flush=True)
            return
        from rich.table import Table

        table = Table(title="GLUE", header_style="")
        for title, metric in self.head():
            table.add_column(f"{title}\n{metric}".strip(), justify="right" if title else "left")
        own, *published = self.rows()
        table.add_row(*own, end_section=True, style="bold")
        for row in published:
            table.add_row(*row)
        console.print(table, markup=False)
        for note in self.notes():
            console.print(note, markup=False, highlight=False)
        if len(self.details()) > 1:
            head, *rows = self.details()
            table = Table(*head)
            for row in rows:
                table.add_row(*row)
            console.print(table, markup=False)
        for line in self.averages():
            console.print(line, markup=False, highlight=False)


def _mean(scores: Scores, parts: Sequence[Part]) -> float | None:
    """The mean of the parts' means; None where a cell is missing."""
    means = []
    for _, cells in parts:
        values = [scores.get(task, {}).get(metric) for task, metric in cells]
        found = [value for value in values if value is not None]
        if len(found) < len(values):
            return None
        means.append(fmean(found))
    return fmean(means)


def _published(cell: Cell) -> str:
    """The base models' figures of the development set, where they are printed for this metric."""
    task, metric = cell
    systems = ("BERT-base", "RoBERTa-base")
    found = [(p.system, p.scores.get(task, {}).get(metric)) for p in GLUE_DEV if p.system in systems]
    return ", ".join(f"{system} {value:.1f}" for system, value in found if value is not None)


def _shown(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"


def _spread(spread: Spread) -> dict[str, Any]:
    return {"mean": spread.mean, "deviation": spread.deviation, "values": list(spread.values)}


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are as wide as their widest value."""
    widths = [max(3, *(len(row[n]) for row in rows)) for n in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])
