"""A comparison at a terminal: tables as wide as it is, then what must be said of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cloze.report.comparison import Comparison
from cloze.report.figures import differences
from cloze.report.markup import markdown
from cloze.report.tables import Shown, heading, legend, matrix, paper_of, published, seeds_of, verdicts

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Prints a comparison: coloured tables at a terminal, Markdown elsewhere."""
    from rich.console import Console as RichConsole

    console = console or RichConsole()
    if not console.is_terminal:
        console.file.write(markdown(comparison))
        console.file.flush()
        return
    for part in tables_of(comparison, console.width):
        console.print(part, markup=False, highlight=False)
    if told := legend(comparison):
        console.print(told, style="dim", markup=False, highlight=False)
    if paper := paper_of(comparison):
        console.print(f"The question of {paper}", style="dim", markup=False, highlight=False)
    for each in verdicts(comparison):
        console.print(f"• {each}", markup=False, highlight=False)
    for each in comparison.remarks:
        console.print(f"! {each}", style="yellow", markup=False, highlight=False)
    if published(comparison)[1]:
        console.print(_published(comparison), markup=False, highlight=False)
    if len(comparison.arms) > 1 and differences(comparison)[1]:
        console.print(_settings(comparison), markup=False, highlight=False)


def tables_of(comparison: Comparison, width: int) -> Iterator[Table]:
    """Arms by metrics, in as many tables as the width asks for."""
    rows = matrix(comparison)
    first = 2 + max([10, *(len(arm.name) + 2 for arm, _ in rows)]) + 8
    widths = [
        3 + max(len(heading(metric)), *(len(line) for _, cells in rows for line in cells[n].lines))
        for n, metric in enumerate(comparison.metrics)
    ]
    title = comparison.question or comparison.title
    for part in _parts(widths, width - min(first, width // 2)):
        yield _table(title, comparison, rows, part)
        title = ""


def _parts(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Which columns stand together: as many as there is room for, at least one."""
    part: list[int] = []
    for n, width in enumerate(widths):
        if part and sum(widths[each] for each in part) + width > room:
            yield part
            part = []
        part.append(n)
    if part or not widths:
        yield part


def _table(
    title: str, comparison: Comparison, rows: Sequence[tuple[object, list[Shown]]], part: Sequence[int]
) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, title_justify="left", header_style="bold", show_lines=True)
    table.add_column("arm", overflow="fold")
    table.add_column("seeds", justify="right")
    for n in part:
        table.add_column(Text(heading(comparison.metrics[n])), justify="right")
    for arm, (_, cells) in zip(comparison.arms, rows, strict=True):
        name = Text(arm.name, style="bold" if arm.name == comparison.baseline else "")
        if arm.name == comparison.baseline and len(comparison.arms) > 1:
            name.append("\nbaseline", style="dim not bold")
        for each in arm.absent:
            what = "" if each.evaluation is None else f" {each.evaluation}"
            seed = "?" if each.seed is None else each.seed
            name.append(f"\nseed {seed}{what}: {each.status}", style="yellow not bold")
        table.add_row(name, seeds_of(comparison, arm), *(_text(cells[n]) for n in part))
    return table


def _text(cell: Shown) -> Text:
    from rich.text import Text

    text = Text(cell.mean, style="bold green" if cell.best else "")
    for line in cell.lines[1:]:
        text.append(f"\n{line}", style="dim not bold")
    return text


def _published(comparison: Comparison) -> Table:
    from rich.table import Table
    from rich.text import Text

    head, rows, note = published(comparison)
    table = Table(title="published", title_justify="left", caption=Text(note) if note else None, caption_justify="left")
    for n, each in enumerate(head):
        table.add_column(Text(each), justify="right" if n else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _settings(comparison: Comparison) -> Table:
    from rich.table import Table
    from rich.text import Text

    head, rows = differences(comparison)
    table = Table(title="settings that differ", title_justify="left")
    for each in head:
        table.add_column(Text(each), overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
