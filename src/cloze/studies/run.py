"""`python train.py sweeps=NAME` and `-m`: from the sentence to the table at the end."""

from __future__ import annotations

from collections.abc import Sequence

from cloze.errors import Preempted
from cloze.studies.record import StudyFolder
from cloze.studies.study import Study


def run(study: Study) -> int:
    """Runs what is not there yet; 0 where all of it is done in the end, 1 where a job failed.

    Raises Refusal where a job cannot be, before any is started; Preempted where a signal stopped it, once the jobs have ended.
    """
    if study.search is not None:
        from cloze.studies import search

        return search.run(study)
    from rich.console import Console

    from cloze.studies.jobs import check_all, jobs_of
    from cloze.studies.live import display, unfailing
    from cloze.studies.outcome import show
    from cloze.studies.supervisor import Supervisor

    checking = check_all(study, jobs_of(study))
    parallel, threads = shares(study, checking.accelerated, checking.threads, [job.devices for job in checking.jobs])
    console = Console()

    def say(line: str) -> None:
        with unfailing(console):
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    for remark in checking.remarks:
        say(f"note: {remark}")
    with StudyFolder(study, checking.jobs, checking.remarks) as folder:
        there = folder.count("done")
        expected = f", expected to take {study.minutes:g} minutes on two cores" if study.minutes and not there else ""
        say(
            f"{study.name}: {len(study.arms)} arms, seeds {', '.join(map(str, study.seeds))}: {len(checking.jobs)} jobs"
            + (f", {there} of them done" if there else expected)
            + f"; {parallel} at a time, in {study.folder}"
        )
        with display(folder, parallel, console) as live:
            stopped = Supervisor(folder, live, parallel, threads, study.retries).run()
        show(folder, console)
        if stopped is not None:
            done = f"{folder.count('done')} of {len(folder.jobs)} jobs done"
            raise Preempted(stopped, f"stopped, {done}; the same sentence again goes on from there")
        return 1 if folder.count("failed", "skipped") else 0


def shares(study: Study, accelerated: bool, threads: int | None, devices: Sequence[int]) -> tuple[int, int | None]:
    """How many jobs run at a time, and the threads for each: None where a job measures or says them itself.

    `threads` is what hardware.threads says. An accelerator is taken by one job at a time, unless more are asked for.
    """
    from cloze.training.hardware import cores

    able = 1 if accelerated else max(1, cores() // max(threads or 1, *devices, 1))
    parallel = min(study.parallel or able, len(devices))
    return parallel, None if threads is not None or parallel == 1 else max(1, cores() // parallel)
