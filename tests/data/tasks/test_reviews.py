"""IMDb's folders, packed and not, and TREC's questions, in small ones of our own."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from cloze.data.base import Labelled, TaskCorpus
from cloze.data.tasks.reviews import Imdb, Trec
from cloze.errors import Refusal


def examples(corpus: TaskCorpus, split: str) -> list[Labelled]:
    return [record for record in corpus.split_records(split) if isinstance(record, Labelled)]


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Twenty of each side to train on, one to test on, and some that have no label."""
    for split, count in (("train", 20), ("test", 1)):
        for side, rating in (("neg", 2), ("pos", 9)):
            folder = tmp_path / "aclImdb" / split / side
            folder.mkdir(parents=True)
            for n in range(count):
                (folder / f"{n}_{rating}.txt").write_text(f"A {side} film.<br />Number {n}.", encoding="utf-8")
    (tmp_path / "aclImdb/train/unsup").mkdir()
    (tmp_path / "aclImdb/train/unsup/0_0.txt").write_text("Who knows.", encoding="utf-8")
    return tmp_path


def test_reviews_in_folders(reviews: Path) -> None:
    for path in (reviews, reviews / "aclImdb"):
        corpus = Imdb(str(path))
        train, held, test = (examples(corpus, split) for split in ("train", "validation", "test"))
        assert (len(train), len(held), len(test)) == (36, 4, 2)
        assert not {e.sentences for e in train} & {e.sentences for e in held}
        assert [(e.sentences, e.label, e.id) for e in test] == [
            (("A neg film.<br />Number 0.",), "neg", "0"),
            (("A pos film.<br />Number 0.",), "pos", "0"),
        ]
    assert corpus.labels["imdb"].names == ("neg", "pos")
    assert "(40 train, 2 test, validation 0.1 of train)" in corpus.announcement
    assert len(examples(Imdb(str(reviews), validation_share=0.0), "train")) == 40


@pytest.mark.parametrize("packing", ["gz", "xz", ""])
def test_reviews_in_an_archive_are_the_same(reviews: Path, packing: str) -> None:
    path = reviews / f"imdb.tar{'.' if packing else ''}{packing}"
    with tarfile.open(path, f"w:{packing}") as archive:  # type: ignore[call-overload]
        archive.add(reviews / "aclImdb", "aclImdb")
    packed, plain = Imdb(str(path)), Imdb(str(reviews))
    for split in ("train", "validation", "test"):
        assert {(e.sentences, e.label, e.id) for e in examples(packed, split)} == {
            (e.sentences, e.label, e.id) for e in examples(plain, split)
        }
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(Refusal, match="is not a whole tar archive"):
        examples(Imdb(str(path)), "test")


def test_only_what_is_named_like_a_review_is_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (
            ("train/pos/1_9.txt", tarfile.REGTYPE),
            ("train/pos/2_9.txt", tarfile.SYMTYPE),
            ("../3_9.txt", tarfile.REGTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            content = b"fine" if kind == tarfile.REGTYPE else b""
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    corpus = Imdb(str(tmp_path / "a.tar"), validation_share=0.0)
    assert [e.sentences for e in examples(corpus, "train")] == [("fine",)]


def test_reviews_that_are_no_text_or_not_there(reviews: Path, tmp_path: Path) -> None:
    (reviews / "aclImdb/test/pos/7_9.txt").write_bytes(b"caf\xe9")
    with pytest.raises(Refusal, match=r"test/pos/7_9.txt, line 1: byte 0xe9 is not utf-8"):
        examples(Imdb(str(reviews)), "test")
    with pytest.raises(Refusal, match="has no folders train/neg and train/pos"):
        Imdb(str(reviews / "aclImdb/train")).splits()
    with pytest.raises(Refusal, match=r"data.validation_share=1.5 must lie in"):
        Imdb(str(reviews), validation_share=1.5)


@pytest.fixture
def trec(tmp_path: Path) -> Path:
    lines = [f"NUM:dist How far is town {n} ?" for n in range(19)] + ["ENTY:food What is caf\xe9 au lait ?"]
    (tmp_path / "TREC.train").write_bytes("\n".join(lines).encode("latin-1") + b"\n")
    (tmp_path / "TREC.test").write_text("HUM:ind Who ?\n", encoding="latin-1")
    return tmp_path


def test_questions_of_both_levels(trec: Path) -> None:
    coarse, fine = Trec(str(trec)), Trec(str(trec), "fine")
    assert len(coarse.labels["trec"].names) == 6 and len(set(fine.labels["trec"].names)) == 50
    assert (len(examples(coarse, "train")), len(examples(coarse, "validation"))) == (18, 2)
    assert [e.label for e in examples(coarse, "test")] == ["HUM"]
    both = [*examples(fine, "train"), *examples(fine, "validation")]
    assert {e.label for e in both} == {"NUM:dist", "ENTY:food"}
    assert ("What is caf\xe9 au lait ?",) in {e.sentences for e in both}
    assert coarse.fingerprint() != fine.fingerprint()


def test_questions_that_are_malformed(trec: Path) -> None:
    with pytest.raises(Refusal, match=r"TREC.train, line 20: byte 0xe9 is not utf-8"):
        examples(Trec(str(trec), encoding="utf-8"), "train")
    (trec / "TREC.test").write_text("HUM:ind Who ?\nWho ?\n", encoding="utf-8")
    with pytest.raises(Refusal, match=r"TREC.test, line 2: not a kind such as NUM:dist"):
        examples(Trec(str(trec)), "test")
    (trec / "TREC.test").write_text("HUM:indd Who ?\n", encoding="utf-8")
    with pytest.raises(Refusal, match=r"'HUM:indd' is not a label; did you mean HUM:ind\?"):
        examples(Trec(str(trec), "fine"), "test")
    with pytest.raises(Refusal, match=r"has no TREC.train"):
        Trec(str(trec.parent)).splits()
