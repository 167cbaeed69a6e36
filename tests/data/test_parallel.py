"""Parallel documents: two aligned files, their refusals, and the token store's languages and translations."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cloze.data import parallel, store
from cloze.data.base import Corpus, Parallel, Split, Text, TokenizedCorpus
from cloze.data.parallel import ParallelFiles
from cloze.data.store import tokenized
from cloze.data.text import TextFiles
from cloze.data.tokenizers import Tokenizer, WordPiece
from cloze.data.world import ParallelWorld
from cloze.errors import Refusal
from tests.data.corpora import memory

SHARED = Path(__file__).parents[3] / "shared/data/parallel"
EN = "The kettle sings.\nOur boat is red.\nSnow fell in May.\nHe counts the stairs.\n"
DE = "Der Kessel singt.\nUnser Boot ist rot.\nIm Mai fiel Schnee.\nEr zählt die Stufen.\n"


def pair(folder: Path, one: str = EN, other: str = DE, names: tuple[str, str] = ("t.en", "t.de")) -> tuple[str, str]:
    for name, text in zip(names, (one, other), strict=True):
        opener: Any = gzip.open if name.endswith(".gz") else open
        with opener(folder / name, "wt", encoding="utf-8") as file:
            file.write(text)
    return str(folder / names[0]), str(folder / names[1])


def read(corpus: Corpus, split: Split = "train") -> list[Parallel]:
    return [record for record in corpus.records(split) if isinstance(record, Parallel)]


def test_line_k_translates_line_k(tmp_path: Path) -> None:
    for names in (("t.en", "t.de"), ("t.en.gz", "t.de"), ("t.en.gz", "t.de.gz")):
        corpus = ParallelFiles(*pair(tmp_path, names=names), validation_share=0.25)
        records = sorted(read(corpus) + read(corpus, "validation"), key=lambda record: record.where)
        assert [r.sentences[0] for r in records] == EN.splitlines()
        assert [r.translation[0] for r in records] == DE.splitlines()
        assert {(r.language, r.translation_language) for r in records} == {("en", "de")}
        assert len(read(corpus, "validation")) == 1
        assert corpus.announcement.endswith("4 pairs of lines")
    named = ParallelFiles(*pair(tmp_path, names=("a.txt", "b.txt")), languages=["x", "y"])
    assert read(named)[0].language == "x"


def test_blocks_of_lines_are_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = "".join(f"\n{n} a.\n{n} b.\n" if n % 3 else f"{n} a.\n" for n in range(40))
    other = one.replace(".", "!")
    whole = ParallelFiles(*pair(tmp_path, one, other), documents_are="blank_line", validation_share=0.1)
    expected = read(whole)
    assert max(len(record.sentences) for record in expected) == 3
    assert all(t == s.replace(".", "!") for r in expected for s, t in zip(r.sentences, r.translation, strict=True))
    monkeypatch.setattr(parallel, "BLOCK", 7)
    cut = ParallelFiles(*pair(tmp_path, one, other), documents_are="blank_line", validation_share=0.1)
    assert len(cut.parts("train")) > 8
    assert read(cut) == expected
    lines = ParallelFiles(*pair(tmp_path, one, other, ("z.en.gz", "z.de.gz")), validation_share=0.1)
    assert len(lines.parts("train")) > 8
    assert sorted(s for r in read(lines) + read(lines, "validation") for s in r.sentences) == sorted(
        line for line in one.splitlines() if line
    )


def test_a_file_for_validation(tmp_path: Path) -> None:
    more = pair(tmp_path, "Yes.\n", "Ja.\n", ("v.en", "v.de"))
    corpus = ParallelFiles(*pair(tmp_path), validation_path=more[0], validation_translation_path=more[1])
    assert len(read(corpus)) == 4
    assert [record.translation for record in read(corpus, "validation")] == [("Ja.",)]
    with pytest.raises(Refusal, match="no test split"):
        corpus.parts("test")


@pytest.mark.parametrize(
    ("one", "other", "settings", "message"),
    [
        (EN, DE + "Noch eine.\n", {}, r"t\.en has 4 lines and data\.translation_path=.*t\.de has 5: line k of one"),
        ("", DE, {}, r"t\.en is empty"),
        ("\n\n", " \n\n", {}, "hold only white space"),
        (EN.replace("Our boat is red.", ""), DE, {}, r"t\.en, line 2: blank, but line 2 of .*t\.de is not"),
        (EN, DE, {"languages": ["en"]}, "must be two different names"),
        (EN, DE, {"validation_path": "x"}, r"data\.validation_translation_path is missing"),
        (EN, DE, {"test_translation_path": "x"}, r"data\.test_path is missing"),
        (EN, DE, {"validation_share": 1.5}, r"data\.validation_share=1\.5"),
        (EN, DE, {"language_sampling": -1.0}, r"data\.language_sampling=-1"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, one: str, other: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refusal, match=message):
        read(ParallelFiles(*pair(tmp_path, one, other), **settings))
    for names in (("t.txt", "u.txt"), ("t.en", "u.en")):
        with pytest.raises(Refusal, match=r"do not say which languages these are: data\.languages=\[en,de\]"):
            _ = ParallelFiles(*pair(tmp_path, names=names)).languages
    (tmp_path / "u.de").write_text(DE)
    with pytest.raises(Refusal, match="names 2 files; it must be one"):
        _ = ParallelFiles(str(tmp_path / "u.en"), str(tmp_path / "?.de")).announcement


def test_malformed_lines_are_dropped_where_that_is_asked_for(tmp_path: Path) -> None:
    paths = pair(tmp_path, EN.replace("Our boat is red.", ""))
    Path(paths[1]).write_bytes(Path(paths[1]).read_bytes().replace(b"Im Mai", b"Im \xff\xfe"))
    corpus = ParallelFiles(*paths, on_bad="drop", validation_share=0.0)
    assert [record.sentences[0] for record in read(corpus)] == ["The kettle sings.", "He counts the stairs."]
    notes = corpus.notes()
    assert len(notes) == 2 and "line 2: blank" in notes[0] and "line 3, byte" in notes[1]
    with pytest.raises(Refusal, match=r"data\.on_bad=drop"):
        read(ParallelFiles(*paths, validation_share=0.0))


def test_fingerprints(tmp_path: Path) -> None:
    before = ParallelFiles(*pair(tmp_path)).fingerprint()
    assert ParallelFiles(*pair(tmp_path)).fingerprint() == before
    assert ParallelFiles(*pair(tmp_path), split_seed=1).fingerprint() != before
    assert ParallelFiles(*pair(tmp_path, EN, DE.replace("rot", "rar"))).fingerprint() != before


def test_settings_stand_in_the_config_with_their_defaults() -> None:
    import inspect

    config = yaml.safe_load((Path(__file__).parents[2] / "conf/data/parallel.yaml").read_text())
    assert config.pop("_target_") == "cloze.data.parallel.ParallelFiles"
    parameters = inspect.signature(ParallelFiles).parameters
    assert config.pop("path") == config.pop("translation_path") == "???"
    assert config == {name: p.default for name, p in parameters.items() if name not in ("path", "translation_path")}


@pytest.mark.skipif(
    not SHARED.is_dir(), reason="needs ../shared/data, real public data that is not part of the repository"
)
def test_real_files() -> None:
    captions = ParallelFiles(
        *(str(SHARED / f"multi30k/train.{name}.gz") for name in ("en", "de")),
        validation_path=str(SHARED / "multi30k/val.en.gz"),
        validation_translation_path=str(SHARED / "multi30k/val.de.gz"),
    )
    assert len(read(captions)) == 29_000 and len(read(captions, "validation")) == 1014
    chinese = ParallelFiles(*(str(SHARED / f"tatoeba/tatoeba.cmn-eng.{name}") for name in ("cmn", "eng")))
    assert len(read(chinese)) == 950 and chinese.languages == ("cmn", "eng")
    with pytest.raises(Refusal, match="29,000 lines and"):
        _ = ParallelFiles(str(SHARED / "multi30k/train.en.gz"), str(SHARED / "multi30k/val.de.gz")).announcement


# ------------------------------------------------------------------------------------------------------- the store


class Mixed(Corpus):
    """Parallel documents, documents in one language, sentences and documents without a token, in some parts."""

    announcement = "mixed"

    def fingerprint(self) -> str:
        return "mixed"

    def parts(self, split: Split) -> Sequence[int]:
        return range(6)

    def read(self, part: int) -> Iterator[Text]:
        for number in range(9):
            name = f"p{part} n{number}"
            size = 1 + (part * 7 + number * 5) % 4
            sentences = [f"{name} s{k} one" for k in range(size)]
            others = [f"{name} s{k} two" for k in range(size)]
            if number % 4 == 1:
                others[0] = "\u200b"  # has no token
            if number == 6:
                sentences = ["\u200b"] * size
            language = ["x", "y", "z"][(part + number) % 3]
            if part == 3 or number % 3 == 2:
                yield Text(tuple(sentences), "", name, language if part != 4 else "")
            else:
                yield Parallel(tuple(sentences), "", name, language, tuple(others), "z" if language == "x" else "x")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return WordPiece(vocabulary=300).trained(Mixed(), ["pad", "unk", "cls"], 0)


ARRAYS = ("tokens", "word_starts", "sentences", "documents", "topics", "languages", "translations")


def same(one: TokenizedCorpus, other: TokenizedCorpus) -> bool:
    return one.language_names == other.language_names and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ARRAYS
    )


def texts(corpus: TokenizedCorpus, tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode(corpus.tokens[a:b]).replace(" ", "") for a, b in pairwise(corpus.sentences)]


def test_languages_and_translations(tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store._Tongues, "TOGETHER", 60)
    found = tokenized(Mixed(), "train", tokenizer, tmp_path, workers=0)
    assert found.languages is not None and found.translations is not None
    spoken: dict[str, str] = {}
    partners: dict[str, str] = {}
    for part in range(6):
        for record in Mixed().read(part):
            for document in record.documents:
                spoken |= {s.replace(" ", ""): document.language for s in document.sentences if s != "\u200b"}
            if isinstance(record, Parallel):
                for one, other in zip(record.sentences, record.translation, strict=True):
                    if "\u200b" not in (one, other):
                        partners |= {one.replace(" ", ""): other.replace(" ", "")}
                        partners |= {other.replace(" ", ""): one.replace(" ", "")}
    said = texts(found, tokenizer)
    assert sorted(said) == sorted(spoken)
    owner = np.repeat(np.arange(len(found)), np.diff(found.documents))
    for sentence, text in enumerate(said):
        assert found.language_names[found.languages[owner[sentence]]] == spoken[text]
        partner = found.translations[sentence]
        assert (partner < 0) == (text not in partners)
        if partner >= 0:
            assert said[partner] == partners[text]
    assert 0 < (found.translations < 0).sum() < len(said) / 2


def test_batches_and_processes_make_no_difference(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tokenized(Mixed(), "train", tokenizer, tmp_path / "one", workers=0)
    assert same(tokenized(Mixed(), "train", tokenizer, tmp_path / "two", workers=2), expected)
    for batch in (1, 40):
        monkeypatch.setattr(store, "_BATCH", batch)
        assert same(tokenized(Mixed(), "train", tokenizer, tmp_path / str(batch), workers=0), expected)
    assert same(tokenized(Mixed(), "train", tokenizer, tmp_path / "one"), expected)  # and from the disk


def test_the_store_of_a_corpus_in_one_language_is_as_it_always_was(tokenizer: Tokenizer, tmp_path: Path) -> None:
    found = tokenized(memory(), "train", tokenizer, tmp_path)
    assert found.languages is None and found.translations is None and found.language_names == ()
    assert found.folder is not None
    assert sorted(path.name for path in found.folder.iterdir()) == [
        "documents.npy", "manifest.json", "sentences.npy", "tokens.npy", "topics.json", "topics.npy", "word_starts.npy",
    ]  # fmt: skip
    assert "languages" not in yaml.safe_load((found.folder / "manifest.json").read_text())


def test_a_document_and_its_translation_are_not_neighbours(tmp_path: Path) -> None:
    world = ParallelWorld(40, 1, 1)
    tokenizer = WordPiece(vocabulary=400).trained(world, ["pad", "unk", "cls"], 0)
    assert any("ա" <= tokenizer.token(number)[-1] <= "ֆ" for number in range(400))  # it has learnt from both languages
    found = tokenized(world, "train", tokenizer, tmp_path, workers=0)
    assert found.languages is not None and found.translations is not None
    assert len(found) == 80 and np.flatnonzero(np.diff(found.languages)).tolist() == [39]
    assert (found.translations[found.translations] == np.arange(len(found.translations))).all()


def test_a_record_needs_as_many_translations_as_sentences() -> None:
    with pytest.raises(ValueError, match=re.escape("here: 2 sentences, 1 translations")):
        Parallel(("a", "b"), where="here", translation=("x",))


def test_text_files_know_of_no_language(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text(EN * 20)
    assert all(
        isinstance(record, Text) and record.language == ""
        for record in TextFiles(str(tmp_path / "x.txt")).records("train")
    )
