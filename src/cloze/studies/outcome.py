"""What a study has found so far: `cloze compare` of its folder, and the jobs that did not end well."""

from __future__ import annotations

from rich.console import Console

from cloze.errors import Refusal
from cloze.studies.record import FILE, StudyFolder


def show(folder: StudyFolder, console: Console) -> None:
    """Prints the comparison, each job that failed with its reason and the last lines that it said, and where the record lies."""

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    if any(state.status == "done" for job in folder.jobs if (state := folder.states[job.name]) and not job.evaluation):
        from cloze.report import terminal
        from cloze.report.comparison import compare

        try:
            terminal.show(compare(folder.study.folder), console)
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
