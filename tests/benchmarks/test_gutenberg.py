"""The table of bits per byte, on books of our own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gutenberg
from benchmarks.gutenberg import ROWS, Books, counted, trained
from cloze.loading import load


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Books:
    """Seven books whose sentences say after a name what belongs to it."""
    folder = tmp_path_factory.mktemp("books")
    generator = np.random.default_rng(0)
    names = {"Anna": "boat", "Boris": "garden", "Clara": "piano", "Daniel": "horse"}
    for number in range(7):
        said = [
            f"{name} went to the {names[name]} again, {'and' if generator.random() < 0.5 else 'but'} nobody was there."
            for name in generator.choice(list(names), 150)
        ]
        (folder / f"book{number}.txt").write_text("\n".join(said), encoding="latin-1")
    return Books.read(str(folder / "*.txt"), tmp_path_factory.mktemp("work"))


def cells(line: str) -> list[str]:
    return [cell.strip(" *") for cell in line.strip("|").split("|")]


def test_books_are_held_out_whole(books: Books) -> None:
    assert len(books.train) == 6 and len(books.held_out) == 1
    assert {"cls", "sep", "eos", "pad"} <= set(books.tokenizer.vocabulary.special)


def test_longer_contexts_tell_more(books: Books) -> None:
    rows = [cells(line) for line in counted(books)]
    assert [row[0] for row in rows] == ["unigram", "bigram, Kneser-Ney", "5-gram, Kneser-Ney"]
    bits = [float(row[4]) for row in rows]
    assert bits[0] > bits[1] > bits[2] > 0
    for row in rows:  # nats a token, bits a byte and perplexity a word are of the same text
        nats = float(row[3]) * (len(books.held_out.tokens) + 1)
        assert nats / books.held_out.bytes / np.log(2) == pytest.approx(float(row[4]), abs=0.002)
        assert np.exp(nats / books.held_out.words) == pytest.approx(float(row[5].replace(",", "")), abs=1)


def test_without_books_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(gutenberg, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["gutenberg"])
    assert gutenberg.main() == 0
    assert capsys.readouterr().out.startswith("no books at")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("gpt2", "elmo", "xlnet") else pytest.mark.exhaustive)
        for name in ROWS
    ],
)
def test_a_model_is_trained_and_its_books_predicted(books: Books, name: str) -> None:
    lines = list(trained(name, ROWS[name].split(), books, 4))
    run = load(books.folder / name.replace(", ", "_").replace(" ", "_"))
    assert run.objective is not None and run.head is not None
    packed = run.objective["documents"] == "packed"
    assert len(lines) == 1 + packed and not any("failed" in line for line in lines)
    rows = [cells(line) for line in lines]
    parameters = sum(p.numel() for p in [*run.model.parameters(), *run.head.parameters()])
    for row in rows:
        assert int(row[2].replace(",", "")) == parameters
        nats = float(row[3]) * (len(books.held_out.tokens) + 1)
        assert nats / books.held_out.bytes / np.log(2) == pytest.approx(float(row[4]), abs=0.002)


def test_a_run_that_fails_is_a_row_too(books: Books) -> None:
    (line,) = trained("gpt2", ["model=gpt2", "objective=mlm"], books, 4)
    row = cells(line)
    assert len(row) == len(cells(next(counted(books)))) == 7
    assert row[0] == "gpt2" and "failed: " in row[1] and "objective=" in row[1]
