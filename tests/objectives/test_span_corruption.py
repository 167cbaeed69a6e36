"""Span corruption: lengths, rates, and that input and target together are the text, on 200,000 tokens."""

from __future__ import annotations

import itertools
import math
import pickle
from collections import Counter
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cloze.data import keyed
from cloze.data.base import Sample, TokenizedCorpus, Vocabulary
from cloze.data.batches import batch_of
from cloze.errors import Refusal
from cloze.models.t5 import T5
from cloze.objectives import spans
from cloze.objectives.base import Tally
from cloze.objectives.span_corruption import SpanCorruption, SpanExamples
from tests.objectives.corpora import random_corpus

PAD, END = 0, 1
SENTINELS = tuple(range(1101, 1001, -1))  # descending from the top, as T5 has them
VOCABULARY = Vocabulary(1102, {"pad": PAD, "eos": END}, SENTINELS)


def pieces(array: Any, lengths: Any) -> list[Any]:
    return np.split(array, np.cumsum(lengths)[:-1])


def samples_of(builder: SpanExamples, corpus: TokenizedCorpus, size: int = 64) -> list[tuple[Any, Sample]]:
    examples = builder.build(corpus, 0)
    order = np.random.default_rng(0).permutation(len(examples))
    parts = np.split(order, np.arange(size, len(order), size))
    return [(examples.table[part], builder.sample(examples, part, builder.keys(1, 0, part))) for part in parts]


@pytest.mark.parametrize(("length", "raw", "target"), [(512, 568, 114), (128, 141, 29), (64, 70, 14)])
def test_published_lengths(length: int, raw: int, target: int) -> None:
    """What T5's own helper gives for these lengths; the final sentinel of the paper makes the target one longer."""
    assert spans.raw_length(length, 0.15, 3.0) == raw
    assert spans.corrupted_lengths(raw, 0.15, 3.0) == (length, target)
    corpus = random_corpus(3 * raw, sentence=(raw, raw), document=(3, 3))
    for final in (False, True):
        builder = SpanExamples(VOCABULARY, length, final_sentinel=final)
        examples = builder.build(corpus, 0)
        sample = builder.sample(examples, np.array([0]), builder.keys(0, 0, np.array([0])))
        assert sample.inputs.lengths.tolist() == [length] == examples.lengths[:1].tolist()
        assert sample.decoder is not None and sample.decoder.lengths.tolist() == [target + final]


@pytest.mark.parametrize("setting", [{}, {"documents": "apart"}, {"final_sentinel": False}], ids=str)
def test_tokens_of_a_budget_are_those_that_a_run_counts(setting: dict[str, Any]) -> None:
    builder = SpanExamples(VOCABULARY, 128, **setting)
    examples = builder.build(random_corpus(20_000), 0)
    indices = np.arange(len(examples))
    sample = builder.sample(examples, indices, builder.keys(1, 0, indices))
    counted = batch_of(sample, sample.counts, tuple(indices), 0, 1).real_tokens
    assert examples.total_tokens == counted > 1.2 * examples.lengths.sum()


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"documents": "apart"},
        {"final_sentinel": False},
        {"density": 0.5, "mean_span": 10.0},
        {"density": 0.1, "mean_span": 1.0},
        {"density": 0.9, "mean_span": 5.0},
    ],
    ids=str,
)
def test_input_and_target_together_are_the_text(setting: dict[str, Any]) -> None:
    corpus = random_corpus(200_000)
    builder = SpanExamples(VOCABULARY, 128, **setting)
    known = np.array(SENTINELS)
    read = np.zeros(len(corpus.tokens), int)
    tallies: dict[str, Tally] = {}
    for table, sample in samples_of(builder, corpus):
        assert sample.decoder is not None
        lengths = sample.decoder.lengths
        for row, given_, shifted, target in zip(
            table,
            pieces(sample.inputs.tokens, sample.inputs.lengths),
            pieces(sample.decoder.tokens, lengths),
            pieces(sample.targets["tokens"], lengths),
            strict=True,
        ):
            text = corpus.tokens[row[0] : row[1]]
            read[row[0] : row[1]] += 1
            assert given_[-1] == target[-1] == END
            assert len(given_) <= 128
            used = np.flatnonzero(np.isin(given_, known))
            # sentinels in order, from the first one on, the same on both sides
            assert given_[used].tolist() == list(SENTINELS[: len(used)])
            said = target[np.isin(target, known)].tolist()
            assert said == list(SENTINELS[: len(used) + builder.final_sentinel])
            # a sentinel never stands at the beginning or beside another one
            assert len(text) < 2 or (used[0] > 0 and (np.diff(used) > 1).all())
            assert sorted([*given_[~np.isin(given_, known)][:-1], *target[~np.isin(target, known)][:-1]]) == sorted(
                text
            )
            assert np.array_equal(spans.restore(given_, target, known, END), text)
            assert shifted.tolist() == [PAD, *target[:-1]]
        for name, tally in builder.tally(sample).items():
            tallies[name] = tallies[name] + tally if name in tallies else tally
    assert (read == 1).all()
    assert all(tally.holds for tally in tallies.values()), tallies


def test_a_share_of_the_tokens_is_hidden() -> None:
    corpus = random_corpus(200_000)
    hidden = spans_seen = 0
    for _, sample in samples_of(SpanExamples(VOCABULARY, 512), corpus):
        sentinels = np.isin(sample.targets["tokens"], SENTINELS)
        ends = sample.targets["tokens"] == END
        hidden += int((~sentinels & ~ends).sum())
        spans_seen += int(sentinels.sum() - ends.sum())
    assert hidden / len(corpus.tokens) == pytest.approx(0.15, abs=0.0005)
    assert hidden / spans_seen == pytest.approx(3.0, abs=0.05)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
    st.floats(0.01, 0.99),
    st.floats(1, 12),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_any_lengths_and_settings_reconstruct(
    lengths: list[int], density: float, mean_span: float, final: bool, seed: int
) -> None:
    sizes = np.array(lengths)
    tokens = np.arange(2, 2 + sizes.sum())
    keys = keyed.keys(seed, np.arange(len(sizes)))
    sentinels = np.arange(10_000, 10_100)
    kept, hidden = spans.noise_spans(sizes, density, mean_span, keys)
    noise, count = spans.span_counts(sizes, density, mean_span)
    assert (hidden.sum(1) == noise).all() and (kept.sum(1) == sizes - noise).all()
    assert ((hidden > 0).sum(1) == count).all()
    inputs, outputs = spans.cut_spans(tokens, sizes, spans.span_noise(kept, hidden), sentinels, END, final)
    originals = pieces(tokens, sizes)
    for original, given_, target in zip(
        originals, pieces(inputs.tokens, inputs.lengths), pieces(outputs.tokens, outputs.lengths), strict=True
    ):
        assert np.array_equal(spans.restore(given_, target, sentinels, END), original)


def test_every_segmentation_is_equally_likely() -> None:
    """9 items in 4 parts: C(8, 3) = 56 ways, against a chi-squared test."""
    draws = 56 * 400
    keys = keyed.keys(7, np.arange(draws))
    parts = spans.random_segmentation(np.full(draws, 9), np.full(draws, 4), keys)
    seen = Counter(map(tuple, parts.tolist()))
    every = [c for c in itertools.product(range(1, 7), repeat=4) if sum(c) == 9]
    assert len(every) == math.comb(8, 3) and set(seen) == set(every)
    assert stats.chisquare([seen[c] for c in every]).pvalue > 1e-4


def test_rows_of_different_sizes_are_segmented_alike() -> None:
    """An example's spans depend on its key and length, not on the others of its batch."""
    items, segments = np.array([12, 3, 9, 1, 30]), np.array([4, 3, 1, 1, 6])
    keys = keyed.keys(3, np.arange(5))
    together = spans.random_segmentation(items, segments, keys)
    for i in range(5):
        alone = spans.random_segmentation(items[i : i + 1], segments[i : i + 1], keys[i : i + 1])
        assert alone[0, : segments[i]].tolist() == together[i, : segments[i]].tolist()
        assert (together[i, segments[i] :] == 0).all() and (together[i, : segments[i]] > 0).all()
    assert together.sum(1).tolist() == items.tolist()


def test_samples_depend_on_their_keys_alone() -> None:
    builder = SpanExamples(VOCABULARY, 64)
    examples = builder.build(random_corpus(5_000), 0)
    order = np.arange(len(examples))
    together = builder.sample(examples, order, builder.keys(5, 2, order))
    rows = pieces(together.inputs.tokens, together.inputs.lengths)
    for i in (0, 7, len(examples) - 1):
        alone = pickle.loads(pickle.dumps(builder)).sample(
            examples, order[i : i + 1], builder.keys(5, 2, order[i : i + 1])
        )
        assert alone.inputs.tokens.tolist() == rows[i].tolist()
        assert builder.counts(examples, order[i : i + 1], keyed.keys(0, order[:1])) == alone.counts
    other = builder.sample(examples, order, builder.keys(5, 3, order))
    assert other.inputs.tokens.tolist() != together.inputs.tokens.tolist()


def test_validation_is_judged_at_a_fixed_density() -> None:
    builder = SpanExamples(VOCABULARY, 128, density=0.5, mean_span=8.0)
    judge = builder.judge()
    assert (judge.density, judge.mean_span, judge.raw_length) == (0.15, 3.0, 141)


def test_what_the_lens_sees() -> None:
    builder = SpanExamples(VOCABULARY, 64)
    examples = builder.build(random_corpus(2_000), 0)
    sample = builder.sample(examples, np.arange(4), builder.keys(0, 0, np.arange(4)))
    words = [word for row in builder.explain(sample) for word in row]
    assert [word == "masked" for word in words] == np.isin(sample.inputs.tokens, SENTINELS).tolist()
    assert words.count("special") == 4


# ------------------------------------------------------------------------------------------------------------ variants

VARIANTS: list[dict[str, Any]] = [
    {"noise": "iid"},
    {"noise": "iid", "density": 0.4, "final_sentinel": False, "documents": "apart"},
    {"noise": "iid", "target": "all", "random": 0.1},
    {"noise": "spans", "target": "all"},
    {"noise": "drop"},
    {"noise": "deshuffle"},
    {"noise": "prefix", "documents": "apart"},
]


def restored(builder: SpanExamples, given_: Any, target: Any) -> list[int] | None:
    """The text that input and target (without their ends) leave no doubt about; None where they do not tell it."""
    if builder.marked:
        return spans.restore(given_, target, np.array(SENTINELS), END).tolist()
    if builder.noise == "prefix":
        return [*given_.tolist(), *target.tolist()]
    return None if builder.noise == "drop" else target.tolist()


def is_subsequence(part: list[int], whole: list[int]) -> bool:
    rest = iter(whole)
    return all(token in rest for token in part)


@pytest.mark.parametrize("setting", VARIANTS, ids=str)
def test_every_variant_on_200_000_tokens(setting: dict[str, Any]) -> None:
    """Each raw token is read once, input and target have every token, the text comes back, and the rates hold."""
    corpus = random_corpus(200_000)
    builder = SpanExamples(VOCABULARY, 128, **setting)
    masks = builder.target == "all"
    read = np.zeros(len(corpus.tokens), int)
    tallies: dict[str, Tally] = {}
    for table, sample in samples_of(builder, corpus):
        assert sample.decoder is not None
        for row, given_, shifted, target in zip(
            table,
            pieces(sample.inputs.tokens, sample.inputs.lengths),
            pieces(sample.decoder.tokens, sample.decoder.lengths),
            pieces(sample.targets["tokens"], sample.decoder.lengths),
            strict=True,
        ):
            text = corpus.tokens[row[0] : row[1]].tolist()
            read[row[0] : row[1]] += 1
            assert given_[-1] == target[-1] == END and shifted.tolist() == [PAD, *target[:-1]]
            assert len(given_) <= 128
            given_, target = given_[:-1], target[:-1]
            again = restored(builder, given_, target)
            assert again == (None if builder.noise == "drop" else text)
            left = given_[~np.isin(given_, SENTINELS)].tolist()
            if not masks and builder.noise != "deshuffle":
                assert is_subsequence(left, text)
                written = target[~np.isin(target, SENTINELS)].tolist()
                assert is_subsequence(written, text) and sorted(left + written) == sorted(text)
            elif builder.noise == "deshuffle":
                assert sorted(left) == sorted(text)
            else:
                assert len(given_) == len(text) and set(np.setdiff1d(given_, text).tolist()) <= {
                    SENTINELS[0],
                    *range(2, 1002),
                }
        for name, tally in builder.tally(sample).items():
            tallies[name] = tallies[name] + tally if name in tallies else tally
    assert (read == 1).all()
    assert tallies and all(tally.holds for tally in tallies.values()), tallies


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["spans", "iid", "prefix"]),
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
    st.floats(0.01, 0.95),
    st.floats(1, 12),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_input_and_target_of_any_text_are_the_text(
    noise: Any, lengths: list[int], density: float, mean_span: float, final: bool, seed: int
) -> None:
    """Documents of any lengths, a window each, drawn at any rates."""
    given_rates: dict[str, Any] = {} if noise == "prefix" else {"density": density, "final_sentinel": final}
    if noise == "spans":
        given_rates["mean_span"] = mean_span
    vocabulary = Vocabulary(1202, {"pad": PAD, "eos": END}, tuple(range(1201, 1101, -1)))
    builder = SpanExamples(vocabulary, 61, noise=noise, documents="apart", **given_rates)
    start = iter(range(2, 2000))
    corpus = TokenizedCorpus.of([[[next(start) for _ in range(n)]] for n in lengths])
    examples = builder.build(corpus, 0)
    indices = np.arange(len(examples))
    sample = builder.sample(examples, indices, keyed.keys(seed, indices))
    assert sample.decoder is not None and sample.counts == builder.counts(examples, indices, keyed.keys(seed, indices))
    for row, read, target in zip(
        examples.table,
        pieces(sample.inputs.tokens, sample.inputs.lengths),
        pieces(sample.targets["tokens"], sample.decoder.lengths),
        strict=True,
    ):
        text = corpus.tokens[row[0] : row[1]].tolist()
        if noise == "prefix":
            assert [*read[:-1], *target[:-1]] == text and (len(text) < 2 or 1 < len(read) <= len(text))
        else:
            assert spans.restore(read, target, np.array(vocabulary.sentinels), END).tolist() == text


@pytest.mark.parametrize("setting", VARIANTS, ids=str)
def test_variants_depend_on_their_keys_alone(setting: dict[str, Any]) -> None:
    builder = SpanExamples(VOCABULARY, 64, **setting)
    examples = builder.build(random_corpus(5_000), 0)
    order = np.arange(len(examples))
    keys = builder.keys(5, 2, order)
    together = builder.sample(examples, order, keys)
    assert builder.counts(examples, order, keys) == together.counts
    rows = pieces(together.inputs.tokens, together.inputs.lengths)
    for i in (0, 7, len(examples) - 1):
        alone = builder.sample(examples, order[i : i + 1], keys[i : i + 1])
        assert alone.inputs.tokens.tolist() == rows[i].tolist()
        assert builder.counts(examples, order[i : i + 1], keys[i : i + 1]) == alone.counts
    other = builder.sample(examples, order, builder.keys(5, 3, order))
    assert other.inputs.tokens.tolist() != together.inputs.tokens.tolist()


@pytest.mark.parametrize("setting", VARIANTS, ids=str)
def test_budgets_of_variants_are_near_what_a_run_counts(setting: dict[str, Any]) -> None:
    builder = SpanExamples(VOCABULARY, 128, **setting)
    examples = builder.build(random_corpus(100_000), 0)
    indices = np.arange(len(examples))
    sample = builder.sample(examples, indices, builder.keys(1, 0, indices))
    counted = batch_of(sample, sample.counts, tuple(indices), 0, 1).real_tokens
    assert examples.total_tokens == pytest.approx(counted, rel=0.005)


def test_independent_noise_is_independent() -> None:
    """Of 200,000 tokens 15 % are noise whatever stands before them, and runs beyond the last sentinel stay."""
    lengths = np.full(400, 500)
    noise = spans.iid_noise(lengths, 0.15, keyed.keys(3, np.arange(400)), 1000)
    after = noise.reshape(400, 500)[:, 1:][noise.reshape(400, 500)[:, :-1]]
    assert noise.mean() == pytest.approx(0.15, abs=0.0025)  # three deviations
    assert after.mean() == pytest.approx(0.15, abs=3 * (0.1275 / after.size) ** 0.5)
    few = spans.iid_noise(lengths, 0.15, keyed.keys(3, np.arange(400)), 20)
    assert (few <= noise).all()
    assert spans.run_starts(few, lengths).reshape(400, 500).sum(1).max() == 20


def test_every_cut_of_a_text_is_equally_likely() -> None:
    cuts = spans.prefixes(np.full(40_000, 9), keyed.keys(7, np.arange(40_000)))
    seen = np.bincount(cuts, minlength=9)
    assert seen[0] == 0 and len(seen) == 9
    assert stats.chisquare(seen[1:]).pvalue > 1e-4
    assert spans.prefixes(np.array([1, 2]), keyed.keys(7, np.arange(2))).tolist() == [0, 1]


def test_every_order_of_a_text_is_equally_likely() -> None:
    draws = 24 * 1000
    tokens = spans.shuffled(np.tile(np.arange(4), draws), np.full(draws, 4), keyed.keys(7, np.arange(draws)))
    seen = Counter(map(tuple, tokens.reshape(draws, 4).tolist()))
    assert len(seen) == 24 and stats.chisquare(list(seen.values())).pvalue > 1e-4


def test_masks_and_random_tokens_as_bert_has_them() -> None:
    builder = SpanExamples(VOCABULARY, 512, noise="iid", target="all", random=0.1)
    corpus = random_corpus(200_000)
    masked = replaced = 0
    for _, sample in samples_of(builder, corpus):
        tokens, targets = sample.inputs.tokens, sample.targets["tokens"]
        assert not np.isin(tokens, [PAD, *SENTINELS[1:]]).any()
        masked += int((tokens == SENTINELS[0]).sum())
        replaced += int(((tokens != targets) & (tokens != SENTINELS[0])).sum())
        words = [word for row in builder.explain(sample) for word in row]
        assert words.count("masked") == (tokens == SENTINELS[0]).sum()
        assert words.count("replaced") == ((tokens != targets) & (tokens != SENTINELS[0])).sum()
    assert masked / 200_000 == pytest.approx(0.135, abs=0.0023)
    assert replaced / 200_000 == pytest.approx(0.015, abs=0.0009)


def test_validation_has_the_same_noise_at_fixed_rates() -> None:
    builder = SpanExamples(VOCABULARY, 128, density=0.3, noise="iid", target="all", random=0.2)
    judge = builder.judge()
    assert (judge.noise, judge.target, judge.random, judge.density) == ("iid", "all", 0.2, 0.15)
    assert SpanExamples(VOCABULARY, 128, noise="prefix").judge().noise == "prefix"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"noise": "iid", "mean_span": 5.0}, "objective.mean_span=5.0 has no effect with objective.noise=iid"),
        ({"noise": "drop", "judged_span": 5.0}, "objective.judged_span=5.0 has no effect with objective.noise=drop"),
        ({"noise": "deshuffle", "density": 0.5}, "objective.density=0.5 has no effect with objective.noise=deshuffle"),
        ({"noise": "prefix", "judged_density": 0.5}, "objective.judged_density=0.5 has no effect"),
        ({"noise": "drop", "final_sentinel": False}, "objective.final_sentinel=False has no effect"),
        (
            {"target": "all", "final_sentinel": False},
            "objective.final_sentinel=False has no effect with objective.noise=spans and objective.target=all",
        ),
        ({"noise": "prefix", "target": "all"}, "objective.target=all has no effect with objective.noise=prefix"),
        ({"noise": "deshuffle", "target": "all"}, "whose target is always the whole text"),
        ({"random": 0.1}, "objective.random=0.1 has no effect: it goes with objective.target=all"),
        ({"target": "all", "random": 1.5}, r"objective.random=1.5 must lie in [0, 1]"),
        (
            {"judged_density": 0.5, "judged_span": 1.0},
            "objective.judged_density=0.5 and objective.judged_span=1.0 needs 256 sentinels",
        ),
        ({"noise": "iid", "density": 0.5}, "needs 174 sentinels; the tokenizer has 100"),
    ],
)
def test_what_has_no_effect_in_a_variant_is_refused(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal) as refusal:
        SpanExamples(VOCABULARY, 512 if "sentinels" in words else 128, **setting)
    assert words in str(refusal.value)


@pytest.mark.parametrize("setting", VARIANTS, ids=str)
def test_a_prediction_depends_on_the_input_and_what_was_written(setting: dict[str, Any]) -> None:
    builder = SpanExamples(VOCABULARY, 32, **setting)
    examples = builder.build(random_corpus(500), 0)
    batch = batch_of(builder.sample(examples, np.arange(3), builder.keys(0, 0, np.arange(3))))
    model = T5(1102, 32, False, layers=1, width=16, heads=2, head_width=8, inner=32, dropout=0.0)
    embedded: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    model.word.register_forward_hook(keep)
    assert batch.decoder is not None
    read, written = batch.inputs.layout, batch.decoder.layout
    for b, at in ((0, 0), (1, 2), (2, written.lengths[2] - 1)):
        embedded.clear()
        model(batch).last[written.offsets[b] + at].square().sum().backward()
        reached = [(e.grad.abs().sum(1) > 0).nonzero().squeeze(1).tolist() for e in embedded]  # type: ignore[union-attr]
        assert reached[0] == list(range(read.offsets[b], read.offsets[b + 1]))
        assert reached[1] == list(range(written.offsets[b], written.offsets[b] + at + 1))


@pytest.mark.parametrize(
    ("setting", "length", "words"),
    [
        ({"density": 1.7}, 128, ["objective.density=1.7", "(0, 1)"]),
        ({"density": 0.0}, 128, ["objective.density=0.0"]),
        ({"mean_span": 0.5}, 128, ["objective.mean_span=0.5"]),
        ({"judged_density": 2.0}, 128, ["objective.judged_density=2.0"]),
        ({}, 2, ["length=2"]),
        ({"density": 0.5, "mean_span": 1.0}, 512, ["sentinels", "100"]),
    ],
)
def test_wrong_settings_are_refused(setting: dict[str, Any], length: int, words: list[str]) -> None:
    with pytest.raises(Refusal) as refusal:
        SpanExamples(VOCABULARY, length, **setting)
    assert all(word in str(refusal.value) for word in words)


def test_loss_is_transformers_and_nothing_leaks() -> None:
    transformers = import_module("transformers")
    builder = SpanExamples(VOCABULARY, 32)
    examples = builder.build(random_corpus(2_000), 0)
    batch = batch_of(builder.sample(examples, np.arange(3), builder.keys(0, 0, np.arange(3))))
    config = transformers.T5Config(
        vocab_size=1102,
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        dropout_rate=0.0,
        decoder_start_token_id=PAD,
    )
    theirs = transformers.T5ForConditionalGeneration(config).eval()
    shape, weights = T5.from_transformers(config.to_dict(), theirs.state_dict())
    model = T5(1102, 32, False, **shape)
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in weights.items()})
    objective = SpanCorruption(model, VOCABULARY, head_rows=7)
    output = objective(model, batch)
    assert batch.decoder is not None
    assert len(set(batch.inputs.layout.lengths)) == len(set(batch.decoder.layout.lengths)) == 1
    labels = batch.targets["tokens"].view(3, -1)
    expected = theirs(batch.inputs.tokens.view(3, -1), labels=labels)
    term = output.terms["span_corruption"]
    assert abs(term.total / term.count - expected.loss) <= 1e-5
    metrics = objective.metrics()
    objective.measure(metrics, output, batch)
    assert metrics["accuracy"].compute() == pytest.approx(float((expected.logits.argmax(-1) == labels).float().mean()))

    embedded: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    model.word.register_forward_hook(keep)
    size = batch.decoder.layout.lengths[0]
    for at in (0, 3, size - 1, size + 2):
        embedded.clear()
        logits = objective.head(model(batch).last[at : at + 1], model.word_embedding)
        torch.nn.functional.cross_entropy(logits, batch.targets["tokens"][at : at + 1]).backward()
        reached = (embedded[1].grad.abs().sum(1) > 0).nonzero().squeeze(1).tolist()  # type: ignore[union-attr]
        assert reached == list(range(at // size * size, at + 1))
