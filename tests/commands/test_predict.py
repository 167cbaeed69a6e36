"""`cloze predict` as a command: every task, every way in and out, and the sentences that refuse."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cloze
from cloze.cli import main
from cloze.commands import predict
from cloze.inference import Doubted
from tests.pretrained import saved_run

BERT, GPT2, T5 = "bert.Bert", "gpt2.GPT2", "t5.T5"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for family in (BERT, GPT2, T5):
        saved_run(folder / family, family)
    return folder


def command(*words: object) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["cloze", "predict", *map(str, words)])
        main()
    code = end.value.code
    assert isinstance(code, int)
    return code


def test_each_family_does_what_it_is_for(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "the old [MASK] lay in fog"
    assert command(runs / BERT, text, "the [MASK]", "--k", 2) == 0
    first, second = capsys.readouterr().out.splitlines()
    filled = cloze.load(runs / BERT).predict([text, "the [MASK]"], k=2)
    shown = ", ".join(f"{guess.token} {guess.probability:.2f}" for guess in filled[0].blanks[0])
    assert first == f"{text}\t{filled[0].text}\t{shown}" and second.startswith("the [MASK]\t")

    assert command(runs / GPT2, "the old", "--tokens", 5, "--temperature", 1, "--seed", 3) == 0
    written = cloze.load(runs / GPT2).predict("the old", tokens=5, temperature=1.0, seed=3)[0]
    assert capsys.readouterr().out == "\t".join(" ".join(x.split()) for x in ("the old", written)) + "\n"

    assert command(runs / T5, text, "--beams", 3, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"text": text, "written": cloze.load(runs / T5).predict(text, beams=3)[0]}


def test_texts_come_from_words_a_file_or_a_pipe(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["the [MASK] lay in fog", "she said [MASK]"]
    assert command(runs / BERT, *texts) == 0
    expected = capsys.readouterr().out
    (tmp_path / "texts.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    assert command(runs / BERT, "--file", tmp_path / "texts.txt") == 0
    assert capsys.readouterr().out == expected
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(texts)))
    assert command(runs / BERT) == 0
    assert capsys.readouterr().out == expected


def test_vectors_of_every_layer(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["the old harbour", "fog"]
    loaded = cloze.load(runs / BERT)
    states = loaded.hidden_states(**loaded.encode(texts))
    out = tmp_path / "vectors.npz"
    for layer, pick in (("last", -1), ("2", 2), ("0", 0)):
        assert command(runs / BERT, *texts, "--task", "vectors", "--layer", layer, "--output", out) == 0
        one = dict(np.load(out))
        assert command(runs / BERT, *texts, "--task", "vectors", "--layer", "all", "--output", out) == 0
        every = dict(np.load(out))
        assert list(one["texts"]) == texts and one["tokens_1"][0] == "[CLS]"
        for number in range(2):
            assert every[f"vectors_{number}"].shape[0] == 3  # the embedding and two layers
            assert np.array_equal(one[f"vectors_{number}"], every[f"vectors_{number}"][pick])
    assert np.abs(every["vectors_0"][-1] - states[0].numpy()[: len(every["tokens_0"])]).max() <= 1e-5
    assert command(runs / BERT, *texts, "--task", "vectors", "--layer", "mix", "--output", tmp_path / "v.jsonl") == 0
    lines = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text(encoding="utf-8").splitlines()]
    assert np.abs(np.array(lines[0]["vectors"]) - every["vectors_0"].mean(0)).max() <= 1e-5
    assert "written: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("family", "words", "sentence"),
    [
        (BERT, ["nothing to fill"], "'nothing to fill' has no blank"),
        (BERT, ["[MASK]", "--task", "continue"], "task=continue: a Bert sees both sides of every token; with this one: task=fill|vectors."),
        (GPT2, ["a", "--task", "fil"], "--task=fil is not there; did you mean fill?"),
        (GPT2, ["a", "--beams", "2", "--temperature", "0.5"], "temperature=0.5 has no effect with beams=2"),
        (GPT2, ["a", "--k", "2"], "k has no effect with task=continue of a GPT2"),
        (BERT, ["[MASK]", "--beams", "2"], "beams has no effect with task=fill of a Bert; it has: k."),
        (GPT2, ["a", "--output", "out.npz"], "only vectors go into an .npz file"),
        (GPT2, ["a", "--output", "out.txt"], "must end in .jsonl"),
        (GPT2, ["a", "--layer", "9", "--task", "vectors"], "layer=9 is not there; accepted: 0 (the embedding) … 2, last, all, mix."),
        (GPT2, ["a", "--layer", "x", "--task", "vectors"], "layer=x is not there"),
        (GPT2, ["a", "--file", "b"], "texts are given both as words and by --file"),
        (GPT2, ["--file", "not/there"], "--file=not/there cannot be read: No such file or directory"),
        (GPT2, ["a", "--device", "gpu7"], "--device=gpu7 cannot be used"),
        (GPT2, ["a", "--tokens", "many"], "argument --tokens: invalid int value: 'many'"),
        (GPT2, ["a", "--seed", "3"], "seed has no effect with temperature=0, which draws nothing; try temperature=1."),
        (GPT2, ["a", "--bems", "3"], "cloze predict: --bems is not an option; did you mean --beams?"),
        (GPT2, ["a", "--bems=3"], "cloze predict: --bems is not an option; did you mean --beams?"),
        ("nothing", ["a", "--output", "/nowhere/v.jsonl"], "--output=/nowhere/v.jsonl cannot be written: there is no folder /nowhere"),
        ("nothing", ["a"], "is not there; expected a run's directory"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(
    family: str, words: list[str], sentence: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(runs / family, *words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and sentence in said.err and said.err.count("\n") == 1


def test_no_text_is_one_sentence(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert command(runs / GPT2) == 2
    assert "there is no text" in capsys.readouterr().err


def test_a_table_at_a_terminal(runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert command(runs / BERT, "the [MASK] lay in [MASK]") == 0
    table = capsys.readouterr().out
    assert "guesses for each blank" in table and "[MASK]" in table and "│" in table
    assert command(runs / GPT2, "the old", "--task", "vectors") == 0
    assert "× 32 numbers" in capsys.readouterr().out


def test_doubts_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    said = Doubted("she ate fog", ("she", "ate", "fog"), (0.01, 0.2, 0.9))
    predict._plain("replaced", ["she ate fog"], [said])
    assert capsys.readouterr().out == "she ate fog\tfog\tshe 0.01, ate 0.20, fog 0.90\n"
    assert predict.record("replaced", "she ate fog", said) == {
        "text": "she ate fog", "tokens": ["she", "ate", "fog"], "replaced": [0.01, 0.2, 0.9]
    }  # fmt: skip
    predict._table("replaced", ["she ate fog"], [said])
    assert "replaced?" in capsys.readouterr().out


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from cloze import cli; sys.argv = ['cloze', 'predict', '--help']\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "--beams" in done.stdout and "tells which tokens do not belong" in " ".join(done.stdout.split())
