"""Bidirectional language modelling: every token is a target once in each direction, and no direction knows its targets."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from cloze.data import keyed
from cloze.data.base import TokenizedCorpus, Vocabulary
from cloze.data.batches import batch_of
from cloze.errors import Refusal
from cloze.models.elmo import ELMo
from cloze.models.layers.heads import UntiedHead
from cloze.objectives.bilm import BidirectionalExamples, BidirectionalLM
from cloze.objectives.cross_entropy import token_cross_entropy
from cloze.objectives.sampled_softmax import draw, rate, sampled_cross_entropy
from tests.objectives.corpora import random_corpus
from tests.objectives.test_clm import pieces, stream_of

END = 0
VOCABULARY = Vocabulary(1000, {"eos": END})
SMALL: dict[str, Any] = {"layers": 2, "width": 12, "cells": 10, "filters": [[1, 4], [3, 5]], "characters": 12}


def whole_sample(builder: BidirectionalExamples, corpus: TokenizedCorpus) -> Any:
    examples = builder.build(corpus, 0)
    order = np.arange(len(examples))
    sample = builder.sample(examples, order, builder.keys(0, 0, order))
    assert builder.counts(examples, order, keyed.keys(0, order)) == sample.counts
    assert sample.inputs.lengths.tolist() == examples.lengths.tolist()
    return sample


@pytest.mark.parametrize("length", [1, 7, 128])
def test_every_token_is_a_target_of_each_direction(length: int) -> None:
    corpus = random_corpus(200_000 if length == 128 else 5_000)
    stream = stream_of(corpus)
    sample = whole_sample(BidirectionalExamples(VOCABULARY, length, "packed"), corpus)
    assert sample.inputs.tokens.tolist() == stream
    assert sample.targets["forward"].tolist() == stream[1:]
    assert sample.targets["forward_at"].tolist() == list(range(len(stream) - 1))
    assert sample.targets["backward"].tolist() == stream[:-1]
    assert sample.targets["backward_at"].tolist() == list(range(1, len(stream)))
    assert sample.counts == {"forward": len(stream) - 1, "backward": len(stream) - 1} and not sample.causal


@pytest.mark.parametrize("length", [1, 7, 128])
def test_documents_apart(length: int) -> None:
    corpus = random_corpus(200_000 if length == 128 else 5_000)
    sample = whole_sample(BidirectionalExamples(VOCABULARY, length, "apart"), corpus)
    inputs, forward, backward = [], [], []
    for d in range(len(corpus)):
        first, last = corpus.sentences[corpus.documents[d]], corpus.sentences[corpus.documents[d + 1]]
        text = [END, *corpus.tokens[first:last].tolist(), END]
        forward += [(len(inputs) + i, text[i + 1]) for i in range(len(text) - 1)]
        backward += [(len(inputs) + i, text[i - 1]) for i in range(1, len(text))]
        inputs += text
    assert sample.inputs.tokens.tolist() == inputs
    for direction, want in (("forward", forward), ("backward", backward)):
        have = zip(sample.targets[f"{direction}_at"].tolist(), sample.targets[direction].tolist(), strict=True)
        assert list(have) == want


@pytest.mark.parametrize("length", [7, 128])
def test_continued_windows_are_whole_and_lie_in_reading_order(length: int) -> None:
    corpus = random_corpus(20_000)
    builder = BidirectionalExamples(VOCABULARY, length)
    assert builder.continuous and not BidirectionalExamples(VOCABULARY, length, "packed").continuous
    sample = whole_sample(builder, corpus)
    stream = stream_of(corpus)
    read = len(stream) // length * length
    assert set(sample.inputs.lengths.tolist()) == {length} and sample.inputs.tokens.tolist() == stream[:read]
    assert sample.targets["forward"].tolist() == stream[1 : read + 1]
    assert sample.targets["backward"].tolist() == stream[: read - 1]
    with pytest.raises(Refusal, match="length=64 is more than the 7 tokens"):
        BidirectionalExamples(VOCABULARY, 64).build(TokenizedCorpus.of([[[1, 2, 3, 4, 5]]]), 0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=6),
    st.integers(1, 9),
    st.sampled_from(["packed", "apart"]),
    st.randoms(use_true_random=False),
)
def test_any_choice_of_windows(shape: list[list[int]], length: int, documents: Any, random: Any) -> None:
    """Each chosen window gives what it gives among all."""
    numbers = iter(range(1, 1000))
    corpus = TokenizedCorpus.of([[[next(numbers) for _ in range(n)] for n in document] for document in shape])
    builder = BidirectionalExamples(VOCABULARY, length, documents)
    examples = builder.build(corpus, 0)
    chosen = np.array([random.randrange(len(examples)) for _ in range(5)])
    sample = builder.sample(examples, chosen, builder.keys(0, 0, chosen))
    together = whole_sample(builder, corpus)
    rows = pieces(together.inputs.tokens, together.inputs.lengths)
    assert pieces(sample.inputs.tokens, sample.inputs.lengths) == [rows[index] for index in chosen]
    starts, mine = np.cumsum(examples.lengths) - examples.lengths, np.cumsum(sample.inputs.lengths)
    for direction in ("forward", "backward"):
        everywhere = dict(zip(together.targets[f"{direction}_at"], together.targets[direction], strict=True))
        want = [
            (int(mine[b] - examples.lengths[index]) + place, int(everywhere[starts[index] + place]))
            for b, index in enumerate(chosen)
            for place in range(examples.lengths[index])
            if starts[index] + place in everywhere
        ]
        at, targets = sample.targets[f"{direction}_at"].tolist(), sample.targets[direction].tolist()
        assert list(zip(at, targets, strict=True)) == want
    assert builder.counts(examples, chosen, keyed.keys(0, chosen)) == sample.counts


def test_what_the_lens_and_the_audit_see() -> None:
    builder = BidirectionalExamples(VOCABULARY, 64)
    examples = builder.build(random_corpus(3_000), 0)
    sample = builder.sample(examples, np.arange(20), builder.keys(0, 0, np.arange(20)))
    words = [word for row in builder.explain(sample) for word in row]
    assert [word == "special" for word in words] == (sample.inputs.tokens == END).tolist()
    tallies = builder.tally(sample)
    assert len(tallies) == 4 and all(tally.holds and tally.trials == 20 * 63 for tally in tallies.values())
    for direction in ("forward", "backward"):
        kept = sample.targets[direction]
        sample.targets[direction] = np.roll(kept, 1)
        assert [tally.holds for tally in builder.tally(sample).values()].count(False) == 1
        sample.targets[direction] = kept
    assert pickle.loads(pickle.dumps(builder)).sample(examples, np.arange(3), None).counts["forward"] == 192


# ------------------------------------------------------------------------------------------------------------- loss


def made(documents: Any = "continued", **settings: Any) -> tuple[ELMo, BidirectionalLM, Any]:
    torch.manual_seed(0)
    model = ELMo(1000, 16, False, **SMALL).eval()
    objective = BidirectionalLM(model, VOCABULARY, **settings).eval()
    builder = BidirectionalExamples(VOCABULARY, 16, documents)
    examples = builder.build(random_corpus(2_000), 0)
    return model, objective, batch_of(builder.sample(examples, np.arange(4), builder.keys(0, 0, np.arange(4))))


def test_the_loss_is_the_mean_of_both_directions() -> None:
    model, objective, batch = made()
    states = model(batch)
    logits = [F.linear(half, objective.head.weight, objective.head.bias) for half in states.last.chunk(2, -1)]  # type: ignore[arg-type]
    want = [
        F.cross_entropy(each[batch.targets[f"{name}_at"]], batch.targets[name])
        for each, name in zip(logits, ("forward", "backward"), strict=True)
    ]
    terms = objective(model, batch).terms
    assert list(terms) == ["forward", "backward"]
    assert terms["forward"].count == 64 and terms["backward"].count == 63  # the first token has nothing before it
    loss = sum(term.weight * term.total / term.count for term in terms.values())
    torch.testing.assert_close(loss, (want[0] + want[1]) / 2)


def test_perplexities_apart() -> None:
    model, objective, batch = made("packed")
    metrics = objective.metrics()
    totals = {"forward": 0.0, "backward": 0.0}
    for _ in range(2):
        output = objective(model, batch)
        objective.measure(metrics, output, batch)
        for name in totals:
            totals[name] += float(output.terms[name].total.detach())
    backward = batch.counts["backward"]
    assert float(metrics["perplexity_backward"].compute()) == pytest.approx(
        math.exp(totals["backward"] / (2 * backward))
    )
    assert objective.perplexity_of == "forward"
    right = output.predictions["right_forward"].float().mean()
    assert float(metrics["accuracy_forward"].compute()) == pytest.approx(float(right))


def test_what_each_prediction_may_depend_on() -> None:
    """By gradient: a forward prediction on the tokens before its target, a backward one on those behind it, its own window's."""
    model, objective, batch = made("apart")
    tokens = batch.inputs.tokens
    rows = torch.nn.functional.embedding(tokens, model.word_embedding.detach()).requires_grad_()
    last = model._read(rows, batch.inputs.layout, None, False).last
    offsets = batch.inputs.layout.offsets
    for direction, half in zip(("forward", "backward"), last.chunk(2, -1), strict=True):
        at = batch.targets[f"{direction}_at"]
        losses = F.cross_entropy(
            F.linear(half[at], objective.head.weight, objective.head.bias),  # type: ignore[arg-type]
            batch.targets[direction],
            reduction="none",
        )
        for number in range(0, len(at), 5):
            place = int(at[number])
            b = max(i for i, start in enumerate(offsets) if start <= place)
            (gradient,) = torch.autograd.grad(losses[number], [rows], retain_graph=True)
            moved = set(gradient.abs().sum(1).nonzero().flatten().tolist())
            seen = range(offsets[b], place + 1) if direction == "forward" else range(place, offsets[b + 1])
            assert moved == set(seen)
            target = place + 1 if direction == "forward" else place - 1
            assert target not in moved
            if offsets[b] <= target < offsets[b + 1]:
                assert tokens[target] == batch.targets[direction][number]


def test_both_directions_share_the_output() -> None:
    model, objective, batch = made()
    for name in ("forward", "backward"):
        objective.zero_grad()
        objective(model, batch).terms[name].total.backward()
        assert objective.head.weight.grad.abs().sum() > 0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"negatives": 0}, "objective.negatives=0 must be at least 1, or null"),
        ({"head_rows": -1}, "objective.head_rows=-1"),
    ],
)
def test_what_it_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        made(**settings)
    with pytest.raises(Refusal, match="length=0 must be at least 1 token for objective=bilm"):
        BidirectionalExamples(VOCABULARY, 0)


# --------------------------------------------------------------------------------------------------- sampled softmax


def head_and_states(words: int) -> tuple[UntiedHead, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    head = UntiedHead(words, 6, 0.5)
    torch.nn.init.normal_(head.bias, generator=generator)  # type: ignore[arg-type]
    hidden = torch.randn(40, 6, generator=generator).requires_grad_()
    return head, hidden, torch.randint(0, words, (40,), generator=generator)


@pytest.mark.parametrize("negatives", [30, 31, 100])
def test_with_all_words_it_is_the_full_softmax(negatives: int) -> None:
    head, hidden, targets = head_and_states(30)
    lent = torch.empty(30, 0)
    want, right = token_cross_entropy(head, hidden, lent, targets)
    want.backward()
    gradients = [hidden.grad.clone(), head.weight.grad.clone(), head.bias.grad.clone()]  # type: ignore[union-attr]
    hidden.grad, head.weight.grad, head.bias.grad = None, None, None  # type: ignore[union-attr]
    have, first = sampled_cross_entropy(head, hidden, lent, targets, negatives)
    have.backward()
    torch.testing.assert_close(have, want)
    assert torch.equal(first, right)
    for mine, wanted in zip((hidden.grad, head.weight.grad, head.bias.grad), gradients, strict=True):  # type: ignore[union-attr]
        torch.testing.assert_close(mine, wanted)


def test_what_is_best_for_it_is_best_for_the_full_softmax() -> None:
    """Where the logits are those of the targets' distribution, the expected gradient is 0, though few of the words are seen."""
    torch.manual_seed(4)
    words = 40
    shares = torch.randn(words).mul(1.5).softmax(0)
    head = UntiedHead(words, 1, 1.0)
    states = torch.zeros(1, 1)

    def mean_gradient(bias: torch.Tensor, draws: int) -> torch.Tensor:
        total = torch.zeros(words)
        for _ in range(draws):
            head.bias = torch.nn.Parameter(bias.clone())
            targets = torch.multinomial(shares, 200, replacement=True)
            loss, _ = sampled_cross_entropy(head, states.expand(200, 1), torch.empty(words, 0), targets, 10)
            (gradient,) = torch.autograd.grad(loss / 200, [head.bias])
            total += gradient
        return total / draws

    assert mean_gradient(shares.log(), 1500).abs().max() < 0.01
    assert mean_gradient(torch.zeros(words), 200).abs().max() > 0.1


def test_words_are_drawn_by_their_rate() -> None:
    assert float(rate(torch.arange(500), 500).sum()) == pytest.approx(1)
    torch.manual_seed(5)
    first = torch.stack([draw(50, 1)[0] for _ in range(20_000)]).flatten()
    seen = torch.bincount(first, minlength=50) / len(first)
    want = rate(torch.arange(50), 50)
    assert ((seen - want).abs() < 4.5 * (want / len(first)).sqrt()).all()
    words, time = draw(50, 20)
    assert len(words.unique()) == 20 and float(time) > 0
    assert draw(50, 50)[1] == math.inf and sorted(draw(50, 50)[0].tolist()) == list(range(50))


def test_only_training_is_sampled() -> None:
    model, objective, batch = made(negatives=3)
    model.eval()
    judged = objective(model, batch).terms["forward"].total
    assert torch.equal(judged, objective(model, batch).terms["forward"].total)
    objective.train()
    few = objective(model, batch).terms["forward"].total
    assert not torch.equal(few, objective(model, batch).terms["forward"].total)
    assert float(few.detach()) < 0.5 * float(judged.detach())
