"""The benchmarks' averages: by hand, and on the tables of the papers that define them."""

from __future__ import annotations

import pytest

from cloze.scoring import METRICS
from cloze.scoring.glue import GLUE, TASKS, albert_average, bert_average, glue_average
from cloze.scoring.published import ALBERT_DEV, GLUE_DEV, GLUE_TEST, Published

SCORES = {
    "cola": {"matthews": 50.0},
    "sst2": {"accuracy": 90.0},
    "mrpc": {"f1": 90.0, "accuracy": 80.0},
    "stsb": {"pearson": 86.0, "spearman": 84.0},
    "qqp": {"f1": 70.0, "accuracy": 90.0},
    "mnli": {"accuracy": 80.0},
    "mnli_mismatched": {"accuracy": 76.0},
    "qnli": {"accuracy": 88.0},
    "rte": {"accuracy": 60.0},
    "wnli": {"accuracy": 56.0},
}


def test_the_glue_score_averages_a_tasks_metrics_first() -> None:
    #       CoLA  SST-2 MRPC STS-B QQP  MNLI QNLI RTE  WNLI
    assert glue_average(SCORES) == pytest.approx((50 + 90 + 85 + 85 + 80 + 78 + 88 + 60 + 56) / 9)


def test_berts_average_has_nine_columns_and_no_wnli() -> None:
    #                                            m    mm  QQP QNLI SST CoLA STS MRPC RTE
    assert bert_average(SCORES) == pytest.approx((80 + 76 + 70 + 88 + 90 + 50 + 84 + 90 + 60) / 9)
    without = {task: scores for task, scores in SCORES.items() if task != "wnli"}
    assert bert_average(without) == bert_average(SCORES) and glue_average(without) is None


@pytest.mark.parametrize("task", SCORES)
def test_an_average_with_a_score_missing_is_none(task: str) -> None:
    assert glue_average({name: scores for name, scores in SCORES.items() if name != task}) is None
    assert bert_average({**SCORES, "mrpc": {"accuracy": 80.0}}) is None


@pytest.mark.parametrize("row", GLUE_TEST, ids=lambda row: row.system)
def test_berts_table_averages_as_it_prints(row: Published) -> None:
    found = bert_average(row.scores)
    # of ELMo the table prints 71.0, where its figures give 70.94
    assert found == pytest.approx(row.average, abs=0.0501 if row.system != "BiLSTM+ELMo+Attn" else 0.06)


@pytest.mark.parametrize("row", ALBERT_DEV, ids=lambda row: row.system)
def test_alberts_table_averages_as_it_prints(row: Published) -> None:
    assert albert_average(row.scores) == pytest.approx(row.average, abs=0.0501)
    assert albert_average({**row.scores, "squad1.1": {"f1": 90.0}}) is None


def test_published_rows_are_percentages_of_tasks_with_their_metrics() -> None:
    assert len(GLUE_TEST) == 5 and len(GLUE_DEV) == 12 and len(ALBERT_DEV) == 6
    for row in (*GLUE_TEST, *GLUE_DEV, *ALBERT_DEV):
        assert "https://" in row.source
        for task, scores in row.scores.items():
            assert all(30 < value < 100 for value in scores.values())
            if f"glue/{task}" in TASKS and row.corpus == "test":
                assert set(scores) <= set(TASKS[f"glue/{task}"].metrics)


def test_tasks_have_metrics_that_are_there() -> None:
    assert {f"glue/{name}" for name in GLUE} <= set(TASKS)
    for name, task in TASKS.items():
        assert task.metrics and all(metric in METRICS for metric in task.metrics), name
        assert not (task.classes and task.numeric)


def test_tasks_are_scored_as_their_corpora_say() -> None:
    from cloze.data.tasks import glue, superglue

    theirs = {f"glue/{name}": form.labels for name, form in glue.FORMS.items()}
    theirs |= {f"superglue/{name}": labels for name, labels in superglue.LABELS.items()}
    assert len(theirs) >= 15
    for name, labels in theirs.items():
        assert labels.metrics == TASKS[name].metrics, name
        assert set(labels.names) == set(TASKS[name].classes), name
