"""Choices: transformers' logits and loss, options of any number, what is cut, order, and what has no answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cloze.data import keyed
from cloze.data.base import Choices
from cloze.objectives.choose import ChoiceExamples, Choose
from tests.objectives.labelled import (
    CLS,
    NAMES,
    SEP,
    VOCABULARY,
    batch,
    built,
    copied,
    family,
    loss,
    near,
    of_transformers,
    padded,
    tokenized,
    words,
)


def records(count: int = 6, options: int | None = None, seed: int = 0) -> list[Choices]:
    """`options` each, or from two to five."""
    chance = np.random.default_rng(seed)
    made = []
    for number in range(count):
        many = options or int(chance.integers(2, 6))
        texts = (words(chance, 1, 8), words(chance, 1, 3)) if number % 3 else (words(chance, 1, 8),)
        made.append(
            Choices(texts, options=tuple(words(chance, 1, 5) for _ in range(many)), label=int(chance.integers(many)))
        )
    return made


def examples_of(made: list[Choices], name: str = "bert.Bert", length: int = 32, **more: Any) -> Any:
    builder = ChoiceExamples(VOCABULARY, length, family(name), **more)
    return builder, builder.build(tokenized(made), 0)


def test_what_is_read() -> None:
    """The context, and the question followed by the option; the longer one is cut (of equal ones the second), of the second its start."""
    made = [Choices(("11 12 13 14", "21 22"), options=("31", "32 33 34"), label=1)]
    for length, rows in {
        32: [[CLS, 11, 12, 13, 14, SEP, 21, 22, 31, SEP], [CLS, 11, 12, 13, 14, SEP, 21, 22, 32, 33, 34, SEP]],
        10: [[CLS, 11, 12, 13, 14, SEP, 21, 22, 31, SEP], [CLS, 11, 12, 13, 14, SEP, 32, 33, 34, SEP]],
        8: [[CLS, 11, 12, 13, SEP, 22, 31, SEP], [CLS, 11, 12, 13, SEP, 33, 34, SEP]],
    }.items():
        builder, examples = examples_of(made, length=length)
        whole = batch(builder, examples)
        read = [row.tolist() for row in whole.inputs.tokens.split(whole.inputs.layout.lengths)]
        assert read == rows, length
        assert examples.total_tokens == sum(map(len, rows)) and examples.lengths.tolist() == [max(map(len, rows))]


def test_bert_for_multiple_choice() -> None:
    theirs, model = of_transformers(
        "BertForMultipleChoice", "bert.Bert", hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48,
    )  # fmt: skip
    made = records(5, options=4)
    whole = batch(*examples_of(made))
    objective = Choose(model, VOCABULARY).eval()
    copied(objective.choice_head, theirs.classifier.weight, theirs.classifier.bias)
    table = {name: values.view(5, 4, -1) for name, values in padded(whole).items()}
    with torch.no_grad():
        expected = theirs(**table, labels=torch.tensor([each.label for each in made]))
        output = objective(model, whole)
    near(output.predictions["options"], expected.logits)
    near(loss(output), expected.loss)


@pytest.mark.parametrize("name", NAMES)
def test_each_option_is_scored_by_itself(name: str) -> None:
    """Whatever stands beside it, and however many there are."""
    made = records()
    model = built(name, pooler=True)
    objective = Choose(model, VOCABULARY).eval()
    builder, examples = examples_of(made, name)
    with torch.no_grad():
        table = objective(model, batch(builder, examples)).predictions["options"]
        for number, record in enumerate(made):
            count = len(record.options)
            assert torch.isneginf(table[number, count:]).all() and torch.isfinite(table[number, :count]).all()
            if name != "switch.Switch":  # where experts are full depends on all tokens of a batch
                alone = objective(model, batch(builder, examples, [number])).predictions["options"]
                torch.testing.assert_close(alone[0], table[number, :count], rtol=1e-4, atol=1e-5)


def test_figures_answers_and_counts() -> None:
    made = [*records(9), Choices(("11",), options=("12", "13"))]
    model = built("bert.Bert", pooler=True)
    objective = Choose(model, VOCABULARY, dropout=0.0)
    builder, examples = examples_of(made)
    found = []
    for order, size in ((np.arange(10), 10), (np.random.default_rng(0).permutation(10), 3)):
        metrics, rows = objective.metrics(), []
        for start in range(0, 10, size):
            each = batch(builder.judge(), examples, order[start : start + size])
            assert each.counts == builder.counts(examples, order[start : start + size], keyed.keys(0, order[:1]))
            with torch.no_grad():
                output = objective(model, each)
            objective.measure(metrics, output, each)
            rows += objective.rows(output, each)
        found.append((float(metrics["accuracy"].compute()), objective.answers(rows, made)))
    assert found[0] == found[1]
    accuracy, answers = found[0]
    assert accuracy == np.mean([answer == each.label for answer, each in zip(answers, made[:9], strict=False)])
    assert all(0 <= answer < len(each.options) for answer, each in zip(answers, made, strict=True))
    hidden = batch(builder.judge(), examples, [9])
    output = objective(model, hidden)
    assert output.terms["label"].count == 0 and float(output.terms["label"].total.detach()) == 0.0
    assert objective.score(objective.rows(output, hidden)) == {}
    shown = objective.shown(objective(model, batch(builder, examples)), batch(builder, examples))
    sizes = [len(each.options) for each in made]
    assert [row for row, _, _ in shown] == [sum(sizes[:n]) + answers[n] for n in range(10)]
    assert shown[9][1] == "" and shown[0][1:] == (f"option {(made[0].label or 0) + 1}", f"option {answers[0] + 1}")
