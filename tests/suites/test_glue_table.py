"""The table's arithmetic, by hand and against the averages that cloze.scoring defines."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
from rich.console import Console

from cloze.scoring.glue import TASKS, albert_average, bert_average, glue_average
from cloze.suites.glue_table import AVERAGES, COLUMNS, Report, Spread

ALL = {
    task.removeprefix("glue/"): {metric: 50.0 + 3 * n + m for m, metric in enumerate(facts.metrics)}
    for n, (task, facts) in enumerate(TASKS.items())
    if task.startswith("glue/")
}


def cells(report: Report, row: int = 0) -> dict[str, str]:
    return dict(zip([title for title, _ in report.head()], report.rows()[row], strict=True))


def test_mean_and_deviation_over_seeds() -> None:
    report = Report(
        "m", {1: {"rte": {"accuracy": 60.0}}, 2: {"rte": {"accuracy": 64.0}}, 3: {"rte": {"accuracy": 65.0}}}
    )
    spread = report.spread(("rte", "accuracy"))
    assert spread is not None and spread.mean == 63.0
    assert spread.deviation == pytest.approx(math.sqrt((9 + 1 + 4) / 2))
    assert cells(report)["RTE"] == "63.0 ± 2.6"
    assert str(Spread((60.0,))) == "60.0" and Spread((60.0,)).deviation is None
    assert report.spread(("qnli", "accuracy")) is None and cells(report)["QNLI"] == "-"


def test_averages_of_all_tasks_are_the_papers() -> None:
    report = Report("m", {1: ALL})
    for name, defined in (("GLUE's", glue_average), ("BERT's", bert_average)):
        found = report.average(AVERAGES[name])
        assert found is not None and found.whole
        assert found.value.mean == pytest.approx(defined(ALL))
    more = {
        **ALL,
        "squad1.1": {"f1": 90.0, "exact_match": 80.0},
        "squad2.0": {"f1": 70.0, "exact": 66.0},
        "race": {"accuracy": 41.0},
    }
    found = Report("m", {1: more}).average(AVERAGES["ALBERT's"])
    assert found is not None and found.whole and found.value.mean == pytest.approx(albert_average(more))


def test_averages_of_some_tasks_say_which() -> None:
    # MRPC's two metrics are one task to GLUE; MNLI lacks one of its sets, which to BERT are two columns
    some = {"mrpc": {"f1": 90.0, "accuracy": 80.0}, "sst2": {"accuracy": 70.0}, "mnli": {"accuracy": 50.0}}
    report = Report("m", {1: some})
    glue, bert, albert = (report.average(AVERAGES[name]) for name in ("GLUE's", "BERT's", "ALBERT's"))
    assert glue is not None and glue.value.mean == 77.5 and glue.there == ("SST-2", "MRPC") and not glue.whole
    assert bert is not None and bert.value.mean == 70.0 and bert.there == ("MNLI-m", "SST-2", "MRPC")
    assert albert is not None and albert.value.mean == 60.0
    lines = list(report.averages())
    assert lines[0] == "GLUE's average: 77.5 over 2 of 9; missing: CoLA, STS-B, QQP, MNLI, QNLI, RTE, WNLI"
    assert Report("m", {}).average(AVERAGES["BERT's"]) is None


def test_the_mean_of_seeds_is_over_those_that_are_complete() -> None:
    one, two = ({"rte": {"accuracy": 60.0}, "qnli": {"accuracy": 80.0}}, {"rte": {"accuracy": 50.0}})
    found = Report("m", {1: one, 2: two}).average(AVERAGES["BERT's"])
    assert found is not None and found.value.values == (70.0,)
    apart = Report("m", {1: {"qnli": {"accuracy": 80.0}}, 2: two}).average(AVERAGES["BERT's"])
    assert apart is not None and apart.value.values == (65.0,)  # no seed has both


def test_published_rows_stand_below_with_a_mean_of_the_same_columns() -> None:
    report = Report("m", {1: {"rte": {"accuracy": 60.0}, "cola": {"matthews": 20.0}}})
    rows = {row[0]: row for row in report.rows()}
    assert next(iter(rows)) == "m" and {"BERT-base", "BERT-large", "OpenAI GPT", "BiLSTM+ELMo+Attn"} < set(rows)
    assert rows["m"][-1] == "40.0"
    assert rows["BERT-base"][-1] == f"{(66.4 + 52.1) / 2:.1f}"
    whole = {row[0]: row for row in Report("m", {1: ALL}).rows()}
    assert whole["BERT-base"][-1] == "79.6" and whole["BiLSTM+ELMo+Attn"][-1] == "71.0"  # as printed
    assert [title for title, _ in COLUMNS.values()][:3] == ["CoLA", "SST-2", "MRPC"]
    assert "test sets" in report.markdown() and "development sets" in report.markdown()
    assert "1810.04805" in report.markdown()


def test_all_metrics_are_in_the_details() -> None:
    details = Report("m", {1: {"stsb": {"spearman": 80.0, "pearson": 81.0}, "sst2": {"accuracy": 90.0}}}).details()
    assert details[1:] == [
        ["SST-2", "accuracy", "90.0", "1", "BERT-base 92.7, RoBERTa-base 94.8"],
        ["STS-B", "Spearman", "80.0", "1", ""],
        ["STS-B", "Pearson", "81.0", "1", ""],
    ]


def test_for_programs() -> None:
    report = Report("m", {1: {"rte": {"accuracy": 60.0}}, 2: {"rte": {"accuracy": 62.0}}}, ("a remark",))
    lines = list(csv.DictReader(io.StringIO(report.csv())))
    assert lines[0] == {
        "system": "m", "set": "dev", "task": "rte", "metric": "accuracy", "mean": "61.0000",
        "deviation": "1.4142", "seeds": "2", "source": "",
    }  # fmt: skip
    assert {line["set"] for line in lines[1:]} == {"test"} and all(line["source"] for line in lines[1:])
    content = json.loads(json.dumps(report.content()))
    assert content["scores"]["rte"]["accuracy"] == {
        "mean": 61.0,
        "deviation": pytest.approx(2**0.5),
        "values": [60.0, 62.0],
    }
    assert content["averages"]["BERT"]["over"] == ["RTE"] and "a remark" in content["remarks"]


def test_at_a_terminal_and_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("m", {1: {"rte": {"accuracy": 60.0}}}, ("a remark",))
    report.show(Console(force_terminal=False))
    assert capsys.readouterr().out == report.markdown()
    stream = io.StringIO()
    report.show(Console(force_terminal=True, width=200, file=stream))
    said = stream.getvalue()
    assert "BERT-large" in said and "60.0" in said and "a remark" in said
