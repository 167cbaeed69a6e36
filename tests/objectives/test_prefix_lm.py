"""Prefix language modelling: what is seen, what is predicted, and that no target is seen by its own prediction."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from cloze.data.base import Vocabulary
from cloze.data.batches import batch_of
from cloze.errors import Refusal
from cloze.models.base import Backbone
from cloze.models.gpt2 import GPT2
from cloze.models.unilm import UniLM
from cloze.objectives.clm import CausalExamples
from cloze.objectives.prefix_lm import PrefixExamples, PrefixLM
from tests.objectives.corpora import random_corpus, sequences

VOCABULARY = Vocabulary(1000, {"eos": 0})


@pytest.mark.parametrize("documents", ["packed", "apart"])
@pytest.mark.parametrize("prefix", [None, 0.5, 0.0, 1.0])
def test_every_token_behind_the_prefix_is_a_target(documents: Any, prefix: float | None) -> None:
    corpus = random_corpus(200_000)
    builder = PrefixExamples(VOCABULARY, 128, documents, prefix)
    examples = builder.build(corpus, 0)
    indices = np.arange(len(examples))
    keys = builder.keys(1, 0, indices)
    sample = builder.sample(examples, indices, keys)
    whole = CausalExamples(VOCABULARY, 128, documents).sample(examples, indices, keys)
    assert (sample.inputs.tokens == whole.inputs.tokens).all() and sample.prefix is not None
    assert builder.counts(examples, indices, keys) == sample.counts == {"prefix_lm": len(sample.targets["at"])}
    chosen = np.zeros(len(whole.inputs.tokens), bool)
    chosen[sample.targets["at"]] = True
    assert (sample.targets["tokens"] == whole.targets["tokens"][chosen]).all()
    for n, seen, part in zip(
        sample.inputs.lengths.tolist(), sample.prefix.tolist(), sequences(chosen, sample.inputs.lengths), strict=True
    ):
        assert part.tolist() == [False] * (seen - 1) + [True] * (n - seen + 1)
        if prefix is not None:
            assert seen == max(1, round(n * prefix))
    assert all(tally.holds for tally in builder.tally(sample).values())
    if prefix is None and documents == "packed":  # every place as likely
        full = sample.prefix[sample.inputs.lengths == 128]
        assert stats.chisquare(np.bincount((full - 1) // 16, minlength=8)).pvalue > 1e-3
        assert full.min() >= 1 and full.max() <= 128
    # keyed by the example alone, whatever batch it is in
    few = np.array([5, 2, 9])
    again = pickle.loads(pickle.dumps(builder)).sample(examples, few, builder.keys(1, 0, few))
    assert again.prefix.tolist() == sample.prefix[few].tolist()


def test_a_validation_is_split_at_one_share() -> None:
    builder = PrefixExamples(VOCABULARY, 32)
    examples = builder.build(random_corpus(5_000), 0)
    some = np.arange(20)
    judged = builder.judge().sample(examples, some, builder.keys(0, 0, some))
    assert judged.prefix is not None and set(judged.prefix.tolist()) == {16}
    drawn = PrefixExamples(VOCABULARY, 32, judged_prefix=None).judge()
    assert len(set(drawn.sample(examples, some, builder.keys(0, 0, some)).prefix.tolist())) > 5


@pytest.mark.parametrize("family", ["gpt2", "unilm"])
def test_a_prediction_sees_its_prefix_and_what_stands_before_it(family: str) -> None:
    """By gradient: which inputs the loss of one target depends on, in a batch of packed windows."""
    builder = PrefixExamples(VOCABULARY, 16)
    examples = builder.build(random_corpus(2_000), 0)
    sample = builder.sample(examples, np.arange(4), builder.keys(3, 0, np.arange(4)))
    batch = batch_of(sample)
    shape: dict[str, Any] = {"layers": 2, "width": 32, "heads": 2, "inner": 64}
    model: Backbone = GPT2(1000, 16, False, **shape) if family == "gpt2" else UniLM(1000, 16, False, **shape)
    objective = PrefixLM(model.eval(), VOCABULARY)
    embedded: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    (model.word if isinstance(model, GPT2) else model.embeddings.word).register_forward_hook(keep)  # type: ignore[union-attr]
    assert sample.prefix is not None and len(set(sample.prefix.tolist())) > 2
    for number in (0, 1, 7, len(sample.targets["at"]) - 1):
        embedded.clear()
        at = int(sample.targets["at"][number])
        logits = objective.head(model(batch).last[at : at + 1], model.word_embedding)
        torch.nn.functional.cross_entropy(logits, batch.targets["tokens"][number : number + 1]).backward()
        reached = (embedded[0].grad.abs().sum(1) > 0).nonzero().squeeze(1).tolist()  # type: ignore[union-attr]
        begin, seen = at // 16 * 16, int(sample.prefix[at // 16])
        # the target itself stands at at + 1, which is never among them
        assert reached == list(range(begin, max(at + 1, begin + seen))) and at + 1 not in reached


def test_the_loss_is_of_the_targets_alone() -> None:
    """With a prefix of one token it is causal language modelling, sum for sum."""
    from cloze.objectives.clm import CausalLM

    model = GPT2(1000, 16, False, layers=1, width=32, heads=2, inner=64).eval()
    one, other = PrefixLM(model, VOCABULARY), CausalLM(model, VOCABULARY)
    examples = CausalExamples(VOCABULARY, 16).build(random_corpus(2_000), 0)
    some = np.arange(4)
    samples = [
        builder.sample(examples, some, builder.keys(0, 0, some))
        for builder in (PrefixExamples(VOCABULARY, 16, prefix=0.0), CausalExamples(VOCABULARY, 16))
    ]
    want, have = other(model, batch_of(samples[1])).terms["clm"], one(model, batch_of(samples[0])).terms["prefix_lm"]
    assert want.count == have.count and abs(want.total - have.total) <= 1e-4 * abs(want.total)


def test_wrong_shares_are_refused() -> None:
    with pytest.raises(Refusal, match=r"objective\.prefix=1\.5 .* Did you mean 0\.15\?"):
        PrefixExamples(VOCABULARY, 16, prefix=1.5)
    with pytest.raises(
        Refusal, match=r"objective\.prefix=50 must lie in \[0, 1\], or be null for a draw\. Did you mean 0\.5"
    ):
        PrefixExamples(VOCABULARY, 16, prefix=50.0)
    with pytest.raises(Refusal, match=r"objective\.judged_prefix=-1"):
        PrefixExamples(VOCABULARY, 16, judged_prefix=-1.0)
