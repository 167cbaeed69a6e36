"""The four input formats, against plain loops over sentences."""

from __future__ import annotations

import numpy as np
import pytest

from cloze.data import keyed
from cloze.data.base import TokenizedCorpus
from cloze.objectives import formats
from cloze.objectives.formats import Format, chunk_sentences, pack_sentences
from cloze.objectives.mlm import MaskedExamples
from tests.objectives.corpora import SPECIAL, numbered_corpus, random_corpus, sequences, vocabulary

CLS, SEP = SPECIAL["cls"], SPECIAL["sep"]


def inputs(builder: MaskedExamples, corpus: TokenizedCorpus) -> list[list[int]]:
    """Every example before anything is hidden, as token ids."""
    examples = builder.build(corpus, 0)
    indices = np.arange(len(examples))
    packed, _, _, _ = builder.read(examples, indices, builder.keys(0, 0, indices))
    assert packed.lengths.tolist() == [len(x) for x in sequences(packed.tokens, packed.lengths)]
    return [part.tolist() for part in sequences(packed.tokens, packed.lengths)]


def packed_by_loop(corpus: TokenizedCorpus, length: int, across: bool) -> list[list[int]]:
    """RoBERTa's packing, one sentence after the other."""
    result: list[list[int]] = []
    current: list[int] = []  # without [CLS] and the last [SEP]
    for document in range(len(corpus)):
        begun = False  # the current input holds a part of this document
        for sentence in range(corpus.documents[document], corpus.documents[document + 1]):
            text = corpus.tokens[corpus.sentences[sentence] : corpus.sentences[sentence + 1]].tolist()
            for start in range(0, len(text), length - 2):
                piece = text[start : start + length - 2]
                extra = [SEP] if current and not begun else []
                if len(current) + len(extra) + len(piece) > length - 2:
                    result.append([CLS, *current, SEP])
                    current, extra = [], []
                current += extra + piece
                begun = True
        if not across:
            result.append([CLS, *current, SEP])
            current = []
    return result + ([[CLS, *current, SEP]] if current else [])


@pytest.mark.parametrize("form", ["full_sentences", "doc_sentences"])
@pytest.mark.parametrize("length", [16, 64])
def test_packing_is_the_plain_loops(form: Format, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "BLOCK", 37)
    corpus = random_corpus(6000, sentence=(1, 30), document=(1, 6))
    found = inputs(MaskedExamples(vocabulary(), length, format=form), corpus)
    assert found == packed_by_loop(corpus, length, across=form == "full_sentences")
    assert max(map(len, found)) <= length


def test_every_token_stands_in_one_input() -> None:
    corpus, words = numbered_corpus([[3, 40, 2], [1], [7] * 20, [100]])
    for form in ("full_sentences", "doc_sentences"):
        found = inputs(MaskedExamples(words, 24, format=form), corpus)
        text = [token for example in found for token in example if token not in (CLS, SEP)]
        assert text == corpus.tokens.tolist()


def test_lengths_are_exact_for_single_formats() -> None:
    corpus = random_corpus(5000, document=(1, 5))
    for form in ("full_sentences", "doc_sentences"):
        builder = MaskedExamples(vocabulary(), 48, format=form)
        assert builder.build(corpus, 0).lengths.tolist() == [len(x) for x in inputs(builder, corpus)]


def test_a_document_of_many_inputs_and_an_input_of_many_documents() -> None:
    corpus, words = numbered_corpus([[2], [2], [2], [30], [1]])
    found = inputs(MaskedExamples(words, 12), corpus)
    a = corpus.tokens.tolist()
    assert found[0] == [CLS, *a[:2], SEP, *a[2:4], SEP, *a[4:6], SEP]
    assert found[1:4] == [[CLS, *a[6 + 10 * i : 16 + 10 * i], SEP] for i in range(3)]
    assert found[4] == [CLS, a[36], SEP]


def test_runs_for_pairs() -> None:
    corpus, _ = numbered_corpus([[5, 5, 5, 5, 5], [9], [30, 2]])
    table, skipped = chunk_sentences(corpus, 10, shortest=2)
    # two sentences fill ten tokens; the fifth, alone, takes the fourth along; the document of one sentence is skipped
    assert table.tolist() == [[0, 2, 0], [2, 4, 0], [3, 5, 0], [6, 8, 2]]
    assert skipped.tolist() == [1]
    table, skipped = chunk_sentences(corpus, 10, shortest=1)
    assert table.tolist() == [[0, 2, 0], [2, 4, 0], [4, 5, 0], [5, 6, 1], [6, 7, 2], [7, 8, 2]]
    assert not len(skipped)
    table, _ = chunk_sentences(corpus, 10, shortest=2, pairs_only=True)
    assert table.tolist() == [[0, 2, 0], [2, 4, 0], [3, 5, 0], [6, 8, 2]]


def test_runs_cover_every_sentence_of_documents_that_have_two() -> None:
    corpus = random_corpus(20_000, document=(1, 9))
    table, skipped = chunk_sentences(corpus, 60, shortest=2)
    covered = np.zeros(len(corpus.sentences) - 1, int)
    for first, last, document in table.tolist():
        assert corpus.documents[document] <= first < last - 1 < last <= corpus.documents[document + 1]
        covered[first:last] += 1
    sizes = np.diff(corpus.documents)
    assert skipped.tolist() == np.flatnonzero(sizes == 1).tolist()
    assert ((covered == 0) == np.repeat(sizes == 1, sizes)).all()
    assert covered.max() <= 2
    # BERT's loop: a run goes on until it has room tokens, so all but its last sentence are shorter than that
    for first, last, _ in table[(table[:, 1] - table[:, 0]) > 2].tolist():
        assert corpus.sentences[last - 1] - corpus.sentences[first] < 60


def test_pair_inputs_are_cls_first_sep_second_sep() -> None:
    corpus = random_corpus(20_000)
    for form in ("segment_pair", "sentence_pair"):
        builder = MaskedExamples(vocabulary(), 64, format=form)
        examples = builder.build(corpus, 0)
        indices = np.arange(len(examples))
        packed, candidates, _, pairs = builder.read(examples, indices, keyed.keys(1, indices))
        assert packed.segments is not None
        assert pairs is not None
        for number, (tokens, segments, ordinary) in enumerate(
            zip(
                sequences(packed.tokens, packed.lengths),
                sequences(packed.segments, packed.lengths),
                sequences(candidates, packed.lengths),
                strict=True,
            )
        ):
            first, second = pairs.sizes[number]
            (a, b), (x, y) = pairs.starts[number], pairs.starts[number] + pairs.sizes[number]
            text = [CLS, *corpus.tokens[a:x].tolist(), SEP]
            text += [*corpus.tokens[b:y].tolist(), SEP] if second else []
            assert tokens.tolist() == text
            assert len(tokens) <= 64
            assert segments.tolist() == [0] * (first + 2) + [1] * (second + 1 if second else 0)
            assert (ordinary == (tokens >= 5)).all()


def test_whole_documents_fit_where_they_are_short() -> None:
    corpus = random_corpus(5000, sentence=(2, 4), document=(2, 3))
    rows = pack_sentences(corpus, 32, across_documents=False)
    assert len(rows) == len(corpus)
