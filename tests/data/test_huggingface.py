"""Data sets made here and read back through Hugging Face's library."""

from __future__ import annotations

import pickle
from importlib import import_module
from pathlib import Path

import pytest

from cloze.data.base import Split, Text
from cloze.data.huggingface import HuggingFace
from cloze.errors import Refusal

TEXTS = [f"Document {n}. It has two sentences.\nAnd a paragraph." for n in range(40)]


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of the library go where tests may write, and nothing is looked for on the network."""
    datasets = import_module("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def stored(folder: Path, form: str) -> str:
    from datasets import Dataset, DatasetDict

    data = Dataset.from_dict({"text": [*TEXTS, "", None], "n": list(range(len(TEXTS) + 2))})
    if form == "parquet":
        data.to_parquet(str(folder / "a.parquet"))
        return str(folder / "a.parquet")
    if form == "folder of parquet":
        data.select(range(20)).to_parquet(str(folder / "p" / "train-0.parquet"))
        data.select(range(20, 42)).to_parquet(str(folder / "p" / "train-1.parquet"))
        return str(folder / "p")
    if form == "saved":
        data.save_to_disk(str(folder / "saved"))
        return str(folder / "saved")
    DatasetDict({"train": data.select(range(30)), "validation": data.select(range(30, 42))}).save_to_disk(
        str(folder / "both")
    )
    return str(folder / "both")


def texts(corpus: HuggingFace, split: Split) -> list[str]:
    return [record.text for record in corpus.records(split) if isinstance(record, Text)]


@pytest.mark.parametrize("form", ["parquet", "folder of parquet", "saved"])
def test_a_share_is_held_out(tmp_path: Path, form: str) -> None:
    corpus = HuggingFace(stored(tmp_path, form), validation_share=0.1)
    train, validation = texts(corpus, "train"), texts(corpus, "validation")
    assert len(validation) == 4 and sorted(train + validation) == sorted(TEXTS)
    assert texts(pickle.loads(pickle.dumps(corpus)), "train") == train
    assert corpus.fingerprint() != HuggingFace(corpus.name, validation_share=0.2).fingerprint()
    assert "rows: train 42" in corpus.announcement
    with pytest.raises(Refusal, match="has no test split"):
        corpus.parts("test")


def test_its_own_splits(tmp_path: Path) -> None:
    corpus = HuggingFace(stored(tmp_path, "splits"))
    assert texts(corpus, "train") == TEXTS[:30] and texts(corpus, "validation") == TEXTS[30:]


def test_nul(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"text": ["One.", "T\0wo.", "Three."]}).save_to_disk(str(tmp_path / "nul"))
    with pytest.raises(Refusal, match="row 1: a NUL character"):
        texts(HuggingFace(str(tmp_path / "nul")), "train")
    corpus = HuggingFace(str(tmp_path / "nul"), on_bad="drop", validation_share=0.5)
    assert sorted(texts(corpus, "train") + texts(corpus, "validation")) == ["One.", "Three."]
    assert "rows with NUL characters dropped" in corpus.notes()[0]


def test_refusals(tmp_path: Path) -> None:
    path = stored(tmp_path, "saved")
    with pytest.raises(Refusal, match=r"no column data.column=txt; did you mean text\?"):
        HuggingFace(path, column="txt").fingerprint()
    with pytest.raises(Refusal, match=r"data.column=n of .* is of type int64, not text. Columns of text: text"):
        HuggingFace(path, column="n").fingerprint()
    with pytest.raises(Refusal, match=r"has no split data.validation_split=dev"):
        HuggingFace(path, validation_split="dev").fingerprint()
    with pytest.raises(Refusal, match=r"cannot be loaded .*no such file or folder here"):
        HuggingFace("nobody/nothing").fingerprint()
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(Refusal, match="a file must be one of"):
        HuggingFace(str(tmp_path / "a.xlsx")).fingerprint()


def test_settings_without_effect_are_refused(tmp_path: Path) -> None:
    both, parquet, saved = (stored(tmp_path, form) for form in ("splits", "parquet", "saved"))
    with pytest.raises(Refusal, match=r"data.validation_share=0.05 has no effect: .* has a split validation"):
        HuggingFace(both, validation_share=0.05).fingerprint()
    for path in (parquet, saved):
        with pytest.raises(Refusal, match=r"data.revision=main has no effect"):
            HuggingFace(path, revision="main").fingerprint()
        with pytest.raises(Refusal, match=r"data.config=en has no effect"):
            HuggingFace(path, config="en").fingerprint()
    with pytest.raises(Refusal, match=r"data.test_share=0.1 has no effect: .* has a split train"):
        HuggingFace(both, test_split="train", test_share=0.1).fingerprint()
