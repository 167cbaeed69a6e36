"""Several tasks as one corpus: records, mixing, heads and predictions, each held against a reckoning of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cloze.data.base import Labelled
from cloze.data.tasks.several import Several
from cloze.data.tasks.world import WorldClassification
from cloze.errors import Refusal
from cloze.objectives.base import Examples
from cloze.objectives.classify import mixed

SIZES = {"train": 40, "validation": 10, "test": 10}
SMALL: dict[str, dict[str, Any]] = {"world/mrpc": SIZES, "world/rte": {**SIZES, "train": 10}, "world/stsb": SIZES}


def several(**settings: Any) -> Several:
    return Several(list(SMALL), SMALL, **settings)


def test_records_are_those_of_the_tasks_in_order_and_say_which_they_are_of() -> None:
    corpus = several()
    records = [record for record in corpus.split_records("train") if isinstance(record, Labelled)]
    assert [record.task for record in records] == ["mrpc"] * 40 + ["rte"] * 10 + ["stsb"] * 40
    alone = list(WorldClassification("rte", **SIZES | {"train": 10}).split_records("train"))
    assert [record.sentences for record in records[40:50]] == [each.sentences for each in alone]  # type: ignore[attr-defined]
    assert list(corpus.labels) == ["mrpc", "rte", "stsb"]
    assert corpus.labels["stsb"].numeric and not corpus.labels["rte"].numeric


@pytest.mark.parametrize(("temperature", "limit"), [(1.0, None), (2.0, None), (1000.0, None), (1.0, 20)])
def test_shares_go_by_the_formula_and_every_example_is_there(temperature: float, limit: int | None) -> None:
    corpus = several(temperature=temperature, limit=limit)
    sizes = np.array([4000, 100, 900])
    tasks = np.repeat([0, 1, 2], sizes)
    table = np.zeros((len(tasks), 6), np.int64)
    table[:, 0], table[:, 5] = np.arange(len(tasks)), tasks
    examples = mixed(Examples(None, table, np.ones(len(tasks), np.int64)), corpus, seed=1)  # type: ignore[arg-type]
    wanted = np.minimum(sizes, limit or 10**9) ** (1 / temperature)
    seen = np.bincount(examples.table[:, 5]) / len(examples)
    np.testing.assert_allclose(seen, wanted / wanted.sum(), atol=2e-3)
    assert set(examples.table[:, 0].tolist()) == set(range(len(tasks)))


def test_predictions_go_to_the_files_of_their_tasks() -> None:
    corpus = several()
    records = list(corpus.split_records("test"))
    said = ["1"] * 10 + ["entailment"] * 10 + [2.5] * 10
    files = corpus.submission("test", records, said)
    alone = WorldClassification("rte", **SIZES)
    own = alone.submission("test", list(alone.split_records("test")), ["entailment"] * 10)
    assert len(files) == 3 and own.items() <= files.items()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"of": ["world/mrpc"]}, "data.of=['world/mrpc'] must name two"),
        ({"of": ["world/mrpc", "world/mrp"]}, "world/mrp is not there; did you mean world/mrpc"),
        ({"of": ["world/mrpc", "world/pos"]}, "world/pos has no labelled texts"),
        ({"of": ["world/mrpc", "glue/rte"]}, "glue/rte needs path: 'data.settings={glue/rte: {path: …}}'"),
        ({"of": ["world/mrpc", "world/rte"], "settings": {"world/rt": {}}}, "data.settings.world/rt has no effect"),
        ({"of": ["world/mrpc", "world/rte"], "settings": {"world/rte": {"trian": 3}}}, "trian is not a setting"),
        ({"of": ["world/mrpc", "world/rte"], "temperature": 0.5}, "data.temperature=0.5 must be at least 1"),
        ({"of": ["world/mrpc", "world/rte"], "limit": 0}, "data.limit=0 must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(Refusal) as refusal:
        Several(**settings)
    assert told in str(refusal.value)
