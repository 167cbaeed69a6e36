"""All of GLUE on a tiny model and tiny files in the official format: what fails ends nothing, what is there is not run again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cloze import cli
from cloze.check import built_by, compatibility
from cloze.compose import choices
from cloze.errors import Preempted, Refusal
from cloze.suites import glue, names_all_of_glue
from cloze.suites.process import Ended

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "../shared/data/glue"
QUICK = ["tracking=none", "hardware.threads=1", "validation.examples=8"]
NOUNS = ("lamp", "door", "boat", "mill", "road", "bell", "coat", "well")


def texts(number: int) -> tuple[str, str]:
    first, second = NOUNS[number % 8], NOUNS[number * 3 % 8]
    return f"the {first} was lit at {number} o'clock .", f"at {number} o'clock the {second} was lit ."


def table(file: Path, head: str, lines: Sequence[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*([head] if head else []), *lines]) + "\n", encoding="utf-8")


def folder_of_glue(folder: Path) -> Path:
    """CoLA, MRPC, STS-B, MNLI with a labelled AX, RTE, and a QNLI with a label that is none."""
    for split, count in (("train", 24), ("dev", 9), ("test", 5)):
        pairs = [texts(n + len(split)) for n in range(count)]
        tested = split == "test"
        if tested:
            table(folder / "CoLA/test.tsv", "index\tsentence", [f"{n}\t{a}" for n, (a, _) in enumerate(pairs)])
        else:
            table(folder / f"CoLA/{split}.tsv", "", [f"x\t{n % 2}\t\t{a}" for n, (a, _) in enumerate(pairs)])
        head = ("index\t" if tested else "Quality\t") + "#1 ID\t#2 ID\t#1 String\t#2 String"
        table(
            folder / f"MRPC/{split}.tsv",
            head,
            [f"{n if tested else n % 2}\t1\t2\t{a}\t{b}" for n, (a, b) in enumerate(pairs)],
        )
        head = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2" + "\tscore" * (
            not tested
        )
        scores = ["" if tested else f"\t{n % 6}.0" for n in range(count)]
        table(
            folder / f"STS-B/{split}.tsv",
            head,
            [f"{n}\tg\tf\ty\t0\ts\ts\t{a}\t{b}{scores[n]}" for n, (a, b) in enumerate(pairs)],
        )
        two = ("entailment", "not_entailment")
        for name, head, wrong in (
            ("RTE", "sentence1\tsentence2", ""),
            ("QNLI", "question\tsentence", "perhaps" * (split == "train")),
        ):
            labels = ["" if tested else f"\t{wrong if n == 3 and wrong else two[n % 2]}" for n in range(count)]
            lines = [f"{n}\t{a}\t{b}{labels[n]}" for n, (a, b) in enumerate(pairs)]
            table(folder / f"{name}/{split}.tsv", f"index\t{head}" + "\tlabel" * (not tested), lines)
        three = ("entailment", "neutral", "contradiction")
        for name in ("train",) if split == "train" else (f"{split}_matched", f"{split}_mismatched"):
            labels = ["" if tested else f"\t{three[n % 3]}" for n in range(count)]
            lines = [f"{n}\t{a}\t{b}{labels[n]}" for n, (a, b) in enumerate(pairs)]
            table(folder / f"MNLI/{name}.tsv", "index\tsentence1\tsentence2" + "\tgold_label" * (not tested), lines)
    three = ("entailment", "neutral", "contradiction")
    ax = [f"{three[n % 3]}\t{texts(n)[0]}\t{texts(n)[1]}" for n in range(7)]
    table(folder / "AX/diagnostic-full.tsv", "Label\tPremise\tHypothesis", ax)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model "first" and GLUE "glue data"."""
    place = tmp_path_factory.mktemp("suite")
    world = ["data.documents=60", "data.validation_documents=10", "data.test_documents=10"]
    words = [*QUICK, *world, "tokenizer.vocabulary=400", "budget.steps=1", f"cache_dir={place / 'cache'}"]
    assert cli._guarded(cli._train, [*words, f"output_dir={place / 'first'}"]) == 0
    folder_of_glue(place / "glue data")
    return place


class Here:
    """Runs in this process, and notes what was run."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def __call__(self, words: Sequence[str]) -> Ended:
        said = dict(word.split("=", 1) for word in words)
        self.started.append(Path(said["output_dir"]).name)
        try:
            return Ended(cli._train(words))
        except Refusal as fault:
            return Ended(2, str(fault))


def sentence(place: Path, out: str, *words: str) -> glue.Suite:
    said = [f"init={place / 'first'}", "data=glue/all", f"output_dir={place / out}", f"cache_dir={place / 'cache'}"]
    path = [] if any(word.startswith("data.path=") for word in words) else [f"data.path='{place / 'glue data'}'"]
    return glue.understood([*said, *path, *QUICK, "batch_size=8", *words])


def test_a_whole_suite(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = Here()
    suite = sentence(place, "all", "data.chain=true", "data.tasks=[CoLA,mnli,qnli,rte]", "budget.steps=2")
    assert glue.run(suite, start) == 1  # QNLI's files are faulty
    assert start.started == ["mnli-1", "cola-1", "qnli-1", "rte-1"]
    said = capsys.readouterr().out
    out = place / "all"
    found = json.loads((out / "glue.json").read_text())
    runs = {run["task"]: run for run in found["runs"]}
    assert {task for task, run in runs.items() if run["status"] == "done"} == {"mnli", "cola", "rte"}
    assert runs["qnli"]["status"] == "failed"
    assert "'perhaps' is not a label" in runs["qnli"]["reason"] and "train.tsv, line 5" in runs["qnli"]["reason"]
    assert f"qnli-1 failed: {runs['qnli']['reason']}" in said

    # every figure is that of its run
    for task in ("cola", "mnli", "rte"):
        scores = json.loads((out / f"{task}-1" / "scores.json").read_text())
        for metric, value in scores["validation"].items():
            assert found["scores"][task][metric]["mean"] == pytest.approx(100 * value)
    scores = json.loads((out / "mnli-1" / "scores.json").read_text())
    assert found["scores"]["mnli_mismatched"]["accuracy"]["mean"] == 100 * scores["validation_mismatched"]["accuracy"]
    assert "qnli" not in found["scores"]
    assert found["averages"]["BERT"]["over"] == ["MNLI-m", "MNLI-mm", "CoLA", "RTE"]
    assert (out / "glue.md").read_text() in said and "BERT-large" in said
    assert (out / "glue.csv").read_text().startswith("system,set,task,metric")

    # the chain: the model that RTE started from is MNLI's
    words = json.loads((out / "rte-1" / "run.json").read_text())["provenance"]["words"]
    assert f"init={out / 'mnli-1'}" in words
    words = json.loads((out / "cola-1" / "run.json").read_text())["provenance"]["words"]
    assert f"init={place / 'first'}" in words and "optimizer.weight_decay=0.01" in words  # BERT's recipe

    # for the leaderboard
    sent = {file.name for file in (out / "submission").iterdir()}
    assert sent == {"CoLA.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "RTE.tsv", "AX.tsv"}
    lines = (out / "submission" / "RTE.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction" and len(lines) == 6
    assert "the leaderboard also wants SST-2.tsv, MRPC.tsv, STS-B.tsv, QQP.tsv, QNLI.tsv, WNLI.tsv" in said

    # again: only what failed, which this time does not, for its files are mended
    file = place / "glue data" / "QNLI" / "train.tsv"
    file.write_text(file.read_text().replace("perhaps", "entailment"))
    again = Here()
    assert glue.run(suite, again) == 0
    assert again.started == ["qnli-1"]
    found = json.loads((out / "glue.json").read_text())
    assert {run["status"] for run in found["runs"]} == {"was there", "done"} and "qnli" in found["scores"]

    # other settings in the same folder are refused before anything starts
    other = Here()
    changed = sentence(place, "all", "data.chain=true", "data.tasks=[mnli,mrpc]", "budget.steps=3")
    with pytest.raises(Refusal, match=r"mnli-1 holds a run of other settings \(budget.steps: 2 there, 3 now\)"):
        glue.run(changed, other)
    assert other.started == []


def test_matthews_of_ax(place: Path, tmp_path: Path) -> None:
    from sklearn.metrics import matthews_corrcoef

    gold = [("entailment", "neutral", "contradiction")[n % 3] for n in range(7)]
    said = ["neutral", "neutral", "contradiction", "entailment", "entailment", "contradiction", "entailment"]
    table(tmp_path / "predictions/AX.tsv", "index\tprediction", [f"{n}\t{label}" for n, label in enumerate(said)])
    found = glue._matthews_of_ax(sentence(place, "x"), glue.Job("mnli", 1, tmp_path, ()))
    assert found == pytest.approx(matthews_corrcoef(gold, said)) and 0.3 < found < 0.9


def test_seeds_and_the_generated_language(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = Here()
    small = ["data.train=16", "data.validation=8", "data.test=8"]
    suite = sentence(
        place, "world", "data.path=world", "data.tasks=[rte]", "data.seeds=[1,2]", "budget.steps=1", *small
    )
    assert glue.run(suite, start) == 0
    assert start.started == ["rte-1", "rte-2"]
    found = json.loads((place / "world" / "glue.json").read_text())
    assert len(found["scores"]["rte"]["accuracy"]["values"]) == 2
    said = capsys.readouterr().out
    assert " ± " in said and "say nothing of them" in said
    assert not (place / "world" / "submission").exists()


def test_what_stops_it_stops_it(place: Path) -> None:
    def stopped(words: Sequence[str]) -> Ended:
        return Ended(143, "", 15)

    suite = sentence(place, "stopped", "data.tasks=[cola,mrpc]", "budget.steps=1")
    with pytest.raises(Preempted, match="stopped at cola-1; the same command again goes on") as stop:
        glue.run(suite, stopped)
    assert stop.value.exit_code == 143
    assert "Not run yet: mrpc-1." in (place / "stopped" / "glue.md").read_text()


def test_what_was_stopped_goes_on(place: Path) -> None:
    from cloze.starting import complete

    asked: list[Sequence[str]] = []
    suite = sentence(place, "half", "data.tasks=[cola,mrpc]", "budget.steps=1")
    (place / "half" / "cola-1").mkdir(parents=True)
    recorded = complete(suite.jobs()[0].words)[0]
    facts = {
        "status": "preempted",
        "provenance": {"words": [*recorded, "output_dir=half/cola-1", "hardware.threads=2"]},
    }
    (place / "half" / "cola-1" / "run.json").write_text(json.dumps(facts))
    assert glue.run(suite, lambda words: asked.append(words) or Ended(1, "no")) == 1
    assert [("resume=auto" in words) for words in asked] == [True, False]


def test_a_chain_whose_beginning_fails(place: Path) -> None:
    started = []

    def fails(words: Sequence[str]) -> Ended:
        started.append(words[1])
        return Ended(1, "the disk is full")

    suite = sentence(place, "broken", "data.chain=true", "data.tasks=[mnli,rte]", "budget.steps=1")
    assert glue.run(suite, fails) == 1
    assert started == ["data=glue/mnli"]
    runs = json.loads((place / "broken" / "glue.json").read_text())["runs"]
    assert [run["reason"] for run in runs] == ["the disk is full", "mnli-1, whose model it starts from, did not end"]


class Tracker:
    def __init__(self, fails: bool) -> None:
        self.fails, self.points, self.tables = fails, [], []  # type: ignore[var-annotated]

    def loggers(self, run: Any) -> list[Any]:
        self.run = run
        return [self]

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        if self.fails:
            raise OSError("the network is gone")
        self.points.append(metrics)

    def log_rows(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[str]], step: int) -> None:
        self.tables.append((key, columns, rows))

    def finalize(self, status: str) -> None:
        self.ended = status


def test_the_table_is_tracked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = sentence(place, "tracked")
    report = glue.Report("first", {1: {"rte": {"accuracy": 60.0}}})
    tracker = Tracker(fails=False)
    glue._track(tracker, suite, report)
    assert tracker.points[0]["glue/rte/accuracy"] == 60.0 and tracker.points[0]["glue/average/BERT"] == 60.0
    ((key, columns, rows),) = tracker.tables
    assert key == "glue" and len(columns) == len(rows[0]) and rows[0][0] == "first" and rows[-1][0] == "BERT-large"
    assert tracker.ended == "success" and tracker.run.kind == "glue" and tracker.run.folder == place / "tracked"
    glue._track(Tracker(fails=True), suite, report)
    assert "the table could not be tracked (the network is gone)" in capsys.readouterr().err


def test_wandb_offline_takes_the_table(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    from cloze.tracking.wandb import Wandb

    class Run:
        id = "x"
        points: list[dict[str, Any]] = []  # noqa: RUF012

        def log(self, point: dict[str, Any]) -> None:
            self.points.append(point)

        def finish(self, exit_code: int) -> None:
            pass

    settings: dict[str, Any] = {}
    monkeypatch.setattr(wandb, "init", lambda **given: settings.update(given) or Run())
    report = glue.Report("first", {1: {"rte": {"accuracy": 60.0}}})
    glue._track(Wandb(mode="offline"), sentence(place, "wandb"), report)
    assert settings["job_type"] == "glue" and settings["mode"] == "offline"
    assert any(point.get("glue/rte/accuracy") == 60.0 for point in Run.points)
    (shown,) = [point["glue"] for point in Run.points if "glue" in point]
    assert type(shown).__name__ == "Table" and shown.data == report.rows()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.path=x", "plan=true"], "plan=true looks at one run: say one task in place of data=glue/all"),
        (["data.path=x", "resume=outputs/x"], "resume has no effect with data=glue/all"),
        ([], "data.path is missing"),
        (["data.path=x", "data.tasks=[mrcp]"], "mrcp is not a task of GLUE; did you mean mrpc?"),
        (["data.path=x", "data.tasks=[ax]"], "AX is not trained on: it comes with mnli"),
        (["data.path=x", "data.tasks=[]"], "names no task"),
        (["data.path=x", "data.tasks=cola,mrpc"], "a list is written data.tasks="),
        (["data.path=x", "data.tasks=mrpc"], "data.tasks='mrpc' must be a list of texts or null"),
        (["data.path=x", "data.seeds=[1,1]"], "must be whole numbers from 0, each once"),
        (["data.path=x", "data.seeds=[1]", "seed=2"], "seed=2 and data.seeds=.1.: say one of them"),
        (["data.path=x", "data.taks=[mrpc]"], "data.taks is not a setting of data=glue/all; did you mean data.tasks?"),
        (["data.path=x", "data.train=20"], "data.train is not a setting of data=glue/all"),
        (["data.path=world", "data.revision=x"], "data.revision=x has no effect"),
    ],
)
def test_sentences_that_cannot_be(words: list[str], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        glue.understood(["init=outputs/first", "data=glue/all", *words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.path=nowhere/at/all"], "data.path=nowhere/at/all not found"),
        (["data.path='{data}/MRPC'"], "is the folder of one task: data=glue/mrpc trains on it"),
        (["data.path='{data}/MRPC/dev.tsv'"], "is a file; it must be GLUE's folder"),
        (["data.tasks=[cola,wnli]"], "has no files of WNLI"),
        (
            ["data.tasks=[cola,rte]", "data.chain=true"],
            "starts RTE from the model of MNLI, which is not among the tasks",
        ),
        (["data.tasks=[cola,mnli]", "data.chain=true"], "data.chain=true has no effect"),
        (["data.tasks=[cola]", "objective.mask_rato=1"], "objective.mask_rato is not a setting"),
        (["data.tasks=[cola]", "model.dropout=3"], "model.dropout"),
    ],
)
def test_suites_that_cannot_be(place: Path, words: list[str], message: str) -> None:
    start = Here()
    with pytest.raises(Refusal, match=message):
        glue.run(sentence(place, "never", *(word.format(data=place / "glue data") for word in words)), start)
    assert not start.started and not (place / "never").exists()


def test_the_command_is_the_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[glue.Suite] = []
    monkeypatch.setattr(glue, "run", lambda suite: asked.append(suite) or 0)
    options = ["--data", "my data", "--tasks", "cola,mrpc", "--seeds", "1,2", "--chain", "--out", "d"]
    assert cli._guarded(cli._glue, ["outputs/first", *options, "budget.epochs=1"]) == 0
    words = ["init=outputs/first", "data=glue/all", "data.path='my data'", "data.tasks=[cola,mrpc]", "data.seeds=[1,2]"]
    assert cli._guarded(cli._train, [*words, "data.chain=true", "output_dir=d", "budget.epochs=1"]) == 0
    for suite in asked:
        assert (suite.init, suite.folder, suite.seeds, suite.words) == (
            "outputs/first",
            Path("d"),
            (1, 2),
            ("budget.epochs=1",),
        )
        assert (suite.settings.path, suite.settings.tasks, suite.settings.chain) == ("my data", ("cola", "mrpc"), True)
    assert cli._guarded(cli._glue, ["outputs/first/model", "--data", "x"]) == 0
    assert asked[-1].name == "first" and asked[-1].folder == Path("outputs/glue/first")
    capsys.readouterr()
    for words, message in (
        ([], "error: INIT is missing"),
        (["outputs/first"], "error: --data is missing: GLUE's folder, or world"),
        (
            ["outputs/first", "--data", "x", "--sed", "1"],
            "error: cloze glue: --sed is not an option; did you mean --seeds?",
        ),
        (["outputs/first", "--data", "x", "--seeds", "one"], "error: --seeds one: one is not a whole number"),
        (
            ["outputs/first", "--data", "x", "output_dir=d"],
            "error: output_dir=d: cloze glue has INIT, --data and --out",
        ),
    ):
        assert cli._guarded(cli._glue, words) == 2
        assert message in capsys.readouterr().err
    assert cli._guarded(cli._train, ["-m", "data=glue/all,glue/mrpc", "data.path=x"]) == 2
    assert "data=glue/all is several runs already" in capsys.readouterr().err


def test_which_sentences_are_meant() -> None:
    assert names_all_of_glue(["model=bert", "data=glue/all"]) and names_all_of_glue(["data=glue/mrpc,glue/all"])
    assert not names_all_of_glue(["data=glue/mrpc", "name=glue/all", "data=myglue/allow"])


def test_no_objective_takes_it_as_one_run() -> None:
    assert choices("data")["glue/all"]
    for objective, built in built_by("objective").items():
        taken: dict[str, str | None] = {"model": "bert", "objective": objective, "data": "glue/all"}
        assert compatibility(built_by("model")["bert"], built, built_by("data")["glue/all"], taken), objective


@pytest.mark.parametrize(
    "value",
    [
        "a/b-1.x",
        "a b",
        "it's",
        "a,b",
        "x=[1]",
        "back\\slash",
        "null",
        "ü",
        "7",
        ".5",
        "nan",
        "../a",
        "~/b",
        "end\\\\",
        "b\\\\'c",
    ],
)
def test_words_come_back_as_they_were(value: str) -> None:
    from cloze.compose import parse

    assert parse([f"data.path={glue.written(value)}"])[0].value() == value


def test_make_without_a_run() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "glue"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "INIT": ""},
    )
    assert done.returncode == 2 and done.stdout.startswith("error: INIT is missing")


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_what_the_real_folder_has() -> None:
    assert glue.GlueSuite(str(DATA)).there() == ["cola", "sst2", "mrpc", "stsb", "wnli"]


@pytest.mark.exhaustive
def test_each_in_its_own_process(place: Path) -> None:
    command = [
        sys.executable, "-m", "cloze", "glue", str(place / "first"), "--data", str(place / "glue data"), "--tasks", "cola,mrpc",
        "--out", str(place / "apart"), *QUICK, "batch_size=8", "budget.steps=2", f"cache_dir={place / 'cache'}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 2: python train.py" in done.stdout and "| BERT-large" in done.stdout
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and "2 of 2: mrpc-1 is there" in again.stdout
