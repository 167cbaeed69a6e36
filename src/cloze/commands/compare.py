"""`cloze compare`: runs and studies side by side, at the terminal and as files; every one of them shows the numbers of one comparison."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloze.errors import Refusal

if TYPE_CHECKING:
    from cloze.report.collect import Run
    from cloze.report.comparison import Comparison

FILES = {
    "html": "one page with the data inside, which opens without a network",
    "md": "Markdown",
    "latex": "tables for the package booktabs",
    "csv": "a line a figure, with all digits",
    "json": "all of it, with all digits",
}
_OF_A_RUN = (
    "run.json",
    "study.json",
    "config.yaml",
    "metrics.jsonl",
    "samples.txt",
    "log.txt",
    "scores.json",
    "glue.json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `cloze compare` understands."""
    parser.add_argument(
        "folders", metavar="FOLDER", type=Path, nargs="+", help="a study's folder, a run's, or one with runs below it"
    )
    parser.add_argument(
        "--metric", metavar="KEY", action="extend", nargs="+",
        help="figures to compare by, the one to judge by first: val/loss, score/validation/accuracy, … (KEY=higher or KEY=lower says which "
        "side is the good one). Default: the study's, else those that all arms have",
    )  # fmt: skip
    parser.add_argument(
        "--baseline",
        metavar="ARM",
        help="the arm that the others are held against (default: the study's, which may have none; of plain runs the first)",
    )
    for name, what in FILES.items():
        parser.add_argument(f"--{name}", metavar="FILE", type=Path, help=f"write {what}; - is the terminal")
    parser.add_argument(
        "--wandb",
        action="store_true",
        help="also log table and page to W&B, in the study's group (offline without a key)",
    )


def run(given: argparse.Namespace) -> int:
    """Compares, shows and writes. Raises Refusal for folders without runs, unknown metrics and arms, files that cannot be written."""
    targets = _targets(given)
    from cloze.report.collect import read
    from cloze.report.several import compare

    comparison = compare(given.folders, given.metric, given.baseline)
    alone = given.folders[0] if len(given.folders) == 1 and (given.folders[0] / "run.json").is_file() else None
    single = None if alone is None else read(alone)
    writers = _writers(comparison, single)
    for name, file in targets.items():
        if str(file) == "-":
            print(writers[name](), end="", flush=True)
        else:
            _write(f"--{name}", file, writers[name]())
    if "-" not in map(str, targets.values()):
        from cloze.report.terminal import show

        show(comparison)
        if targets:
            print(f"written: {', '.join(map(str, targets.values()))}")
    if given.wandb:
        _track(comparison, given.folders, writers["html"])
    return 0


def _targets(given: argparse.Namespace) -> dict[str, Path]:
    """Which files are asked for. What could not be written is refused before anything is computed."""
    targets: dict[str, Path] = {name: getattr(given, name) for name in FILES if getattr(given, name) is not None}
    said: dict[str, str] = {}
    for name, file in targets.items():
        where = "-" if str(file) == "-" else str(file.absolute())
        if where in said:
            raise Refusal(f"--{said[where]} and --{name} both name {file}: two files cannot be one")
        said[where] = name
        if where == "-":
            continue
        if file.is_dir():
            raise Refusal(f"--{name}={file} is a folder; expected a file")
        if not file.absolute().parent.is_dir():
            raise Refusal(f"--{name}={file}: there is no folder {file.parent}")
        if file.name in _OF_A_RUN and file.exists():
            raise Refusal(f"--{name}={file} belongs to a run or a study; choose another name")
    return targets


def _writers(comparison: Comparison, single: Run | None) -> Mapping[str, Callable[[], str]]:
    from cloze.report import markup, tables

    def html() -> str:
        from cloze.report.page import page

        return page(comparison, single)

    return {
        "html": html,
        "md": lambda: markup.markdown(comparison),
        "latex": lambda: markup.latex(comparison),
        "csv": lambda: tables.csv(comparison),
        "json": lambda: tables.json(comparison),
    }


def _write(option: str, file: Path, text: str) -> None:
    from cloze.models.storage import write_atomically

    try:
        write_atomically(file, lambda temporary: temporary.write_bytes(text.encode("utf-8", "replace")))
    except OSError as fault:
        raise Refusal(f"{option}={file} cannot be written: {fault.strerror or fault}") from None


def _track(comparison: Comparison, folders: Sequence[Path], html: Callable[[], str]) -> None:
    """The table and the page as a W&B run in the runs' group. Whatever goes wrong there is said and ends nothing."""
    from cloze.report.tables import DETAILS, details
    from cloze.tracking.base import TrackedRun
    from cloze.tracking.wandb import Wandb

    runs = [run for arm in comparison.arms for run in arm.runs]
    said = {key: {run.settings.get(f"tracking.{key}") for run in runs} for key in ("project", "entity", "group")}
    agreed: dict[str, Any] = {key: next(iter(found)) for key, found in said.items() if len(found) == 1}
    where = (
        folders[0].absolute() if len(folders) == 1 else Path(os.path.commonpath([each.absolute() for each in folders]))
    )
    name = re.sub(r"\W+", "-", comparison.title).strip("-")[:60] or "runs"
    try:
        folder = where / f"{name}-comparison"
        folder.mkdir(exist_ok=True)
        config = {
            "folders": [str(each) for each in folders],
            "baseline": comparison.baseline,
            "question": comparison.question,
        }
        tracked = TrackedRun(
            name, folder, config, agreed.get("group") or folders[0].name, "comparison", ("comparison",)
        )
        settings = Wandb(project=agreed.get("project") or "cloze", entity=agreed.get("entity"))
        for logger in settings.loggers(tracked):
            import wandb

            means = {
                f"{key}/{arm}": cell.summary.mean
                for key, cells in comparison.cells.items()
                for arm, cell in cells.items()
                if cell.summary
            }
            logger.log_metrics(means, step=0)
            logger.log_rows("comparison", list(DETAILS), details(comparison), 0)  # type: ignore[attr-defined]
            experiment: Any = logger.experiment  # type: ignore[attr-defined]
            experiment.log({"report": wandb.Html(html(), inject=False)})
            logger.finalize("success")
        print(f"tracked: {folder / 'wandb'}")
    except Exception as fault:
        first = (str(fault).splitlines() or [type(fault).__name__])[0]
        print(f"warning: the comparison could not be tracked ({first})", file=sys.stderr)
