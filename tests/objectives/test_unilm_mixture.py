"""UniLM's mixture: the shares and rates that it declares on 200,000 tokens, and what each prediction may depend on."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from cloze.data.base import Sample
from cloze.data.batches import batch_of
from cloze.errors import Refusal
from cloze.models.unilm import UniLM
from cloze.objectives.base import Tally
from cloze.objectives.unilm import (
    BIDIRECTIONAL,
    LEFT_TO_RIGHT,
    PATTERNS,
    RIGHT_TO_LEFT,
    SEQUENCE_TO_SEQUENCE,
    Mixed,
    MixedExamples,
)
from tests.objectives.corpora import SPECIAL, numbered_corpus, random_corpus, sequences, vocabulary

SETTINGS: list[dict[str, Any]] = [
    {},
    {"bidirectional": 0.0, "left_to_right": 5.0, "ngrams": 0.0},
    {"mask_ratio": 0.4, "ngrams": 1.0, "mask": 0.5, "random": 0.2, "keep": 0.3},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_declared_rate_holds(settings: dict[str, Any]) -> None:
    builder = MixedExamples(vocabulary(), 128, **settings)
    examples = builder.build(random_corpus(200_000, unknown=0.01), 0)
    tallies: dict[str, Tally] = {}
    counted = 0
    for epoch in range(2):
        for part in np.array_split(np.arange(len(examples)), 8):
            keys = builder.keys(1, epoch, part)
            sample = builder.sample(examples, part, keys)
            assert builder.counts(examples, part, keys) == sample.counts
            counted += int(sample.inputs.lengths.sum())
            for name, tally in builder.tally(sample).items():
                tallies[name] = tallies[name] + tally if name in tallies else tally
    assert counted > 400_000
    wrong = {
        name: tally
        for name, tally in tallies.items()
        if abs(tally.seen - tally.expected) > 4 * tally.variance**0.5 + 1e-6
    }
    assert not wrong and all(tally.trials > 100 for tally in tallies.values())


def test_the_papers_recipe() -> None:
    """Counted from the arrays alone: shares of the patterns, layout, segments and positions of each, hidden tokens."""
    corpus, words = numbered_corpus([[7, 5, 9, 3, 8, 11, 4]] * 3_000)
    builder = MixedExamples(words, 40, mask=1.0, random=0.0, keep=0.0)
    examples = builder.build(corpus, 0)
    indices = np.arange(len(examples))
    sample = builder.sample(examples, indices, builder.keys(1, 0, indices))
    patterns = sample.extra["patterns"]
    assert stats.chisquare(np.bincount(patterns), np.array([2, 2, 1, 1]) / 6 * len(patterns)).pvalue > 1e-3
    assert sample.inputs.segments is not None and sample.inputs.positions is not None and sample.prefix is not None
    clean = sample.inputs.tokens.copy()
    assert (clean[sample.targets["at"]] == SPECIAL["mask"]).all() and (np.diff(sample.targets["at"]) > 0).all()
    clean[sample.targets["at"]] = sample.targets["tokens"]
    lengths = sample.inputs.lengths
    begins = set(corpus.tokens[corpus.sentences[:-1]].tolist())
    rows = zip(
        patterns.tolist(),
        sample.prefix.tolist(),
        *(sequences(a, lengths) for a in (clean, sample.inputs.segments, sample.inputs.positions)),
        strict=True,
    )
    for pattern, prefix, tokens, segments, positions in rows:
        n = len(tokens)
        if pattern == RIGHT_TO_LEFT:
            assert positions.tolist() == list(range(n))[::-1]
            tokens, segments = tokens[::-1], segments[::-1]
        else:
            assert positions.tolist() == list(range(n))
        assert tokens[0] == SPECIAL["cls"] and tokens[-1] == SPECIAL["sep"]
        text = tokens[tokens >= 5]
        assert (np.diff(text) == 1).all(), "one stretch of text, in reading order"
        if pattern in (LEFT_TO_RIGHT, RIGHT_TO_LEFT):
            assert prefix == 0 and n == len(text) + 2
            assert set(segments.tolist()) == {2 if pattern == LEFT_TO_RIGHT else 3}
        else:
            assert n == len(text) + 3
            cut = int(np.flatnonzero(tokens == SPECIAL["sep"])[0]) + 1
            assert int(tokens[cut]) in begins, "cut between two sentences"
            first, second = (0, 1) if pattern == BIDIRECTIONAL else (4, 5)
            assert segments.tolist() == [first] * cut + [second] * (n - cut)
            assert prefix == (n if pattern == BIDIRECTIONAL else cut)
    at = np.zeros(len(clean), bool)
    at[sample.targets["at"]] = True
    for n, part in zip(lengths.tolist(), sequences(at, lengths), strict=True):
        assert part.sum() == max(1, round(n * 0.15))
    hidden = sequences(at, lengths)
    by_pattern = [hidden[i] for i in np.flatnonzero(patterns == SEQUENCE_TO_SEQUENCE)]
    halves = [(part[: len(part) // 2].sum(), part[len(part) // 2 :].sum()) for part in by_pattern]
    assert min(sum(first for first, _ in halves), sum(second for _, second in halves)) > 0.4 * sum(map(sum, halves))


def test_an_example_depends_on_seed_epoch_and_index_alone() -> None:
    builder = MixedExamples(vocabulary(), 64)
    examples = builder.build(random_corpus(20_000, unknown=0.01), 0)

    def look(builder: MixedExamples, which: Any, epoch: int = 0) -> list[tuple[Any, ...]]:
        sample = builder.sample(examples, which, builder.keys(1, epoch, which))
        lengths = sample.inputs.lengths
        assert sample.prefix is not None and sample.inputs.segments is not None
        parts = zip(sequences(sample.inputs.tokens, lengths), sequences(sample.inputs.segments, lengths), strict=True)
        return [(a.tobytes(), b.tobytes(), p) for (a, b), p in zip(parts, sample.prefix.tolist(), strict=True)]

    whole = look(builder, np.arange(60))
    assert look(pickle.loads(pickle.dumps(builder)), np.arange(60)) == whole
    assert look(builder, np.array([5, 41, 3])) == [whole[i] for i in (5, 41, 3)]
    assert look(builder, np.arange(60), epoch=1) != whole


def test_a_validation_is_the_same_whatever_training_does() -> None:
    usual, other = (
        MixedExamples(vocabulary(), 64),
        MixedExamples(vocabulary(), 64, 1.0, 0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 0.0, 0.0),
    )
    examples = usual.build(random_corpus(10_000), 0)
    keys = usual.keys(0, 0, np.arange(50))
    one, two = (builder.judge().sample(examples, np.arange(50), keys) for builder in (usual, other))
    assert (one.inputs.tokens == two.inputs.tokens).all() and set(one.extra["patterns"].tolist()) == {0, 1, 2, 3}
    assert MixedExamples(vocabulary(), 64, judged_at=None).judge().ngrams == 0.2


def lens_batch() -> Sample:
    builder = MixedExamples(vocabulary(100), 20, mask_ratio=0.3)
    examples = builder.build(random_corpus(4_000, size=100, sentence=(3, 6)), 0)
    some = np.arange(24)
    sample = builder.sample(examples, some, builder.keys(4, 0, some))
    assert set(sample.extra["patterns"].tolist()) == {0, 1, 2, 3}
    return sample


def test_what_each_prediction_may_depend_on() -> None:
    """By gradient, for every pattern: both sides; what stands before; what stands behind; the source and what stands before."""
    sample = lens_batch()
    batch = batch_of(sample)
    model = UniLM(100, 20, False, layers=2, width=32, heads=2, inner=64).eval()
    objective = Mixed(model, vocabulary(100))
    embedded: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    model.embeddings.word.register_forward_hook(keep)
    ends = np.cumsum(sample.inputs.lengths)
    assert sample.inputs.positions is not None and sample.prefix is not None
    tried = dict.fromkeys(range(4), 0)
    for number, at in enumerate(sample.targets["at"].tolist()):
        row = int(np.searchsorted(ends, at, side="right"))
        pattern = int(sample.extra["patterns"][row])
        if tried[pattern] == 6:
            continue
        tried[pattern] += 1
        embedded.clear()
        logits = objective.head(model(batch).last[at : at + 1], model.word_embedding)
        torch.nn.functional.cross_entropy(logits, batch.targets["tokens"][number : number + 1]).backward()
        reached = set((embedded[0].grad.abs().sum(1) > 0).nonzero().squeeze(1).tolist())  # type: ignore[union-attr]
        own = np.arange(int(ends[row] - sample.inputs.lengths[row]), int(ends[row]))
        places, here = sample.inputs.positions[own], sample.inputs.positions[at]
        allowed = {
            BIDIRECTIONAL: places >= 0,
            LEFT_TO_RIGHT: places <= here,
            RIGHT_TO_LEFT: places >= here,
            SEQUENCE_TO_SEQUENCE: (places < sample.prefix[row]) | (places <= here),
        }[pattern]
        assert reached == set(own[allowed].tolist()), PATTERNS[pattern]
    assert min(tried.values()) >= 4


def test_accuracy_by_pattern() -> None:
    model = UniLM(100, 20, False, layers=1, width=32, heads=2, inner=64).eval()
    objective = Mixed(model, vocabulary(100))
    batch = batch_of(lens_batch())
    output = objective(model, batch)
    metrics = objective.metrics()
    objective.measure(metrics, output, batch)
    right, patterns = output.predictions["right"].float(), batch.targets["patterns"]
    for number, name in enumerate(PATTERNS):
        assert metrics[f"accuracy_{name}"].compute() == pytest.approx(float(right[patterns == number].mean()))
    assert metrics["accuracy"].compute() == pytest.approx(float(right.mean()))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(Refusal, match=r"objective\.left_to_right=-1 is a proportion"):
        MixedExamples(vocabulary(), 64, left_to_right=-1.0)
    with pytest.raises(Refusal, match="are all 0"):
        MixedExamples(vocabulary(), 64, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(Refusal, match=r"objective\.ngrams=2 must lie in \[0, 1\]"):
        MixedExamples(vocabulary(), 64, ngrams=2.0)
    with pytest.raises(Refusal, match="at least length=5"):
        MixedExamples(vocabulary(), 4)
    with pytest.raises(Refusal, match=r"model\.segments=2 is too few for objective=unilm"):
        Mixed(UniLM(100, 20, False, layers=1, width=32, heads=2, inner=64, segments=2), vocabulary(100))
