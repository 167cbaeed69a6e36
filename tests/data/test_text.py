"""The user's own files: what each form gives, that ranges and splits lose nothing, and what is said of broken files."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import pickle
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloze.data import splits, text
from cloze.data.base import Split
from cloze.data.text import TextFiles
from cloze.errors import Refusal

SHARED = Path(__file__).parents[3] / "shared" / "data" / "lm"


def documents(corpus: TextFiles, *names: Split) -> list[str]:
    """The documents' texts, in order, of the splits named (of all, in no order, where none is)."""
    if names:
        return [record.text for name in names for record in corpus.records(name)]
    return sorted(documents(corpus, "train", "validation"))


def written(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def refusal(path: str, **settings: Any) -> str:
    """What is said when the training split is read, or even before."""
    with pytest.raises(Refusal) as caught:
        documents(TextFiles(path, **settings), "train")
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------- forms


def test_a_line_a_document(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "One. Two.\nThree.\n\n  \nFour.")
    assert documents(TextFiles(path, documents_are="line")) == ["Four.", "One. Two.", "Three."]


def test_blocks_of_complete_lines_and_of_wrapped_ones(tmp_path: Path) -> None:
    complete = written(tmp_path, "complete.txt", "One one.\nTwo two.\n\nThree three.\nFour.\n")
    assert documents(TextFiles(complete)) == ["One one.\nTwo two.", "Three three.\nFour."]
    wrapped = written(tmp_path, "wrapped.txt", "A line that goes\non here. And\nends.\n\n\nB goes\non too.\n")
    corpus = TextFiles(wrapped)
    assert documents(corpus) == ["A line that goes on here. And ends.", "B goes on too."]
    assert {len(record.sentences) for name in ("train", "validation") for record in corpus.records(name)} == {1, 2}  # type: ignore[attr-defined, arg-type]


def test_several_files_are_documents(tmp_path: Path) -> None:
    for name, content in {
        "b/1.txt": "One line\nand more.\n\nTwo.",
        "b/2.md": "Three.",
        ".hidden/3.txt": "Three b.",
        "b/.4.txt": "no",
        "5.dat": "no",
    }.items():
        written(tmp_path, name, content)
    assert documents(TextFiles(str(tmp_path))) == ["One line and more.\nTwo.", "Three."]
    assert documents(TextFiles(str(tmp_path / "*" / "*.txt"), validation_share=0.5), "train") != []


def test_wikipedia(tmp_path: Path) -> None:
    page = '<doc id="12" url="https://x" title="Anarchism">\nAnarchism\n\nIt is a thing. It was.\nMore.\n\n</doc>\n'
    stub = '<doc id="13" url="https://x" title="Stub">\nStub\n\n</doc>\n'
    other = '<doc id="14" url="https://x" title="Other">\nOther words begin it.\n</doc>\n'
    written(tmp_path, "AA/wiki_00", page + stub)
    written(tmp_path, "AA/wiki_01", other)
    assert documents(TextFiles(str(tmp_path))) == ["It is a thing. It was.\nMore.", "Other words begin it."]
    json_lines = written(
        tmp_path,
        "json/AA/wiki_02",
        json.dumps({"title": "a", "text": "One.\nTwo."}) + "\n" + json.dumps({"text": "B."}) + "\n",
    )
    assert documents(TextFiles(json_lines)) == ["B.", "One.\nTwo."]


def test_rows(tmp_path: Path) -> None:
    rows = ["plain", 'with "quotes", commas', "two\nlines", "NA", "null"]
    table = tmp_path / "a.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "body"], *([str(n), row] for n, row in enumerate(rows))])
    assert documents(TextFiles(str(table), column="body")) == sorted(rows)
    written(
        tmp_path, "a.jsonl", "".join(json.dumps({"body": row}) + "\n" for row in rows) + "\n" + json.dumps({"body": ""})
    )
    assert documents(TextFiles(str(tmp_path / "a.jsonl"), column="body")) == sorted(rows)
    stray = ['"unbalanced', 'un"balanced', "NA", "fine"]
    tabbed = written(tmp_path, "a.tsv", "body\tlabel\r\n" + "".join(f"{row}\t1\r\n" for row in stray))
    assert documents(TextFiles(tabbed, column="body")) == sorted(stray)


PACKERS = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress, "zst": zstandard.ZstdCompressor().compress}


@pytest.mark.parametrize("packing", PACKERS)
def test_packed(tmp_path: Path, packing: str) -> None:
    content = "".join(f"Line {n} of it.\n" for n in range(1000)).encode()
    plain = TextFiles(written(tmp_path, "a.txt", content), documents_are="line")
    packed = TextFiles(written(tmp_path, f"b.txt.{packing}", PACKERS[packing](content)), documents_are="line")
    for name in ("train", "validation"):
        assert documents(packed, name) == documents(plain, name) != []  # type: ignore[arg-type]
    cut = written(tmp_path, f"c.txt.{packing}", PACKERS[packing](content)[:-20])
    if packing != "zst":  # a Zstandard stream that ends early is found when its last block is asked for
        assert f"not a whole .{packing} file" in refusal(cut)
    assert f"not a whole .{packing} file" in refusal(written(tmp_path, f"d.txt.{packing}", b"no such thing at all"))


# ------------------------------------------------------------------------------------------- the same as clean


@pytest.mark.parametrize(
    "unclean",
    [
        b"\xef\xbb\xbfOne one. Two.\nThree.\n\nFour five.\n",
        b"One one. Two.\r\nThree.\r\n\r\nFour five.\r\n",
        b"One one. Two.\nThree.\n\nFour five.",
        "One one.\u2028Two.\nThree.\n\nFour\x85five.\n".encode(),
        b"One one.\x0cTwo.\nThree.\n \t\nFour five.\n",
    ],
    ids=["byte order mark", "CRLF", "no last line end", "U+2028", "form feed"],
)
def test_unclean_but_the_same(tmp_path: Path, unclean: bytes) -> None:
    assert documents(TextFiles(written(tmp_path, "a.txt", unclean), documents_are="blank_line")) == [
        "Four five.",
        "One one. Two.\nThree.",
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "latin-1", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, "a.txt", "Ünë.\r\nDeux: é.\r\n\r\nTrois.".encode(encoding))
    assert documents(TextFiles(path, encoding=encoding, documents_are="blank_line")) == ["Trois.", "Ünë.\nDeux: é."]


def test_a_line_of_ten_megabytes(tmp_path: Path) -> None:
    words = "wörd " * 2_000_000
    path = written(tmp_path, "a.txt", f"First.\n{words}\nLast.\n")
    found = documents(TextFiles(path, documents_are="line"))
    assert [len(each) for each in found] == [6, 5, len(words) - 1]


def test_a_line_longer_than_memory_is_cut_at_a_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloze.data.files.LONGEST", 100)
    path = written(tmp_path, "a.txt", "ab é " * 50 + "\n" + "é" * 120 + "\nend\n")
    corpus = TextFiles(path, documents_are="line")
    pieces = documents(corpus)
    assert "".join(sorted("".join(pieces).replace(" ", ""))) == "".join(sorted("abé" * 50 + "é" * 120 + "end"))
    assert max(len(piece.encode()) for piece in pieces) <= 100


# ------------------------------------------------------------------------------------------------- larger ones

BLOCK = st.lists(st.text("ab é.", max_size=12), max_size=4)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    blocks=st.lists(BLOCK, min_size=3, max_size=12),
    step=st.integers(1, 40),
    form=st.sampled_from(["line", "blank_line", "wiki", ".jsonl"]),
)
def test_ranges_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: list[list[str]], step: int, form: str
) -> None:
    """However a file is cut into ranges, each document is read once and in order."""
    bodies = ["\n".join(block) for block in blocks]
    if form == "wiki":
        content = "".join(f'<doc id="1" title="t">\n{body}\n</doc>\n' for body in bodies)
    elif form == ".jsonl":
        content = "".join(json.dumps({"text": body}) + "\n" for body in bodies)
    else:
        content = "\n\n".join(bodies)
    path = written(
        tmp_path,
        "a.jsonl" if form == ".jsonl" else "a.txt",
        content + "\nan end.\n" * (form in ("line", "blank_line")) or "\n",
    )
    wrapped = False if form in ("file", "blank_line") else None
    corpus = TextFiles(path, documents_are="auto" if form == ".jsonl" else form, wrapped=wrapped, validation_share=0)  # type: ignore[arg-type]
    monkeypatch.setattr(text, "RANGE", 1 << 20)
    whole = documents(corpus, "train")
    monkeypatch.setattr(text, "RANGE", step)
    assert len(corpus.parts("train")) == -(-Path(path).stat().st_size // step)
    assert documents(corpus, "train") == whole


def test_a_huge_file_as_one_document_comes_in_pieces_on_one_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "RANGE", 1000)
    for number in range(4):
        written(tmp_path, f"{number}.txt", "".join(f"Line {n} of file {number}.\n" for n in range(1000)))
    corpus = TextFiles(str(tmp_path), validation_share=0.25)
    train, validation = documents(corpus, "train"), documents(corpus, "validation")
    assert len(train) > 10 and len({piece.split("file ")[1][0] for piece in train}) == 3
    assert len(validation) > 3 and len({piece.split("file ")[1][0] for piece in validation}) == 1
    assert sum(piece.count("Line") for piece in train + validation) == 4000


# ------------------------------------------------------------------------------------------------------ splits


def many(folder: Path, n: int = 400) -> str:
    return written(
        folder, "many.txt", "".join(f"Document {i % (n // 2)} is this.\n" for i in range(n))
    )  # each stands twice


def test_no_document_is_on_both_sides(tmp_path: Path) -> None:
    corpus = TextFiles(many(tmp_path), validation_share=0.1, test_share=0.05)
    sides = {name: documents(corpus, name) for name in ("train", "validation", "test")}  # type: ignore[arg-type]
    assert [len(side) for side in sides.values()] == [340, 40, 20]
    assert not set(sides["train"]) & set(sides["validation"]) and not set(sides["train"]) & set(sides["test"])
    other = TextFiles(many(tmp_path), validation_share=0.1, split_seed=1)
    assert set(documents(other, "validation")) != set(sides["validation"])
    assert other.fingerprint() != corpus.fingerprint()
    assert documents(pickle.loads(pickle.dumps(corpus)), "validation") == sides["validation"]


def test_a_large_corpus_is_cut_without_reading_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "COUNTED", 0)
    corpus = TextFiles(many(tmp_path, 4000), validation_share=0.1)
    assert 120 < len(set(documents(corpus, "validation"))) < 280
    assert len(documents(corpus)) == 4000


def test_given_files(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "train/dev", "test/c"):
        written(tmp_path, f"{name}.txt", f"{name}.")
    corpus = TextFiles(
        str(tmp_path / "train"), validation_path=str(tmp_path / "train" / "dev.txt"), test_path=str(tmp_path / "test")
    )
    assert documents(corpus, "train") == ["train/a.", "train/b."]
    assert documents(corpus, "validation") == ["train/dev."] and documents(corpus, "test") == ["test/c."]
    assert "nothing is left" in refusal(str(tmp_path / "test"), validation_path=str(tmp_path / "test"))


def test_fingerprint_follows_content_not_place(tmp_path: Path) -> None:
    one, two = written(tmp_path, "x/a.txt", "One.\n\nTwo."), written(tmp_path, "y/b.txt", "One.\n\nTwo.")
    assert TextFiles(one).fingerprint() == TextFiles(two).fingerprint()
    assert TextFiles(written(tmp_path, "z/b.txt", "One.\n\nTwo!")).fingerprint() != TextFiles(two).fingerprint()
    assert TextFiles(one, documents_are="line").fingerprint() != TextFiles(one).fingerprint()


# ------------------------------------------------------------------------------------------------ broken files

GOOD = "One line here.\nTwo lines here.\n"


@pytest.mark.parametrize(
    ("content", "place", "hint"),
    [
        (b"\x7fELF\x02\x01\x01" + bytes(range(256)), "line 1, byte 0", "a program"),
        (bytes(range(128, 256)) * 20, "line 1, byte 0", "looks like binary"),
        (GOOD.encode() + "café\n".encode("latin-1"), "line 3, byte 34", "data.encoding=latin-1"),
        (GOOD.encode() + b"it\x92s\n", "line 3, byte 33", "data.encoding=cp1252"),
        (GOOD.encode("utf-16"), "line 1, byte 3", "data.encoding=utf-16"),
        (GOOD.encode("utf-16-le"), "line 1, byte 1", "data.encoding=utf-16-le"),
        (gzip.compress(GOOD.encode()), "line 1, byte 0", "gzip-compressed: name it .gz"),
        (b"One.\nTw\0o.\n", "line 2, byte 7", "NUL"),
    ],
    ids=["program", "bytes", "latin-1", "cp1252", "utf-16 with mark", "utf-16", "gzip", "NUL"],
)
def test_what_is_not_text(tmp_path: Path, content: bytes, place: str, hint: str) -> None:
    path = written(tmp_path, "a.txt", content)
    said = refusal(path, documents_are="line")
    assert said.startswith(f"{path}, {place}: ") and hint in said and "\n" not in said


def test_bad_documents_are_dropped_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", b"One.\nTw\0o.\nThr\xe9e.\nFour.\n")
    corpus = TextFiles(path, documents_are="line", on_bad="drop", validation_share=0.5)
    assert documents(corpus, "train") + documents(corpus, "validation") in (["One.", "Four."], ["Four.", "One."])
    (note,) = corpus.notes()  # two of them, in each of the two readings
    assert note.startswith(f"{path}: 4 malformed documents dropped (the first: line 2, byte 7: a NUL byte")
    assert corpus.notes() == []


def test_missing_empty_blank(tmp_path: Path) -> None:
    written(tmp_path, "corpus.txt", "")
    assert (
        refusal(str(tmp_path / "corpsu.txt"))
        == f"data.path={tmp_path}/corpsu.txt not found; did you mean {tmp_path}/corpus.txt?"
    )
    assert "the folder" in refusal(str(tmp_path / "no" / "such" / "a.txt"))
    assert refusal(str(tmp_path / "corpus.txt")).endswith("corpus.txt is empty")
    assert "all 1 files are empty" in refusal(str(tmp_path)) or "is empty" in refusal(str(tmp_path))
    assert "holds only white space" in refusal(written(tmp_path, "blank.txt", " \n\n\t\n  \r\n"))
    assert "no file matches" in refusal(str(tmp_path / "*.xyz"))
    (tmp_path / "folder").mkdir()
    written(tmp_path, "folder/picture.png", b"x")
    assert "it holds .png" in refusal(str(tmp_path / "folder"))


def test_one_document_cannot_be_split(tmp_path: Path) -> None:
    said = refusal(written(tmp_path, "a.txt", "One only."))
    assert "has only 1 document" in said and "data.validation_path" in said


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text": "b"\n', "line 2, byte 14: not JSON"),
        ("a.jsonl", '{"txt": "a"}\n', "no field data.column=text; did you mean txt?"),
        ("a.jsonl", '{"text": 3}\n', "is a int, not a string"),
        ("a.jsonl", "[1]\n", "line 1, byte 0: a JSON list"),
        ("a.jsonl", '{"text": "a\\ud800"}\n', "surrogate"),
        ("a.csv", "id,txt\n1,a\n", "has no column data.column=text; did you mean txt?"),
        ("a.csv", "id,text\n1,a\n2,b,c\n", "line 3, byte 12: 3 columns where the header has 2"),
        ("a.tsv", "id\ttext\n1\ta\n2\n", "line 3, byte 12: 1 columns where the header has 2"),
        ("a.csv", 'id,text\n1,"a\n', "not CSV"),
        ("wiki_00", '<doc id="1">\na\n', "line 1, byte 0: the file ends before the </doc>"),
        ("wiki_00", '<doc id="1">\na\n<doc id="2">\nb\n</doc>\n', "line 3, byte 15: <doc …> before the </doc>"),
        ("wiki_00", '<doc id="1">\na\n</doc>\nstray\n', "line 4, byte 22: text outside"),
    ],
)
def test_malformed_rows(tmp_path: Path, name: str, content: str, said: str) -> None:
    assert said in refusal(written(tmp_path, name, content))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"validation_share": 1.5}, "data.validation_share=1.5 must lie in"),
        ({"validation_share": 0.6, "test_share": 0.4}, "leave nothing to train on"),
        ({"validation_share": 0.1, "validation_path": "x"}, "no effect beside data.validation_path"),
        ({"test_share": 0.1, "test_path": "x"}, "no effect beside data.test_path"),
        ({"encoding": "utf8x"}, "data.encoding=utf8x is not known; did you mean utf-8?"),
    ],
)
def test_settings(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    assert said in refusal(written(tmp_path, "a.txt", GOOD), **settings)


def test_no_such_split(tmp_path: Path) -> None:
    corpus = TextFiles(written(tmp_path, "a.txt", GOOD), validation_share=0)
    with pytest.raises(Refusal, match="no test split"):
        corpus.parts("test")
    with pytest.raises(Refusal, match="no validation split"):
        corpus.parts("validation")


# --------------------------------------------------------------------------------------------------- real text


@pytest.mark.data
@pytest.mark.skipif(not SHARED.exists(), reason="needs shared/data/lm")
def test_wikipedia_in_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(SHARED / "enwiki" / "AA" / "wiki_00")
    content = Path(path).read_text(encoding="utf-8")
    monkeypatch.setattr(text, "RANGE", 37_000)
    corpus = TextFiles(path)
    found = documents(corpus, "train", "validation")
    full = [page for page in content.split("</doc>\n") if len([row for row in page.split("\n")[1:] if row.strip()]) > 1]
    assert len(corpus.parts("train")) > 20 and len(found) == len(full)
    assert sum(len("".join(each.split())) for each in found) == pytest.approx(
        sum(len("".join("".join(page.split("\n")[2:]).split())) for page in full), rel=0.01
    )


@pytest.mark.data
@pytest.mark.skipif(not SHARED.exists(), reason="needs shared/data/lm")
def test_books_need_their_encoding() -> None:
    said = refusal(str(SHARED / "gutenberg"))
    assert (
        "chesterton-ball.txt, line 4631, byte 227337: byte 0xe8 is not utf-8" in said
        and "data.encoding=latin-1" in said
    )
    corpus = TextFiles(str(SHARED / "gutenberg"), encoding="latin-1")
    assert len(documents(corpus, "train")) == 12 and len(documents(corpus, "validation")) == 1


@pytest.mark.parametrize(
    ("name", "content", "settings", "said"),
    [
        (
            "a.txt",
            "One.\n\nTwo.\n",
            {"column": "text"},
            "data.column=text has no effect where documents are blank_line",
        ),
        ("a.txt", "One.\nTwo.\n", {"wrapped": False}, "data.wrapped=false has no effect where documents are line"),
        ("a.jsonl", '{"text": "a"}\n', {"wrapped": True}, "data.wrapped=true has no effect where documents are .jsonl"),
    ],
)
def test_a_setting_without_effect_is_refused(
    tmp_path: Path, name: str, content: str, settings: dict[str, Any], said: str
) -> None:
    assert said in refusal(written(tmp_path, name, content), **settings)


def test_a_setting_that_one_file_heeds_is_taken(tmp_path: Path) -> None:
    written(tmp_path, "a.txt", "One.")
    written(tmp_path, "b.jsonl", '{"body": "Two."}\n{"body": "Three."}\n')
    assert documents(TextFiles(str(tmp_path), column="body", wrapped=True)) == ["One.", "Three.", "Two."]
