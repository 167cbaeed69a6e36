"""Whole runs on labelled data: two words are enough, scores and predictions of every split, exact resumes, the same figures again."""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from cloze import cli
from cloze.commands import evaluate
from cloze.data.tasks.glue import Glue
from cloze.downstream import Outcome, read_scores, write
from cloze.errors import RunFailure
from cloze.folder import RunFolder
from cloze.models.storage import read_model
from cloze.scoring.metrics import score
from tests.pretrained import TEXTS, saved_run

QUIET = ["tracking=none", "hardware.threads=1"]


def written(folder: Path) -> Path:
    """MRPC's folder: the second sentence is the first one again, or another."""
    (folder / "MRPC").mkdir(parents=True)
    for split, count in (("train", 70), ("dev", 21), ("test", 9)):
        head = "index" if split == "test" else "Quality"
        rows = [f"{head}\t#1 ID\t#2 ID\t#1 String\t#2 String"]
        for n in range(count):
            first, same = TEXTS[n % 4].split()[n % 5 :], n % 3 > 0
            second = first if same else TEXTS[(n + 1) % 4].split()
            rows.append(f"{n if split == 'test' else int(same)}\t{n}\t{n}\t{' '.join(first)}\t{' '.join(second)}")
        (folder / "MRPC" / f"{split}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two checkpoints and a task."""
    folder = tmp_path_factory.mktemp("downstream")
    saved_run(folder / "bert", "bert.Bert")
    saved_run(folder / "gpt", "gpt.GPT")
    written(folder / "glue")
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def trained(name: str, *words: str) -> dict[str, Any]:
    assert cli._guarded(cli._train, [f"output_dir={name}", "data=glue/mrpc", "data.path=glue", *QUIET, *words]) == 0
    return RunFolder(Path(name)).facts()


def evaluated(run: str, split: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    capsys.readouterr()
    assert evaluate.run(parser.parse_args([run, "--split", split, "--json"])) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def rows(file: Path) -> list[list[str]]:
    return [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()[1:]]


def test_two_words_are_enough(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = trained("mrpc", "init=bert")
    said = capsys.readouterr().out
    assert "fine-tuning as BERT's paper, appendix A.3 says" in said and "validation: 21 examples" in said
    assert facts["status"] == "done" and facts["steps"] == 6  # three passes over two batches of 32
    scores = read_scores(Path("mrpc"))
    assert list(scores) == ["validation"] and set(scores["validation"]) == {"f1", "accuracy"}
    assert facts["scores"] == scores
    assert facts["metrics"]["val/accuracy"] == pytest.approx(scores["validation"]["accuracy"])
    # the leaderboard's file, and the same of the split whose labels are known
    files = sorted(file.name for file in Path("mrpc/predictions").iterdir())
    assert files == ["MRPC-validation.tsv", "MRPC.tsv"]
    assert [int(row[0]) for row in rows(Path("mrpc/predictions/MRPC.tsv"))] == list(range(9))
    predicted = [int(row[1]) for row in rows(Path("mrpc/predictions/MRPC-validation.tsv"))]
    gold = [int(record.label) for record in Glue("mrpc", "glue").split_records("validation")]  # type: ignore[attr-defined]
    assert score(("f1", "accuracy"), predicted, gold) == pytest.approx(scores["validation"])
    # again, from the folder alone
    assert evaluated("mrpc", "validation", capsys) == pytest.approx(
        {"split": "validation", "examples": 21, **scores["validation"]}
    )
    assert evaluated("mrpc", "test", capsys) == {"split": "test", "examples": 9}
    samples = Path("mrpc/samples.txt").read_text(encoding="utf-8")
    assert "[CLS] " in samples and " [SEP] " in samples and "[SEP]," not in samples


def test_stopped_and_resumed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are bitwise those of a run that was not stopped; scores are written once it is over, also where only they are missing."""
    from cloze.training.callbacks.conductor import Conductor

    words = ["init=bert", "budget.epochs=2", "seed=5"]
    whole = trained("whole", *words)
    agree = Conductor._agree

    def at_three(self: Conductor, module: Any) -> int:
        agree(self, module)
        return signal.SIGTERM if self.progress.step == 3 else 0

    with monkeypatch.context() as patch:
        patch.setattr(Conductor, "_agree", at_three)
        command = ["output_dir=stopped", "data=glue/mrpc", "data.path=glue", *QUIET, *words]
        assert cli._guarded(cli._train, command) == 143
    assert not Path("stopped/scores.json").exists()
    assert cli._guarded(cli._train, ["output_dir=stopped", "resume=auto", "hardware.workers=1"]) == 0
    resumed = RunFolder(Path("stopped")).facts()
    assert resumed["weights_sha256"] == whole["weights_sha256"] and resumed["steps"] == 4
    assert read_scores(Path("stopped")) == read_scores(Path("whole")) != {}
    Path("stopped/scores.json").unlink()
    assert cli._guarded(cli._train, ["resume=stopped"]) == 0
    assert read_scores(Path("stopped")) == read_scores(Path("whole"))


def test_gpts_frame_is_new_to_the_checkpoint_and_kept(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = trained("delimited", "init=gpt", "budget.epochs=1")
    before, after = (read_model(Path(name) / "model") for name in ("gpt", "delimited"))
    table = "model.word.weight"
    assert len(after.weights[table]) == len(before.weights[table]) + 3
    assert after.config["objective"]["frame"] == "delimited" and after.config["objective"]["both_orders"] is True
    known = after.weights[table][: len(before.weights[table])]
    torch.testing.assert_close(known, before.weights[table], rtol=0, atol=0.1)  # trained on from there
    points = [point for point in RunFolder(Path("delimited")).points() if "val/loss_lm" in point]
    assert points[-1]["val/loss"] == pytest.approx(points[-1]["val/loss_label"] + 0.5 * points[-1]["val/loss_lm"])
    scores = read_scores(Path("delimited"))
    assert evaluated("delimited", "validation", capsys) == pytest.approx(
        {"split": "validation", "examples": 21, **scores["validation"]}
    )
    assert facts["scores"] == scores
    again = trained("further", "init=delimited", "budget.epochs=1")  # and it is a start like any other
    assert len(read_model(Path("further/model")).weights[table]) == len(after.weights[table])
    assert again["status"] == "done"


def test_neither_workers_nor_the_cut_change_what_is_learnt(here: Path) -> None:
    plain = [
        "model.dropout=0",
        "model.attention_dropout=0",
        "model.embedding_dropout=0",
        "objective.dropout=0",
        "budget.epochs=1",
    ]
    words = ["init=gpt", "hardware.precision=32", *plain]
    one = trained("one", *words)
    trained("parts", *words, "hardware.micro_batch=8", "hardware.workers=2")
    assert one["steps"] == 2
    for name, tensor in read_model(Path("one/model")).weights.items():
        torch.testing.assert_close(read_model(Path("parts/model")).weights[name], tensor, rtol=1e-3, atol=2e-5)


def test_what_is_written(tmp_path: Path) -> None:
    found = [Outcome("validation", 3, {"f1": 0.5}, {"a.tsv": "é\n"}), Outcome("test", 2, {}, {"b.tsv": "x"})]
    assert write(found, tmp_path) == {"validation": {"f1": 0.5}} == read_scores(tmp_path)
    assert (tmp_path / "predictions" / "a.tsv").read_text(encoding="utf-8") == "é\n"
    assert read_scores(tmp_path / "nothing") == {}
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFailure, match="cannot be written"):
        write(found, tmp_path / "file")
