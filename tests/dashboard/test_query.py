"""The dashboard's filter."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloze.dashboard.index import Index
from cloze.dashboard.listing import Wanted, filtered, listing
from cloze.dashboard.query import meant, parse
from cloze.errors import Refusal
from tests.report.folders import write_run, write_study

KEYS = ["objective.pair", "objective.mask_ratio", "optimizer.learning_rate", "val/loss", "train/loss"]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    for seed, (pair, loss) in enumerate([("none", 2.0), ("nsp", 2.5), ("sop", 1.5), (None, None)], start=1):
        write_run(
            tmp_path / f"{seed}-bert",
            seed,
            {"val/loss": loss} if loss else {},
            identity={"objective.pair": pair, "objective.masked": pair == "sop"},
            began=f"2026-01-0{seed}",
            status="done" if loss else "failed",
        )
    found = Index(tmp_path)
    found.refresh()
    return found


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("", [4, 3, 2, 1]),
        ("objective.pair=sop", [3]),
        ("pair=sop,nsp", [3, 2]),
        ("pair!=sop", [4, 2, 1]),
        ("pair=null", [4]),
        ("pair~s", [3, 2]),
        ("masked=true", [3]),
        ("val/loss<2.5", [3, 1]),
        ("val/loss<=2.5 seed>1", [3, 2]),
        ("status=failed", [4]),
        ("2-BERT", [2]),
        ("'status=done' seed=1", [1]),
        ("seed=1.0", [1]),
        ("no-such-run", []),
    ],
)
def test_what_a_filter_lets_through(index: Index, text: str, seeds: list[int]) -> None:
    found, fault = filtered(index, text)
    assert fault == "" and [entry.seed for entry in found] == seeds


@pytest.mark.parametrize(
    ("text", "arms"),
    [
        ("'arm=of=[mlm,sop], b=1'", {"of=[mlm,sop], b=1"}),
        ("'arm=a=1, b=2,a=2, b=2'", {"a=1, b=2", "a=2, b=2"}),
        ("'arm!=a=1, b=2'", {"a=2, b=2", "of=[mlm,sop], b=1", "a=1"}),
        ("arm=a=1", {"a=1"}),
    ],
)
def test_an_arm_of_a_grid_is_one_value(tmp_path: Path, text: str, arms: set[str]) -> None:
    names = ["a=1, b=2", "a=2, b=2", "of=[mlm,sop], b=1", "a=1"]
    write_study(tmp_path / "s", {name: {1: {}} for name in names})
    found = Index(tmp_path)
    found.refresh()
    entries, fault = filtered(found, text)
    assert fault == "" and {entry.place.arm for entry in entries if entry.place} == arms


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "objectiv.pair=sop",
            r"objectiv\.pair is no setting or figure of any run here; did you mean objective\.pair\?",
        ),
        ("val/loss<", "val/loss<: nothing is not a number"),
        ("val/loss<low", "val/loss<low: low is not a number"),
        ("loss=1", "^loss may be val/loss or train/loss$"),
    ],
)
def test_what_is_wrong_is_said(text: str, sentence: str) -> None:
    with pytest.raises(Refusal, match=sentence):
        parse(text, KEYS)


def test_the_end_of_a_key_is_enough_where_only_one_ends_so() -> None:
    assert meant("mask_ratio", KEYS) == ["objective.mask_ratio"]
    assert meant("loss", KEYS) == ["val/loss", "train/loss"]
    assert meant("loss", [*KEYS, "loss"]) == ["loss"]
    assert meant("ratio", KEYS) == []


def test_a_wrong_filter_hides_nothing(index: Index) -> None:
    answer = listing(index, Wanted("nothing=1"))
    assert answer is not None and len(answer["rowData"]) == 4
    assert "nothing is no setting" in str(answer["note"])


def test_half_a_quotation_is_still_being_typed() -> None:
    assert [term.value for term in parse('"two wor', KEYS)] == ["two", "wor"]
