"""A search: what its file may say, what it proposes, what it stops early, and that it goes on where it was stopped."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages._cached_storage import _CachedStorage
from rich.console import Console

from cloze import cli
from cloze.compose import parse
from cloze.errors import Refusal, RunFailure
from cloze.folder import RunFolder
from cloze.report.comparison import Metric
from cloze.studies import search as searching
from cloze.studies import space
from cloze.studies.file import read, shipped
from cloze.studies.jobs import Job
from cloze.studies.live import Lines
from cloze.studies.search import SearchFolder, SearchSupervisor
from cloze.studies.study import Study, from_file
from cloze.studies.trials import Trials, Tried
from tests.studies.test_supervisor import in_folder

ACCURACY = Metric("val/accuracy", "accuracy", True)
PRETEND = (sys.executable, str(Path(__file__).with_name("trial.py")))
X = {"x": {"low": 0.0, "high": 1.0}}


def search_of(trials: int = 6, of: Mapping[str, Any] | None = None, **more: Any) -> space.Search:
    return space.read({"trials": trials, "space": of or X, **more}, "mine.yaml")


def brought(
    folder: Path,
    search: space.Search,
    words: tuple[str, ...] = (),
    parallel: int = 2,
    stop_at: int | None = None,
    retries: int = 0,
    metric: Metric = ACCURACY,
) -> tuple[dict[str, dict[str, Any]], int | None, str]:
    """The trials as study.json has them, the signal that stopped the search, and what was said. `stop_at`: once so many are over."""
    study = Study("test", folder, words, {"runs": ()}, metrics=(metric,), search={"space": {}})
    said = StringIO()
    console = Console(file=said, width=200)
    with SearchFolder(study, search, Job("", "", 1, Path(), (*words, "seed=1"))) as held:
        supervisor = SearchSupervisor(held, Lines(held, parallel, console), parallel, None, retries, PRETEND)
        if stop_at is not None:
            threading.Thread(target=stopping, args=(folder, stop_at), daemon=True).start()
        stopped = supervisor.run()
        searching.show(held, console)
    content = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    assert content["arms"].keys() == {job["name"] for job in content["jobs"] if job["words"]}
    return {job["name"]: job for job in content["jobs"]}, stopped, said.getvalue()


def stopping(folder: Path, over: int) -> None:
    while True:
        time.sleep(0.02)
        jobs = json.loads((folder / "study.json").read_text(encoding="utf-8"))["jobs"] if folder.exists() else []
        running = [job for job in jobs if job["status"] == "running"]
        begun = all(list(RunFolder(folder / job["folder"]).points()) for job in running)
        if sum(job["status"] == "done" for job in jobs) >= over and len(running) == 2 and begun:
            os.kill(os.getpid(), signal.SIGTERM)
            return


def statuses(jobs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [str(job["status"]) for _, job in sorted(jobs.items())]


# --- the space -----------------------------------------------------------------------------------------------------------------


def test_what_is_said_becomes_what_optuna_knows() -> None:
    found = search_of(
        of={
            "rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "dropout": {"low": 0.0, "high": 0.3, "step": 0.1},
            "layers": {"low": 1, "high": 4},
            "width": {"low": 32, "high": 128, "step": 32},
            "schedule": {"choices": ["linear", "cosine"]},
            "filters": {"choices": [[1, 2], [[3, 4]], None, True, 0.5]},
        }
    ).space
    assert found["rate"] == optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)
    assert found["dropout"] == optuna.distributions.FloatDistribution(0.0, 0.3, step=0.1)
    assert found["layers"] == optuna.distributions.IntDistribution(1, 4)
    assert found["width"] == optuna.distributions.IntDistribution(32, 128, step=32)
    assert found["schedule"] == optuna.distributions.CategoricalDistribution(["linear", "cosine"])
    assert space.ends(found["filters"]) == ["[1,2]", "[[3,4]]", None, True, 0.5]
    assert space.ends(found["layers"]) == [1, 4]


@pytest.mark.parametrize(
    ("value", "word"),
    [(0.30000000000000004, "0.3"), (0.00123456789, "0.00123457"), (1.0, "1.0"), (3, "3"), (None, "null"), (True, "true"),
     (2.5e-7, "2.5e-07"), ("linear", "linear"), ("it's", r"'it\'s'"), ("x,y", "'x,y'")],
)  # fmt: skip
def test_values_as_words(value: Any, word: str) -> None:
    assert space.written(value) == word


def test_choices_come_to_the_run_as_they_are() -> None:
    choices = ["it's", "x,y", "a b", ["it's", "x,y"], {"a": ["x,y"]}, "linear"]
    search = search_of(of={"x": {"choices": choices}})
    words = [search.words({"x": value})[0] for value in space.ends(search.space["x"])]
    assert [override.value() for override in parse(words)] == choices


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"space": X}, r"mine\.yaml: search\.trials is missing"),
        ({"trials": 0, "space": X}, r"search\.trials=0 must be a whole number from 1"),
        ({"trials": 3}, r"search\.space must name at least one key"),
        ({"trials": 3, "space": X, "sampller": "tpe"}, r"search\.sampller is not a setting; did you mean sampler\?"),
        ({"trials": 3, "space": X, "sampler": "tpee"}, r"search\.sampler=tpee is not there; did you mean tpe\?"),
        ({"trials": 3, "space": X, "pruner": "medain"}, r"did you mean median\?"),
        ({"trials": 3, "space": X, "seed": -1}, r"search\.seed=-1 must be a whole number from 0"),
        (7, r"search=7 must say trials: and space:"),
        ({"trials": 3, "space": {"x": [1, 2]}}, r"search\.space\.x=\[1, 2\] must be \{low: …, high: …\}.*\{choices: …?\["),
        ({"trials": 3, "space": {"x": {"low": 1}}}, r"search\.space\.x=.* must be \{low: …, high: …\}"),
        ({"trials": 3, "space": {"x": {"low": 2, "high": 1}}}, r"search\.space\.x: low=2 must lie below high=1"),
        ({"trials": 3, "space": {"x": {"low": 0, "high": 1, "log": True}}}, r"search\.space\.x\.low=0 must be above 0 where log"),
        ({"trials": 3, "space": {"x": {"low": 1, "high": 9, "log": True, "step": 2}}}, "log and step are one too many"),
        ({"trials": 3, "space": {"x": {"low": 1, "high": 2, "step": 3}}}, r"search\.space\.x\.step=3 must lie above 0"),
        ({"trials": 3, "space": {"x": {"low": "1e-4", "high": 1.0}}}, r"low='1e-4' is a text: .* 1\.0e-04"),
        ({"trials": 3, "space": {"x": {"low": True, "high": 2}}}, r"search\.space\.x\.low=True must be a number"),
        ({"trials": 3, "space": {"x": {"low": 0, "hihg": 2, "high": 1}}}, r"hihg is not a setting; did you mean high\?"),
        ({"trials": 3, "space": {"x": {"choices": [1]}}}, r"search\.space\.x\.choices=\[1\] must be a list of at least two"),
        ({"trials": 3, "space": {"x": {"choices": [1, "1"]}}}, r"search\.space\.x\.choices: 1 is there twice"),
        ({"trials": 3, "space": {"x": {"choices": [1, 2], "log": True}}}, r"search\.space\.x\.log has no effect beside choices"),
        ({"trials": 3, "space": {"seed": {"low": 1, "high": 9}}}, r"search\.space\.seed cannot be searched: seeds has the seeds"),
        ({"trials": 3, "space": {"+output_dir": {"choices": ["a", "b"]}}}, r"\+output_dir cannot be searched: the study has the folders"),
        ({"trials": 3, "space": {"resume": {"choices": ["auto", "x"]}}}, r"resume cannot be searched: the same sentence again goes on"),
        ({"trials": 3, "space": {"plan": {"choices": [True, False]}}}, r"plan cannot be searched: it looks at one run"),
        ({"trials": 3, "space": {"tracking.group": {"choices": ["a", "b"]}}}, r"tracking\.group cannot be searched: expected a setting"),
        ({"trials": 3, "space": {"~schedule": {"choices": ["a", "b"]}}}, "~schedule cannot be searched: expected a setting that decides"),
        ({"trials": 3, "space": {**X, "++x": {"choices": [1, 2]}}}, r"search\.space\.\+\+x is there twice: x is the same setting"),
    ],
)  # fmt: skip
def test_a_space_that_cannot_be_is_refused(said: Any, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        space.read(said, "mine.yaml")


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(Refusal) as fault:
        space.read({"trials": 0, "space": {"x": {}, "y": {"low": 2, "high": 1}}, "pruner": "x"}, "mine.yaml")
    assert len(str(fault.value).splitlines()) == 4


# --- Optuna's part ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sampler", [pytest.param(each, marks=[pytest.mark.slow] * (each == "gp")) for each in space.SAMPLERS]
)
def test_a_search_that_was_interrupted_proposes_what_it_would_have(tmp_path: Path, sampler: str) -> None:
    def came_to(file: Path, reopened: bool) -> list[tuple[str, ...]]:
        search = search_of(5, {**X, "kind": {"choices": ["good", "bad"]}}, sampler=sampler)
        trials = Trials(search, ACCURACY, file)
        for number in range(5):
            if reopened and number in (2, 4):
                trials = Trials(search, ACCURACY, file)
            tried = trials.next()
            assert tried is not None and tried.number == number
            trials.end(tried, "done", float(tried.words[0].partition("=")[2]), "")
        assert trials.next() is None
        return [tried.words for tried in trials.all()]

    words = came_to(tmp_path / "a.db", reopened=False)
    assert words == came_to(tmp_path / "b.db", reopened=True)
    assert len({each[0] for each in words}) >= 3


def test_it_finds_what_is_best(tmp_path: Path) -> None:
    """Once TPE has something to go by, it looks nearer to the lowest point of a parabola than chance does."""
    tried_late = {}
    for sampler in ("tpe", "random"):
        search = search_of(18, {"x": {"low": -10.0, "high": 10.0}}, sampler=sampler)
        trials = Trials(search, Metric("loss", "loss", False), tmp_path / f"{sampler}.db")
        while (tried := trials.next()) is not None:
            x = float(tried.words[0].partition("=")[2])
            trials.end(tried, "done", (x - 3.0) ** 2, "")
        values = [tried.value for tried in trials.all() if tried.value is not None]
        best = trials.best()
        assert best is not None and len(values) == 18 and best.value == min(values)
        tried_late[sampler] = sorted(values[-8:])[4]
    assert tried_late["tpe"] < 0.5 * tried_late["random"]


def test_what_matters_is_told_from_what_does_not(tmp_path: Path) -> None:
    of = {"x": {"low": 0.0, "high": 1.0}, "y": {"low": 0.0, "high": 1.0}}
    trials = Trials(search_of(12, of, sampler="random"), ACCURACY, tmp_path / "s.db")
    assert trials.importance() == {}
    while (tried := trials.next()) is not None:
        x, y = (float(word.partition("=")[2]) for word in tried.words)
        trials.end(tried, "done", x + 0.01 * y, "")
    found = trials.importance()
    assert sum(found.values()) == pytest.approx(1.0) and found["x"] > 0.8


def test_another_search_in_the_same_place_is_refused(tmp_path: Path) -> None:
    Trials(search_of(3), ACCURACY, tmp_path / "s.db", {"words": ["a=1"]})
    Trials(search_of(9, pruner="none"), ACCURACY, tmp_path / "s.db", {"words": ["a=1"]})  # more of the same
    with pytest.raises(Refusal, match=r"words \(\['a=1'\] there, \['a=2'\] here\)"):
        Trials(search_of(3), ACCURACY, tmp_path / "s.db", {"words": ["a=2"]})
    with pytest.raises(Refusal, match="holds another search than this one: space"):
        Trials(search_of(3, {"x": {"low": 0.0, "high": 2.0}}), ACCURACY, tmp_path / "s.db", {"words": ["a=1"]})


def test_the_other_direction_is_another_search(tmp_path: Path) -> None:
    Trials(search_of(3), Metric("val/accuracy", "accuracy", False), tmp_path / "s.db")
    memory = optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path / 's.db'}")
    assert (
        "higher_is_better" not in memory.user_attrs["asked"]
    )  # Optuna keeps it, so older files are held against it as well
    with pytest.raises(
        Refusal, match=r"another search than this one: higher_is_better \(False there, True here\)\. Say output_dir"
    ):
        Trials(search_of(3), ACCURACY, tmp_path / "s.db")
    Trials(search_of(3), Metric("val/accuracy", "accuracy", False), tmp_path / "s.db")


def test_a_trial_that_a_kill_left_half_proposed_is_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = search_of(3, {**X, "y": {"low": 0.0, "high": 1.0}, "z": {"choices": [1, 2]}})
    store = _CachedStorage.set_trial_param

    def killed(self: Any, trial_id: int, name: str, *rest: Any) -> None:
        if name == "y":
            raise KeyboardInterrupt
        store(self, trial_id, name, *rest)

    trials = Trials(search, ACCURACY, tmp_path / "s.db")
    with monkeypatch.context() as patched:
        patched.setattr(_CachedStorage, "set_trial_param", killed)
        with pytest.raises(KeyboardInterrupt):
            trials.next()
    (half,) = optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path / 's.db'}").trials
    assert list(half.params) == ["x"]
    trials = Trials(search, ACCURACY, tmp_path / "s.db")
    (tried,) = trials.all()
    assert tried.outcome == "running" and [word.partition("=")[0] for word in tried.words] == ["x", "y", "z"]
    assert tried.words[0] == f"x={space.written(half.params['x'])}"
    assert Trials(search, ACCURACY, tmp_path / "s.db").all() == [tried]
    assert trials.end(tried, "done", 1.0, "").outcome == "done"


def test_what_the_memory_cannot_do_is_one_sentence_that_names_the_file(tmp_path: Path) -> None:
    trials = Trials(search_of(3), ACCURACY, tmp_path / "s.db")
    tried = trials.next()
    assert tried is not None
    with sqlite3.connect(tmp_path / "s.db") as memory:
        memory.execute("drop table trials")
    told = rf"{tmp_path}/s\.db, the search's memory, cannot be used \(no such table: trials\): the search is stopped"
    point = {"step": 1.0, "val/accuracy": 1.0}
    for method in (
        trials.next,
        trials.all,
        lambda: trials.note(tried, [point]),
        lambda: trials.end(tried, "done", 1.0, ""),
    ):
        with pytest.raises(RunFailure, match=told):
            method()
    (tmp_path / "other.db").write_text("no database", encoding="utf-8")
    with pytest.raises(RunFailure, match=r"other\.db, the search's memory, cannot be used \(file is not a database\)"):
        Trials(search_of(3), ACCURACY, tmp_path / "other.db")


@pytest.mark.parametrize("pruner", space.PRUNERS)
def test_what_is_worse_than_the_others_is_hopeless(tmp_path: Path, pruner: str) -> None:
    trials = Trials(search_of(20, pruner=pruner, sampler="random"), ACCURACY, tmp_path / "s.db")
    stopped = []
    for worth in (0.9, 0.9, 0.9, 0.9, 0.9, 0.1, 0.95, 0.1, 0.1, 0.1):
        tried = trials.next()
        assert tried is not None
        points: list[dict[str, float]] = []
        early = False
        for step in range(1, 5):
            points.append({"step": 10.0 * step, "val/accuracy": worth + 0.001 * step})
            points.append({"step": 10.0 * step, "train/loss": 1.0})
            if early := trials.hopeless(tried, points):
                break
            assert not trials.hopeless(tried, points)  # there is nothing new to go by
        stopped.append(early)
        ended = trials.end(tried, "pruned" if early else "done", None if early else worth, "")
        assert ended.value == pytest.approx(points[-2]["val/accuracy"] if early else worth)
    bad = [stopped[number] for number in (5, 7, 8, 9)]
    assert all(bad) if pruner == "median" else any(bad) == (pruner == "hyperband")
    assert pruner == "hyperband" or sum(stopped) == sum(bad)


# --- with jobs -------------------------------------------------------------------------------------------------------------------


def test_failed_trials_never_end_a_search_and_bad_ones_are_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # so that a bad one is looked at when it has said all that it says, however fast it goes
    monkeypatch.setattr(searching, "_size", lambda file: lines(file) if lines(file) >= 3 else 0)
    kinds = ["good", "raise", "good", "nan", "good", "bad", "good"]
    search = search_of(7, {"x": {"low": 0.5, "high": 1.0}, "cells": {"choices": [["a"], ["b"]]}}, sampler="random")
    jobs, stopped, said = brought(tmp_path / "study", search, (f"kinds={'-'.join(kinds)}",), parallel=1)
    assert stopped is None
    ends = {"good": "done", "raise": "failed", "nan": "failed", "bad": "pruned"}
    assert statuses(jobs) == [ends[kind] for kind in kinds]
    by_kind = dict(zip(kinds, jobs.values(), strict=True))
    assert by_kind["raise"]["reason"] == "the loss is not a number"
    assert by_kind["nan"]["reason"] == "the run has no val/accuracy"
    bad = by_kind["bad"]
    assert bad["reason"] == "stopped early at step 30: others were better by then (median)"
    assert bad["exit_code"] == 128 + signal.SIGTERM
    facts = json.loads((tmp_path / "study" / bad["folder"] / "run.json").read_text(encoding="utf-8"))
    assert facts["status"] == "preempted"
    # the best one's sentence is the sentence of that job
    best = max((job for job in jobs.values() if job["status"] == "done"), key=lambda job: float(words_of(job)["x"]))
    assert f"best: {best['name']}, accuracy {float(words_of(best)['x']) + 0.004:.4f}" in said
    line = next(line for line in said.splitlines() if line.strip().startswith("python train.py"))
    assert shlex.split(line)[2:] == best["words"]
    rows = [line for line in said.splitlines() if "trial-" in line and "│" in line]
    assert best["name"] in rows[0] and "stopped early" in rows[4] and all("failed: " in row for row in rows[5:])
    assert words_of(best)["cells"] in rows[0]  # [a] and [b], which rich would take for its own marks
    assert "go back to: x" in said


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def words_of(job: Mapping[str, Any]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in job["words"])


def test_a_search_that_is_stopped_goes_on(tmp_path: Path) -> None:
    folder, go_on = tmp_path / "study", tmp_path / "go-on"
    words = ("kinds=late", f"wait={go_on}")
    go_on.touch()
    over, _, _ = brought(folder, search_of(2, pruner="none"), words)
    assert statuses(over) == ["done"] * 2
    go_on.unlink()
    jobs, stopped, _ = brought(folder, search_of(5, pruner="none"), words, stop_at=2)
    assert stopped == signal.SIGTERM and statuses(jobs) == ["done"] * 2 + ["waiting"] * 3
    begun = [name for name, job in jobs.items() if job["status"] == "waiting" and job["words"]]
    assert begun == ["trial-002", "trial-003"]
    go_on.touch()
    again, stopped, said = brought(folder, search_of(5, pruner="none"), words)
    assert stopped is None and statuses(again) == ["done"] * 5 and "5 of 5 done" in said
    assert {name: again[name] for name in over} == over  # nothing was run twice
    for name in begun:
        facts = json.loads((folder / "runs" / name / "run.json").read_text(encoding="utf-8"))
        assert facts["from_validation"] > 0 and "resume=auto" in facts["words"]
        assert again[name]["attempts"] == 2 and again[name]["words"] == jobs[name]["words"]


def test_a_search_that_was_left_before_its_first_trial_goes_on(tmp_path: Path) -> None:
    study = Study("test", tmp_path / "study", (), {"runs": ()}, metrics=(ACCURACY,), search={"space": {}})
    with SearchFolder(study, search_of(1), Job("", "", 1, Path(), ("seed=1",))):
        pass
    jobs, _, _ = brought(tmp_path / "study", search_of(1))
    assert statuses(jobs) == ["done"]


@pytest.mark.parametrize("key", ["x", "+x", "++x"])
def test_a_trial_has_its_own_value_of_what_is_searched_and_what_checking_added(tmp_path: Path, key: str) -> None:
    study = Study("test", tmp_path, ("kinds=good",), {"runs": ()}, metrics=(ACCURACY,), search={"space": {}})
    example = Job("", "", 1, Path(), ("kinds=good", f"{key}=0.0", "seed=1", "tracking.group=test"))
    with SearchFolder(study, search_of(1, {key: {"low": 0.0, "high": 1.0}}), example) as folder:
        tried = folder.trials.next()
        assert tried is not None
        assert folder.put(tried).words == ("kinds=good", *tried.words, "seed=1", "tracking.group=test")


def test_a_metric_that_no_run_has_ends_the_search_with_the_first_run_that_is_done(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    words = (
        "kinds=late-bad",
        f"wait={folder / 'runs/trial-001/metrics.jsonl'}",
    )  # the first ends when the second has begun
    told = r"^test: metrics: val/acuracy is not a figure of trial-000, which is done; did you mean val/accuracy\? Accepted: val/accuracy\.$"
    with pytest.raises(Refusal, match=told):
        brought(folder, search_of(6, pruner="none"), words, metric=Metric("val/acuracy", "accuracy", True))
    jobs = {job["name"]: job for job in json.loads((folder / "study.json").read_text(encoding="utf-8"))["jobs"]}
    assert (
        statuses(jobs) == ["failed"] + ["waiting"] * 5
        and [job["attempts"] for job in jobs.values()] == [1, 1] + [0] * 4
    )
    facts = json.loads((folder / "runs/trial-001/run.json").read_text(encoding="utf-8"))
    assert facts["status"] == "preempted"  # the other was stopped with a checkpoint


def test_a_run_whose_figure_is_no_number_in_the_end_does_not_end_the_search(tmp_path: Path) -> None:
    jobs, _, _ = brought(tmp_path / "study", search_of(2), ("kinds=nan-good",), parallel=1)
    assert statuses(jobs) == ["failed", "done"]


def test_a_trial_stops_with_a_checkpoint_where_the_memory_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, size = tmp_path / "study", searching._size

    def broken(file: Path) -> int:
        if size(file):
            with sqlite3.connect(folder / "search.db") as memory:
                memory.execute("drop table if exists trials")
        return size(file)

    monkeypatch.setattr(searching, "_size", broken)
    with pytest.raises(
        RunFailure, match=r"study/search\.db, the search's memory, cannot be used \(no such table: trials\)"
    ):
        brought(folder, search_of(2), ("kinds=late", f"wait={tmp_path / 'never'}"), parallel=1)
    facts = json.loads((folder / "runs/trial-000/run.json").read_text(encoding="utf-8"))
    assert facts["status"] == "preempted"


def left_behind(folder: Path, search: space.Search, words: tuple[str, ...]) -> Tried:
    """A trial that Optuna's memory says is running."""
    asked = {"words": list(words), "hardware.precision": [], "seed": 1}
    tried = Trials(search, ACCURACY, folder / "search.db", asked).next()
    assert tried is not None
    return tried


def test_a_search_that_was_killed_goes_on(tmp_path: Path) -> None:
    """Optuna's memory says that a trial runs, and nobody runs it: as after SIGKILL or a power cut."""
    folder, words = tmp_path / "study", ("validations=2",)
    brought(folder, search_of(2, pruner="none"), words)
    tried = left_behind(folder, search_of(4, pruner="none"), words)
    assert not (folder / "runs" / "trial-002").exists()
    jobs, _, _ = brought(folder, search_of(4, pruner="none"), words)
    assert statuses(jobs) == ["done"] * 4
    assert set(tried.words) <= set(jobs["trial-002"]["words"])


def test_a_search_whose_file_is_older_than_the_precision_goes_on_and_another_precision_is_another_search(
    tmp_path: Path,
) -> None:
    folder, words = tmp_path / "study", ("hardware.precision=32", "validations=1")
    brought(folder, search_of(1), words)
    with pytest.raises(Refusal, match=r"hardware\.precision \(\['hardware\.precision=32'\] there, \[\] here\)"):
        brought(folder, search_of(1), words[1:])
    memory = optuna.load_study(study_name="search", storage=f"sqlite:///{folder / 'search.db'}")
    asked = memory.user_attrs["asked"]
    memory.set_user_attr("asked", {key: asked[key] for key in ("metric", "space", "words", "seed")})
    assert asked["words"] == ["validations=1"]  # as it was when no word of the hardware was kept
    jobs, _, _ = brought(folder, search_of(2), words)
    assert statuses(jobs) == ["done"] * 2


def test_one_at_a_time_none_is_proposed_before_the_one_that_a_killed_search_left_has_ended(tmp_path: Path) -> None:
    folder, words = tmp_path / "study", ("validations=2",)
    brought(folder, search_of(1, pruner="none"), words)
    left_behind(folder, search_of(3, pruner="none"), words)
    process = in_folder(folder / "runs" / "trial-001", 2.0)
    jobs, _, said = brought(folder, search_of(3, pruner="none"), words, parallel=1)
    process.wait()
    assert "trial-001 waits for process" in said and said.index("done trial-001") < said.index("started trial-002")
    assert statuses(jobs) == ["done"] * 3


def test_one_that_is_tried_again_comes_before_a_new_one(tmp_path: Path) -> None:
    words = ("kinds=raise-good", "validations=1")
    _, _, said = brought(tmp_path / "study", search_of(2), words, parallel=1, retries=1)
    assert said.index("started trial-000, attempt 2") < said.index("started trial-001")


# --- the sentence ----------------------------------------------------------------------------------------------------------------

FILE = """
question: How fast should a tiny BERT learn?
words: [model=bert, objective=mlm, data=world, size=tiny, length=32, batch_size=8, data.documents=120, data.validation_documents=20,
  data.test_documents=20, validation.every=2, validation.examples=8, budget.steps=6, tracking=none, hardware.threads=1]
search:
  trials: 3
  sampler: random
  pruner: none
  space:
    optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
    schedule: {choices: [linear, cosine]}
metrics:
  - {key: val/loss_mlm, title: masked loss, higher_is_better: false, unit: nats}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(FILE, encoding="utf-8")
    return tmp_path / "mine.yaml"


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        (("schedule: {", "schedul: {"), [], r"schedul is not a setting; did you mean schedule"),
        (("[linear, cosine]", "[linear, cosin]"), [], r"schedule=cosin: .*did you mean cosine\?"),
        (("low: 1.0e-4", "low: -1.0"), [], r"optimizer\.learning_rate\.low=-1\.0 must be above 0 where log is true"),
        (("", ""), ["schedule=linear"], r"schedule=linear: the search tries other values of that"),
        (("schedule: {", "++schedule: {"), ["schedule=linear"], r"schedule=linear: the search tries other values of that"),
        (("schedule: {choices: [linear, cosine]}", "budget.tokens: {choices: [1, 2]}"), [], r"budget\.steps=6: the search tries"),
        (("", ""), ["sweeps.trials=0"], r"sweeps\.trials=0 must be at least 1"),
        (("", ""), ["sweeps.seeds=[1,2]"], r"every trial has one seed, not 2"),
        (("metrics:\n", "after: {ner: [data=world/ner]}\nmetrics:\n"), [], "after has no place in it"),
        (("metrics:\n  - {key: val/loss_mlm, title: masked loss, higher_is_better: false, unit: nats}", ""), [], "a search needs metrics"),
        (("search:", "grid: {seed: [1, 2]}\nsearch:"), [], "or a search: one of them"),
    ],
)  # fmt: skip
def test_a_search_that_cannot_be_is_refused_before_anything_runs(
    file: Path, change: tuple[str, str], words: list[str], message: str
) -> None:
    file.write_text(FILE.replace(*change, 1), encoding="utf-8")
    with pytest.raises(Refusal, match=message):
        searching.run(from_file([f"sweeps={file}", *words]))
    assert not (file.parent / "outputs").exists()


def test_without_optuna_it_is_said_what_installs_it(
    file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ["optuna", *(each for each in sys.modules if each.startswith("optuna."))]:
        monkeypatch.setitem(sys.modules, name, None)
    assert cli._guarded(cli._train, [f"sweeps={file}"]) == 2
    assert (
        capfd.readouterr().err == "error: a search needs Optuna, which is not installed: pip install 'cloze[search]'\n"
    )


def test_trials_are_of_a_search(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"sweeps\.trials=3 has no effect: mask_ratio has arms, and is no search"):
        from_file(["sweeps=mask_ratio", "sweeps.trials=3"])


@pytest.mark.exhaustive
def test_a_whole_search(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [f"sweeps={file}", "output_dir=found", "sweeps.parallel=1"]
    assert cli._guarded(cli._train, words) == 0
    said = capfd.readouterr().out
    folder = file.parent / "found"
    content = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    assert [job["status"] for job in content["jobs"]] == ["done"] * 3 and content["search"]["trials"] == 3
    line = next(line for line in said.splitlines() if line.strip().startswith("python train.py"))
    best = shlex.split(line)[2:]
    # the sentence is whole: it trains the same model again
    assert cli._guarded(cli._train, [*best, "output_dir=again"]) == 0
    runs = {job["name"]: folder / job["folder"] / "run.json" for job in content["jobs"] if job["words"] == best}
    (run,) = runs.values()
    once, again = (json.loads(each.read_text(encoding="utf-8")) for each in (run, file.parent / "again" / "run.json"))
    assert once["weights_sha256"] == again["weights_sha256"]
    losses = [
        json.loads((folder / job["folder"] / "run.json").read_text(encoding="utf-8"))["metrics"]["val/loss_mlm"]
        for job in content["jobs"]
    ]
    assert once["metrics"]["val/loss_mlm"] == min(losses)
    # said again, there is nothing left to do; more trials are added
    assert cli._guarded(cli._train, words) == 0
    assert cli._guarded(cli._train, [*words, "sweeps.trials=4"]) == 0
    content = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    assert [job["attempts"] for job in content["jobs"]] == [1] * 4


SEARCHES = [name for name, path in shipped().items() if read(path).search is not None]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_shipped_search_is_well_formed(name: str) -> None:
    study = from_file([f"sweeps={name}", "sweeps.trials=3"])
    search = searching.understood(study)
    assert search.trials == 3 and len(search.space) >= 2 and study.question and study.minutes
