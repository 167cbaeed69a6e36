"""The kept index of examples: what a build gives, made once, for whatever decides it, and travelling as a folder's name."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cloze.data import examples as kept
from cloze.data.base import TokenizedCorpus
from cloze.data.examples import indexed
from cloze.data.store import tokenized
from cloze.data.tokenizers import Tokenizer, WordPiece
from cloze.errors import RunFailure
from cloze.objectives.base import Examples
from cloze.objectives.clm import CausalExamples
from cloze.objectives.mlm import MaskedExamples
from tests.data.corpora import memory


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return WordPiece(vocabulary=300).trained(
        memory(parts=7, documents=20), ["pad", "unk", "cls", "sep", "mask", "bos", "eos"], 0
    )


@pytest.fixture
def text(tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TokenizedCorpus:
    monkeypatch.setattr(kept, "SMALL", 0)
    return tokenized(memory(parts=7, documents=20), "train", tokenizer, tmp_path)


@dataclass
class More(kept.Indexed):
    order: NDArray[np.int64] | None = None
    nothing: NDArray[np.int64] | None = None


class Extended(CausalExamples):
    built = 0

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        Extended.built += 1
        plain = super().build(corpus, seed)
        return More(plain.corpus, plain.table, plain.lengths, ("a note",), order=np.arange(3))


def same(one: Examples, other: Examples) -> bool:
    names = [field.name for field in fields(Examples) if field.name != "corpus"]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.mark.parametrize("kind", [MaskedExamples, CausalExamples])
def test_it_is_what_the_builder_makes_and_is_made_once(
    text: TokenizedCorpus, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    builder = kind(tokenizer.vocabulary, 32)
    expected = builder.build(text, 5)
    assert same(indexed(builder, text, 5, {}, tmp_path), expected)
    monkeypatch.setattr(kind, "build", None)
    again = indexed(kind(tokenizer.vocabulary, 32), text, 5, {}, tmp_path)
    assert same(again, expected) and not again.table.flags.writeable
    sent = pickle.dumps(again)
    assert len(sent) < 1000 and same(pickle.loads(sent), expected)


def test_whatever_decides_it_is_in_its_address(text: TokenizedCorpus, tokenizer: Tokenizer, tmp_path: Path) -> None:
    builder = MaskedExamples(tokenizer.vocabulary, 32)
    indexed(builder, text, 5, {}, tmp_path)
    indexed(builder, text, 6, {}, tmp_path)
    indexed(builder, text, 5, {"a": 1}, tmp_path)
    indexed(MaskedExamples(tokenizer.vocabulary, 32, mask_ratio=0.4), text, 5, {}, tmp_path)
    indexed(MaskedExamples(tokenizer.vocabulary, 31), text, 5, {}, tmp_path)
    assert len([path for path in (tmp_path / "examples").iterdir() if path.is_dir()]) == 5


def test_any_field_is_kept(
    text: TokenizedCorpus, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "Indexed", More)
    builder = Extended(tokenizer.vocabulary, 32)
    Extended.built = 0
    for _ in range(2):
        found = indexed(builder, text, 5, {}, tmp_path)
        assert isinstance(found, More) and found.notes == ("a note",)
        assert found.nothing is None and found.order is not None and found.order.tolist() == [0, 1, 2]
        assert isinstance(pickle.loads(pickle.dumps(found)), More)
    assert Extended.built == 1


def test_what_is_small_or_lies_nowhere_is_made_anew(
    text: TokenizedCorpus, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = CausalExamples(tokenizer.vocabulary, 32)
    indexed(builder, TokenizedCorpus.of([[[7, 8], [9]]]), 5, {}, tmp_path)
    monkeypatch.setattr(kept, "SMALL", len(text.tokens))
    indexed(builder, text, 5, {}, tmp_path)
    assert not (tmp_path / "examples").exists()
    with pytest.raises(RunFailure, match="not a whole index"):
        kept.opened(text, tmp_path)
