"""Pairs for NSP and SOP: labels, documents, short targets, truncation: RECIPES of BERT and ALBERT as properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from cloze.data import keyed
from cloze.data.base import TokenizedCorpus
from cloze.errors import Refusal
from cloze.objectives.mlm import MaskedExamples
from cloze.objectives.pairs import Pairs, PairSampler, binomial_half
from tests.objectives.corpora import random_corpus, vocabulary


@pytest.fixture(scope="module")
def corpus() -> TokenizedCorpus:
    """About 200,000 tokens."""
    return random_corpus(200_000, sentence=(1, 20), document=(1, 40), topics=12)


def drawn(
    corpus: TokenizedCorpus, epochs: int = 2, length: int = 128, **settings: Any
) -> tuple[Pairs, NDArray[np.int64]]:
    """The pairs of some epochs, and the row of the table that each came from."""
    builder = MaskedExamples(vocabulary(), length, **({"format": "segment_pair"} | settings))
    assert builder._pairs is not None
    examples = builder.build(corpus, 0)
    rows = np.tile(examples.table[:, :3], (epochs, 1))
    indices = np.arange(len(examples))
    keys = np.concatenate([builder.keys(1, epoch, indices) for epoch in range(epochs)])
    return builder._pairs.draw(corpus, rows, keys), rows


def owner(corpus: TokenizedCorpus, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The document of each token."""
    edges = corpus.sentences[corpus.documents]
    return np.searchsorted(edges, places, side="right") - 1


def balanced(seen: int, of: int, share: float = 0.5) -> bool:
    return stats.binomtest(seen, of, share).pvalue > 1e-3


@pytest.mark.parametrize("format", ["segment_pair", "sentence_pair"])
@pytest.mark.parametrize("negatives", ["random", "position_matched", "same_topic"])
def test_nsp_halves_and_labels(corpus: TokenizedCorpus, format: str, negatives: str) -> None:
    pairs, _ = drawn(corpus, pair="nsp", format=format, negatives=negatives)
    assert balanced(int(pairs.labels.sum()), len(pairs.labels))
    documents = np.stack([owner(corpus, pairs.starts[:, side]) for side in (0, 1)], axis=1)
    assert (documents == pairs.documents).all()
    assert ((documents[:, 0] != documents[:, 1]) == (pairs.labels == 1)).all(), "a negative from the same document"
    for side in (0, 1):
        assert (owner(corpus, pairs.starts[:, side] + pairs.sizes[:, side] - 1) == documents[:, side]).all()
    assert (pairs.sizes > 0).all()
    assert (pairs.sizes.sum(1) <= 125).all()
    if negatives == "same_topic":
        assert (corpus.topics[documents[:, 0]] == corpus.topics[documents[:, 1]]).all()
        assert (corpus.topics[documents] >= 0).all()


def test_the_next_segment_is_the_next(corpus: TokenizedCorpus) -> None:
    """Where nothing is cut off, the second segment of a positive begins at the token behind the first."""
    pairs, _ = drawn(corpus, pair="nsp")
    whole = (pairs.labels == 0) & (pairs.sizes.sum(1) < 125)
    assert whole.sum() > 100
    assert (pairs.starts[whole, 1] == pairs.starts[whole].sum(1) - pairs.starts[whole, 1] + pairs.sizes[whole, 0]).all()


def test_sop_halves_are_of_one_document_and_swapped_in_half_of_the_pairs(corpus: TokenizedCorpus) -> None:
    pairs, _ = drawn(corpus, pair="sop")
    assert balanced(int(pairs.labels.sum()), len(pairs.labels))
    assert (pairs.documents[:, 0] == pairs.documents[:, 1]).all()
    assert (owner(corpus, pairs.starts[:, 0]) == owner(corpus, pairs.starts[:, 1])).all()
    assert ((pairs.starts[:, 0] > pairs.starts[:, 1]) == (pairs.labels == 1)).all()


@pytest.mark.parametrize("rules", ["paper", "google"])
def test_a_pair_of_sentences_is_one_by_any_rule(corpus: TokenizedCorpus, rules: str) -> None:
    """The second segment of a negative is a single sentence too: its length does not tell the label."""
    pairs, _ = drawn(corpus, pair="nsp", format="sentence_pair", pair_rules=rules)
    negatives = (pairs.labels == 1) & (pairs.sizes.sum(1) < 125)
    starts = pairs.starts[negatives, 1]
    sentence = np.searchsorted(corpus.sentences, starts)
    assert negatives.sum() > 1000
    assert (corpus.sentences[sentence] == starts).all()
    assert (corpus.sentences[sentence + 1] == starts + pairs.sizes[negatives, 1]).all()


def test_google_rules_take_a_random_partner_for_one_sentence(corpus: TokenizedCorpus) -> None:
    for pair in ("nsp", "sop"):
        pairs, rows = drawn(corpus, pair=pair, pair_rules="google")
        other = pairs.documents[:, 0] != pairs.documents[:, 1]
        alone = rows[:, 1] - rows[:, 0] == 1
        assert alone.any()
        assert (pairs.labels[alone] == 1).all()
        assert other[alone].all()
        # a short target may leave one sentence of a longer run
        assert (other == (pairs.labels == 1)).all() if pair == "nsp" else (other == (pairs.chance == 1)).all()
        free = pairs.chance < 1
        assert balanced(int(pairs.labels[free].sum()), int(free.sum()))
        assert pairs.labels.mean() > 0.5
        if pair == "nsp":
            # the partner goes on until the room is filled or its document ends
            long = (pairs.labels == 1) & ~pairs.short
            full = pairs.sizes[long].sum(1) == 125
            last = pairs.starts[long, 1] + pairs.sizes[long, 1]
            assert (full | np.isin(last, corpus.sentences[corpus.documents])).all()


def test_a_pairs_size_says_nothing_about_its_label(corpus: TokenizedCorpus) -> None:
    pairs, _ = drawn(corpus, pair="nsp", epochs=6)
    total = pairs.sizes.sum(1)
    difference = stats.ks_2samp(total[pairs.labels == 1], total[pairs.labels == 0])
    assert difference.statistic < 0.05


def test_random_partners_begin_at_any_sentence_of_the_other_documents() -> None:
    """One-sentence partners: each sentence of the other documents with equal chances."""
    corpus = random_corpus(3000, sentence=(3, 3), document=(2, 12), seed=3)
    pairs, _ = drawn(corpus, pair="nsp", format="sentence_pair", epochs=80)
    negative = pairs.labels == 1
    sentence = pairs.starts[negative, 1] // 3
    sizes = np.diff(corpus.documents)
    share = (negative[:, None] & (pairs.documents[:, [0]] != np.arange(len(corpus)))) * 1.0
    share /= (sizes.sum() - sizes[pairs.documents[:, 0]])[:, None]
    expected = np.repeat(share.sum(0), sizes)
    assert stats.chisquare(np.bincount(sentence, minlength=len(expected)), expected).pvalue > 1e-3


def test_position_matched_partners_begin_as_far_in_as_what_they_stand_in_for() -> None:
    corpus = random_corpus(30_000, sentence=(3, 6), document=(10, 10), seed=4)
    pairs, _ = drawn(corpus, pair="nsp", negatives="position_matched", length=32)

    def place(side: int, of: NDArray[np.bool_]) -> NDArray[np.int64]:
        sentence = np.searchsorted(corpus.sentences, pairs.starts[of, side], side="right") - 1
        return sentence - corpus.documents[pairs.documents[of, side]]

    everything = np.ones(len(pairs.labels), bool)
    negative, positive = pairs.labels == 1, pairs.labels == 0
    assert place(1, negative).min() >= 1, "no document's first sentence: it never follows anything"
    counts = np.stack([np.bincount(place(1, of), minlength=10)[1:] for of in (negative, positive)])
    assert stats.chi2_contingency(counts).pvalue > 1e-3
    assert (place(0, everything) <= 9).all()
    # equal documents: the partner begins just behind where the first segment ends
    uncut = negative & (pairs.sizes.sum(1) < 29)
    ends = np.searchsorted(corpus.sentences, pairs.starts[uncut, 0] + pairs.sizes[uncut, 0])
    assert (place(1, uncut) == ends - corpus.documents[pairs.documents[uncut, 0]]).all()


def test_a_tenth_of_the_targets_is_short(corpus: TokenizedCorpus) -> None:
    pairs, rows = drawn(corpus, pair="nsp")
    assert balanced(int(pairs.short.sum()), len(pairs.short), 0.1)
    run = corpus.sentences[rows[:, 1]] - corpus.sentences[rows[:, 0]]
    positive = pairs.labels == 0
    long, short = positive & ~pairs.short, positive & pairs.short
    assert (pairs.sizes[long].sum(1) == np.minimum(run[long], 125)).all()
    assert (pairs.sizes[short].sum(1) <= run[short]).all()
    assert pairs.sizes[short].sum(1).mean() < 0.75 * pairs.sizes[long].sum(1).mean()
    none, _ = drawn(corpus, pair="nsp", short_share=0.0)
    assert not none.short.any()


def test_truncation_leaves_what_berts_loop_leaves() -> None:
    room = 21
    sampler = PairSampler("sop", "random", "paper", room, 0.0, False)
    sizes = np.array([[a, b] for a in range(1, 40) for b in range(40)])
    starts = np.zeros_like(sizes)
    starts[:, 1] = 1000
    before, cut = sizes.copy(), starts.copy()
    sampler._truncate(cut, sizes, keyed.keys(0, np.arange(len(sizes))))
    for (a, b), after, moved in zip(before.tolist(), sizes.tolist(), (cut - starts).tolist(), strict=True):
        left = [a, b]
        while sum(left) > room:
            left[0 if left[0] > left[1] else 1] -= 1
        assert after == left
        assert 0 <= moved[0] <= a - left[0]
        assert 0 <= moved[1] <= b - left[1]


@pytest.mark.parametrize("trials", [1, 5, 64, 65, 200])
def test_cuts_in_front_are_binomial(trials: int) -> None:
    heads = binomial_half(keyed.keys(1, np.arange(4000)), np.full((4000, 2), trials)).ravel()
    assert heads.min() >= 0
    assert heads.max() <= trials
    low, high = (int(x) for x in stats.binom.ppf([0.01, 0.99], trials, 0.5))
    inside = np.clip(heads, low, high)
    expected = stats.binom.pmf(np.arange(low, high + 1), trials, 0.5)
    expected[0], expected[-1] = stats.binom.cdf(low, trials, 0.5), stats.binom.sf(high - 1, trials, 0.5)
    assert stats.chisquare(np.bincount(inside - low, minlength=high - low + 1), expected * len(heads)).pvalue > 1e-3


def test_pairs_depend_on_their_keys_alone(corpus: TokenizedCorpus) -> None:
    for settings in (
        {"pair": "nsp"},
        {"pair": "nsp", "pair_rules": "google"},
        {"pair": "nsp", "negatives": "same_topic"},
    ):
        builder = MaskedExamples(vocabulary(), 128, format="segment_pair", **settings)  # type: ignore[arg-type]
        assert builder._pairs is not None
        examples = builder.build(corpus, 0)
        indices = np.arange(200)
        whole = builder._pairs.draw(corpus, examples.table[indices, :3], builder.keys(1, 0, indices))
        which = np.random.default_rng(0).permutation(200)[:17]
        some = builder._pairs.draw(corpus, examples.table[which, :3], builder.keys(1, 0, which))
        for name in ("starts", "sizes", "labels", "documents", "short"):
            assert (getattr(whole, name)[which] == getattr(some, name)).all(), name


def test_refusals_name_the_numbers() -> None:
    def build(corpus: TokenizedCorpus, **settings: Any) -> None:
        MaskedExamples(vocabulary(), 64, format="segment_pair", **settings).build(corpus, 0)

    alone = random_corpus(1500, document=(1, 1))
    one = TokenizedCorpus.of([[[7, 8], [9], [10, 11]]])
    with pytest.raises(
        Refusal, match=rf"pair=sop needs documents of at least 2 sentences: 0 of {len(alone)} have them"
    ):
        build(alone, pair="sop")
    with pytest.raises(Refusal, match="pair=nsp takes partners from other documents: the corpus has 1"):
        build(one, pair="nsp")
    with pytest.raises(Refusal, match="same_topic needs topics that two documents share: 0 of"):
        build(random_corpus(1500, document=(2, 5)), pair="nsp", negatives="same_topic")
    build(one, pair="sop")
    build(alone, pair="nsp", pair_rules="google")


def test_skipped_documents_are_noted() -> None:
    corpus = TokenizedCorpus.of([[[7, 8], [9]], [[10]], [[11], [12]], [[13]]])
    examples = MaskedExamples(vocabulary(), 64, format="segment_pair", pair="sop").build(corpus, 0)
    assert examples.notes == ("2 of 4 documents have one sentence: no pair starts in them.",)
    assert len(examples) == 2
