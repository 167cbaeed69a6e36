"""Runs → arms: what belongs together, what it is called, and what is said of arms that are not two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloze.report.collect import find
from cloze.report.comparison import compare
from cloze.report.groups import of_runs
from tests.report.folders import write_run, write_study


def test_runs_are_grouped_by_everything_but_the_seed(tmp_path: Path) -> None:
    for seed in (2, 1):
        write_run(tmp_path / f"a-{seed}", seed)
        write_run(tmp_path / f"b-{seed}", seed, identity={"model.layers": 4}, words=["model.layers=4", f"seed={seed}"])
    arms, remarks = of_runs(find(tmp_path)[0])
    assert [(arm.name, [run.seed for run in arm.runs]) for arm in arms] == [
        ("bert-mlm-world", [1, 2]), ("model.layers=4", [1, 2]),
    ]  # fmt: skip
    assert [arm.differs for arm in arms] == [{"model.layers": 2}, {"model.layers": 4}]
    assert remarks == []


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        ([{"name": "small"}, {"name": "large"}], ["small", "large"]),
        ([{"words": ["size=tiny", "seed=1"]}, {"words": ["size=mini", "seed=1"]}], ["size=tiny", "size=mini"]),
        ([{}, {}], ["layers=2", "layers=4"]),
        ([{"words": ["model=bert", "output_dir=a"]}, {"words": ["model=bert", "output_dir=b"]}], ["layers=2", "layers=4"]),
    ],
)  # fmt: skip
def test_arms_are_called_by_what_tells_them_apart(
    tmp_path: Path, facts: list[dict[str, object]], names: list[str]
) -> None:
    for n, (each, layers) in enumerate(zip(facts, (2, 4), strict=True)):
        write_run(tmp_path / str(n), identity={"model.layers": layers}, **each)  # type: ignore[arg-type]
    assert [arm.name for arm in of_runs(find(tmp_path)[0])[0]] == names


def test_many_differing_settings_are_no_name(tmp_path: Path) -> None:
    for n in (1, 2):
        write_run(tmp_path / str(n), identity={f"model.{key}": n for key in "abcd"})
    arms, _ = of_runs(find(tmp_path)[0])
    assert [arm.name for arm in arms] == ["bert-mlm-world (1)", "bert-mlm-world (2)"]
    assert list(arms[1].differs) == ["model.a", "model.b", "model.c", "model.d"]


def test_data_are_told_apart_by_their_settings(tmp_path: Path) -> None:
    for n in (1, 2):
        settings = {"data": {"documents": 100 * n, "noise": 0.1}, "data.path": "x", "cache_dir": str(n)}
        write_run(tmp_path / str(n), identity={"data": f"digest {n}"}, settings=settings)
    assert [arm.differs for arm in of_runs(find(tmp_path)[0])[0]] == [{"data.documents": 100}, {"data.documents": 200}]


def test_another_precision_or_other_validation_examples_are_another_arm_in_old_records_too(tmp_path: Path) -> None:
    def run(name: str, seed: int, precision: str, examples: int, old: bool) -> None:
        said = {} if old else {"hardware.precision": precision, "validation.examples": examples}
        settings = {"validation": {"examples": examples}}
        write_run(tmp_path / name, seed, identity=said, settings=settings, hardware={"precision": precision})

    run("a", 1, "32-true", 512, old=True)
    run("b", 2, "32-true", 512, old=False)
    run("c", 1, "bf16-mixed", 512, old=True)
    run("d", 1, "32-true", 64, old=False)
    arms, _ = of_runs(find(tmp_path)[0])
    assert [[run.folder.name for run in arm.runs] for arm in arms] == [["a", "b"], ["c"], ["d"]]
    assert [list(arm.differs.values()) for arm in arms] == [["32-true", 512], ["bf16-mixed", 512], ["32-true", 64]]


def test_precisions_of_runs_that_train_nothing_are_one_arm(tmp_path: Path) -> None:
    for seed, precision in ((1, "auto"), (2, "32")):
        run = write_run(tmp_path / str(seed), seed, settings={"hardware": {"precision": precision}})
        facts = {key: value for key, value in run.facts.items() if key != "identity"}
        (run.folder / "run.json").write_text(json.dumps(facts))
    assert [[run.seed for run in arm.runs] for arm in of_runs(find(tmp_path)[0])[0]] == [[1, 2]]


def test_two_runs_of_one_seed_are_said_and_the_last_counts(tmp_path: Path) -> None:
    for n, loss in ((1, 3.0), (2, 2.0)):
        write_run(tmp_path / str(n), 1, {"val/loss": loss}, ended=f"2026-01-0{n}T00:00:00+00:00")
    write_run(tmp_path / "0", 1, status="failed", reason="disk full")
    arms, remarks = of_runs(find(tmp_path)[0])
    assert [run.figures["val/loss"] for run in arms[0].runs] == [2.0] and not arms[0].absent
    assert remarks == ["bert-mlm-world: two runs of seed 1; the one that ended last counts"]


def test_runs_that_did_not_end_are_absent(tmp_path: Path) -> None:
    write_run(tmp_path / "1", 1)
    write_run(tmp_path / "2", 2, status="failed", reason="the loss is not a number")
    arms, _ = of_runs(find(tmp_path)[0])
    assert [(each.seed, each.status, each.reason) for each in arms[0].absent] == [
        (2, "failed", "the loss is not a number")
    ]
    assert "bert-mlm-world, seed 2: failed (the loss is not a number)" in compare(tmp_path).remarks


def test_what_a_run_starts_from_counts_as_the_other_runs_settings(tmp_path: Path) -> None:
    for pair in ("nsp", "sop"):
        for seed in (1, 2):
            its = {"objective.pair": pair, "validation.examples": 64 * seed}  # by which it was only judged
            source = write_run(tmp_path / f"{pair}-{seed}", seed, identity=its)
            write_run(tmp_path / "tuned" / f"{pair}-{seed}", seed, identity={"init": f"digest of {pair}-{seed}"},
                      settings={"init": str(source.folder)})  # fmt: skip
    arms, _ = of_runs(find(tmp_path / "tuned")[0])
    assert [len(arm.runs) for arm in arms] == [2, 2]
    assert [arm.differs for arm in arms] == [{"init.objective.pair": "nsp"}, {"init.objective.pair": "sop"}]


def test_seeds_that_start_from_the_same_weights_are_said(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path / str(seed), seed, identity={"init": "digest"}, settings={"init": "bert-base-uncased"})
    (said,) = compare(tmp_path, metrics=[]).remarks
    assert "all seeds start from the same weights" in said


def test_two_arms_of_one_configuration_are_reported(tmp_path: Path) -> None:
    arms = {name: {n: {"val/accuracy": n / 10} for n in (1, 2)} for name in ("a", "b", "c")}
    identities = {"a": {"objective.x": 1}, "b": {"objective.x": 1}, "c": {"objective.x": 2}}
    comparison = compare(write_study(tmp_path / "s", arms, identities=identities))
    assert [each for each in comparison.remarks if "resolve" in each] == [
        "a and b resolve to the same configuration: they are one arm"
    ]


def test_settings_without_effect_are_reported(tmp_path: Path) -> None:
    for arm in ("a", "b"):
        for seed in (1, 2):
            same = arm == "a" or seed == 1
            digest = f"weights {seed}" if same else "others"
            write_run(tmp_path / "same" / f"{arm}-{seed}", seed, identity={"x": arm}, weights_sha256=f"weights {seed}")
            write_run(tmp_path / "other" / f"{arm}-{seed}", seed, identity={"x": arm}, weights_sha256=digest)
    assert any("bitwise the same weights" in each for each in compare(tmp_path / "same").remarks)
    assert not any("bitwise" in each for each in compare(tmp_path / "other").remarks)


def test_a_studys_arm_whose_runs_are_not_of_one_configuration_is_reported(tmp_path: Path) -> None:
    from tests.report.folders import job

    write_run(tmp_path / "s/runs/a-3", 3, {"val/accuracy": 0.5}, identity={"objective.arm": "a", "model.layers": 9})
    arms = {"a": {n: {"val/accuracy": n / 10} for n in (1, 2)}}
    comparison = compare(write_study(tmp_path / "s", arms, jobs=[job("a", 3)], seeds=[1, 2, 3]))
    assert "a: its runs differ in more than the seed (model.layers)" in comparison.remarks


def test_runs_that_say_no_seed_are_never_taken_for_one(tmp_path: Path) -> None:
    for n in (1, 2, 3):
        run = write_run(tmp_path / str(n), n, {"val/loss": float(n)}, identity={"x": 1})
        (run.folder / "run.json").write_text(json.dumps({**run.facts, "identity": {**run.identity, "seed": None}}))
    assert [run.folder.name for run in of_runs(find(tmp_path / "1")[0])[0][0].runs] == ["1"]
    arms, _ = of_runs(find(tmp_path)[0])
    assert not arms[0].runs and [each.seed for each in arms[0].absent] == [None] * 3
    assert sum("says no seed" in each for each in compare(tmp_path).remarks) == 3
