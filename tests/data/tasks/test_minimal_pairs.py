"""BLiMP's pairs and LAMBADA's passages."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cloze.data.base import Choices
from cloze.data.tasks.lambada import Lambada, LastWord
from cloze.data.tasks.minimal_pairs import Blimp
from cloze.errors import Refusal

PAIR = {
    "sentence_good": "The cats sleep.",
    "sentence_bad": "The cats sleeps.",
    "field": "morphology",
    "linguistics_term": "agreement",
    "UID": "verbs_1",
    "pairID": "0",
}


def written(folder: Path, rows: list[dict[str, Any]], name: str) -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def pairs(corpus: Blimp) -> list[Choices]:
    return [record for record in corpus.split_records("test") if isinstance(record, Choices)]


def words(corpus: Lambada) -> list[LastWord]:
    return [record for record in corpus.split_records("test") if isinstance(record, LastWord)]


def test_a_pair_is_a_choice_of_sentences(tmp_path: Path) -> None:
    written(tmp_path, [PAIR, PAIR], "verbs_1.jsonl")
    written(
        tmp_path, [{**PAIR, "UID": "islands_1", "linguistics_term": "islands", "field": "syntax"}], "islands_1.jsonl"
    )
    (tmp_path / "README.md").write_text("Pairs.", encoding="utf-8")
    corpus = Blimp(str(tmp_path))
    found = pairs(corpus)
    assert [each.id for each in found] == ["islands_1", "verbs_1", "verbs_1"] and found[1].label == 0
    assert found[1].options == ("The cats sleep.", "The cats sleeps.") and found[1].sentences == ("",)
    assert found[1].topic == "agreement" and corpus.splits() == ("test",)
    for chosen in ("verbs_1", "morphology", "agreement"):
        assert [each.id for each in pairs(Blimp(str(tmp_path), [chosen]))] == ["verbs_1", "verbs_1"]
    assert Blimp(str(tmp_path), ["syntax"]).fingerprint() != corpus.fingerprint()
    assert corpus.submission("test", found, [1, 0, 1]) == {
        "blimp-test.tsv": "paradigm\tpairs\taccuracy\nislands_1\t1\t0.0\nverbs_1\t2\t50.0\n"
    }
    with pytest.raises(Refusal, match=r"data.paradigms: verb_1 is not in .*did you mean verbs_1\?"):
        pairs(Blimp(str(tmp_path), ["verb_1"]))
    with pytest.raises(Refusal, match="there is no train split; it has test"):
        corpus.parts("train")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sentence_bad": ""}, "line 2: a sentence is empty"),
        ({"sentence_good": 3}, "line 2: `sentence_good` must be text, not 3"),
        ({"UID": None}, "line 2: `UID` must be text, not null"),
    ],
)
def test_what_is_malformed_in_blimp(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal) as refusal:
        pairs(Blimp(written(tmp_path, [PAIR, {**PAIR, **changes}], "verbs_1.jsonl")))
    assert said in str(refusal.value)


def test_the_last_word_of_a_passage(tmp_path: Path) -> None:
    texts = ["One two three.", "He said,\n\n“Yes", "a b\n"]
    path = written(tmp_path, [{"text": text} for text in texts], "lambada_test.jsonl")
    first, second, third = words(Lambada(path))
    assert (first.context, first.gap, first.target) == ("One two", " ", "three.") and first.passage == texts[0]
    assert (second.context, second.gap, second.target) == ("He said,", "\n\n", "“Yes") and second.passage == texts[1]
    assert (third.context, third.target) == ("a", "b") and first.fields == ("One two", "three.")
    corpus = Lambada(str(tmp_path))
    assert words(corpus) == [first, second, third] and corpus.fingerprint() == Lambada(path).fingerprint()
    assert corpus.submission("test", [first], ["four."]) == {
        "lambada-test.tsv": "line\tword\tprediction\n1\tthree.\tfour.\n"
    }


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "alone"}, "line 1: `text` must be two words or more"),
        ({"passage": "a b"}, "line 1: there is no `text`; there are passage"),
    ],
)
def test_what_is_malformed_in_lambada(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal) as refusal:
        words(Lambada(written(tmp_path, [row], "lambada_test.jsonl")))
    assert said in str(refusal.value)


@pytest.mark.data
def test_the_real_files(shared_data: Path) -> None:
    found = pairs(Blimp(str(shared_data / "probes" / "blimp")))
    paradigms = Counter(each.id for each in found)
    assert len(paradigms) == 45 and set(paradigms.values()) == {1000}
    assert sum(each.options[0] == each.options[1] for each in found) == 2  # of passive_1: a tie, whoever scores it
    passages = words(Lambada(str(shared_data / "zero_shot" / "lambada")))
    assert len(passages) == 5153 and passages[0].target == "signs"
    assert Counter(each.gap for each in passages) == {" ": 5146, "\n": 4, "\n\n": 2, " \n\n": 1}
