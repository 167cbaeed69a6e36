"""`cloze compare` from its words to files, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from cloze import cli
from tests.report.folders import write_run, write_study


@pytest.fixture
def study(tmp_path: Path) -> Path:
    arms = {
        "mlm": {seed: {"val/accuracy": 0.50 + 0.01 * seed} for seed in (1, 2, 3)},
        "sop": {seed: {"val/accuracy": 0.70 + 0.011 * seed} for seed in (1, 2, 3)},
    }
    return write_study(tmp_path / "study", arms)


def command(*words: object) -> int:
    return cli._guarded(cli._compare, [str(word) for word in words])


def test_a_study_is_shown_and_written(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {name: tmp_path / f"report.{name}" for name in ("html", "md", "latex", "csv", "json")}
    (tmp_path / "report.md").write_text("what was there before")
    assert command(study, *(word for name, file in files.items() for word in (f"--{name}", file))) == 0
    out = capsys.readouterr().out
    assert "| sop " in out and "sop is better than mlm on accuracy" in out
    assert files["md"].read_text() == out.partition("written: ")[0]
    assert files["html"].read_text().startswith("<!doctype html>")
    means = {
        arm: cell["summary"]["mean"]
        for arm, cell in json.loads(files["json"].read_text())["cells"]["val/accuracy"].items()
    }
    assert means == pytest.approx({"mlm": 0.52, "sop": 0.722})
    rows = csv.DictReader(files["csv"].open())
    assert {row["arm"]: float(row["value"]) for row in rows if row["figure"] == "mean"} == means
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_a_dash_is_the_terminal(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(study, "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["baseline"] == "mlm"


def test_another_baseline_and_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arm, loss in (("a", 2.0), ("b", 1.0)):
        for seed in (1, 2):
            figures = {"val/loss": loss + 0.01 * seed, "val/thing": loss * seed}
            write_run(tmp_path / "runs" / f"{arm}{seed}", seed, figures, identity={"objective.rate": loss}, name=arm)
    assert command(tmp_path / "runs", "--metric", "val/thing=higher", "--baseline", "b", "--json", "-") == 0
    content = json.loads(capsys.readouterr().out)
    assert [metric["key"] for metric in content["metrics"]] == ["val/thing"] and content["baseline"] == "b"
    assert content["cells"]["val/thing"]["a"]["difference"]["mean"] == pytest.approx(1.5)


def test_several_studies_stand_in_one_table(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_study(tmp_path / "other", {"mlm": {seed: {"val/accuracy": 0.4 + 0.02 * seed} for seed in (1, 2, 3)}})
    assert command(study, other, "--json", "-") == 0
    content = json.loads(capsys.readouterr().out)
    assert [arm["name"] for arm in content["arms"]] == ["study: mlm", "study: sop", "other: mlm"]
    assert content["baseline"] == "study: mlm"
    assert content["cells"]["val/accuracy"]["other: mlm"]["difference"]["mean"] == pytest.approx(0.44 - 0.52)


def test_one_arm_of_two_studies_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("s1", "s2"):
        write_study(tmp_path / name, {"mlm": {1: {"val/accuracy": 0.5}, 2: {"val/accuracy": 0.6}}})
    assert command(tmp_path / "s1", tmp_path / "s2") == 0
    assert "s1: mlm and s2: mlm resolve to the same configuration" in capsys.readouterr().out


def test_studies_that_name_no_metrics_are_compared_by_what_all_their_runs_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, term in (("one", "mlm"), ("two", "clm")):
        figures: dict[str, float | None] = {"val/loss": 2.0, f"val/loss_{term}": 2.0, "val/accuracy": 0.5}
        write_study(tmp_path / name, {"arm": dict.fromkeys((1, 2), figures)}, metrics=[])
    assert command(tmp_path / "one", tmp_path / "two", "--json", "-") == 0
    content = json.loads(capsys.readouterr().out)
    assert [metric["key"] for metric in content["metrics"]] == ["val/accuracy"]
    assert any(each.startswith("val/loss is left out") for each in content["remarks"])


def test_models_that_were_taken_through_glue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, lift in (("small", 0.0), ("large", 0.1)):
        folder, entries = tmp_path / name, []
        for seed in (1, 2, 3):
            for task, scores in (
                ("cola", {"validation": {"matthews": 0.30 + 0.01 * seed + lift}}),
                ("mnli", {"validation": {"accuracy": 0.80 + lift}, "validation_mismatched": {"accuracy": 0.81 + lift}}),
            ):
                write_run(folder / f"{task}-{seed}", seed, {}, scores=scores)
                entries.append({"task": task, "seed": seed, "folder": f"elsewhere/{task}-{seed}", "status": "done"})
        entries.append({"task": "rte", "seed": 1, "folder": "rte-1", "status": "failed", "reason": "no memory"})
        (folder / "glue.json").write_text(json.dumps({"name": name, "seeds": [1, 2, 3], "runs": entries}))
    assert command(tmp_path / "small", tmp_path / "large", "--json", "-") == 0
    content = json.loads(capsys.readouterr().out)
    assert [metric["title"] for metric in content["metrics"]] == [
        "CoLA Matthews",
        "MNLI-m accuracy",
        "MNLI-mm accuracy",
    ]
    cola = content["cells"]["score/cola/matthews"]["large"]
    assert cola["summary"]["values"] == pytest.approx({"1": 41.0, "2": 42.0, "3": 43.0})
    assert cola["difference"]["mean"] == pytest.approx(10.0)
    assert any("large, rte, seed 1: failed (no memory)" in remark for remark in content["remarks"])
    assert any("large, rte, seeds 2, 3: missing (it has not begun)" in remark for remark in content["remarks"])
    assert content["published"]["rows"]["BERT-base"][0] == "52.1"


def test_a_model_that_has_all_of_glue_has_the_mean_of_berts_paper(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = {
        "mnli": {"validation": {"accuracy": 0.8}, "validation_mismatched": {"accuracy": 0.6}},
        "mrpc": {"validation": {"f1": 0.9}}, "qqp": {"validation": {"f1": 0.7}},
        "stsb": {"validation": {"spearman": 0.5}}, "cola": {"validation": {"matthews": 0.1}},
        **{task: {"validation": {"accuracy": 0.8}} for task in ("sst2", "qnli", "rte")},
    }  # fmt: skip
    for name, left_out in (("all", ""), ("some", "rte")):
        for task, scores in tasks.items():
            write_run(tmp_path / name / f"{task}-1", 1, {}, scores=scores)
        entries = [
            {"task": task, "seed": 1, "folder": f"{task}-1", "status": "done"} for task in tasks if task != left_out
        ]
        (tmp_path / name / "glue.json").write_text(json.dumps({"name": name, "runs": entries}))
    assert command(tmp_path / "all", tmp_path / "some", "--json", "-") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["metrics"][-1]["title"] == "mean" and content["published"]["columns"][-1] == "mean"
    cells = content["cells"]["score/glue/mean"]
    assert cells["all"]["summary"]["mean"] == pytest.approx(100 * (0.8 + 0.6 + 0.9 + 0.7 + 0.5 + 0.1 + 3 * 0.8) / 9)
    assert cells["some"]["summary"] is None
    assert any("of the seeds that have all nine figures" in each for each in content["remarks"])


def test_runs_without_a_figure_in_common_say_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "runs" / "a", 1, {"val/accuracy": 0.5}, identity={"objective.rate": 1}, name="a")
    write_run(tmp_path / "runs" / "b", 1, {"val/f1": 0.5}, identity={"objective.rate": 2}, name="b")
    files = tmp_path / "report.latex", tmp_path / "report.html"
    assert command(tmp_path / "runs", "--latex", files[0], "--html", files[1]) == 0
    out = capsys.readouterr().out
    assert "--metric KEY compares by one: val/accuracy, val/f1" in out and "| b " in out
    assert "val/accuracy, val/f1" in files[0].read_text() and "No run has a figure" in files[1].read_text()
    assert command(tmp_path / "runs", "--metric", "val/f1") == 0
    assert "no run of a has f1" in capsys.readouterr().out.replace("validation F1", "f1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere is not a folder"),
        (["."], "no run"),
        (["{study}", "--metric", "val/acuracy"], "did you mean val/accuracy?"),
        (["{study}", "--baseline", "mml"], "did you mean mlm?"),
        (["{study}", "--html", "{study}"], "is a folder; expected a file"),
        (["{study}", "--html", "{study}/there/report.html"], "there is no folder"),
        (["{study}", "--json", "{study}/study.json"], "belongs to a run or a study"),
        (["{study}", "--md", "x", "--csv", "x"], "--md and --csv both name x"),
        (["{study}", "--markdown", "x"], "--markdown is not an option"),
        (["{study}", "--html", "/proc/report.html"], "cannot be written"),
    ],
)
def test_what_is_refused(
    study: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    before = (study / "study.json").read_text()
    assert command(*(word.replace("{study}", str(study)) for word in words)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert (study / "study.json").read_text() == before and list((tmp_path / "empty").iterdir()) == []


def test_a_tracker_that_fails_is_a_warning(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cloze.tracking.wandb import Wandb

    def broken(*_: Any) -> Any:
        raise ConnectionError("no server")

    monkeypatch.setattr(Wandb, "loggers", broken)
    assert command(study, "--wandb") == 0
    captured = capsys.readouterr()
    assert "warning: the comparison could not be tracked (no server)" in captured.err and "| sop " in captured.out


@pytest.mark.slow
def test_wandb_has_the_table_and_the_page(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert command(study, "--wandb") == 0
    captured = capsys.readouterr()
    assert "tracked: " in captured.out and "warning" not in captured.err
    (folder,) = (study / "study-comparison" / "wandb").glob("offline-run-*")
    pages = list(folder.rglob("*.html"))
    assert len(pages) == 1 and "sop is better than mlm" in pages[0].read_text()
    assert len(list(folder.rglob("comparison*.table.json"))) == 1
