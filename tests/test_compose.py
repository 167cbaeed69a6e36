"""Composition: every shipped file composes and is held against its class; help and --cfg answer without torch."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from cloze.check import RUNTIME
from cloze.compose import GROUPS, brought_objective, choices, compose, conf_directory, defaults, grid
from cloze.help import render
from cloze.schema import locate, parameters

ROOT = Path(__file__).resolve().parents[1]
FILES = [(group, choice) for group in GROUPS for choice in choices(group)]
# Composing takes a tenth of a second, and the files of labelled data differ in their task's name: one of a folder will do.
COMPOSED = {
    group: {choice.rpartition("/")[0] or choice: choice for choice in choices(group)}.values() for group in GROUPS
}


def test_there_are_choices_in_every_group() -> None:
    assert {group for group, _ in FILES} == set(GROUPS)
    assert len(FILES) >= 50


@pytest.mark.parametrize(("group", "choice"), FILES, ids=lambda x: str(x))
def test_a_choice_is_described_and_has_every_setting_of_its_class(group: str, choice: str) -> None:
    assert choices(group)[choice], "the first line of the file is a comment that says what the choice is"
    if group in ("size", "experiment"):
        return
    node = defaults(group, choice)
    if choice in COMPOSED[group]:
        fitting = {"model": "clm" if choice == "gpt2" else "span_corruption" if choice == "t5" else "mlm"}
        words = [f"{group}={choice}"] + ([f"objective={fitting['model']}"] if group == "model" else [])
        node = OmegaConf.to_container(compose(words).config)[group]  # type: ignore[assignment, index]
    built = locate(node.pop("_target_"), group)
    halves = [built, built.Examples] if group == "objective" else [built]  # type: ignore[attr-defined]
    accepted = {name for half in halves for name in parameters(half, RUNTIME.get(group, ()))}
    assert set(node) == accepted


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"], ["--cfg", "job", "--resolve", "model=bert"]])
def test_help_and_cfg_do_not_import_torch(words: list[str]) -> None:
    program = (
        "import sys; sys.argv = ['train.py', *sys.argv[1:]]\n"
        "from cloze import cli\n"
        "try: cli.train()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules and 'pytorch_lightning' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "bert" in done.stdout


def test_whatever_the_model_labelled_data_bring_their_objective_and_a_family_its_data() -> None:
    for model in choices("model"):
        assert compose([f"model={model}", "data=world/squad"]).choices["objective"] == "extractive_qa"
    assert compose(["model=xlm", "data=world/pos"]).choices["data"] == "world/pos"
    assert compose(["model=xlm"]).choices["data"] == compose(["model=mbert"]).choices["data"] == "world_parallel"
    assert compose(["data=world/mrpc", "objective=mlm"]).choices["objective"] == "mlm"
    assert brought_objective("text") is None


def test_data_that_are_labelled_bring_an_objective() -> None:
    for choice, line in choices("data").items():
        brought = brought_objective(choice)
        assert brought is None or brought in choices("objective"), line
        assert (brought is None) == (choice in ("world", "world_parallel", "text", "parallel", "pydocs", "huggingface"))


def test_help_names_every_choice_and_the_tasks_of_a_folder_together() -> None:
    lines = render().splitlines()
    for folder in ("clue", "glue", "superglue", "world"):
        (first,) = (number for number, line in enumerate(lines) if line.startswith(f"  {folder}/…  "))
        told = " ".join(itertools.takewhile(lambda line: line.startswith("      "), lines[first + 1 :]))
        names = {choice.partition("/")[2] for choice in choices("data") if choice.startswith(f"{folder}/")}
        assert names <= set(f"{lines[first]} {told}".split())
    alone = [(group, choice) for group, choice in FILES if group != "data" or "/" not in choice]
    assert all(any(line.startswith(f"  {choice} ") for line in lines) for _, choice in alone)
    assert len(lines) < 300


def test_a_grid_is_the_product_of_its_words() -> None:
    jobs = grid(["model=bert,roberta", "seed=range(1,4)", "objective.judge=[nsp,sop]"])
    assert len(jobs) == 6
    assert jobs[0] == ["model=bert", "seed=1", "objective.judge=[nsp,sop]"]
    assert jobs[-1] == ["model=roberta", "seed=3", "objective.judge=[nsp,sop]"]


def test_no_two_settings_files_of_a_group_share_a_name() -> None:
    for group in GROUPS:
        assert (conf_directory() / group).is_dir()


def test_an_installed_package_carries_the_configs() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'conf = "cloze/conf"' in text
    assert 'sweeps = "cloze/sweeps"' in text
