"""MASS on 200,000 tokens: which tokens are hidden, where the decoder's stand, its two limits, and that nothing leaks."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from cloze.data import keyed
from cloze.data.base import Sample, TokenizedCorpus, Vocabulary
from cloze.data.batches import batch_of
from cloze.errors import Refusal
from cloze.models.mass import Mass
from cloze.models.t5 import T5
from cloze.objectives.base import Tally
from cloze.objectives.masked_fragment import FragmentExamples, MaskedFragment
from tests.models.parity import reached
from tests.objectives.corpora import numbered_corpus, random_corpus
from tests.objectives.corpora import sequences as pieces

PAD, EOS, MASK = 0, 1, 4
VOCABULARY = Vocabulary(1000, {"pad": PAD, "eos": EOS, "mask": MASK})
ALL_MASKED: dict[str, Any] = {"mask": 1.0, "random": 0.0, "keep": 0.0}


def samples_of(builder: FragmentExamples, corpus: TokenizedCorpus, size: int = 64) -> list[tuple[Any, Sample]]:
    examples = builder.build(corpus, 0)
    order = np.random.default_rng(0).permutation(len(examples))
    parts = np.split(order, np.arange(size, len(order), size))
    return [(examples.table[part], builder.sample(examples, part, builder.keys(1, 0, part))) for part in parts]


def rows_of(corpus: TokenizedCorpus, table: Any, sample: Sample) -> list[tuple[Any, ...]]:
    """Of each text: all its tokens, what the encoder reads, what the decoder reads, where, and what it writes."""
    decoder = sample.decoder
    assert decoder is not None and decoder.positions is not None
    cut = decoder.lengths
    return [
        (np.append(corpus.tokens[row[0] : row[1]], EOS), *parts)
        for row, *parts in zip(
            table,
            pieces(sample.inputs.tokens, sample.inputs.lengths),
            pieces(decoder.tokens, cut),
            pieces(decoder.positions, cut),
            pieces(sample.targets["tokens"], cut),
            strict=True,
        )
    ]


@pytest.mark.parametrize("texts", ["sentence", "apart", "packed"])
@pytest.mark.parametrize("share", [0.5, 0.1])
def test_one_fragment_is_hidden_and_written(texts: Any, share: float) -> None:
    corpus = random_corpus(200_000)
    builder = FragmentExamples(VOCABULARY, 64, share=share, texts=texts)
    read = np.zeros(len(corpus.tokens), int)
    tallies: dict[str, Tally] = {}
    begun: list[float] = []
    for table, sample in samples_of(builder, corpus):
        for row, (text, shown, reads, positions, writes) in zip(table, rows_of(corpus, table, sample), strict=True):
            read[row[0] : row[1]] += 1
            first, size = int(positions[0]), len(positions)
            assert size == max(1, round(len(text) * share)) and len(text) <= 64
            assert positions.tolist() == list(range(first, first + size))
            assert writes.tolist() == text[first : first + size].tolist()
            assert reads.tolist() == [MASK, *writes[:-1]]  # nothing from outside the fragment
            assert np.delete(shown, positions).tolist() == np.delete(text, positions).tolist()
            if size < len(text) - 20:
                begun.append(first / (len(text) - size))
        for name, tally in builder.tally(sample).items():
            tallies[name] = tallies[name] + tally if name in tallies else tally
    assert (read == 1).all()
    assert len(tallies) == 6 and all(tally.holds for tally in tallies.values()), tallies
    if share == 0.1 and texts == "packed":  # 60 % anywhere: flat between the ends
        inner = np.histogram([b for b in begun if 0 < b < 1], bins=5, range=(0, 1))[0]
        assert stats.chisquare(inner, inner.sum() * np.array([11, 11, 12, 11, 11]) / 56).pvalue > 1e-4


def test_a_block_has_a_fragment_of_its_own() -> None:
    corpus = random_corpus(200_000)
    builder = FragmentExamples(VOCABULARY, 200, block=64, texts="packed")
    starts: list[int] = []
    for table, sample in samples_of(builder, corpus):
        for text, shown, reads, positions, writes in rows_of(corpus, table, sample):
            assert writes.tolist() == text[positions].tolist()
            assert np.delete(shown, positions).tolist() == np.delete(text, positions).tolist()
            for begin in range(0, len(text), 64):
                size = min(64, len(text) - begin)
                mine = positions[(positions >= begin) & (positions < begin + size)]
                assert len(mine) == max(size // 2, int(len(text) < 2))
                assert (np.diff(mine) == 1).all()
                if size == 64:
                    starts.append(int(mine[0]) - begin)
            # the decoder reads the token before, where that one is hidden too, else a mask
            hidden = set(positions.tolist())
            assert reads.tolist() == [text[p - 1] if p - 1 in hidden else MASK for p in positions]
        assert all(tally.holds for tally in builder.tally(sample).values())
    assert stats.chisquare(np.bincount(starts, minlength=33)).pvalue > 1e-3


def test_a_text_of_less_than_a_block_hides_one_token_at_least() -> None:
    builder = FragmentExamples(VOCABULARY, 65, share=0.1, block=64)
    (_, sample), *_ = samples_of(builder, random_corpus(500, sentence=(1, 2), document=(1, 1)))
    assert sample.decoder is not None and set(sample.decoder.lengths.tolist()) == {1}


def test_one_token_is_masked_language_modelling() -> None:
    """The paper's limit k = 1: the decoder reads nothing but a mask at the hidden token's place."""
    corpus = random_corpus(20_000)
    places = []
    for table, sample in samples_of(FragmentExamples(VOCABULARY, 33, share=1e-9, texts="packed", **ALL_MASKED), corpus):
        for text, shown, reads, positions, writes in rows_of(corpus, table, sample):
            assert reads.tolist() == [MASK] and writes.tolist() == [text[positions[0]]]
            changed = text.copy()
            changed[positions] = MASK
            assert shown.tolist() == changed.tolist()
            places.append(positions[0])
    assert len(set(places)) == 33


def test_all_tokens_are_language_modelling() -> None:
    """The limit k = m: the encoder shows nothing, the decoder reads the text from its start."""
    corpus = random_corpus(20_000)
    for table, sample in samples_of(FragmentExamples(VOCABULARY, 33, share=1.0, **ALL_MASKED), corpus):
        for text, shown, reads, positions, writes in rows_of(corpus, table, sample):
            assert set(shown.tolist()) == {MASK}
            assert reads.tolist() == [MASK, *text[:-1]] and writes.tolist() == text.tolist()
            assert positions.tolist() == list(range(len(text)))


@pytest.mark.parametrize("setting", [{}, {"block": 20, "texts": "apart"}, {"texts": "packed"}], ids=str)
def test_samples_depend_on_their_keys_alone(setting: dict[str, Any]) -> None:
    builder = FragmentExamples(VOCABULARY, 64, **setting)
    examples = builder.build(random_corpus(5_000), 0)
    order = np.arange(len(examples))
    together = builder.sample(examples, order, builder.keys(5, 2, order))
    rows = pieces(together.inputs.tokens, together.inputs.lengths)
    for i in (0, 7, len(examples) - 1):
        one = order[i : i + 1]
        alone = pickle.loads(pickle.dumps(builder)).sample(examples, one, builder.keys(5, 2, one))
        assert alone.inputs.tokens.tolist() == rows[i].tolist()
        assert builder.counts(examples, one, keyed.keys(0, one)) == alone.counts
    counted = batch_of(together, together.counts, tuple(order), 0, 1).real_tokens
    assert examples.total_tokens == counted
    other = builder.sample(examples, order, builder.keys(5, 3, order))
    assert other.inputs.tokens.tolist() != together.inputs.tokens.tolist()


def test_validation_hides_the_same_in_all_arms() -> None:
    judge = FragmentExamples(VOCABULARY, 64, share=0.9, block=16, mask=1.0, random=0.0, keep=0.0).judge()
    assert (judge.share, judge.block, judge.mask, judge.random, judge.at_start) == (0.5, 0, 0.8, 0.1, 0.2)


def test_what_the_lens_sees() -> None:
    builder = FragmentExamples(VOCABULARY, 64, texts="packed")
    examples = builder.build(random_corpus(2_000), 0)
    sample = builder.sample(examples, np.arange(8), builder.keys(0, 0, np.arange(8)))
    words = [word for row in builder.explain(sample) for word in row]
    assert [word == "masked" for word in words] == (sample.inputs.tokens == MASK).tolist()
    assert sum(words.count(word) for word in ("masked", "replaced", "kept")) == 8 * 32


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"share": 0.0}, r"objective\.share=0 must lie in \(0, 1\]"),
        ({"judged_share": 2.0}, r"objective\.judged_share=2 must lie in"),
        ({"mask": 0.5}, r"objective\.keep=0\.1 are shares"),
        ({"at_start": 0.7, "at_end": 0.7}, "together at most 1"),
        ({"block": -1}, "objective.block=-1 must be 0"),
        ({"block": 64, "at_end": 0.5}, "have no effect with objective.block=64"),
        ({"block": 500}, "objective.block=500 must be less than length="),
        ({"block": 4, "share": 0.1}, "objective.block=4 with objective.share=0.1 hides no token"),
    ],
)
def test_wrong_settings_are_refused(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        FragmentExamples(VOCABULARY, 64, **setting)


def test_a_corpus_without_tokens_is_refused() -> None:
    with pytest.raises(Refusal, match="objective=masked_fragment needs at least one document"):
        FragmentExamples(VOCABULARY, 64).build(TokenizedCorpus.of([]), 0)


def test_several_fragments_need_positions() -> None:
    """One fragment shifts all positions alike, which relative ones do not see; the gaps between several they would miss."""
    model = T5(50, 30, False, layers=1, width=16, heads=2, head_width=8, inner=32)
    MaskedFragment(model, VOCABULARY)
    with pytest.raises(
        Refusal, match=r"objective\.block=64 needs a model that has a position table.* a T5 could not tell"
    ):
        MaskedFragment(model, VOCABULARY, block=64)
    MaskedFragment(Mass(50, 30, False, layers=1, width=16, heads=2, inner=32), VOCABULARY, block=64)


@pytest.mark.parametrize("setting", [{}, {"block": 8}, {"share": 1e-9}, {"share": 1.0}], ids=str)
def test_nothing_leaks(setting: dict[str, Any]) -> None:
    """By gradient: a target sees the fragments before it and the whole encoder, in which no hidden token stands."""
    corpus, known = numbered_corpus([[10] * 6])  # no token twice: what is hidden can be looked for
    vocabulary = Vocabulary(known.size, {"pad": PAD, "eos": EOS, "mask": MASK})
    builder = FragmentExamples(vocabulary, 25, **ALL_MASKED, **setting)
    examples = builder.build(corpus, 0)
    sample = builder.sample(examples, np.arange(2), builder.keys(0, 0, np.arange(2)))
    batch = batch_of(sample)
    assert batch.decoder is not None
    torch.manual_seed(0)
    model = Mass(vocabulary.size, 25, False, layers=2, width=32, heads=2, inner=48, dropout=0.0, attention_dropout=0.0,
                 inner_dropout=0.0)  # fmt: skip
    objective = MaskedFragment(model, vocabulary)
    output = objective(model, batch)
    targets = batch.targets["tokens"]
    assert output.terms["masked_fragment"].count == len(targets) == sample.counts["masked_fragment"]

    def loss(at: int) -> torch.Tensor:
        logits = objective.head(model(batch).last[at : at + 1], model.word_embedding)
        return torch.nn.functional.cross_entropy(logits, targets[at : at + 1])

    offsets, own = batch.decoder.layout.offsets, batch.inputs.layout.offsets
    for at in (0, offsets[1] - 1, offsets[1], len(targets) - 1):
        read, written = reached(model.word, lambda at=at: loss(at))
        text = int(at >= offsets[1])
        assert written == list(range(offsets[text], at + 1))
        assert read == list(range(own[text], own[text + 1]))
        hidden = targets[offsets[text] : offsets[text + 1]].tolist()
        assert not set(batch.inputs.tokens[read].tolist()) & set(hidden)
        # what the decoder reads is hidden, and is no later target of this text
        assert set(batch.decoder.tokens[written].tolist()) - {MASK} <= set(hidden)
        assert not set(batch.decoder.tokens[written].tolist()) & set(targets[at : offsets[text + 1]].tolist())
