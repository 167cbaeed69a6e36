"""Permutation language modelling: what is predicted, in which order, and what each prediction may depend on."""

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
from cloze.models.base import Batch
from cloze.models.xlnet import XLNet
from cloze.objectives import orders
from cloze.objectives.corruption import ngram_distribution
from cloze.objectives.permutation_lm import PermutationExamples, PermutationLM
from tests.models.parity import scramble
from tests.objectives.corpora import numbered_corpus, random_corpus, sequences

SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "eos": 4}
VOCABULARY = Vocabulary(1000, SPECIAL)


def drawn(builder: PermutationExamples, corpus: TokenizedCorpus, seed: int = 0, limit: int | None = None) -> Sample:
    examples = builder.build(corpus, 0)
    every = np.arange(len(examples))[:limit]
    sample = builder.sample(examples, every, builder.keys(seed, 0, every))
    assert builder.counts(examples, every, builder.keys(seed, 0, every)) == sample.counts
    assert sample.inputs.lengths.tolist() == examples.lengths[:limit].tolist()
    return sample


def stream_of(corpus: TokenizedCorpus) -> list[int]:
    stream = [SPECIAL["eos"]]
    for d in range(len(corpus)):
        first, last = corpus.sentences[corpus.documents[d]], corpus.sentences[corpus.documents[d + 1]]
        stream += [*corpus.tokens[first:last].tolist(), SPECIAL["eos"]]
    return stream


@pytest.fixture(scope="module")
def corpus() -> TokenizedCorpus:
    return random_corpus(200_000)


@pytest.mark.parametrize("documents", ["packed", "apart", "continued"])
@pytest.mark.parametrize("unit", ["span", "token"])
def test_rates_on_200000_tokens(corpus: TokenizedCorpus, unit: Any, documents: Any) -> None:
    builder = PermutationExamples(VOCABULARY, 128, unit=unit, documents=documents)
    sample = drawn(builder, corpus)
    inputs = sample.inputs
    assert len(inputs.tokens) >= 200_000
    assert inputs.order is not None and inputs.queries is not None
    assert all(tally.holds for tally in builder.tally(sample).values()), builder.tally(sample)
    assert np.array_equal(sample.targets["tokens"], inputs.tokens[inputs.queries])
    specials = np.isin(inputs.tokens, [SPECIAL["cls"], SPECIAL["sep"]])
    asked = np.zeros(len(inputs.tokens), bool)
    asked[inputs.queries] = True
    assert not (asked & specials).any()
    # in the order: what is predicted and the functional tokens, each once; all others are given
    assert np.array_equal(inputs.order >= 0, asked | specials)
    for row, ranks, own in zip(
        sequences(inputs.tokens, inputs.lengths),
        sequences(inputs.order, inputs.lengths),
        sequences(asked, inputs.lengths),
        strict=True,
    ):
        assert own.sum() == max(1, min(len(row) // 6, len(row) - 2 * (documents != "continued")))
        assert sorted(ranks[ranks >= 0]) == list(range(int((ranks >= 0).sum())))
        if documents != "continued":
            assert row[-2:].tolist() == [SPECIAL["sep"], SPECIAL["cls"]]
    # anywhere in a window a token is predicted equally often, but for the ends, where spans meet the edge
    whole = inputs.lengths == 128
    places = np.concatenate([own[8:112] for own, w in zip(sequences(asked, inputs.lengths), whole, strict=True) if w])
    by_place = places.reshape(-1, 104).mean(0)
    if unit == "token":
        assert stats.chisquare(places.reshape(-1, 104).sum(0)).pvalue > 1e-4
    assert by_place.min() > 0.11 and by_place.max() < 0.22


def test_85_of_512() -> None:
    assert orders.target_counts(np.array([512, 5, 2]), 6, np.array([510, 3, 1])).tolist() == [85, 1, 1]


def test_every_order_is_equally_likely() -> None:
    lengths = np.full(24_000, 5)
    chosen = np.tile([True, False, True, True, True], 24_000)
    ranks = orders.random_ranks(chosen, lengths, keyed.keys(1, np.arange(24_000))).reshape(-1, 5)
    assert (ranks[:, 1] == -1).all()
    _, counts = np.unique(ranks[:, [0, 2, 3, 4]], axis=0, return_counts=True)
    assert len(counts) == 24 and stats.chisquare(counts).pvalue > 1e-3


def test_spans_are_whole_words_of_the_drawn_lengths() -> None:
    """Lengths of 1 to 5 words as likely as 1/n; but for the last span of a sequence, each is that many whole words."""
    generator = np.random.default_rng(0)
    sizes = np.full(3_000, 512)
    starts = generator.random(int(sizes.sum())) < 0.7
    distribution = ngram_distribution(5)
    keys = keyed.keys(3, np.arange(len(sizes)))
    counts = orders.target_counts(sizes, 6, sizes)
    taken, lengths = orders.select_spans(starts, sizes, counts, 6, distribution, keys)
    assert taken.reshape(-1, 512).sum(1).tolist() == [85] * len(sizes)
    assert stats.chisquare(np.bincount(lengths)[1:], len(lengths) * distribution).pvalue > 1e-3
    assert (distribution @ np.arange(1, 6)).round(2) == 2.19
    # most of what is predicted begins with the beginning of a word and ends before one
    for row, words in zip(taken.reshape(-1, 512)[:200], starts.reshape(-1, 512)[:200], strict=True):
        edges = np.flatnonzero(np.diff(row.astype(int), prepend=0, append=0))
        begins, ends = edges[::2], edges[1::2]
        good = [words[b] and (e == 512 or words[e]) for b, e in zip(begins, ends, strict=True)]
        assert np.mean(good) > 0.5
    alone, _ = orders.select_spans(starts[512:1024], sizes[1:2], counts[1:2], 6, distribution, keys[1:2])
    assert np.array_equal(alone, taken[512:1024])  # whatever else is in the batch


def test_without_rounding_off_all_spans_are_whole_words() -> None:
    """Where the number of targets is not reached, every run of predicted tokens consists of the drawn number of whole words."""
    starts = np.tile([True, False], 500)
    taken, drawn = orders.select_spans(
        starts, np.array([1000]), np.array([1000]), 6, ngram_distribution(5), keyed.keys(0, np.arange(1))
    )
    assert taken.all()  # single tokens make up the rest
    taken, drawn = orders.select_spans(
        starts, np.array([1000]), np.array([60]), 6, ngram_distribution(5), keyed.keys(0, np.arange(1))
    )
    edges = np.flatnonzero(np.diff(taken.astype(int), prepend=0, append=0)).reshape(-1, 2)
    assert (edges % 2 == 0).all()
    runs = ((edges[:, 1] - edges[:, 0]) // 2).tolist()
    assert sum(runs) == 30 and runs[:-1] == drawn[: len(runs) - 1].tolist()


@pytest.mark.parametrize("documents", ["packed", "apart", "continued"])
def test_from_left_to_right_every_token_is_predicted_once(documents: Any) -> None:
    corpus = random_corpus(5_000)
    builder = PermutationExamples(VOCABULARY, 37, documents=documents).left_to_right()
    assert (builder.one_in, builder.order) == (1, "left_to_right")
    sample = drawn(builder, corpus)
    stream = stream_of(corpus)[1:]
    expected = stream[: len(stream) // 37 * 37] if documents == "continued" else stream
    assert sample.targets["tokens"].tolist() == expected
    assert all(tally.holds for tally in builder.tally(sample).values())
    assert sample.inputs.order is not None and sample.inputs.queries is not None
    for ranks in sequences(sample.inputs.order, sample.inputs.lengths):
        given = 0 if documents == "continued" else 1
        assert ranks.tolist() == [-1] * given + list(range(len(ranks) - given))
    judge = builder.judge()
    assert (judge.one_in, judge.order, judge.unit) == (6, "permutation", "token")


def test_all_tokens_in_a_random_order() -> None:
    builder = PermutationExamples(VOCABULARY, 20, one_in=1)
    sample = drawn(builder, random_corpus(2_000))
    assert len(sample.targets["tokens"]) == int((sample.inputs.lengths - 2).sum())
    assert all(tally.holds for tally in builder.tally(sample).values())


def test_validation_is_the_same_whatever_training_does() -> None:
    corpus = random_corpus(3_000)
    one = drawn(PermutationExamples(VOCABULARY, 64, one_in=3).judge(), corpus)
    other = drawn(PermutationExamples(VOCABULARY, 64, unit="token", one_in=7).judge(), corpus)
    assert np.array_equal(one.inputs.order, other.inputs.order)  # type: ignore[arg-type]
    again = drawn(PermutationExamples(VOCABULARY, 64), corpus, seed=1)
    first = drawn(PermutationExamples(VOCABULARY, 64), corpus, seed=0)
    assert not np.array_equal(first.inputs.order, again.inputs.order)  # type: ignore[arg-type]


def test_what_the_lens_and_the_audit_see() -> None:
    builder = PermutationExamples(VOCABULARY, 64)
    sample = drawn(builder, random_corpus(4_000))
    words = [word for row in builder.explain(sample) for word in row]
    assert [place for place, word in enumerate(words) if word == "target"] == sample.inputs.queries.tolist()  # type: ignore[union-attr]
    assert words[62:64] == ["special", "special"]
    assert sample.inputs.segments is not None and sample.inputs.segments[60:64].tolist() == [0, 0, 0, 2]
    assert sample.inputs.order is not None
    sample.inputs.order[sample.inputs.order >= 0] = orders.reading_ranks(
        sample.inputs.order >= 0, sample.inputs.lengths
    )[sample.inputs.order >= 0]
    assert not builder.tally(sample)["neighbours in the order that stand in reading order"].holds
    assert pickle.loads(pickle.dumps(builder)).left_to_right().order == "left_to_right"


def modelled(length: int) -> tuple[XLNet, PermutationLM]:
    torch.manual_seed(0)
    model = XLNet(1000, length, False, layers=2, width=32, heads=2, inner=48).eval()
    scramble(model)
    return model, PermutationLM(model, VOCABULARY)


@pytest.mark.parametrize("documents", ["packed", "apart"])
@pytest.mark.parametrize("reading", [False, True])
def test_a_prediction_depends_on_what_the_order_permits_and_on_nothing_else(reading: bool, documents: Any) -> None:
    builder = PermutationExamples(VOCABULARY, 16, one_in=2, documents=documents)
    builder = builder.left_to_right() if reading else builder
    batch = batch_of(drawn(builder, random_corpus(500, document=(1, 3), sentence=(1, 9)), limit=3))
    model, objective = modelled(16)
    embedded: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    model.word.register_forward_hook(keep)
    order, queries = batch.inputs.order, batch.inputs.queries
    assert order is not None and queries is not None
    for number, at in enumerate(queries.tolist()):
        embedded.clear()
        states = model(batch).queries
        assert states is not None
        logits = objective.head(states[number : number + 1], model.word_embedding)
        torch.nn.functional.cross_entropy(logits, batch.targets["tokens"][number : number + 1]).backward()
        reached = (embedded[0].grad.abs().sum(1) > 0).nonzero().squeeze(1).tolist()  # type: ignore[union-attr]
        b = int(np.searchsorted(batch.inputs.layout.offsets, at, side="right")) - 1
        own = range(batch.inputs.layout.offsets[b], batch.inputs.layout.offsets[b + 1])
        assert reached == [j for j in own if order[j] < order[at]]
        assert not reading or reached == list(range(own.start, at))


def test_the_likelihood_of_the_targets_is_the_product_along_the_order() -> None:
    """Written plainly: one target at a time, in a batch where those after it in the order are other words."""
    builder = PermutationExamples(VOCABULARY, 24, one_in=2)
    batch = batch_of(drawn(builder, random_corpus(200), limit=1))
    model, objective = modelled(24)
    order, queries = batch.inputs.order, batch.inputs.queries
    assert order is not None and queries is not None
    with torch.no_grad():
        together = objective(model, batch).terms["permutation_lm"]
        product = 0.0
        for at in sorted(queries.tolist(), key=lambda q: int(order[q])):
            tokens = batch.inputs.tokens.clone()
            tokens[order >= order[at]] = 999  # it and all that come after it
            inputs = batch.inputs.to("cpu")
            inputs.tokens, inputs.queries = tokens, torch.tensor([at])
            states = model(Batch(inputs, {}, {}, {})).queries
            assert states is not None
            shares = objective.head(states, model.word_embedding).log_softmax(-1)
            product -= float(shares[0, batch.inputs.tokens[at]])
    assert together.count == len(queries) and abs(float(together.total) - product) <= 1e-3 * product


def test_text_goes_on_and_its_memory_helps_nothing_to_leak() -> None:
    builder = PermutationExamples(VOCABULARY, 8, documents="continued")
    assert builder.continuous and builder.judge().continuous
    corpus, _ = numbered_corpus([[20, 20]])
    sample = drawn(builder, corpus)
    assert sample.inputs.tokens.tolist() == stream_of(corpus)[1:41] and sample.inputs.segments is None
    model, objective = modelled(8)
    first, second = (batch_of(drawn(builder, corpus, limit=1)) for _ in range(2))
    memory = objective(model, first).memory
    assert memory is not None and memory["layers"].shape == (1, 2, 8, 32)
    second.memory = memory
    output = objective(model, second)
    assert output.memory is not None and torch.isfinite(output.terms["permutation_lm"].total)
    metrics = objective.metrics()
    objective.measure(metrics, output, second)
    assert 0 <= float(metrics["accuracy"].compute()) <= 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"one_in": 0}, "objective.one_in=0 must be at least 1"),
        ({"one_in": 65}, "objective.one_in=65 is more than length=64"),
        ({"judged_one_in": 0}, "objective.judged_one_in=0 must be at least 1"),
        ({"unit": "token", "longest": 3}, "objective.longest=3 has no effect with objective.unit=token"),
        ({"one_in": 1, "longest": 3}, "objective.longest=3 has no effect with objective.one_in=1"),
        ({"longest": 0}, "objective.longest=0 must be at least 1"),
        ({"order": "left_to_right"}, "objective.one_in=6 has no effect"),
        ({"length": 3}, "length=3 must be at least 4"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal) as refusal:
        PermutationExamples(VOCABULARY, **{"length": 64, **settings})
    assert words in str(refusal.value)


def test_a_corpus_without_documents_is_refused() -> None:
    with pytest.raises(Refusal, match="the corpus has no tokens"):
        PermutationExamples(VOCABULARY, 16).build(TokenizedCorpus.of([]), 0)
