"""What a sentence that fine-tunes leaves out: the words of each family's paper, and that words which are said win."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloze.compose import choices, compose
from cloze.recipes import completed
from cloze.starting import complete
from tests.pretrained import LENGTH, saved_run


def added(*words: str) -> dict[str, str]:
    """The words that a recipe puts before those that are said."""
    whole, note = completed(list(words))
    assert tuple(whole[len(whole) - len(words) :]) == words
    recipe = dict(word.split("=", 1) for word in whole[: len(whole) - len(words)])
    assert all(f"{key}={value}" in note for key, value in recipe.items())
    compose(whole)
    return recipe


BERT = {
    "batch_size": "32", "budget.epochs": "3", "schedule": "linear", "schedule.warmup": "0.1", "optimizer": "adamw",
    "optimizer.weight_decay": "0.01", "optimizer.learning_rate": "3e-05", "length": "128", "validation.examples": "null",
}  # fmt: skip
ROBERTA = BERT | {
    "batch_size": "16", "budget.epochs": "10", "schedule.warmup": "0.06", "optimizer.weight_decay": "0.1",
    "optimizer.learning_rate": "2e-05",
}  # fmt: skip
GPT = BERT | {
    "schedule.warmup": "0.002", "optimizer.learning_rate": "6.25e-05", "objective.frame": "delimited", "objective.lm_weight": "0.5",
}  # fmt: skip
T5 = {
    "batch_size": "32", "budget.epochs": "3", "schedule": "constant", "optimizer": "adafactor",
    "optimizer.learning_rate": "0.001", "length": "128", "validation.examples": "null",
}  # fmt: skip
OTHERS = {"roberta": ROBERTA, "gpt": GPT, "t5": T5, "t5_v1_1": T5, "switch": T5}


@pytest.mark.parametrize("model", choices("model"))
def test_every_familys_words_for_glue(model: str) -> None:
    """At a width of 768 the rates of the papers."""
    expected = OTHERS.get(model, BERT)
    found = added(f"model={model}", "model.width=768", "data=glue/rte")
    if model == "albert":  # whose code has settings for each task
        expected = BERT | {"budget.steps": "800", "schedule.warmup": "200"}
        del expected["budget.epochs"]
    assert found == expected
    similar = added(f"model={model}", "model.width=768", "data=glue/mrpc")
    assert similar.pop("objective.both_orders", None) == ("true" if model == "gpt" else None)


def test_alberts_own_settings_for_each_task() -> None:
    found = added("model=albert", "model.width=768", "data=glue/cola")
    assert (found["batch_size"], found["budget.steps"], found["schedule.warmup"]) == ("16", "5336", "320")
    assert found["optimizer.learning_rate"] == "1e-05" and "budget.epochs" not in found


def test_kinds_of_tasks() -> None:
    base = ("model=bert", "model.width=768")
    squad = added(*base, "data=squad")
    assert squad == BERT | {"length": "384", "optimizer.learning_rate": "5e-05"}
    assert added(*base, "data=swag") == BERT | {"batch_size": "16", "optimizer.learning_rate": "2e-05"}
    assert added(*base, "data=race")["length"] == "512"
    assert added(*base, "data=ud") == BERT
    choosing = added("model=gpt", "model.width=768", "data=swag")
    assert choosing["objective.frame"] == "delimited" and "objective.lm_weight" not in choosing
    assert not any(key.startswith("objective.") for key in added("model=gpt", "model.width=768", "data=ud"))


def test_a_passage_that_shares_its_sequence_has_what_the_summary_leaves(tmp_path: Path) -> None:
    for model, words in {"gpt2": 32, "unilm": 32, "t5": None, "bart": None}.items():
        found = added(f"model={model}", "data=world/summary")
        assert found["length"] == "128" and found.get("objective.target_length") == (words and str(words))
    assert "objective.target_length" not in added("model=gpt2", "data=world/summary", "length=32")
    assert "objective.target_length" not in added("model=gpt2", "data=world/translation")
    for tokenizer in ("unigram", "character"):  # of whose tokens a summary has more
        assert "objective.target_length" not in added("model=gpt2", f"tokenizer={tokenizer}", "data=world/summary")
    for model, cuts_small in {"transformer_xl.TransformerXL": False, "xlnet.XLNet": True}.items():
        saved_run(tmp_path / model, model)
        found = added(f"model={model.partition('.')[0]}", f"init={tmp_path / model}", "data=world/summary")
        assert found["length"] == "128" and ("objective.target_length" in found) != cuts_small


def test_words_that_are_said_win() -> None:
    base = ("model=bert", "model.width=768", "data=glue/mrpc")
    for word, gone in {
        "batch_size=8": ("batch_size",),
        "budget.steps=5": ("budget.epochs",),
        "optimizer=sgd": ("optimizer", "optimizer.weight_decay", "optimizer.learning_rate"),
        "optimizer.learning_rate=1": ("optimizer.learning_rate",),
        "schedule=constant": ("schedule", "schedule.warmup"),
        "length=64": ("length",),
        "validation.examples=7": ("validation.examples",),
    }.items():
        if word.startswith("optimizer=") and "sgd" not in choices("optimizer"):
            word = f"optimizer={next(c for c in choices('optimizer') if c != 'adamw')}"
        assert added(*base, word) == {key: value for key, value in BERT.items() if key not in gone}, word
    frame = added("model=gpt", "data=glue/mrpc", "objective.frame=own", "objective.lm_weight=0")
    assert not {"objective.frame", "objective.lm_weight"} & set(frame)


def test_what_does_not_fine_tune_is_left_alone() -> None:
    for words in (
        [], ["model=bert"], ["objective=mlm"], ["data=world"], ["data=text", "data.path=x"], ["resume=auto", "data=glue/mrpc"],
        ["matrix=true", "data=glue/mrpc"], ["data=blimp", "model=bert"],
    ):  # fmt: skip
        assert completed(words) == (words, "")


def test_narrow_models_take_higher_rates() -> None:
    rates = [
        float(added("model=bert", f"model.width={w}", "data=glue/rte")["optimizer.learning_rate"])
        for w in (128, 256, 768, 1024)
    ]
    assert rates[0] == pytest.approx(3e-5 * 6**1.5, rel=0.04) and rates[1] == pytest.approx(3e-5 * 3**1.5, rel=0.04)
    assert rates[2:] == [3e-5, 3e-5]


def test_a_small_checkpoint_is_read_no_further_than_it_knows(tmp_path: Path) -> None:
    """It was trained at 32 tokens and has 40 positions; where there are no positions, twice as far, and questions four times."""
    saved_run(tmp_path / "bert", "bert.Bert")
    saved_run(tmp_path / "t5", "t5.T5")
    assert LENGTH == 32
    sources: dict[str, Any] = {name: f"init={tmp_path / name}" for name in ("bert", "t5")}
    for name, task, length in (
        ("bert", "glue/mrpc", 40),
        ("bert", "squad", 40),
        ("t5", "glue/mrpc", 64),
        ("t5", "squad", 128),
    ):
        words, note = complete([sources[name], f"data={task}"])
        config = compose(words).config
        assert config.length == length and "unless told otherwise" in note
        assert words[words.index(sources[name]) :] == [sources[name], f"data={task}"]
        if task == "squad":
            assert (config.objective.stride, config.objective.question_length) == (length // 3, length // 4)
        if name == "bert":
            assert config.optimizer.learning_rate == pytest.approx(
                (5e-5 if task == "squad" else 3e-5) * 24**1.5, rel=0.04
            )


def test_a_run_that_may_go_on_has_its_recipe_until_it_has_begun(tmp_path: Path) -> None:
    words = ["data=world/mrpc", "resume=auto", f"output_dir={tmp_path / 'run'}"]
    fresh, note = completed(words)
    assert "batch_size=32" in fresh and note
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"provenance": {"words": ["data=world/mrpc", "batch_size=8"]}}')
    assert completed(words) == (words, "")
