"""What a study has found so far: `cloze compare` of its folder, and the jobs that did not end well."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from cloze.errors import Refusal, did_you_mean
from cloze.studies.jobs import Job
from cloze.studies.live import unfailing
from cloze.studies.record import FILE, StudyFolder


def show(folder: StudyFolder, console: Console) -> None:
    """Prints the comparison, each job that failed with its reason and the last lines that it said, and where the record lies."""

    def say(line: str) -> None:
        with unfailing(console):
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    if any(state.status == "done" for job in folder.jobs if (state := folder.states[job.name]) and not job.evaluation):
        from cloze.report import terminal
        from cloze.report.comparison import compare

        try:
            comparison = compare(folder.study.folder)
            with unfailing(console):
                terminal.show(comparison, console)
        except Refusal as fault:  # the study is done all the same
            say(f"no comparison: {fault}")
    for job in folder.jobs:
        state = folder.states[job.name]
        if state.status in ("failed", "skipped"):
            say(f"{state.status} {job.name}: {state.reason}")
            for line in state.log_tail.splitlines():
                say(f"    {line}")
        if state.status == "failed":
            say(f"    (all of it: {folder.study.folder / 'logs' / f'{job.name}.txt'})")
    say(f"record: {folder.study.folder / FILE}")


def unknown_metrics(folder: StudyFolder, job: Job) -> Iterator[str]:
    """Of the study's metrics that would be of such a job, those that its run has no figure of: found out before all others have run."""
    from cloze.report.collect import read

    figures = read(folder.folder(job)).figures
    for metric in folder.study.metrics:
        of, part, rest = metric.key.partition(":")
        evaluation, key = (of, rest) if part else (None, of)
        if figures and evaluation == job.evaluation and key not in figures:
            yield (
                f"{job.name} has no {key}{did_you_mean(key, figures)} It goes on, since other arms may have it; a metric that is mended "
                "in the study's file costs no new run"
            )
