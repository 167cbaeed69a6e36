"""All arms are checked before a job starts: what cannot be, what is the same run, what a job is told beside its words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cloze.errors import Refusal
from cloze.folder import RunFolder
from cloze.studies.ending import judge, stamp
from cloze.studies.file import read, shipped
from cloze.studies.jobs import check_all, jobs_of
from cloze.studies.run import shares
from cloze.studies.study import Study, from_file
from cloze.training.hardware import cores

COMMON = ("model=bert", "objective=mlm", "hardware.accelerator=cpu")


def study(
    folder: Path, arms: dict[str, tuple[str, ...]], words: tuple[str, ...] = COMMON, **more: tuple[str, ...]
) -> Study:
    return Study("test", folder, words, arms, (1, 2), after=more)


def test_every_arm_and_evaluation_that_cannot_be_is_told(tmp_path: Path) -> None:
    wrong = study(
        tmp_path / "s",
        {"good": (), "bad": ("objective.mask_rato=0.3",), "worse": ("model=gpt2",)},
        pos=("data=world/pso",),
    )  # fmt: skip
    with pytest.raises(Refusal) as refusal:
        check_all(wrong, jobs_of(wrong))
    said = str(refusal.value).splitlines()
    assert any(
        line.startswith("bad: objective.mask_rato is not a setting; did you mean objective.mask_ratio?")
        for line in said
    )
    assert any(line.startswith("worse: objective=mlm needs a model that sees both sides") for line in said)
    assert any(line.startswith("good, pos: data=world/pso is not there; did you mean world/pos?") for line in said)
    assert said[-1] == "10 of 12 jobs cannot be; nothing was started" and not (tmp_path / "s").exists()


def test_arms_that_are_the_same_run_whatever_their_words_are_named(tmp_path: Path) -> None:
    same = study(
        tmp_path, {"said": ("objective.mask_ratio=0.15",), "left out": (), "other": ("objective.mask_ratio=0.3",)}
    )
    checking = check_all(same, jobs_of(same))
    assert len(checking.remarks) == 1 and checking.remarks[0].startswith("said and left out are the same run")


def test_the_machine_makes_no_other_run_but_by_its_precision_and_figures_go_by_what_is_asked(tmp_path: Path) -> None:
    words = ("hardware.precision=32", "hardware.micro_batch=8", "validation.every=100", "checkpoint.every=7")
    arms = {word: (word,) for word in (*words, "hardware.precision=bf16-mixed", "validation.examples=64")}
    remarks = check_all(several := study(tmp_path, arms, (*COMMON, "hardware.precision=32")), jobs_of(several)).remarks
    assert [each.partition(" are ")[0] for each in remarks] == [" and ".join(words)]


def test_that_seeds_of_a_budget_in_flops_end_at_other_steps_is_said(tmp_path: Path) -> None:
    for budget, said in (("budget.flops=1e12", 1), ("budget.steps=10", 0)):
        of = study(tmp_path, {"one": ()}, (*COMMON, budget))
        assert (
            sum("seeds of one arm may end a few steps apart" in each for each in check_all(of, jobs_of(of)).remarks)
            == said
        )


def test_wandb_has_a_group_and_ranks_share_the_cores(tmp_path: Path) -> None:
    arms = {
        "alone": ("tracking=wandb",), "own group": ("tracking=wandb", "tracking.group=mine"), "untracked": ("tracking=none",),
        "ranks": ("tracking=none", "hardware.devices=2") if cores() > 1 else ("tracking=none",),
    }  # fmt: skip
    several = study(tmp_path / "of mine", arms)
    by_arm = {job.arm: job for job in check_all(several, jobs_of(several)).jobs}
    assert by_arm["alone"].words[-1] == "tracking.group='of mine'"
    assert by_arm["own group"].words[-1] == "seed=2" == by_arm["untracked"].words[-1]
    assert by_arm["ranks"].devices == min(2, cores())


def test_how_many_at_a_time_and_threads_for_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("cloze.training.hardware.cores", lambda: 8)
    plain = study(tmp_path, {})
    assert shares(plain, False, None, [1] * 20) == (8, 1)
    assert shares(plain, False, None, [1] * 3) == (
        3,
        2,
    )  # no more than there are jobs: the cores are shared out among these
    assert shares(plain, False, 4, [1] * 20) == (2, None)  # hardware.threads=4
    assert shares(plain, False, None, [2] * 20) == (4, 2)  # of which each of two ranks gets one
    assert shares(plain, True, None, [1] * 20) == (1, None)  # an accelerator is one job's
    assert shares(plain, False, None, [1]) == (1, None)  # a single job measures what is best
    said = Study("test", tmp_path, (), {}, parallel=2)
    assert shares(said, False, None, [1] * 20) == (2, 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, path in shipped().items() if read(path).search is None])
def test_a_shipped_study_can_be_run(name: str) -> None:
    # init= names a checkpoint that is not there, and what lies there decides nothing of the check but the family
    words = [f"sweeps={name}", *(["init=null", "model=bert"] if name == "finetune_vs_scratch" else [])]
    its = from_file(words)
    if name == "finetune_vs_scratch":
        its = replace(its, arms={arm: tuple(w for w in ws if w != "finetune=scratch") for arm, ws in its.arms.items()})
    checking = check_all(its, jobs_of(its))
    assert len(checking.jobs) == len(its.arms) * len(its.seeds) * (1 + len(its.after))
    alike = [remark for remark in checking.remarks if "the same run" in remark]
    assert name == "finetune_vs_scratch" or not alike


def test_a_record_of_an_earlier_attempt_says_nothing_of_this_one(tmp_path: Path) -> None:
    RunFolder(tmp_path).record("failed", reason="the loss is not a number")
    before = stamp(tmp_path)
    log = tmp_path / "log"
    log.write_text("error: ModuleNotFoundError: no module named mine\n", encoding="utf-8")
    assert judge(tmp_path, 1, log, 0, before).reason == "ModuleNotFoundError: no module named mine"
    log.write_text("error: output_dir is in use by process 7\n", encoding="utf-8")
    assert judge(tmp_path, 2, log, 0, before).reason == "output_dir is in use by process 7"
    RunFolder(tmp_path).record("failed")  # the same again, by this attempt
    assert judge(tmp_path, 1, log, 0, before).reason == "the loss is not a number"
