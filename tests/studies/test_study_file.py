"""Study files and sentences: what they come to, and what is refused with the nearest right word."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloze.compose import compose, parse
from cloze.errors import Refusal
from cloze.studies.file import read, shipped
from cloze.studies.jobs import jobs_of
from cloze.studies.study import from_file, from_words
from cloze.studies.words import grid, merged, spelt

GOOD = """# A question
question: Does it?
words: [model=bert, data=world, budget.steps=100]
arms:
  one, and only: [objective=mlm]
  two: [objective=mlm_sop, data=pydocs]
seeds: [1, 2]
baseline: two
metrics:
  - {key: val/accuracy, title: accuracy, higher_is_better: true}
  - {key: "ner:score/test/span_f1", title: NER, higher_is_better: true}
after:
  ner: [data=world/ner]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_a_file_is_arms_times_seeds_and_their_evaluations(file: Path) -> None:
    study = from_file([f"sweeps={file}", "hardware.threads=1", "trusted=[mine]"])
    assert (study.name, study.folder, study.baseline) == ("mine", Path("outputs/studies/mine"), "two")
    jobs = jobs_of(study)
    assert [job.name for job in jobs] == [
        "one-and-only-1", "one-and-only-1-ner", "two-1", "two-1-ner", "one-and-only-2", "one-and-only-2-ner", "two-2", "two-2-ner",
    ]  # fmt: skip
    assert jobs[2].words == (
        "model=bert", "budget.steps=100", "hardware.threads=1", "trusted=[mine]", "objective=mlm_sop", "data=pydocs", "seed=1",
    )  # fmt: skip  # the arm's data in place of the study's
    assert jobs[3].words == (
        "hardware.threads=1", "trusted=[mine]", "data=world/ner", "init=outputs/studies/mine/runs/two-1", "seed=1",
    )  # fmt: skip
    assert jobs[3].after == "two-1" and jobs[3].folder == Path("runs/two-1-ner")


def test_the_users_words_win(file: Path) -> None:
    study = from_file([f"sweeps={file}", "budget.minutes=1", "model=roberta", "sweeps.seeds=[7]", "output_dir=o/x"])
    assert study.training_words("two", 7) == (
        "budget.minutes=1", "model=roberta", "objective=mlm_sop", "data=pydocs", "seed=7",
    )  # fmt: skip
    assert study.folder == Path("o/x")
    assert (
        from_file([f"sweeps={file}", "seed=3,4"]).seeds
        == (3, 4)
        == from_file([f"sweeps={file}", "sweeps.seeds=3,4"]).seeds
    )
    left_out = from_file([f"sweeps={file}", "sweeps.after=[]"])
    assert not left_out.after and [metric.key for metric in left_out.metrics] == ["val/accuracy"]


def test_a_matched_budget_goes_to_every_arm(file: Path) -> None:
    file.write_text(
        GOOD.replace(", budget.steps=100", "") + "budget: {unit: tokens, amount: 2.0e+6}\n", encoding="utf-8"
    )
    study = from_file([f"sweeps={file}"])
    for arm in study.arms:
        assert "budget.tokens=2000000" in study.training_words(arm, 1)
    assert from_file([f"sweeps={file}", "budget.steps=5"]).budget is None  # said for all arms


def test_a_matched_budget_takes_the_place_of_an_experiments(file: Path) -> None:
    file.write_text(
        "words: []\narms: {own: [experiment=electra_small], none: [model=bert]}\nbudget: {unit: tokens, amount: 1000}\n",
        encoding="utf-8",
    )
    study = from_file([f"sweeps={file}"])
    budget = compose(study.training_words("own", 1)).config.budget
    assert (budget.tokens, budget.steps) == (1000, None)
    assert study.training_words("none", 1) == ("budget.tokens=1000", "model=bert", "seed=1")


def test_budgets_that_the_user_names_are_no_matched_one(file: Path) -> None:
    file.write_text(
        "words: []\ngrid: {objective.mask_ratio: [0.1, 0.3]}\nbudget: {unit: steps, amount: 3}\n", encoding="utf-8"
    )
    study = from_file([f"sweeps={file}", "budget.steps=5,6"])
    assert study.budget is None and len(study.arms) == 4
    assert study.training_words("mask_ratio=0.1, steps=5", 1)[:-1] == ("objective.mask_ratio=0.1", "budget.steps=5")


def test_a_grid_names_its_arms_by_leaf_and_tells_leaves_apart() -> None:
    two = grid({"model.layers": ["model.layers=1", "model.layers=2"], "objective.rate": ["objective.rate=0.1"]})
    assert list(two) == ["layers=1, rate=0.1", "layers=2, rate=0.1"]
    same_leaf = grid({"model.rate": ["model.rate=1"], "objective.rate": ["objective.rate=2"]})
    assert list(same_leaf) == ["model.rate=1, objective.rate=2"]
    study = from_words(["model=bert,roberta", "seed=range(1,4)", "data=world"])
    assert study.arms == {"model=bert": ("model=bert",), "model=roberta": ("model=roberta",)}
    assert study.seeds == (1, 2, 3) and study.words == ("data=world",)


def test_the_same_grid_is_the_same_folder_whatever_decides_nothing() -> None:
    folder = from_words(["model=bert,roberta", "seed=1,2"]).folder
    assert folder == from_words(["seed=1,2,3", "model=bert,roberta", "tracking=none", "hardware.threads=1"]).folder
    assert folder != from_words(["model=bert,roberta", "length=32"]).folder
    assert from_words(["model.layers=1,2"]).folder != from_words(["size.layers=1,2"]).folder  # arms of the same names


def test_a_setting_is_the_same_one_whatever_stands_before_it(file: Path) -> None:
    assert from_words(["+seed=3,4", "data=world"]).seeds == (3, 4)
    file.write_text("words: []\ngrid: {objective.mask_ratio: [0.1, 0.3]}\n", encoding="utf-8")
    study = from_file([f"sweeps={file}", "++objective.mask_ratio=0.2,0.4"])
    assert study.arms == {
        "mask_ratio=0.2": ("++objective.mask_ratio=0.2",),
        "mask_ratio=0.4": ("++objective.mask_ratio=0.4",),
    }


def test_a_text_of_a_grid_is_one_value_whatever_is_in_it(file: Path) -> None:
    file.write_text("words: []\ngrid: {name: ['a b, c', 'x', '[mlm,nsp]']}\n", encoding="utf-8")
    words = [its[0] for its in from_file([f"sweeps={file}"]).arms.values()]
    assert words == ["name='a b, c'", "name=x", "name=[mlm,nsp]"]


def test_later_words_take_the_place_of_earlier_ones() -> None:
    assert merged(["a=1", "b=2"], ["+a=3"], ["~b"]) == ("+a=3", "~b")
    assert merged(["budget.steps=3", "budget.otherwise_steps=4"], ["budget.minutes=1"]) == (
        "budget.otherwise_steps=4", "budget.minutes=1",
    )  # fmt: skip


@pytest.mark.parametrize(
    "value", [True, None, 3, 2.5, 1e-4, 2e13, [1, 2], ["a", "b"], {"a": 1}, "a b, c", ["it's, so", "b"]]
)
def test_a_value_survives_as_a_word(value: object) -> None:
    assert parse([f"key={spelt(value)}"])[0].value() == value


READ_ALONE = ("nsp_vs_sop_cues", "tlm_vs_mlm")  # their arms are asked about other inputs each, or held against chance


@pytest.mark.parametrize("name", [name for name, path in shipped().items() if read(path).search is None])
def test_a_shipped_study_is_well_formed(name: str) -> None:
    study = from_file([f"sweeps={name}"])
    assert study.question and study.paper["url"].startswith("https://") and study.metrics and study.minutes
    assert len(study.seeds) >= 3
    if name in READ_ALONE:
        assert study.baseline is None
    else:
        assert study.baseline in study.arms
    assert shipped()[name].read_text(encoding="utf-8").startswith("# ")
    jobs = jobs_of(study)
    assert len(jobs) == len(study.arms) * len(study.seeds) * (1 + len(study.after))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("question:", "qestion:"), "mine.yaml: qestion is not a setting of a study; did you mean"),
        (("baseline: two", "baseline: tow"), "baseline: tow is not an arm; did you mean two?"),
        (("title: NER", "titel: NER"), "metrics.titel is not a setting; did you mean title?"),
        (('"ner:', '"nre:'), "metrics: nre:score/test/span_f1 is of an evaluation that after does not have; did you mean ner?"),
        (("seeds: [1, 2]", "seeds: [one]"), "mine.yaml: seeds=['one'] must be a list of whole numbers"),
        (("arms:\n", "grid: {seed: [1]}\narms:\n"), "a study has arms, {name: [words]}, "),
        (("seeds:", "budget: {unit: steps, amount: 3}\nseeds:"), "words: budget.steps=100 beside budget, which is budget.steps=3"),
        (("seeds:", "budget: {unit: stpes, amount: 3}\nseeds:"), "budget.unit=stpes is not one of them; did you mean steps?"),
        (("[objective=mlm]", "[objective=mlm, seed=3]"), "one, and only: seed=3 is not for the words of a run"),
        (("words: [", "words: {"), "mine.yaml cannot be read"),
        (("words: [", "words: [plan=true, "), "words: plan=true is not for the words of a run: it looks at one run"),
        (("[objective=mlm]", "[objective=mlm, 'length=32,64']"), "one, and only: length=32,64 names several values, which a file has"),
        (("[objective=mlm]", "[objective=mlm, +show=2]"), "one, and only: +show=2 is not for the words of a run"),
        (("[data=world/ner]", "[data=world/ner, init=foo]"), "after.ner: init=foo is not for the words of a run: an evaluation starts"),
        (("[data=world/ner]", "[data=world/ner, resume=auto]"), "after.ner: resume=auto is not for the words of a run"),
        (("seeds: [1, 2]", "seeds: []"), "seeds is empty: leave it out for the one seed 1"),
        (("seeds: [1, 2]", "minutes: -1"), "minutes: -1 must be above 0"),
        (("seeds: [1, 2]", "parallel: 0"), "mine.yaml: parallel: 0 must be above 0"),
        (("key: \"ner:score/test/span_f1\"", "key: val/accuracy"), "metrics: val/accuracy is there twice"),
        (("seeds:", "paper: {titel: x}\nseeds:"), "paper.titel is not a setting of Paper; did you mean paper.title?"),
        (("seeds:", "published: {colums: [x]}\nseeds:"), "published.colums is not a setting of Published; did you mean published.columns?"),
        (("seeds:", "published: {rows: [1, 2]}\nseeds:"), "published.rows=[1, 2] must be a mapping"),
        (("seeds:", "published: {rows: {a: 5}}\nseeds:"), "published.rows.a=5 must be a list"),
        (("  two: ", "  1: [objective=clm]\n  '1': [objective=rtd]\n  two: "), "1 is there twice, as a text and as a value"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be(file: Path, change: tuple[str, str], said: str) -> None:
    file.write_text(GOOD.replace(*change), encoding="utf-8")
    with pytest.raises(Refusal) as refusal:
        read(file)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("grid: {length: [32, 32]}", "length=32 is there twice: every value is an arm"),
        ("grid: {length: [32], +length: [64]}", "grid: length, +length: one setting is there twice"),
        ("grid: {seed: [1], length: [32, 64]}\nseeds: [1, 2]", "seeds: [1, 2] beside grid.seed: both say the seeds"),
        ("grid: {audit: [true, false]}", "audit=true is not for the words of a run"),
    ],
)
def test_a_grid_that_cannot_be(file: Path, content: str, said: str) -> None:
    file.write_text(f"words: []\n{content}\n", encoding="utf-8")
    with pytest.raises(Refusal) as refusal:
        read(file)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sweeps=mask_rate", "sweeps=mask_rate is not there; did you mean mask_ratio?"),
        ("sweeps=nowhere.yaml", "sweeps=nowhere.yaml is not there"),
        ("sweeps.parallel=2", "sweeps.parallel=2 is about a study: say which one, sweeps=NAME"),
        ("sweeps=mask_ratio sweeps.paralel=2", "sweeps.paralel is not a setting; did you mean sweeps.parallel?"),
        ("sweeps=mask_ratio sweeps.parallel=0", "sweeps.parallel=0 must be at least 1"),
        ("sweeps=mask_ratio sweeps.parallel=many", "sweeps.parallel='many' must be a whole number"),
        ("sweeps=mask_ratio sweeps.retries=-1", "sweeps.retries=-1 must be at least 0"),
        ("sweeps=mask_ratio sweeps.seeds=[1,1]", "must be whole numbers from 0, each once"),
        ("sweeps=mask_ratio sweeps.after=[ner]", "sweeps.after: ner is not there"),
        ("sweeps=mask_ratio sweeps.baseline=mask_ratio=0.2", "the baseline mask_ratio=0.2 is not an arm; did you mean mask_ratio=0."),
        ("sweeps=nsp_vs_sop objective=mlm", "objective=mlm: the arms of nsp_vs_sop differ in that"),
        ("sweeps=nsp_vs_sop model=bert,roberta", "model=bert,roberta: the arms of nsp_vs_sop are in its file"),
        ("sweeps=search_learning_rate model=bert,roberta", "model=bert,roberta: what is searched of search_learning_rate is in its file"),
        ("sweeps=mask_ratio plan=true", "plan=true looks at one run"),
        ("sweeps=mask_ratio resume=outputs/x", "the same sentence again goes on where it stopped"),
        ("sweeps=mask_ratio hydra.sweep.dir=x", "the study's folder is output_dir=FOLDER"),
        ("sweeps=mask_ratio seed=one", "seed=one must be a whole number"),
        ("sweeps=mask_ratio sweeps.seeds=[1,2] seed=3,4", "sweeps.seeds=[1,2] beside seed=3,4: both say the seeds"),
        ("sweeps=mask_ratio length=32,64 +length=16,8", "+length=16,8: length has several values in another word already"),
        ("sweeps=mask_ratio length=32,64 length=16", "length=16: length has several values in another word"),
        ("sweeps=mask_ratio length=32,32", "length=32 is there twice"),
        ("sweeps=mask_ratio sweeps=nsp_vs_sop", "sweeps=nsp_vs_sop beside sweeps=mask_ratio: say one of the two"),
        ("sweeps=mask_ratio output_dir=a,b", "output_dir=a,b must be the name of one folder"),
        ("sweeps=mask_ratio output_dir=null", "output_dir=null must be the name of one folder"),
        ("sweeps=mask_ratio output_dir=", "output_dir= must be the name of one folder"),
    ],
)  # fmt: skip
def test_a_sentence_that_cannot_be(words: str, said: str) -> None:
    with pytest.raises(Refusal) as refusal:
        from_file(words.split())
    assert said in str(refusal.value)
