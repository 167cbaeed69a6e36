"""What runs the jobs of a study: with jobs that only pretend to train, so that ends of all kinds cost nothing."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cloze.errors import Refusal, RunFailure
from cloze.report.comparison import Metric
from cloze.report.studies import read_study, trained
from cloze.studies.jobs import Job, jobs_of
from cloze.studies.live import Lines, LiveTable
from cloze.studies.outcome import show
from cloze.studies.record import StudyFolder
from cloze.studies.study import Study
from cloze.studies.supervisor import Supervisor

PRETEND = (sys.executable, str(Path(__file__).with_name("pretend.py")))
ACCURACY = (Metric("val/accuracy", "accuracy", True),)


def study_of(folder: Path, does: Mapping[str, str], **more: Any) -> Study:
    """An arm for each of the things that a job can do."""
    arms = {arm: (f"do={do}",) for arm, do in does.items()}
    return Study("test", folder / "study", (), arms, metrics=ACCURACY, **more)


@contextmanager
def held(study: Study) -> Iterator[StudyFolder]:
    with StudyFolder(study, jobs_of(study)) as folder:
        yield folder


def brought(study: Study, parallel: int = 4, **more: Any) -> tuple[StudyFolder, int | None, str]:
    """The study's folder after all jobs, the signal that stopped it, and what was said."""
    said = StringIO()
    with held(study) as folder:
        lines = Lines(folder, parallel, Console(file=said, width=200))
        stopped = Supervisor(folder, lines, parallel, command=PRETEND, retries=study.retries, **more).run()
    return folder, stopped, said.getvalue()


def recorded(study: Study) -> dict[str, dict[str, Any]]:
    content = json.loads((study.folder / "study.json").read_text(encoding="utf-8"))
    return {job["name"]: job for job in content["jobs"]}


ENDS = {
    "good": "finish", "raises": "raise", "exits": "exit", "exits well": "exit0", "killed": "kill", "no memory": "memory",
    "mistaken": "refuse", "also good": "finish",
}  # fmt: skip


def test_no_end_is_that_of_the_others_and_each_has_its_reason(tmp_path: Path) -> None:
    study = study_of(tmp_path, ENDS)
    _, stopped, said = brought(study)
    jobs = recorded(study)
    assert stopped is None
    assert {name for name, job in jobs.items() if job["status"] == "done"} == {"good-1", "also-good-1"}
    reasons = {name: job["reason"] for name, job in jobs.items() if job["status"] == "failed"}
    assert reasons["raises-1"] == "ValueError: no such thing"
    assert reasons["exits-1"] == "left with sys.exit(3) before its end"
    assert reasons["exits-well-1"] == "left with sys.exit(0) before its end"
    assert reasons["killed-1"].startswith("killed by SIGKILL") and "memory" in reasons["killed-1"]
    assert reasons["no-memory-1"].startswith("out of memory: MemoryError")
    assert reasons["mistaken-1"] == "do=refuse is not a setting"
    assert (jobs["killed-1"]["signal"], jobs["killed-1"]["exit_code"]) == (signal.SIGKILL, None)
    assert (jobs["exits-1"]["signal"], jobs["exits-1"]["exit_code"]) == (None, 3)
    assert "step 1, and then…" in jobs["killed-1"]["log_tail"]
    assert jobs["raises-1"]["log_tail"].endswith("runs/raises-1/log.txt)") and jobs["good-1"]["log_tail"] == ""
    assert "FAILED killed-1" in said and "step 1" not in said  # what jobs say is in their logs
    assert "step 1, and then…" in (study.folder / "logs" / "good-1.txt").read_text(encoding="utf-8")


def test_the_same_study_again_runs_only_what_is_missing(tmp_path: Path) -> None:
    study = study_of(tmp_path, {"good": "finish", "better the second time": "later", "killed": "kill"})
    brought(study)
    before = recorded(study)
    assert before["better-the-second-time-1"]["status"] == "failed"
    brought(study)
    after = recorded(study)
    assert after["good-1"] == before["good-1"]
    assert (after["better-the-second-time-1"]["status"], after["better-the-second-time-1"]["attempts"]) == ("done", 2)
    assert (after["killed-1"]["status"], after["killed-1"]["attempts"]) == ("failed", 2)
    assert "resume=auto" in json.loads((study.folder / "runs/killed-1/run.json").read_text())["words"]


def test_a_run_that_is_gone_is_run_again(tmp_path: Path) -> None:
    study = study_of(tmp_path, {"good": "finish"})
    brought(study)
    (study.folder / "runs/good-1/run.json").unlink()
    brought(study)
    assert recorded(study)["good-1"]["attempts"] == 2


def test_retries(tmp_path: Path) -> None:
    study = study_of(tmp_path, {"later": "later", "never": "raise", "mistaken": "refuse"}, retries=2)
    brought(study)
    jobs = recorded(study)
    assert {name: (job["status"], job["attempts"]) for name, job in jobs.items()} == {
        "later-1": ("done", 2), "never-1": ("failed", 3), "mistaken-1": ("failed", 1),
    }  # fmt: skip  # a mistake of the user's stays one


def test_a_run_is_its_arms_whatever_the_order_of_arms_whose_names_look_alike(tmp_path: Path) -> None:
    arms = {"a b": ("value=0.1",), "a-b": ("value=0.9",), "A b": ("value=0.5",), "x" * 70 + "1": (), "x" * 70 + "2": ()}
    study = replace(study_of(tmp_path, {}), arms=arms)
    brought(study)
    before = recorded(study)
    brought(replace(study, arms=dict(reversed(arms.items()))))
    assert recorded(study) == before
    for job in before.values():
        ran = json.loads((study.folder / job["folder"] / "run.json").read_text())["words"]
        assert set(arms[job["arm"]]) <= set(ran)
    assert len({name.lower() for name in before}) == 5


def test_a_job_that_was_asked_something_else_is_not_the_recorded_one(tmp_path: Path) -> None:
    study = study_of(tmp_path, {"good": "finish"}, after={"ner": ("value=0.1",)})
    brought(study)
    brought(replace(study, after={}))
    with held(replace(study, after={"ner": ("value=0.2",)})) as folder:
        assert folder.states["good-1"].status == "done" and folder.states["good-1-ner"].status == "waiting"


def test_evaluations_that_are_left_out_once_are_not_forgotten(tmp_path: Path) -> None:
    study = study_of(tmp_path, {"good": "finish"}, after={"ner": ("do=finish",), "pos": ("do=finish",)})
    brought(study)
    before = recorded(study)
    for after in ({"pos": ("do=finish",)}, {}):
        brought(replace(study, after=after))
        assert recorded(study) == before
        assert read_study(study.folder).evaluations == list(after)
        found, absent = trained(read_study(study.folder))
        assert list(found["good"][0].evaluations) == list(after) and not absent["good"]
    moved = study.folder.rename(tmp_path / "moved")
    again = replace(study, folder=moved)  # and the runs that they start from lie elsewhere now
    brought(again)
    assert {name: job["attempts"] for name, job in recorded(again).items()} == dict.fromkeys(before, 1)


def test_an_evaluation_follows_its_run_and_is_left_out_where_that_failed(tmp_path: Path) -> None:
    study = study_of(tmp_path, {"good": "finish", "raises": "raise"}, seeds=(1, 2), after={"ner": ("do=finish",)})
    _, _, said = brought(study, parallel=1)
    jobs = recorded(study)
    assert [name for name, job in jobs.items() if job["status"] == "done"] == [
        "good-1",
        "good-1-ner",
        "good-2",
        "good-2-ner",
    ]
    assert jobs["raises-1-ner"]["status"] == "skipped" and jobs["raises-1-ner"]["reason"].startswith(
        "raises-1, whose model"
    )
    words = json.loads((study.folder / "runs/good-2-ner/run.json").read_text())["words"]
    assert f"init={study.folder}/runs/good-2" in words and "seed=2" in words
    order = [line.split()[1] for line in said.splitlines() if line.startswith("started")]
    assert order.index("good-1-ner") == order.index("good-1") + 1  # as soon as it can


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_jobs_and_the_same_study_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    study = study_of(tmp_path, {"waits": "wait", "good": "finish"})
    before = signal.getsignal(number)

    def stop() -> None:
        deadline = time.monotonic() + 60
        while not (study.folder / "runs/waits-1/waits").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=stop)
    thread.start()
    _, stopped, said = brought(study, parallel=1)
    thread.join()
    assert stopped == number and signal.getsignal(number) == before
    jobs = recorded(study)
    assert jobs["waits-1"]["status"] == jobs["good-1"]["status"] == "waiting"
    assert (
        jobs["waits-1"]["reason"] == f"stopped by {number.name}; the same sentence goes on"
        and "started good" not in said
    )
    _, stopped, _ = brought(study)
    assert stopped is None and {job["status"] for job in recorded(study).values()} == {"done"}


def test_nothing_of_a_rank_comes_to_a_job_and_threads_are_shared_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "CLOZE_RUN_FOLDER", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "0")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    study = study_of(tmp_path, {"good": "finish"})
    with held(study) as folder:
        supervisor = Supervisor(folder, Lines(folder, 1, Console(file=StringIO())), 1, threads=3, command=PRETEND)
        environment = supervisor._environment(replace(folder.jobs[0], devices=2))
        supervisor.run()
    assert not {"RANK", "LOCAL_RANK", "WORLD_SIZE", "CLOZE_RUN_FOLDER", "TORCHELASTIC_RUN_ID"} & environment.keys()
    assert (
        environment["OMP_NUM_THREADS"] == "1" and environment["OMP_WAIT_POLICY"] == "PASSIVE"
    )  # three for two processes
    facts = json.loads((study.folder / "runs/good-1/run.json").read_text())
    assert (facts["threads"], facts["rank"], facts["stdin"]) == ("3", None, "")


def test_no_more_at_a_time_than_asked_for(tmp_path: Path) -> None:
    study = study_of(tmp_path, dict.fromkeys("abcde", "finish"))
    most = 0

    class Counting(Lines):
        def look(self, running: Mapping[str, Any]) -> None:
            nonlocal most
            most = max(most, len(running))

    with held(study) as folder:
        Supervisor(folder, Counting(folder, 2, Console(file=StringIO())), 2, command=PRETEND).run()
    assert most == 2 and folder.count("done") == 5


def in_folder(run: Path, seconds: float) -> subprocess.Popen[bytes]:
    """A process that has a run's lock for a while, as one does that a killed study left behind."""
    run.mkdir(parents=True)
    program = (
        "import json, sys, time; from pathlib import Path; from cloze.folder import RunFolder\n"
        "folder = RunFolder(Path(sys.argv[1])); folder.lock()\n"
        "(folder.path / 'run.json').write_text(json.dumps({'status': 'running'})); time.sleep(float(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(run), str(seconds)])
    waited_for(run / "run.json")
    return process


def test_a_job_waits_for_what_a_killed_study_left_in_its_folder_and_the_others_do_not(tmp_path: Path) -> None:
    study = study_of(tmp_path, {"left": "finish", "good": "finish"})
    process = in_folder(study.folder / "runs/left-1", 2.0)
    (study.folder / "study.json").write_text(json.dumps({**StudyFolder(study, jobs_of(study)).content(), "jobs": []}))
    _, _, said = brought(study, parallel=1)
    process.wait()
    told = [line.partition(" (")[0].partition(" in ")[0] for line in said.splitlines()]
    assert told[0].startswith(f"left-1 waits for process {process.pid} on ")
    assert told[1:] == ["started good-1", "done good-1", "started left-1", "done left-1"]


@pytest.mark.parametrize("trains", [True, False])
def test_a_folder_that_stays_in_use_fails_its_job_and_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trains: bool
) -> None:
    monkeypatch.setattr("cloze.studies.supervisor.PATIENCE", 0.3)
    study = study_of(tmp_path, {"left": "finish"})
    process = in_folder(study.folder / "runs/left-1", 60.0)
    (study.folder / "study.json").write_text(json.dumps({**StudyFolder(study, jobs_of(study)).content(), "jobs": []}))
    with StudyFolder(study, [replace(job, trains=trains) for job in jobs_of(study)]) as folder:
        Supervisor(folder, Lines(folder, 1, Console(file=StringIO())), 1, command=PRETEND).run()
    process.kill()
    process.wait()
    job = recorded(study)["left-1"]
    assert job["status"] == "failed" and f"left-1 is still in use by process {process.pid} on" in job["reason"]
    assert (study.folder / "runs/left-1/run.json").exists() and not (study.folder / "logs/left-1.txt").exists()


def test_a_job_that_cannot_be_started_is_a_failed_one(tmp_path: Path) -> None:
    study = study_of(tmp_path, {"good": "finish", "also": "finish"})
    with held(study) as folder:
        (study.folder / "logs/also-1.txt").mkdir()
        no_such = (str(tmp_path / "python"),)
        assert Supervisor(folder, Lines(folder, 1, Console(file=StringIO())), 1, command=no_such).run() is None
    reasons = {name: (job["status"], job["reason"]) for name, job in recorded(study).items()}
    assert reasons["good-1"] == ("failed", f"could not be started: {tmp_path}/python: No such file or directory")
    assert reasons["also-1"][0] == "failed" and reasons["also-1"][1].endswith("also-1.txt: Is a directory")


def test_a_record_that_cannot_be_written_stops_the_jobs_and_ends_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(tmp_path, {"waits": "wait", "good": "finish", "never": "finish"})

    class Filling(Lines):
        def began(self, job: Job, attempt: int) -> None:
            if job.name == "waits-1":
                waited_for(study.folder / "runs/waits-1/waits")
                monkeypatch.setattr("cloze.models.storage.write_json", full)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RunFailure) as failure, held(study) as folder:
        Supervisor(folder, Filling(folder, 2, Console(file=StringIO())), 2, command=PRETEND).run()
    assert str(failure.value).startswith(f"{study.folder}/study.json cannot be written (No space left on device)")
    assert json.loads((study.folder / "runs/waits-1/run.json").read_text())["status"] == "preempted"
    assert not (study.folder / "runs/good-1").exists() and not (study.folder / "runs/never-1").exists()
    monkeypatch.undo()
    brought(study)
    assert {job["status"] for job in recorded(study).values()} == {"done"}


def test_a_record_that_cannot_be_written_while_the_jobs_are_stopping_is_no_second_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise RunFailure("the disk is full")

    with held(study_of(tmp_path, {"good": "finish"})) as folder:
        supervisor = Supervisor(folder, Lines(folder, 1, Console(file=StringIO())), 1, command=PRETEND)
        supervisor.signals.append(signal.SIGINT)
        monkeypatch.setattr(folder, "write", full)
        with pytest.raises(RunFailure, match="the disk is full"):
            supervisor.run()
    assert supervisor.signals == [signal.SIGINT]


@pytest.mark.parametrize("display", [Lines, LiveTable])
@pytest.mark.parametrize("fault", [OSError(errno.EIO, "Input/output error"), BrokenPipeError()])
def test_jobs_go_on_where_nobody_is_left_to_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: OSError, display: type[Lines]
) -> None:
    gone: list[bool] = []

    class Gone(StringIO):
        def write(self, text: str) -> int:
            if not gone:
                return len(text)
            raise fault

    monkeypatch.setattr("os.dup2", lambda *_: None)  # of rich's, which is about this process's own output
    study = study_of(tmp_path, {"good": "finish", "also": "finish", "raises": "raise"})
    console = Console(file=Gone(), force_terminal=True)
    with held(study) as folder:
        with display(folder, 1, console) as live:
            gone.append(True)
            assert Supervisor(folder, live, 1, command=PRETEND).run() is None
        show(folder, console)
    assert [job["status"] for job in recorded(study).values()] == ["done", "done", "failed"]


@pytest.mark.parametrize("method", ["ended", "look"])
def test_a_fault_of_ours_leaves_the_jobs_their_checkpoints(tmp_path: Path, method: str) -> None:
    study = study_of(tmp_path, {"waits": "wait", "good": "finish", "never": "finish"})

    class Faulty(Lines):
        def began(self, job: Job, attempt: int) -> None:
            if job.name == "waits-1":
                waited_for(study.folder / "runs/waits-1/waits")

    def fail(*_: Any) -> None:
        raise KeyError("a mistake")

    setattr(Faulty, method, fail)
    with held(study) as folder, pytest.raises(KeyError, match="a mistake"):
        Supervisor(folder, Faulty(folder, 2, Console(file=StringIO())), 2, command=PRETEND).run()
    assert json.loads((study.folder / "runs/waits-1/run.json").read_text())["status"] == "preempted"
    jobs = recorded(study)
    assert jobs["waits-1"]["status"] == jobs["never-1"]["status"] == "waiting" and not jobs["never-1"]["attempts"]
    brought(study)
    assert {job["status"] for job in recorded(study).values()} == {"done"}


def test_a_metric_that_no_run_has_is_told_when_the_first_of_its_kind_is_done(tmp_path: Path) -> None:
    keys = ("val/acuracy", "ner:val/accuracy", "ner:score/test/f1")
    study = replace(
        study_of(tmp_path, {"good": "finish", "also": "finish"}, after={"ner": ("do=finish",)}),
        metrics=tuple(Metric(key, key, True) for key in keys),
    )
    _, _, said = brought(study, parallel=1)
    notes = [line.partition(" It goes on")[0] for line in said.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: good-1 has no val/acuracy; did you mean val/accuracy? Accepted: val/accuracy.",
        "note: good-1-ner has no score/test/f1. Accepted: val/accuracy.",
    ]
    assert said.index(notes[0]) < said.index("started also-1")


# --- the folder --------------------------------------------------------------------------------------------------------------


def test_a_study_of_other_words_is_refused_with_what_differs(tmp_path: Path) -> None:
    study = replace(study_of(tmp_path, {"good": "finish", "other": "finish"}), words=("value=0.5", "tracking=none"))
    brought(study)

    def refused(**changes: Any) -> str:
        with pytest.raises(Refusal) as refusal, held(replace(study, **changes)):
            pass
        return str(refusal.value)

    assert "words: value=0.5 there, value=0.6 now" in refused(words=("value=0.6", "tracking=none"))
    assert "other, arms: do=finish there, do=raise now" in refused(arms={**study.arms, "other": ("do=raise",)})
    assert "arms: new is only here" in refused(arms={**study.arms, "new": ()})
    assert "with seed 1 too: say sweeps.seeds=[1,2]" in refused(seeds=(2,))
    with held(replace(study, seeds=(1, 2), words=("value=0.5", "hardware.threads=1"), baseline="good")) as folder:
        assert folder.count("done") == 2 and folder.count("waiting") == 2  # more seeds go on with what is there


def test_two_processes_do_not_share_a_study(tmp_path: Path) -> None:
    study = study_of(tmp_path, {"good": "finish"})
    with held(study):
        program = (
            "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
            "from test_supervisor import *\n"
            "with held(study_of(Path(sys.argv[1]), {'good': 'finish'})): pass"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert f"is in use by process {os.getpid()}" in done.stderr


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(Refusal, match="cannot be written: File name too long"),
        held(study_of(tmp_path / ("n" * 300), {})),
    ):
        pass


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.tex").touch()
    with pytest.raises(Refusal, match="is not empty and holds no study"), held(study_of(tmp_path, {"good": "finish"})):
        pass


# --- what is shown -----------------------------------------------------------------------------------------------------------


def test_the_live_table_shows_where_each_job_is(tmp_path: Path) -> None:
    study = study_of(tmp_path, {"waits": "wait", "raises": "raise", "good": "finish"})
    said = StringIO()
    console = Console(file=said, width=120, height=30, force_terminal=True)
    drawn = []

    class Watching(LiveTable):
        def look(self, running: Mapping[str, Any]) -> None:
            super().look(running)
            if running.get("waits-1") and running["waits-1"].step and folder.count("failed", "done") == 2:
                text = StringIO()
                Console(file=text, width=120).print(self.drawn())
                drawn.append(text.getvalue())
                supervisor.signals.append(signal.SIGTERM)

    with held(study) as folder, Watching(folder, 2, console) as live:
        supervisor = Supervisor(folder, live, 2, command=PRETEND)
        supervisor.run()
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in drawn[0].splitlines()}
    assert rows["waits-1"] == "running 5 of 10 2.500 1 s"
    assert rows["raises-1"] == "failed" and rows["good-1"] == "done"
    assert "test: 1 of 3 done, 1 failed; about" in drawn[0]


def test_lines_tell_of_progress_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloze.studies.live.EVERY", 0.0)
    study = study_of(tmp_path, {"good": "later"}, retries=1)
    _, _, said = brought(study)
    assert "started good-1, attempt 2" in said and "0 of 1 done; good-1" in said and "done good-1 in" in said
    with held(replace(study, folder=tmp_path / "all of it waits")) as folder:
        Lines(folder, 1, Console(file=(alone := StringIO()))).look({})
    assert alone.getvalue() == "0 of 1 done\n"


# --- the end of the one that runs them -----------------------------------------------------------------------------------------


def test_jobs_end_with_a_study_that_is_killed(tmp_path: Path) -> None:
    job = (
        "import signal, sys, time; from pathlib import Path; from cloze.environment import prepare\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (Path({str(tmp_path / 'ended')!r}).touch(), sys.exit(143)))\n"
        f"prepare(); Path({str(tmp_path / 'began')!r}).touch(); time.sleep(60)"
    )
    study = (
        "import os, subprocess, sys, time; from cloze.environment import STUDY_VARIABLE\n"
        "own = os.environ | {STUDY_VARIABLE: str(os.getpid())}\n"
        "subprocess.Popen([sys.executable, '-c', sys.argv[1]], start_new_session=True, env=own)\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", study, job])
    waited_for(tmp_path / "began")
    process.kill()
    process.wait()
    waited_for(tmp_path / "ended")


def waited_for(path: Path, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)
