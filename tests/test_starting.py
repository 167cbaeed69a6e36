"""`init=DIR` alone: the run is one of the family that lies there, with that family's own objective and optimizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloze import cli
from cloze.check import Checked, check
from cloze.compose import compose, target
from cloze.errors import Refusal
from cloze.loading import export
from cloze.run import _with_the_words_of_the_run_to_resume, initialised
from cloze.starting import with_family
from tests.pretrained import FAMILIES, LENGTH, PORTABLE, saved_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each family, and, for those that transformers has, a directory of its own kind beside it."""
    folder = tmp_path_factory.mktemp("runs")
    for family in FAMILIES:
        saved_run(folder / family, family)
        if family in PORTABLE:
            export(folder / family, folder / f"{family}-exported")
    return folder


def checked(*words: str) -> Checked:
    """What would be trained."""
    return check(initialised(compose(with_family([*words, f"length={LENGTH}"])))[1])


@pytest.mark.parametrize("source", [*FAMILIES, *(f"{family}-exported" for family in PORTABLE)])
def test_a_directory_is_enough(source: str, runs: Path) -> None:
    found = checked(f"init={runs / source}")
    family = source.removesuffix("-exported")
    held = "bert.Bert" if source == "unilm.UniLM-exported" else family  # which is what a UniLM is to transformers
    held = "bart.Bart" if source == "mass.Mass-exported" else held
    assert found.settings["model"]["_target_"] == f"cloze.models.{held}"
    choice = str(found.composed.choices["model"])
    assert target("model", choice) == f"cloze.models.{held}"
    usual = compose([f"model={choice}"])
    for group in ("objective", "optimizer"):
        assert found.composed.choices[group] == usual.choices[group]
        assert found.composed.config[group]["_target_"] == usual.config[group]["_target_"]


def test_what_is_said_wins(runs: Path) -> None:
    found = checked(f"init={runs / 'xlnet.XLNet'}", "model.memory_length=3", "objective.documents=continued")
    assert found.settings["model"]["memory_length"] == 3
    found = checked(f"init={runs / 't5.T5'}", "optimizer=adamw", "objective=denoise")
    assert (found.composed.choices["optimizer"], found.composed.choices["objective"]) == ("adamw", "denoise")
    with pytest.raises(Refusal, match=r"model\.memory_lenth is not a setting; did you mean model\.memory_length"):
        checked(f"init={runs / 'xlnet.XLNet'}", "model.memory_lenth=3")


def test_the_choice_that_a_run_was_made_by(runs: Path) -> None:
    """Two choices build a Bert: the plain one, unless the run's words name the other."""
    source = f"init={runs / 'bert.Bert'}"
    assert with_family([source, "seed=2"]) == ["model=bert", source, "seed=2"]
    record = runs / "bert.Bert" / "run.json"
    record.write_text(json.dumps({"provenance": {"words": ["seed=1", "model=mbert"]}}), encoding="utf-8")
    try:
        assert with_family([source])[0] == "model=mbert"
    finally:
        record.unlink()


def test_where_something_else_names_the_model(runs: Path) -> None:
    source = f"init={runs / 'gpt2.GPT2'}"
    for words in (["model=gpt2", source], [source, "experiment=gpt2_small"], ["seed=1"], ["init=null"]):
        assert with_family(words) == words
    with pytest.raises(Refusal, match="nowhere is not there"):
        with_family(["init=./nowhere"])


def test_a_resumed_run_keeps_its_words(runs: Path, tmp_path: Path) -> None:
    words = with_family([f"init={runs / 'gpt2.GPT2'}", f"length={LENGTH}"])
    (tmp_path / "run.json").write_text(json.dumps({"provenance": {"words": words}}), encoding="utf-8")
    again = _with_the_words_of_the_run_to_resume(compose(with_family([f"resume={tmp_path}"])))
    assert again.choices["model"] == "gpt2" and check(initialised(again)[1]).objective.__name__ == "CausalLM"


def test_the_command_line_does_so(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._guarded(cli._train, ["--cfg", "job", f"init={runs / 'elmo.ELMo'}"]) == 0
    assert "cloze.objectives.bilm.BidirectionalLM" in capsys.readouterr().out
