"""Files of tagged words: what is read, what is refused, and the real ones."""

from __future__ import annotations

import random
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from seqeval.metrics.sequence_labeling import get_entities

from cloze.data.base import Tagged
from cloze.data.tasks.conll import Conll
from cloze.data.tasks.tag_schemes import as_iob2, scheme_of
from cloze.errors import Refusal

COLUMNS = "Ann NNP B-PER\nLee NNP I-PER\nsings VBZ O\n\nin IN O\nYork NNP B-LOC\n"
# "don't" is one word of the text and two of the syntax, 3.1 is no word of the text at all
TREEBANK = """\
# newdoc id = a
# newpar
# text = We don't.
1\tWe\twe\tPRON\tPRP\t_\t2\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
2\tdo\tdo\tAUX\tVBP\t_\t0\troot\t_\t_
3\tn't\tnot\tPART\tRB\t_\t2\tadvmod\t_\t_
3.1\tgo\tgo\tVERB\tVB\t_\t_\t_\t0:root\t_
4\t.\t.\tPUNCT\t.\t_\t2\tpunct\t_\t_

# text = So.
1\tSo\tso\tADV\tRB\t_\t0\troot\t_\tSpaceAfter=No
2\t.\t.\tPUNCT\t.\t_\t1\tpunct\t_\t_

# newpar
# text = New one
1\tNew\tnew\tADJ\tJJ\t_\t2\tamod\t_\t_
2\tone\tone\tNOUN\tNN\t_\t0\troot\t_\t_

# newdoc
1\tHe\the\tPRON\tPRP\t_\t2\tnsubj\t_\t_
2-3\tisn't\t_\t_\t_\t_\t_\t_\t_\t_
2\tis\tbe\tAUX\tVBZ\t_\t0\troot\t_\t_
3\tn't\tnot\tPART\tRB\t_\t2\tadvmod\t_\t_
4\there\there\tADV\tRB\t_\t2\tadvmod\t_\tSpaceAfter=No
5\t!\t!\tPUNCT\t.\t_\t2\tpunct\t_\t_

"""


def written(folder: Path, content: str, name: str = "train.conll") -> str:
    path = folder / name
    path.write_bytes(content.encode())
    return str(path)


def tagged(corpus: Conll, split: str = "train") -> list[Tagged]:
    return [record for record in corpus.split_records(split) if isinstance(record, Tagged)]


def alone(folder: Path, content: str, name: str = "train.conll", **settings: Any) -> Conll:
    return Conll(path=written(folder, content, name), validation_share=0.0, **settings)


# ------------------------------------------------------------------------------------------------------- columns


@pytest.mark.parametrize(
    "content",
    [
        COLUMNS,
        COLUMNS.replace(" ", "\t"),
        COLUMNS.replace("\n\n", "\n \t \n"),  # as in WNUT-17's training file
        COLUMNS.replace("\n\n", "\n\n\n"),
        COLUMNS.replace("\n", "\r\n"),
        "\ufeff" + COLUMNS,
        COLUMNS.rstrip("\n"),
        COLUMNS.replace(" ", "   "),
    ],
)
def test_columns_in_whatever_way_they_stand(tmp_path: Path, content: str) -> None:
    one, two = tagged(alone(tmp_path, content))
    assert one.words == (("Ann", "Lee", "sings"),) and one.tags == (("B-PER", "I-PER", "O"),)
    assert one.sentences == ("Ann Lee sings",) and two.words == (("in", "York"),) and two.tags == (("O", "B-LOC"),)


def test_the_column_is_asked_for_by_number(tmp_path: Path) -> None:
    parts = alone(tmp_path, COLUMNS, column=2)
    assert tagged(parts)[0].tags == (("NNP", "NNP", "VBZ"),)
    assert parts.labels["tagging"].names == ("IN", "NNP", "VBZ") and parts.labels["tagging"].metrics == ("accuracy",)
    turned = alone(tmp_path, "O sings\nB-PER Ann\n", word_column=2, column=1)
    assert tagged(turned)[0].words == (("sings", "Ann"),)


def test_spaces_that_are_words_stay_words(tmp_path: Path) -> None:
    (record,) = tagged(alone(tmp_path, "a\u00a0b\tO\n\u2028c\tB-X\n#\tO\n"))
    assert record.words == (("a\u00a0b", "\u2028c", "#"),)
    (record,) = tagged(alone(tmp_path, "1\u00a0000 O\n£ B-X\n"))
    assert record.words == (("1\u00a0000", "£"),)


def test_labels_have_o_first_and_both_tags_of_each_kind(tmp_path: Path) -> None:
    labels = alone(tmp_path, COLUMNS, task="names").labels["names"]
    assert labels.names == ("O", "B-LOC", "B-PER", "I-LOC", "I-PER") and labels.metrics == ("span_f1", "accuracy")


def test_documents_begin_at_docstart(tmp_path: Path) -> None:
    start = "-DOCSTART- -X- O\n\n"
    content = start + COLUMNS + "\n" + start + "on IN O\n"
    first, second = tagged(alone(tmp_path, content))
    assert len(first.sentences) == 2 and second.words == (("on",),)
    assert [len(each.words) for each in tagged(alone(tmp_path, content, documents="sentence"))] == [1, 1, 1]
    assert (
        len(tagged(alone(tmp_path, COLUMNS + "\n" + content))) == 4
    )  # before the first mark each sentence stands alone


@pytest.mark.parametrize(
    ("content", "settings", "said"),
    [
        (COLUMNS + "on IN\n", {}, "train.conll, line 7: 2 columns, where line 1 has 3"),
        (COLUMNS + "on IN O O\n", {}, "line 7: 4 columns, where line 1 has 3"),
        ("a\tO\n\tO\n", {}, "line 2: there is no word"),
        ("a\tO\nb\t\n", {}, "line 2: b has no tag"),
        (COLUMNS, {"column": 4}, "line 1: Ann has no tag in data.column=4"),
        (COLUMNS, {"column": "upos"}, "data.column=upos names a column of CoNLL-U"),
        (COLUMNS, {"word_column": 5}, "there is no column data.word_column=5: the file has 3 columns"),
        ("word\nother\n", {}, "line 1: word has no tag"),
        ("caf\xe9 O\n", {"encoding": "ascii"}, "line 1: byte 3: byte 0xc3 is not ascii"),
        (COLUMNS, {"encoding": "latin_l"}, "data.encoding=latin_l is not known; did you mean latin-1"),
        ("a\0b O\n", {}, "line 1: byte 1: a NUL byte"),
    ],
)
def test_what_is_malformed_in_columns(tmp_path: Path, content: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal) as refusal:
        tagged(alone(tmp_path, content, **settings))
    assert said in str(refusal.value)


def test_a_tag_that_training_does_not_have(tmp_path: Path) -> None:
    settings = {
        "path": written(tmp_path, COLUMNS),
        "validation_path": written(tmp_path, "Ann NNP B-PRE\n", "dev.conll"),
    }
    with pytest.raises(
        Refusal, match=r"dev.conll, line 1: the tag B-PRE is none .*did you mean B-PER\? Accepted: B-LOC"
    ):
        tagged(Conll(**settings), "validation")
    longer = written(tmp_path, "New NNP B-LOC\nYork NNP I-LOC\n", "test.conll")  # no I-LOC in training, but B-LOC
    assert tagged(Conll(path=settings["path"], test_path=longer), "test")[0].tags == (("B-LOC", "I-LOC"),)
    corpus = Conll(**settings, on_bad="drop")
    assert tagged(corpus, "validation") == [] and "1 malformed sentences of" in corpus.notes()[0]


def test_dropping_takes_the_sentence(tmp_path: Path) -> None:
    corpus = alone(tmp_path, COLUMNS.replace("Lee NNP I-PER", "Lee I-PER") + "\na b\n", on_bad="drop")
    assert [record.words for record in tagged(corpus)] == [(("in", "York"),)]
    (note,) = corpus.notes()
    assert note.startswith("2 malformed sentences of") and "(the first: line 2: 2 columns, where line 1 has 3)" in note


def test_a_test_file_may_have_no_tags(tmp_path: Path) -> None:
    corpus = Conll(path=written(tmp_path, "a O\nb B-X\n"), test_path=written(tmp_path, "c\nd\n\ne\n", "test.conll"))
    one, two = tagged(corpus, "test")
    assert one.words == (("c", "d"),) and one.tags is None and two.tags is None
    assert corpus.submission("test", [one, two], [[["O", "B-X"]], [["O"]]]) == {
        "tagging-test.conll": "c O\nd B-X\n\ne O\n\n"
    }


def test_a_word_may_have_no_tag(tmp_path: Path) -> None:
    corpus = alone(tmp_path, COLUMNS.replace("VBZ O", "VBZ _"))
    assert tagged(corpus)[0].tags == (("B-PER", "I-PER", "_"),) and corpus.scheme == "iob2"
    assert "_" not in corpus.labels["tagging"].names
    treebank = alone(tmp_path, TREEBANK.replace("\tPUNCT\t", "\t_\t"), "train.conllu")
    assert tagged(treebank)[0].tags == (("PRON", "AUX", "PART", "_"), ("ADV", "_"), ("ADJ", "NOUN"))
    assert "_" not in treebank.labels["tagging"].names


# ------------------------------------------------------------------------------------------------------- schemes


def spans_read(tags: list[str]) -> list[tuple[str, int, int]]:
    return list(get_entities(tags))


def test_schemes_are_told_apart() -> None:
    assert scheme_of([["O", "B-X", "I-X"], ["I-X"]]) == "iob2"  # one stray I- does not make it IOB1
    assert scheme_of([["I-X", "B-X", "O"], ["I-Y"]]) == "iob1"
    assert scheme_of([["NN", "O"]]) == "plain" and scheme_of([["O", "O"]]) == "plain"
    assert scheme_of([["B-X", "-LRB-"]]) == "plain" and scheme_of([["B-X", "E-X", "S-Y"]]) == "iobes"


def test_spans_are_the_same_in_every_scheme() -> None:
    """Random spans, written in each scheme by hand, are read as IOB2 with the same spans (seqeval says which those are)."""
    draw = random.Random(3)
    for _ in range(300):
        spans, tags = [], {"iob1": list[str](), "iob2": list[str](), "iobes": list[str]()}
        before = ""
        for _ in range(draw.randint(1, 6)):
            kind, length = draw.choice(["", "X", "Y"]), draw.randint(1, 3)
            at = len(tags["iob2"])
            if not kind:
                for written_in in tags.values():
                    written_in += ["O"] * length
            else:
                spans.append((kind, at, at + length - 1))
                tags["iob2"] += [f"B-{kind}"] + [f"I-{kind}"] * (length - 1)
                tags["iob1"] += [f"{'B' if before == kind else 'I'}-{kind}"] + [f"I-{kind}"] * (length - 1)
                inner = [f"B-{kind}"] + [f"I-{kind}"] * (length - 2) + [f"E-{kind}"]
                tags["iobes"] += [f"S-{kind}"] if length == 1 else inner
            before = kind
        assert as_iob2(tags["iob1"], "iob1") == as_iob2(tags["iobes"], "iobes") == tuple(tags["iob2"])
        assert spans_read(tags["iob2"]) == spans
    assert as_iob2(["U-X", "B-Y", "M-Y", "L-Y"], "iobes") == ("B-X", "B-Y", "I-Y", "I-Y")


def test_iob1_is_read_as_iob2(tmp_path: Path) -> None:
    corpus = alone(tmp_path, "Ann I-PER\nLee B-PER\nsees O\nYork I-LOC\n")
    assert corpus.scheme == "iob1" and tagged(corpus)[0].tags == (("B-PER", "B-PER", "O", "B-LOC"),)
    plain = alone(tmp_path, "Ann I-PER\nLee B-PER\nsees O\n", scheme="plain")
    assert tagged(plain)[0].tags == (("I-PER", "B-PER", "O"),)
    assert plain.labels["tagging"].names == ("O", "B-PER", "I-PER")


# ------------------------------------------------------------------------------------------------------- CoNLL-U


def test_treebanks_have_documents_paragraphs_and_syntactic_words(tmp_path: Path) -> None:
    first, second = tagged(alone(tmp_path, TREEBANK, "train.conllu"))
    assert first.words == (("We", "do", "n't", "."), ("So", "."), ("New", "one"))
    assert first.tags == (("PRON", "AUX", "PART", "PUNCT"), ("ADV", "PUNCT"), ("ADJ", "NOUN"))
    assert first.sentences == ("We don't.", "So.\n", "New one") and first.text == "We don't. So.\nNew one"
    assert second.sentences == ("He isn't here!",)  # the file does not say the text; SpaceAfter does
    assert first.where.endswith("train.conllu, line 4")
    assert tagged(alone(tmp_path, TREEBANK, "train.conllu", column="xpos"))[1].tags == (
        ("PRP", "VBZ", "RB", "RB", "."),
    )
    assert tagged(alone(tmp_path, TREEBANK, "train.conllu", column=8))[1].tags[0][0] == "nsubj"  # type: ignore[index]


@pytest.mark.parametrize(
    ("old", "new", "settings", "said"),
    [
        ("1\tSo\tso", "1\tSo", {}, "line 12: 9 columns, where CoNLL-U has 10"),
        (
            "1\tSo",
            "one\tSo",
            {},
            "line 12: 'one' is not the number of a word (1), a range (1-2) or an empty node (1.1)",
        ),
        ("", "", {"column": "uops"}, "data.column=uops is not one of them; did you mean upos?"),
        ("", "", {"column": 11}, "data.column=11 must be a name, or lie in 1 … 10"),
    ],
)
def test_what_is_malformed_in_treebanks(tmp_path: Path, old: str, new: str, settings: Any, said: str) -> None:
    with pytest.raises(Refusal) as refusal:
        tagged(alone(tmp_path, TREEBANK.replace(old, new), "train.conllu", **settings))
    assert said in str(refusal.value)


def test_a_dropped_sentence_still_begins_its_document(tmp_path: Path) -> None:
    corpus = alone(
        tmp_path, "# newdoc\n1\tbad\n\n" + TREEBANK.replace("# newdoc id = a\n", ""), "t.conllu", on_bad="drop"
    )
    assert [len(record.sentences) for record in tagged(corpus)] == [3, 1] and len(corpus.notes()) == 1


# ------------------------------------------------------------------------------------------------------- MSRA


def test_characters_and_tags_in_two_lists(tmp_path: Path) -> None:
    content = "text_a\tlabel\n我 在 北 京\tO O B-LOC I-LOC\n\n好\tO\n"
    corpus = alone(tmp_path, content, "train.tsv")
    first, second = tagged(corpus)
    assert first.words == (("我", "在", "北", "京"),) and first.sentences == ("我在北京",) and second.tags == (("O",),)
    assert tagged(alone(tmp_path, content, "train.tsv", spaces=True))[0].sentences == ("我 在 北 京",)
    assert corpus.submission("train", [first, second], [first.tags, second.tags]) == {
        "tagging-train.tsv": content.replace("\n\n", "\n")
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("我 在\tO", "train.tsv, line 2: 2 words, 1 tags"),
        ("我  在\tO O", "line 2: two spaces stand together"),
        ("我 在", "line 2: 1 column, where the header has 2"),
    ],
)
def test_what_is_malformed_in_two_lists(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(Refusal) as refusal:
        tagged(alone(tmp_path, f"text_a\tlabel\n{line}\n", "train.tsv"))
    assert said in str(refusal.value)
    with pytest.raises(Refusal, match="no column text_a; did you mean text_b"):
        tagged(alone(tmp_path, f"text_b\tlabel\n{line}\n", "train.tsv", form="tsv"))


# ------------------------------------------------------------------------------------------------------- predictions


def test_gold_tags_as_predictions_give_the_file_back(tmp_path: Path) -> None:
    corpus = alone(tmp_path, TREEBANK, "train.conllu")
    records = tagged(corpus)
    assert corpus.submission("train", records, [each.tags for each in records]) == {"tagging-train.conllu": TREEBANK}
    changed = corpus.submission("train", records, [[["X"] * len(tags) for tags in each.tags or ()] for each in records])
    assert Counter(
        line.split("\t")[3] for line in changed["tagging-train.conllu"].split("\n") if line[:1].isdigit()
    ) == {"X": 13, "_": 2, "VERB": 1}


def test_predictions_stand_in_the_last_column(tmp_path: Path) -> None:
    content = "-DOCSTART- -X- O\n\n" + COLUMNS
    corpus = alone(tmp_path, content)
    records = tagged(corpus)
    made = corpus.submission("train", records, [[["O", "B-PER", "O"], ["O", "O"]]])["tagging-train.conll"]
    assert made.startswith("-DOCSTART- -X- O O\n\nAnn NNP B-PER O\nLee NNP I-PER B-PER\n")
    assert [line.rsplit(" ", 1)[0] for line in made.split("\n")][:-1] == content.split("\n")
    with pytest.raises(ValueError, match="3 words, 2 predicted tags"):
        corpus.submission("train", records, [[["O", "B-PER"], ["O", "O"]]])


def test_predictions_for_what_was_held_out(tmp_path: Path) -> None:
    content = "".join(f"w{n} B-X\nsame O\n\nw{n} O\n\n" for n in range(40))
    corpus = Conll(path=written(tmp_path, content), validation_share=0.25)
    held, trained = tagged(corpus, "validation"), tagged(corpus)
    assert len(held) == 20 and len(trained) == 60
    assert not {each.sentences for each in held} & {each.sentences for each in trained}
    made = corpus.submission("validation", held, [each.tags for each in held])["tagging-validation.conll"]
    assert made == "".join(
        "".join(f"{word} {tag} {tag}\n" for word, tag in zip(each.words[0], each.tags[0], strict=True)) + "\n"  # type: ignore[index]
        for each in held
    )
    with pytest.raises(ValueError, match="not those of the train split"):
        corpus.submission("train", held, [each.tags for each in held])


def test_what_decides_the_records_decides_the_fingerprint(tmp_path: Path) -> None:
    made = [{}, {"column": 2}, {"documents": "sentence"}, {"scheme": "plain"}, {"spaces": False}, {"on_bad": "drop"}]
    assert len({alone(tmp_path, COLUMNS, **settings).fingerprint() for settings in made}) == len(made)


def test_members_of_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "c.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("c/train.txt", COLUMNS)
        archive.writestr("c/test.txt", COLUMNS)
        archive.writestr("c/README", "nothing")
    corpus = Conll(path=str(tmp_path / "c.zip"), validation_share=0.0)
    assert corpus.splits() == ("train", "test") and tagged(corpus, "test")[0].words == (("Ann", "Lee", "sings"),)
    assert str(tmp_path / "c.zip/c/test.txt, line 1") == tagged(corpus, "test")[0].where


# ------------------------------------------------------------------------------------------------------- real files


def counted(corpus: Conll, split: str) -> tuple[int, int, Counter[str]]:
    """Sentences, words, tags."""
    records = tagged(corpus, split)
    tags = Counter(tag for record in records for each in record.tags or () for tag in each)
    return sum(len(record.sentences) for record in records), tags.total(), tags


@pytest.mark.data
def test_wnut17(shared_data: Path) -> None:
    corpus = Conll(path=str(shared_data / "tagging" / "wnut17"))
    train, validation, test = (counted(corpus, split) for split in corpus.splits())
    assert (train[0], validation[0], test[0]) == (3394, 1009, 1287) and corpus.scheme == "iob2"
    assert (train[1], validation[1], test[1]) == (62730, 15733, 23394)
    assert {tag: n for tag, n in train[2].items() if tag.startswith("B-")} == {
        "B-person": 660,
        "B-location": 548,
        "B-group": 264,
        "B-corporation": 221,
        "B-product": 142,
        "B-creative-work": 140,
    }
    assert (validation[2]["O"], test[2]["O"]) == (14483, 21654) and len(corpus.labels["tagging"].names) == 13


@pytest.mark.data
def test_conll2000(shared_data: Path) -> None:
    path = str(shared_data / "tagging" / "conll2000" / "conll2000.zip")
    corpus = Conll(path=path, validation_share=0.0)
    train, test = counted(corpus, "train"), counted(corpus, "test")
    assert (train[0], test[0]) == (8936, 2012) and (train[1], test[1]) == (211727, 47377)
    assert corpus.scheme == "iob2" and (train[2]["B-NP"], train[2]["I-LST"], test[2]["I-LST"]) == (55081, 0, 2)
    assert len(corpus.labels["tagging"].names) == 23  # eleven kinds of chunks, two tags each, and O


@pytest.mark.data
def test_english_treebank(shared_data: Path) -> None:
    folder = shared_data / "tagging" / "ud_english_ewt"
    corpus = Conll(path=str(folder))
    train, validation = tagged(corpus), tagged(corpus, "validation")
    assert (len(train), len(validation)) == (540, 318)
    assert sum(len(record.sentences) for record in train) == 12544
    assert sum(len(record.sentences) for record in validation) == 2001
    assert len(corpus.labels["tagging"].names) == 17 and corpus.labels["tagging"].metrics == ("accuracy",)
    content = (folder / "en_ewt-ud-dev.conllu").read_text(encoding="utf-8")
    texts = [line.removeprefix("# text = ") for line in content.split("\n") if line.startswith("# text = ")]
    assert [sentence.removesuffix("\n") for record in validation for sentence in record.sentences] == texts
    assert (
        sum(sentence.endswith("\n") for record in validation for sentence in record.sentences)
        == content.count("# newpar") - 318
    )
    assert corpus.submission("validation", validation, [record.tags for record in validation]) == {
        "tagging-validation.conllu": content
    }


@pytest.mark.data
def test_msra(shared_data: Path) -> None:
    corpus = Conll(path=str(shared_data / "clue" / "msra_ner"))
    validation, test = counted(corpus, "validation"), counted(corpus, "test")
    assert corpus.splits() == ("validation", "test") and (validation[0], test[0]) == (2318, 4636)
    assert validation[2] == {
        "O": 97811,
        "I-ORG": 3945,
        "I-LOC": 2581,
        "B-LOC": 1951,
        "I-PER": 1714,
        "B-ORG": 984,
        "B-PER": 884,
    }
    assert (test[2]["B-LOC"], test[2]["B-ORG"], test[2]["B-PER"]) == (3658, 2185, 1864)
