"""Cleaning against hand-made docstrings; the real thing on whatever Python runs the tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cloze.data import pydocs
from cloze.data.base import Text
from cloze.data.pydocs import PyDocs, clean_paragraphs, docstrings
from cloze.errors import Refusal

MODULE = '''
"""The first line says what the module is for.

It has *two* functions, of which :func:`one` is in ``this`` file [1]. They are
wrapped over lines, and must be joined to one paragraph.

    >>> one()
    1

    This is indented and so it may be code or a list of the parameters.

Heading of a section
--------------------

==== a table of the old kind   with columns and no end of a sentence

x = y[0] + z[1] if a else b_c_d.
"""

def one():
    """Return the number one. It is what you would expect from it."""

class Two:
    "Too short."

    async def three(self):
        r"""The wait is over when the other side has answered, or not at all."""
'''


def test_docstrings_are_read_from_source_in_order() -> None:
    found = list(docstrings(MODULE))
    assert [text.split()[0] for text in found] == ["The", "Return", "Too", "The"]
    assert list(docstrings("def broken(:")) == []


def test_only_prose_remains() -> None:
    assert list(clean_paragraphs(next(docstrings(MODULE)))) == [
        "The first line says what the module is for.",
        "It has two functions, of which one is in this file. They are wrapped over lines, and must be joined to one paragraph.",
    ]
    assert list(clean_paragraphs("Too short.")) == []


def test_sentences_and_paragraphs(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(MODULE)
    (record,) = PyDocs().read(pydocs.Source("file", str(file), "module"))
    assert record.sentences == (
        "The first line says what the module is for.\n",
        "It has two functions, of which one is in this file.",
        "They are wrapped over lines, and must be joined to one paragraph.\n",
        "Return the number one.",
        "It is what you would expect from it.\n",
        "The wait is over when the other side has answered, or not at all.",
    )
    assert record.topic == "module" and record.where == "module.py"
    assert record.text.count("\n") == 3


def test_this_python_has_prose() -> None:
    corpus = PyDocs()
    version = ".".join(map(str, sys.version_info[:3]))
    assert version in corpus.announcement
    validation = list(corpus.records("validation"))
    assert len(validation) >= 5
    for record in validation:
        assert isinstance(record, Text)
        assert len(record.sentences) >= 2
        assert not record.sentences[-1].endswith("\n")
        assert all(sentence == sentence.strip() or sentence == sentence.strip() + "\n" for sentence in record.sentences)
    text = " ".join(record.text for record in validation).lower().split()
    assert text.count("the") > 0.03 * len(text)  # English: about 6 % of words


def test_splits_share_nothing_and_follow_the_seed() -> None:
    corpus = PyDocs()
    parts = {split: set(corpus.parts(split)) for split in ("train", "validation", "test")}
    assert not parts["train"] & parts["validation"] and not parts["validation"] & parts["test"]
    assert set().union(*parts.values()) == set(corpus.sources)
    assert 0.02 < len(parts["validation"]) / len(corpus.sources) < 0.09
    assert set(PyDocs(split_seed=5).parts("validation")) != parts["validation"]


def test_fingerprint_covers_settings_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module.py").write_text(MODULE)
    monkeypatch.setattr(pydocs.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    before = PyDocs().fingerprint()
    assert PyDocs().fingerprint() == before
    assert PyDocs(split_seed=9).fingerprint() != before
    (tmp_path / "module.py").write_text(MODULE + " ")
    assert PyDocs().fingerprint() != before


def test_packages_are_read_without_being_imported() -> None:
    corpus = PyDocs(packages=["hypothesis"])
    extra = [source for source in corpus.sources if source.group == "hypothesis"]
    assert len(extra) > 20
    assert all("tests" not in Path(source.name).parts for source in extra)


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refusal, match=r"nunpy is not an installed package.*did you mean numpy"):
        PyDocs(packages=["nunpy"]).parts("train")
    with pytest.raises(Refusal, match=r"data.test_share=1.5"):
        PyDocs(test_share=1.5)
    monkeypatch.setattr(pydocs.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    monkeypatch.setattr(pydocs, "_topics", dict)
    with pytest.raises(Refusal, match=r"neither pydoc_data.topics nor Python sources"):
        PyDocs().parts("train")
