"""Masked language modelling: the declared rates on 200,000 tokens, the loss against transformers, and that nothing leaks."""

from __future__ import annotations

import pickle
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from cloze.data.base import Sample, TokenizedCorpus
from cloze.data.batches import batch_of
from cloze.errors import Refusal
from cloze.models.bert import Bert
from cloze.objectives.base import Examples, Tally
from cloze.objectives.mlm import MaskedExamples, MaskedLM
from tests.objectives.corpora import SPECIAL, numbered_corpus, random_corpus, sequences, vocabulary

SETTINGS: list[dict[str, Any]] = [
    {},
    {"mask_ratio": 0.4, "mask": 0.5, "random": 0.2, "keep": 0.3},
    {"unit": "whole_word"},
    {"unit": "ngram"},
    {"unit": "span"},
    {"rounding": "stochastic", "random_tokens": "ordinary"},
    {"format": "doc_sentences", "max_predictions": 10},
    {"format": "segment_pair", "pair": "nsp"},
    {"format": "segment_pair", "pair": "sop", "unit": "ngram", "longest": 2},
    {"format": "sentence_pair", "pair": "nsp"},
    {"format": "segment_pair"},
]


@pytest.fixture(scope="module")
def corpus() -> TokenizedCorpus:
    """200,000 tokens, some of them unknown words."""
    return random_corpus(200_000, unknown=0.01)


def all_samples(builder: MaskedExamples, examples: Examples, epoch: int = 0, size: int = 256) -> list[Sample]:
    order = np.random.default_rng(epoch).permutation(len(examples))
    parts = np.split(order, np.arange(size, len(order), size))
    return [builder.sample(examples, part, builder.keys(1, epoch, part)) for part in parts]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_declared_rate_holds(corpus: TokenizedCorpus, settings: dict[str, Any]) -> None:
    builder = MaskedExamples(vocabulary(), 128, **settings)
    examples = builder.build(corpus, 0)
    tallies: dict[str, Tally] = {}
    for sample in all_samples(builder, examples):
        for name, tally in builder.tally(sample).items():
            tallies[name] = tallies[name] + tally if name in tallies else tally
    # three sigma for each of a few hundred rates would now and then be crossed: four here, the audit says three
    wrong = {
        name: tally
        for name, tally in tallies.items()
        if abs(tally.seen - tally.expected) > 4 * tally.variance**0.5 + 1e-6
    }
    assert not wrong
    assert all(tally.trials > 100 for tally in tallies.values())


def test_berts_recipe(corpus: TokenizedCorpus) -> None:
    """Counted from the arrays alone, without what the builder says of itself."""
    builder = MaskedExamples(vocabulary(), 128)
    examples = builder.build(corpus, 0)
    indices = np.arange(len(examples))
    clean, _, _, _ = builder.read(examples, indices, builder.keys(1, 0, indices))
    sample = builder.sample(examples, indices, builder.keys(1, 0, indices))
    at, hidden = sample.targets["at"], sample.targets["tokens"]
    assert (clean.tokens[at] == hidden).all()
    elsewhere = np.ones(len(clean.tokens), bool)
    elsewhere[at] = False
    assert (clean.tokens[elsewhere] == sample.inputs.tokens[elsewhere]).all(), "changed where there is no target"
    assert hidden.min() >= 5, "a special token was selected"
    chosen = np.zeros(len(clean.tokens), bool)
    chosen[at] = True
    for n, part in zip(clean.lengths.tolist(), sequences(chosen, clean.lengths), strict=True):
        assert part.sum() == max(1, round(n * 0.15))
    selected, tokens = len(at), len(clean.tokens)
    assert abs(selected - 0.15 * tokens) < 3 * np.sqrt(0.15 * 0.85 * tokens)
    now = sample.inputs.tokens[at]
    masked, kept = now == SPECIAL["mask"], now == hidden
    fates = np.array([masked.sum(), (~masked & ~kept).sum(), kept.sum()])
    # a random token is the mask or the token itself once in a thousand times
    assert stats.chisquare(fates, np.array([0.8001, 0.0998, 0.1001]) * selected).pvalue > 1e-3
    replacements = now[~masked & ~kept]
    assert stats.chisquare(np.bincount(replacements // 100, minlength=10)).pvalue > 1e-3


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_counts_without_sampling(corpus: TokenizedCorpus, settings: dict[str, Any]) -> None:
    plain = random_corpus(20_000)
    for text in (corpus, plain):
        builder = MaskedExamples(vocabulary(), 64, **settings)
        examples = builder.build(text, 0)
        indices = np.random.default_rng(0).permutation(len(examples))[:200]
        keys = builder.keys(3, 1, indices)
        assert builder.counts(examples, indices, keys) == builder.sample(examples, indices, keys).counts


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_an_example_depends_on_seed_epoch_and_index_alone(corpus: TokenizedCorpus, settings: dict[str, Any]) -> None:
    builder = MaskedExamples(vocabulary(), 128, **settings)
    examples = builder.build(corpus, 0)
    indices = np.arange(60)

    def look(builder: MaskedExamples, which: Any, seed: int = 1, epoch: int = 0) -> list[tuple[bytes, bytes]]:
        sample = builder.sample(examples, which, builder.keys(seed, epoch, which))
        marked = np.full(len(sample.inputs.tokens), -100)
        marked[sample.targets["at"]] = sample.targets["tokens"]
        lengths = sample.inputs.lengths
        return [
            (tokens.tobytes(), labels.tobytes())
            for tokens, labels in zip(sequences(sample.inputs.tokens, lengths), sequences(marked, lengths), strict=True)
        ]

    whole = look(builder, indices)
    assert look(pickle.loads(pickle.dumps(builder)), indices) == whole
    for which in (indices[::-1], np.array([5, 41, 3]), np.array([17])):
        assert look(builder, which) == [whole[i] for i in which]
    assert look(builder, indices, epoch=1) != whole
    assert look(builder, indices, seed=2) != whole


def test_static_masking_repeats_a_few_masks(corpus: TokenizedCorpus) -> None:
    indices = np.arange(10)
    static = MaskedExamples(vocabulary(), 128, masking="static", duplicates=3)
    epochs = [tuple(static.keys(0, epoch, indices).tolist()) for epoch in range(9)]
    assert epochs[:3] * 3 == epochs
    assert len(set(epochs)) == 3
    assert MaskedExamples(vocabulary(), 128, masking="static").duplicates == 10
    dynamic = MaskedExamples(vocabulary(), 128)
    assert len({tuple(dynamic.keys(0, epoch, indices).tolist()) for epoch in range(30)}) == 30


def test_validation_is_judged_at_one_rate_whatever_training_does(corpus: TokenizedCorpus) -> None:
    usual = MaskedExamples(vocabulary(), 128).judge()
    other = MaskedExamples(
        vocabulary(), 128, mask_ratio=0.6, unit="span", mask=1.0, random=0.0, keep=0.0, rounding="stochastic"
    )
    examples = usual.build(corpus, 0)
    indices = np.arange(100)
    keys = usual.keys(0, 0, indices)
    one, two = usual.sample(examples, indices, keys), other.judge().sample(examples, indices, keys)
    assert (one.inputs.tokens == two.inputs.tokens).all()
    assert (one.targets["at"] == two.targets["at"]).all()
    assert other.unit == "span", "the training builder was changed"
    as_trained = MaskedExamples(vocabulary(), 128, mask_ratio=0.6, judged_at=None)
    assert as_trained.judge() is as_trained


# The learning half

TINY: dict[str, Any] = {"layers": 2, "width": 32, "heads": 2, "inner": 64, "dropout": 0.0, "attention_dropout": 0.0}


def model_for(size: int, length: int, pair: str = "none", **settings: Any) -> tuple[Bert, MaskedLM]:
    torch.manual_seed(0)
    words = vocabulary(size)
    model = Bert(size, length, MaskedLM.pools({"pair": pair}), **TINY)
    objective = MaskedLM(model, words, pair=pair, **settings)  # type: ignore[arg-type]
    with torch.no_grad():
        for module in (model, objective):
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape) * 0.1)
    return model, objective


@pytest.mark.parametrize("deviation", [0.02, 0.5])
def test_the_pair_head_begins_as_the_model_does(deviation: float) -> None:
    """Normal, cut at two deviations, which leaves 0.88 of the deviation; the bias is 0."""
    model = Bert(20, 8, True, layers=1, width=1024, heads=1, inner=1, initializer_range=deviation)
    head = MaskedLM(model, vocabulary(20), pair="nsp").pair_head
    assert head is not None
    assert head.weight.abs().max() <= 2 * deviation
    assert head.weight.std().item() == pytest.approx(0.88 * deviation, rel=0.1)
    assert not head.bias.any()


def test_the_loss_is_transformers_loss() -> None:
    transformers = import_module("transformers")
    corpus = random_corpus(3000, size=99)
    builder = MaskedExamples(vocabulary(99), 48, format="segment_pair", pair="nsp")
    examples = builder.build(corpus, 0)
    indices = np.arange(12)
    sample = builder.sample(examples, indices, builder.keys(0, 0, indices))
    model, objective = model_for(99, 48, "nsp", pair_loss_weight=0.5)
    batch = batch_of(sample)
    output = objective(model, batch)
    # the same as padded tensors, labels -100 where there is no target
    lengths = sample.inputs.lengths
    shape = (len(lengths), int(lengths.max()))
    real = torch.arange(shape[1]) < torch.from_numpy(lengths)[:, None]
    tokens, kinds, labels = (
        torch.zeros(shape, dtype=torch.long),
        torch.zeros(shape, dtype=torch.long),
        torch.full(shape, -100),
    )
    tokens[real], kinds[real] = batch.inputs.tokens, batch.inputs.segments  # type: ignore[assignment]
    flat = torch.full((int(lengths.sum()),), -100)
    flat[batch.targets["at"]] = batch.targets["tokens"]
    labels[real] = flat
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    weights |= {f"objective.{name}": tensor for name, tensor in objective.state_dict().items()}
    settings = {**TINY, "positions": 512, "segments": 2, "activation": "gelu", "norm_epsilon": 1e-12}
    config, theirs = Bert.to_transformers({**settings, "initializer_range": 0.02}, weights, vocabulary(99))
    reference = transformers.BertForPreTraining(transformers.BertConfig(**config)).eval()
    reference.load_state_dict(theirs, strict=False)
    with torch.no_grad():
        answer = reference(tokens, real.long(), kinds)
    masked = F.cross_entropy(answer.prediction_logits.flatten(0, 1), labels.flatten())
    pair = F.cross_entropy(answer.seq_relationship_logits, batch.targets["pair"])
    terms = output.terms
    assert terms["mlm"].count == int((labels != -100).sum())
    assert torch.isclose(terms["mlm"].total / terms["mlm"].count, masked, atol=1e-5)
    assert torch.isclose(terms["pair"].total / terms["pair"].count, pair, atol=1e-5)
    assert (terms["mlm"].weight, terms["pair"].weight) == (1.0, 0.5)
    right = answer.prediction_logits.argmax(-1)[labels != -100] == labels[labels != -100]
    assert (output.predictions["right"] == right).all()


def test_metrics_are_shares_of_all_targets() -> None:
    corpus = random_corpus(4000, size=99)
    builder = MaskedExamples(vocabulary(99), 48, format="segment_pair", pair="sop")
    examples = builder.build(corpus, 0)
    model, objective = model_for(99, 48, "sop")
    metrics = objective.metrics()
    right = pairs = targets = count = 0
    for indices in (np.arange(3), np.arange(3, 40)):
        batch = batch_of(builder.sample(examples, indices, builder.keys(0, 0, indices)))
        output = objective(model, batch)
        objective.measure(metrics, output, batch)
        right += int(output.predictions["right"].sum())
        pairs += int(output.predictions["pair_right"].sum())
        targets, count = targets + batch.counts["mlm"], count + len(indices)
    assert float(metrics["accuracy"].compute()) == pytest.approx(right / targets)
    assert float(metrics["pair_accuracy"].compute()) == pytest.approx(pairs / count)


def test_a_hidden_token_reaches_no_prediction() -> None:
    """By gradient: in a text where every word occurs once, the embedding of a token that was masked or replaced has no part in any
    hidden state; that of a token that was kept has."""
    corpus, words = numbered_corpus([[6, 9, 4, 11]] * 12)
    builder = MaskedExamples(words, 40, mask_ratio=0.3, mask=0.6, random=0.0, keep=0.4)
    examples = builder.build(corpus, 0)
    indices = np.arange(len(examples))
    sample = builder.sample(examples, indices, builder.keys(0, 0, indices))
    model, _ = model_for(words.size, 40)
    batch = batch_of(sample)
    states = model(batch)
    weights = torch.randn(len(batch.targets["at"]), 32)
    (states.last[batch.targets["at"]] * weights).sum().backward()
    gradient = model.word_embedding.grad
    assert gradient is not None
    touched = gradient.abs().sum(1)[batch.targets["tokens"]] > 0
    kept = torch.from_numpy(sample.extra["actions"] == 2)
    assert kept.any()
    assert (~kept).any()
    assert (touched == kept).all()


def test_nothing_leaks_between_inputs_and_everything_within_is_seen() -> None:
    corpus = random_corpus(2000, size=99)
    builder = MaskedExamples(vocabulary(99), 32, format="segment_pair", pair="nsp")
    examples = builder.build(corpus, 0)
    indices = np.arange(5)
    batch = batch_of(builder.sample(examples, indices, builder.keys(0, 0, indices)))
    model, _ = model_for(99, 32, "nsp")
    kept: list[torch.Tensor] = []
    handle = model.embeddings.register_forward_hook(lambda *call: kept.append(call[2]))
    states = model(batch)
    handle.remove()
    owner = torch.repeat_interleave(torch.arange(5), torch.tensor(batch.inputs.layout.lengths))
    for sequence in range(5):
        seen = torch.autograd.grad(
            (states.last[owner == sequence] * torch.randn(int((owner == sequence).sum()), 32)).sum(),
            kept[0],
            retain_graph=True,
        )[0]
        assert ((seen.abs().sum(1) > 0) == (owner == sequence)).all()


def test_every_parameter_learns() -> None:
    corpus = random_corpus(2000, size=99)
    for settings in ({}, {"format": "segment_pair", "pair": "sop"}):
        builder = MaskedExamples(vocabulary(99), 32, **settings)  # type: ignore[arg-type]
        examples = builder.build(corpus, 0)
        indices = np.arange(20)
        batch = batch_of(builder.sample(examples, indices, builder.keys(0, 0, indices)))
        model, objective = model_for(99, 32, settings.get("pair", "none"))
        output = objective(model, batch)
        sum(term.weight * term.total / term.count for term in output.terms.values()).backward()  # type: ignore[union-attr]
        named = [*model.named_parameters(), *objective.named_parameters()]
        assert not [name for name, parameter in named if parameter.grad is None]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_ratio": 1.7}, r"objective.mask_ratio=1.7 must lie in \(0, 1\]"),
        ({"mask_ratio": 15.0}, r"Did you mean 0.15\?"),
        ({"mask_ratio": 0.0}, r"objective.mask_ratio=0 must lie in \(0, 1\]"),
        ({"mask_ratio": float("nan")}, "objective.mask_ratio=nan"),
        ({"judged_at": 2.0}, "objective.judged_at=2"),
        ({"mask": 1.0}, r"add up to 1.2, not 1\. With objective.mask=1 objective.random=0.1"),
        ({"random": -0.1}, r"objective.random=-0.1 must lie in \[0, 1\]"),
        ({"max_predictions": 0}, "objective.max_predictions=0 must be at least 1"),
        ({"longest": 3}, "objective.longest=3 has no effect with objective.unit=token"),
        ({"unit": "ngram", "longest": 0}, "objective.longest=0 must be at least 1"),
        ({"unit": "ngram", "stop": 0.2}, "objective.stop=0.2 has no effect with objective.unit=ngram"),
        ({"unit": "span", "stop": 0.0}, r"objective.stop=0 must lie in \(0, 1\]"),
        ({"duplicates": 10}, "objective.duplicates=10 has no effect with objective.masking=dynamic"),
        ({"masking": "static", "duplicates": 0}, "objective.duplicates=0 must be at least 1"),
        ({"short_share": 0.1}, "objective.short_share=0.1 has no effect with objective.format=full_sentences"),
        ({"pair": "sop"}, "objective.pair=sop needs two segments; objective.format=full_sentences has one"),
        ({"pair": "nsp", "format": "doc_sentences"}, "objective.format=segment_pair|sentence_pair"),
        ({"negatives": "random"}, "objective.negatives=random has no effect with objective.pair=none"),
        (
            {"pair": "sop", "format": "segment_pair", "negatives": "random"},
            "objective.negatives=random has no effect with objective.pair=sop",
        ),
        ({"pair_rules": "google"}, "objective.pair_rules=google has no effect with objective.pair=none"),
        ({"length": 2}, "length=2 leaves no room for text: objective.format=full_sentences needs at least length=3"),
        ({"length": 4, "format": "segment_pair"}, "objective.format=segment_pair needs at least length=5"),
    ],
)
def test_nonsense_is_refused(settings: dict[str, Any], message: str) -> None:
    length = settings.pop("length", 64)
    with pytest.raises(Refusal, match=message.replace("|", r"\|")):
        MaskedExamples(vocabulary(), length, **settings)


def test_nonsense_is_refused_by_the_learning_half() -> None:
    with pytest.raises(Refusal, match=r"pair_loss_weight=2 has no effect with objective\.pair=none"):
        model_for(99, 32, "none", pair_loss_weight=2.0)
    with pytest.raises(Refusal, match="pair_loss_weight=-1 must be 0 or more"):
        model_for(99, 32, "nsp", pair_loss_weight=-1.0)


def test_a_corpus_that_cannot_be_judged_is_refused_when_examples_are_built() -> None:
    alone = random_corpus(500, document=(1, 1))
    MaskedExamples(vocabulary(), 64, judge=["nsp", "sop"]).build(random_corpus(500, document=(2, 3)), 0)
    with pytest.raises(Refusal, match=r"objective\.judge=sop: .*needs documents of at least 2 sentences: 0 of"):
        MaskedExamples(vocabulary(), 64, judge=["sop"]).build(alone, 0)
    with pytest.raises(Refusal, match=r"objective\.judge=\['nsp'\] asks about pairs"):
        MaskedExamples(vocabulary(), 4, judge=["nsp"])


def test_shortest_inputs_work() -> None:
    corpus = random_corpus(300, document=(2, 5))
    for length, settings in ((3, {}), (5, {"format": "segment_pair", "pair": "nsp"}), (5, {"format": "sentence_pair"})):
        builder = MaskedExamples(vocabulary(), length, **settings)  # type: ignore[arg-type]
        examples = builder.build(corpus, 0)
        indices = np.arange(len(examples))
        sample = builder.sample(examples, indices, builder.keys(0, 0, indices))
        assert sample.inputs.lengths.max() == length
        assert sample.counts["mlm"] == len(examples)
