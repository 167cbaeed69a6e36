"""Replaced token detection: what is proposed, what counts as replaced, and where no gradient goes."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from cloze.data.batches import batch_of
from cloze.errors import Refusal
from cloze.models.base import Batch
from cloze.models.electra import Electra
from cloze.models.layers.heads import TransformedHead
from cloze.objectives.base import Tally
from cloze.objectives.replaced_token import ReplacedExamples, ReplacedToken, propose
from tests.models.parity import scramble
from tests.objectives.corpora import SPECIAL, random_corpus, vocabulary

WORDS = 60
SHAPE: dict[str, Any] = {
    "layers": 1,
    "width": 32,
    "heads": 2,
    "inner": 48,
    "embedding_width": 16,
    "generator_size": 0.5,
}


def model_and_objective(**settings: Any) -> tuple[Electra, ReplacedToken]:
    torch.manual_seed(0)
    model = Electra(WORDS, 32, False, True, **SHAPE).eval()
    objective = ReplacedToken(model, vocabulary(WORDS), **settings).eval()
    scramble(model)
    scramble(objective, seed=1, scale=0.3)
    return model, objective


def batch(count: int = 12, **settings: Any) -> Batch:
    builder = ReplacedExamples(vocabulary(WORDS), 32, **settings)
    examples = builder.build(random_corpus(4_000, size=WORDS), 0)
    some = np.arange(count)
    return batch_of(builder.sample(examples, some, builder.keys(1, 0, some)))


@pytest.mark.parametrize(
    "settings",
    [{}, {"mask": 1.0, "mask_ratio": 0.25}, {"unit": "whole_word"}, {"format": "segment_pair"}],
    ids=str,
)
def test_the_generators_inputs(settings: dict[str, Any]) -> None:
    """The declared rates on 200,000 tokens, the counts without sampling, and the chances even in [0, 1)."""
    builder = ReplacedExamples(vocabulary(), 128, **settings)
    examples = builder.build(random_corpus(200_000, unknown=0.01), 0)
    tallies: dict[str, Tally] = {}
    chances = []
    for part in np.array_split(np.arange(len(examples)), 6):
        keys = builder.keys(1, 0, part)
        sample = builder.sample(examples, part, keys)
        assert builder.counts(examples, part, keys) == sample.counts
        assert sample.counts == {"generator": len(sample.targets["at"]), "discriminator": len(sample.inputs.tokens)}
        now = sample.inputs.tokens[sample.targets["at"]]
        assert ((now == SPECIAL["mask"]) | (now == sample.targets["tokens"])).all(), "masked or left, nothing else"
        chances.append(sample.targets["chance"])
        for name, tally in builder.tally(sample).items():
            tallies[name] = tallies[name] + tally if name in tallies else tally
    assert all(abs(tally.seen - tally.expected) <= 4 * tally.variance**0.5 + 1e-6 for tally in tallies.values()), (
        tallies
    )
    drawn = np.concatenate(chances)
    assert drawn.dtype == np.float32 and drawn.min() >= 0 and drawn.max() < 1
    assert stats.kstest(drawn, "uniform").pvalue > 1e-3


def test_a_validation_repeats_itself() -> None:
    builder = ReplacedExamples(vocabulary(WORDS), 32, mask_ratio=0.5).judge()
    assert builder.mask_ratio == 0.15 and builder.mask == 0.85 and builder.random == 0
    model, objective = model_and_objective()
    examples = builder.build(random_corpus(4_000, size=WORDS), 0)
    outputs = []
    for order in (np.arange(8), np.arange(8)[::-1]):
        sample = builder.sample(examples, order, builder.keys(1, 0, order))
        torch.manual_seed(len(outputs))  # what torch would draw has no say in it
        outputs.append(objective(model, batch_of(sample)))
    one, two = (output.terms for output in outputs)
    for name in one:
        assert abs(one[name].total - two[name].total) <= 1e-4 * abs(one[name].total)
    assert int(outputs[0].predictions["replaced"].sum()) == int(outputs[1].predictions["replaced"].sum())


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_proposals_are_drawn_from_the_softmax(temperature: float) -> None:
    head = TransformedHead(8, 8, 12, "gelu", 1e-12, 0.02)
    embedding = torch.randn(12, 8, generator=torch.Generator().manual_seed(1))
    scramble(head, scale=0.5)
    hidden = torch.randn(1, 8, generator=torch.Generator().manual_seed(2)).expand(20_000, 8)
    chance = torch.rand(20_000, generator=torch.Generator().manual_seed(3))
    drawn = propose(head, hidden, embedding, chance, temperature)
    expected = (head(hidden[:1], embedding)[0] / temperature).softmax(-1)
    seen = torch.bincount(drawn, minlength=12).double()
    assert (
        stats.chisquare(seen.numpy(), (expected.double() / expected.double().sum() * 20_000).detach().numpy()).pvalue
        > 1e-3
    )
    assert propose(head, hidden[:3], embedding, torch.tensor([0.0, 0.5, 1 - 2**-24])).max() < 12
    assert len(propose(head, hidden[:0], embedding, chance[:0])) == 0


def test_what_counts_as_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proposal that is the token itself is original, and the discriminator reads the proposals where the generator read masks."""
    model, objective = model_and_objective()
    given = batch()
    at, tokens = given.targets["at"], given.targets["tokens"]
    proposed = torch.where(torch.arange(len(at)) % 3 == 0, tokens, (tokens + 1) % WORDS)
    monkeypatch.setattr("cloze.objectives.replaced_token.propose", lambda *_: proposed)
    read: list[Batch] = []
    model.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0]))
    output = objective(model, given)
    assert output.predictions["replaced"].nonzero().squeeze(1).tolist() == at[torch.arange(len(at)) % 3 > 0].tolist()
    (seen,) = read
    whole = given.inputs.tokens.clone()
    whole[at] = proposed
    assert torch.equal(seen.inputs.tokens, whole) and int((whole == SPECIAL["mask"]).sum()) < len(at)
    assert seen.inputs.layout is given.inputs.layout


def test_the_losses_are_transformers() -> None:
    """Each model's loss against their class's, with the same weights and what ours proposed."""
    transformers = import_module("transformers")
    model, objective = model_and_objective()
    given = batch(5, format="doc_sentences")
    lengths = given.inputs.layout.lengths
    settings = {
        **SHAPE, "generator_layers": 1.0, "positions": 512, "segments": 2, "activation": "gelu", "dropout": 0.0,
        "attention_dropout": 0.0, "norm_epsilon": 1e-12, "initializer_range": 0.02,
    }  # fmt: skip
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    weights |= {f"objective.{name}": tensor for name, tensor in objective.state_dict().items()}
    made = [Electra.to_transformers(settings, weights, vocabulary(WORDS))]
    made.append(Electra.companions(settings, weights, vocabulary(WORDS))["generator"])
    theirs = []
    for (config, state), kind in zip(made, ("ElectraForPreTraining", "ElectraForMaskedLM"), strict=True):
        theirs.append(getattr(transformers, kind)(transformers.ElectraConfig(**config)).eval())
        theirs[-1].load_state_dict(state, strict=False)
        theirs[-1].tie_weights()
    read: list[Batch] = []
    model.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0]))
    with torch.no_grad():
        output = objective(model, given)

    def rows(flat: torch.Tensor, filling: int) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence(flat.split(list(lengths)), batch_first=True, padding_value=filling)

    labels = torch.full_like(given.inputs.tokens, -100)
    labels[given.targets["at"]] = given.targets["tokens"]
    mask = rows(torch.ones_like(labels), 0)
    with torch.no_grad():
        generator = theirs[1](rows(given.inputs.tokens, 0), attention_mask=mask, labels=rows(labels, -100)).loss
        replaced = rows(output.predictions["replaced"].long(), 0)
        discriminator = theirs[0](rows(read[0].inputs.tokens, 0), attention_mask=mask, labels=replaced).loss
    assert output.predictions["replaced"].any()
    for name, loss in (("generator", generator), ("discriminator", discriminator)):
        assert abs(output.terms[name].total / output.terms[name].count - loss) <= 1e-5
    assert [output.terms[name].weight for name in ("generator", "discriminator")] == [1.0, 50.0]


def test_no_gradient_goes_through_the_draw() -> None:
    """The discriminator's loss teaches the generator nothing but the embeddings that they share; those learn from both."""
    model, objective = model_and_objective()
    output = objective(model, batch())
    names = [name for name, _ in model.named_parameters()] + [f"objective.{n}" for n, _ in objective.named_parameters()]
    parameters = [*model.parameters(), *objective.parameters()]
    touched = {}
    for term in ("generator", "discriminator"):
        gradients = torch.autograd.grad(output.terms[term].total, parameters, retain_graph=True, allow_unused=True)
        touched[term] = {
            name
            for name, gradient in zip(names, gradients, strict=True)
            if gradient is not None and gradient.abs().sum() > 0
        }
    shared = {name for name in names if name.startswith("embeddings.")}
    assert touched["generator"] == shared | {
        n for n in names if n.startswith(("generator.", "objective.generator_head."))
    }
    assert touched["discriminator"] == shared | {
        n for n in names if n.startswith(("tower.", "objective.discriminator_head."))
    }


def test_what_each_prediction_may_depend_on() -> None:
    """By gradient: the generator's guess on no hidden token; the discriminator's on its own sequence alone, all of it."""
    model, objective = model_and_objective()
    given = batch(4, mask=1.0)
    embedded: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    model.embeddings.word.register_forward_hook(keep)
    assert model.generator is not None
    offsets = given.inputs.layout.offsets
    at = int(given.targets["at"][0])
    hidden = model.generator(given).last[at : at + 1]
    F.cross_entropy(objective.generator_head(hidden, model.word_embedding), given.targets["tokens"][:1]).backward()
    reached = (embedded[0].grad.abs().sum(1) > 0).nonzero().squeeze(1).tolist()  # type: ignore[union-attr]
    assert reached == list(range(offsets[1])) and (given.inputs.tokens[given.targets["at"]] == SPECIAL["mask"]).all()
    # another text where the masks stand changes nothing that the generator says
    other = replace(given, targets={**given.targets, "tokens": (given.targets["tokens"] + 7) % WORDS})
    one, two = objective(model, given), objective(model, other)
    hidden_of = [model.generator(b).last for b in (given, other)]
    assert torch.equal(*hidden_of) and one.terms["generator"].total != two.terms["generator"].total
    embedded.clear()
    objective.discriminator_head(model(given).last[offsets[2] - 1]).backward()
    reached = (embedded[0].grad.abs().sum(1) > 0).nonzero().squeeze(1).tolist()  # type: ignore[union-attr]
    assert reached == list(range(offsets[1], offsets[2]))


def test_metrics() -> None:
    from sklearn import metrics as theirs

    model, objective = model_and_objective()
    given = batch(40)
    output = objective(model, given)
    metrics = objective.metrics()
    objective.measure(metrics, output, given)
    replaced, logits = output.predictions["replaced"].numpy(), output.predictions["logits"].numpy()
    said = logits > 0
    expected = {
        "accuracy": theirs.accuracy_score(replaced, said),
        "precision": theirs.precision_score(replaced, said),
        "recall": theirs.recall_score(replaced, said),
        "generator_accuracy": output.predictions["right"].float().mean(),
        "replaced": replaced.mean(),
    }
    for name, value in expected.items():
        assert float(metrics[name].compute()) == pytest.approx(float(value)), name
    assert float(metrics["auc"].compute()) == pytest.approx(theirs.roc_auc_score(replaced, logits), abs=0.02)


def test_wrong_settings_are_refused() -> None:
    for settings, message in (
        ({"discriminator_weight": -1.0}, r"objective\.discriminator_weight=-1 must be 0 or more"),
        ({"temperature": 0.0}, r"objective\.temperature=0 must be more than 0"),
    ):
        with pytest.raises(Refusal, match=message):
            model_and_objective(**settings)
    with pytest.raises(Refusal, match=r"objective\.mask=1\.5 must lie in \[0, 1\]"):
        ReplacedExamples(vocabulary(), 32, mask=1.5)
