"""Causal language modelling: every token is a target exactly once, and it is the next one."""

from __future__ import annotations

import pickle
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cloze.data import keyed
from cloze.data.base import TokenizedCorpus, Vocabulary
from cloze.data.batches import batch_of
from cloze.errors import Refusal
from cloze.models.gpt2 import GPT2
from cloze.objectives.clm import CausalExamples, CausalLM
from tests.objectives.corpora import random_corpus

END = 0
VOCABULARY = Vocabulary(1000, {"eos": END})


def stream_of(corpus: TokenizedCorpus) -> list[int]:
    """End-of-text, document, end-of-text, document, …, end-of-text: written plainly."""
    stream = [END]
    for d in range(len(corpus)):
        first, last = corpus.sentences[corpus.documents[d]], corpus.sentences[corpus.documents[d + 1]]
        stream += [*corpus.tokens[first:last].tolist(), END]
    return stream


def pieces(array: Any, lengths: Any) -> list[list[int]]:
    return [part.tolist() for part in np.split(array, np.cumsum(lengths)[:-1])]


@pytest.mark.parametrize("length", [1, 7, 128])
@pytest.mark.parametrize("documents", ["packed", "apart"])
def test_every_token_is_a_target_once(documents: Any, length: int) -> None:
    corpus = random_corpus(200_000 if length == 128 else 5_000)
    builder = CausalExamples(VOCABULARY, length, documents)
    examples = builder.build(corpus, 0)
    order = np.arange(len(examples))
    sample = builder.sample(examples, order, builder.keys(0, 0, order))
    stream = stream_of(corpus)
    assert sample.targets["tokens"].tolist() == stream[1:]
    assert sample.inputs.tokens.tolist() == stream[:-1]
    assert sample.causal and sample.counts == {"clm": len(stream) - 1}
    assert sample.inputs.lengths.tolist() == examples.lengths.tolist()
    assert examples.lengths.max() == length
    if documents == "packed":
        assert set(examples.lengths[:-1].tolist()) == {length}
    else:
        sizes = np.diff(corpus.sentences[corpus.documents]) + 1
        assert len(examples) == int(np.ceil(sizes / length).sum())
        for row in pieces(sample.inputs.tokens, sample.inputs.lengths):
            assert END not in row[1:]  # no window reaches into the next document


@pytest.mark.parametrize("length", [7, 128])
def test_continued_windows_are_whole_and_lie_in_reading_order(length: int) -> None:
    corpus = random_corpus(200_000 if length == 128 else 5_000)
    builder = CausalExamples(VOCABULARY, length, "continued")
    assert builder.continuous and builder.judge().continuous and not CausalExamples(VOCABULARY, length).continuous
    examples = builder.build(corpus, 0)
    sample = builder.sample(examples, np.arange(len(examples)), builder.keys(0, 0, np.arange(len(examples))))
    stream = stream_of(corpus)
    read = (len(stream) - 1) // length * length
    assert set(examples.lengths.tolist()) == {length} and len(examples) == read // length
    assert sample.inputs.tokens.tolist() == stream[:read] and sample.targets["tokens"].tolist() == stream[1 : read + 1]


def test_a_corpus_shorter_than_a_window_cannot_be_continued() -> None:
    with pytest.raises(Refusal, match="length=64 is more than the 6 tokens"):
        CausalExamples(VOCABULARY, 64, "continued").build(TokenizedCorpus.of([[[1, 2, 3, 4, 5]]]), 0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=6),
    st.integers(1, 9),
    st.sampled_from(["packed", "apart"]),
    st.randoms(use_true_random=False),
)
def test_any_choice_of_windows_reads_the_stream(
    shape: list[list[int]], length: int, documents: Any, random: Any
) -> None:
    numbers = iter(range(1, 1000))
    corpus = TokenizedCorpus.of([[[next(numbers) for _ in range(n)] for n in document] for document in shape])
    builder = CausalExamples(VOCABULARY, length, documents)
    examples = builder.build(corpus, 0)
    chosen = np.array([random.randrange(len(examples)) for _ in range(5)])
    sample = builder.sample(examples, chosen, builder.keys(0, 0, chosen))
    stream = stream_of(corpus)
    for row, inputs, targets in zip(
        examples.table[chosen],
        pieces(sample.inputs.tokens, sample.inputs.lengths),
        pieces(sample.targets["tokens"], sample.inputs.lengths),
        strict=True,
    ):
        assert inputs == stream[row[0] : row[1]] and targets == stream[row[0] + 1 : row[1] + 1]
    assert builder.counts(examples, chosen, keyed.keys(0, chosen)) == sample.counts


def test_what_the_lens_and_the_audit_see() -> None:
    corpus = random_corpus(3_000)
    builder = CausalExamples(VOCABULARY, 64)
    examples = builder.build(corpus, 0)
    sample = builder.sample(examples, np.arange(20), builder.keys(0, 0, np.arange(20)))
    words = [word for row in builder.explain(sample) for word in row]
    assert [word == "special" for word in words] == (sample.inputs.tokens == END).tolist()
    assert all(tally.holds for tally in builder.tally(sample).values())
    sample.targets["tokens"] = np.roll(sample.targets["tokens"], 1)
    assert not all(tally.holds for tally in builder.tally(sample).values())
    assert pickle.loads(pickle.dumps(builder)).sample(examples, np.arange(3), None).counts == {"clm": 192}


def trained_batch(length: int = 16) -> Any:
    builder = CausalExamples(VOCABULARY, length)
    examples = builder.build(random_corpus(2_000), 0)
    return batch_of(builder.sample(examples, np.arange(4), builder.keys(0, 0, np.arange(4))))


def test_loss_is_transformers() -> None:
    transformers = import_module("transformers")
    batch = trained_batch()
    model = GPT2(
        1000,
        16,
        False,
        layers=2,
        width=32,
        heads=2,
        inner=64,
        dropout=0.0,
        embedding_dropout=0.0,
        attention_dropout=0.0,
    )
    objective = CausalLM(model, VOCABULARY)
    output = objective(model, batch)
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    names = ("layers", "width", "heads", "inner", "positions", "embedding_dropout", "attention_dropout", "dropout")
    shape = dict(zip(names, (2, 32, 2, 64, 1024, 0.0, 0.0, 0.0), strict=True))
    config, state = GPT2.to_transformers(shape | {"norm_epsilon": 1e-5, "initializer_range": 0.02}, weights, VOCABULARY)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config)).eval()
    theirs.load_state_dict(state, strict=False)
    theirs.tie_weights()
    # their labels are the inputs themselves, shifted inside: one token more than our window, and one target less counted
    rows = batch.inputs.tokens.view(4, 16)
    ids = torch.cat([rows, batch.targets["tokens"].view(4, 16)[:, -1:]], 1)
    assert abs(output.terms["clm"].total / output.terms["clm"].count - theirs(ids, labels=ids).loss) <= 1e-5
    metrics = objective.metrics()
    objective.measure(metrics, output, batch)
    expected = (theirs(rows).logits.argmax(-1) == ids[:, 1:]).float().mean()
    assert metrics["accuracy"].compute() == pytest.approx(float(expected))


def test_no_target_leaks_into_its_own_prediction() -> None:
    """By gradient: the loss of target t does not depend on input t + 1, where that target stands, or on anything later."""
    batch = trained_batch()
    model = GPT2(1000, 16, False, layers=2, width=32, heads=2, inner=64).eval()
    objective = CausalLM(model, VOCABULARY)
    embedded: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    model.word.register_forward_hook(keep)
    for at in (0, 5, 15, 16, 40):
        embedded.clear()
        states = model(batch)
        logits = objective.head(states.last[at : at + 1], model.word_embedding)
        torch.nn.functional.cross_entropy(logits, batch.targets["tokens"][at : at + 1]).backward()
        reached = (embedded[0].grad.abs().sum(1) > 0).nonzero().squeeze(1).tolist()  # type: ignore[union-attr]
        assert reached == list(range(at // 16 * 16, at + 1))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(Refusal, match="length=0"):
        CausalExamples(VOCABULARY, 0)
    model = GPT2(1000, 16, False, layers=1, width=32, heads=2, inner=64)
    with pytest.raises(Refusal, match=r"objective\.head_rows=-1"):
        CausalLM(model, VOCABULARY, head_rows=-1)
