"""A comparison for a text: Markdown and LaTeX. Whatever names and sentences hold is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cloze.report.comparison import Comparison
from cloze.report.figures import differences
from cloze.report.tables import (
    DETAILS,
    details,
    heading,
    legend,
    matrix,
    paper_of,
    published,
    seeds_of,
    shown_cells,
    verdicts,
)
from cloze.report.words import MINUS, NONE, p_value

# --- Markdown ---------------------------------------------------------------------------------------------------------------


def markdown(comparison: Comparison) -> str:
    """All of it as Markdown, which reads as plain text too. Texts are escaped."""
    md = escape_markdown
    blocks = [f"# {md(comparison.title)}"]
    if comparison.question and comparison.question != comparison.title:
        blocks.append(md(comparison.question))
    if paper := paper_of(comparison):
        blocks.append(md(paper))
    head = ["arm", "seeds", *(md(heading(metric)) for metric in comparison.metrics)]
    rows = []
    for arm, cells in matrix(comparison):
        shown = ["<br>".join([_bold(cell.mean, cell.best), *cell.lines[1:]]) for cell in cells]
        name = md(arm.name) + (" (baseline)" if arm.name == comparison.baseline and len(comparison.arms) > 1 else "")
        rows.append([name, md(seeds_of(comparison, arm)), *shown])
    blocks += [_pipes([head, *rows]), *([md(legend(comparison))] if comparison.metrics else [])]
    if said := verdicts(comparison):
        blocks.append("\n".join(f"- {md(each)}" for each in said))
    if comparison.remarks:
        blocks.append("**Remarks**\n\n" + "\n".join(f"- {md(each)}" for each in comparison.remarks))
    names, papers, note = published(comparison)
    if papers:
        blocks += ["## Published", _pipes([[md(each) for each in row] for row in (names, *papers)])]
        blocks += [md(note)] if note else []
    if comparison.metrics:
        blocks += [
            "## Every figure",
            _pipes([list(DETAILS), *([md(each) for each in row] for row in details(comparison))]),
        ]
    names, settings = differences(comparison)
    if settings:
        blocks += ["## Settings that differ", _pipes([[md(each) for each in row] for row in (names, *settings)])]
    return "\n\n".join(blocks) + "\n"


_MARKDOWN = re.compile(
    r"[\\`*|~$]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # within a word it is only itself
    r"|<(?=[A-Za-z/!?])|&(?=#?\w+;)"  # tags, entities
    r"|\](?=[(\[:])|\[(?=[ xX]\])|(?<=!)\[|!(?=\[)"  # links, boxes, pictures
    r"|^[>#]|^[+-](?=\s|$)|(?<=^\d)[.)](?=\s|$)"  # what makes a line a quotation, a heading, a list
)


def escape_markdown(text: str) -> str:
    """In one line, with nothing that Markdown or HTML would take for its own; what they would leave alone (`p<0.001`) stays readable."""
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(text.split()))


def _bold(text: str, bold: bool) -> str:
    return f"**{text}**" if bold else text


def _pipes(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(3, *(len(row[n]) for row in rows)) for n in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


# --- LaTeX ------------------------------------------------------------------------------------------------------------------


def latex(comparison: Comparison) -> str:
    """Two tables for a document that uses the package booktabs: the arms' figures, and the differences to the baseline. Texts are
    escaped; verdicts and remarks stand below."""
    tex = escape_latex
    head = ["arm", "seeds", *(heading(metric) for metric in comparison.metrics)]
    rows = []
    for arm, cells in matrix(comparison):
        shown = [f"\\textbf{{{tex(cell.mean)}}}" if cell.best else tex(cell.mean) for cell in cells]
        rows.append([tex(arm.name), tex(seeds_of(comparison, arm)), *shown])
    blocks = [f"% {' '.join(comparison.title.split())}: needs \\usepackage{{booktabs}}", _tabular(head, rows)]
    judged = []
    for metric in comparison.metrics:
        column = shown_cells(comparison, metric)
        for arm in comparison.arms:
            cell = comparison.cells.get(metric.key, {}).get(arm.name)
            if cell and cell.summary:
                found, reads = cell.difference, column[arm.name]
                told = (reads.difference.split(", p")[0], p_value(found.p_holm)) if found else (NONE, NONE)
                judged.append(
                    [tex(each) for each in (metric.title, arm.name, reads.mean, reads.interval or NONE, *told)]
                )
    blocks.append(_tabular(["metric", "arm", "mean", "95 % interval", "difference", "p (Holm)"], judged, names=2))
    below = [each for each in (legend(comparison), *verdicts(comparison), *comparison.remarks) if each]
    if below:
        blocks.append("\\begin{itemize}\n" + "\n".join(f"  \\item {tex(each)}" for each in below) + "\n\\end{itemize}")
    return "\n\n".join(blocks) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "[": "{[}", "]": "{]}",
    "±": r"$\pm$", MINUS: "$-$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "–": "--", "—": "---", "…": r"\ldots{}", "’": "'", "·": r"$\cdot$",
}  # fmt: skip


def escape_latex(text: str) -> str:
    """In one line, with LaTeX's special characters as themselves. A bracket is in braces: after a line's end it would be an argument."""
    return "".join(_LATEX.get(each, each) for each in " ".join(text.split()))


def _tabular(head: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> str:
    """`head` is escaped here, `rows` are already; so many first columns are of names."""
    lines = [f"\\begin{{tabular}}{{{'l' * names}{'r' * (len(head) - names)}}}", "\\toprule"]
    lines += [" & ".join(map(escape_latex, head)) + r" \\", "\\midrule"]
    lines += [" & ".join(row) + r" \\" for row in rows]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])
