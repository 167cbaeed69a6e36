"""Classes and numbers: transformers' logits and losses with the same weights, several tasks, order, counts and what has no label."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cloze.data import keyed
from cloze.data.base import Labelled, Labels
from cloze.errors import Refusal
from cloze.objectives.classify import Classify, LabelledExamples
from cloze.scoring.metrics import score
from tests.objectives.labelled import (
    EOS,
    NAMES,
    SIZE,
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

CLASSES = {"task": Labels(("no", "perhaps", "yes"))}
NUMBERS = {"task": Labels((), ("pearson", "spearman"), 0.0, 5.0)}
BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


def records(count: int, labels: Labels = CLASSES["task"], pairs: bool | None = None, seed: int = 0) -> list[Labelled]:
    """Single texts and pairs of different lengths, or one of both kinds only."""
    chance = np.random.default_rng(seed)
    made = []
    for number in range(count):
        pair = number % 2 if pairs is None else pairs
        texts = tuple(words(chance, 1, 9) for _ in range(2 if pair else 1))
        label = round(float(chance.uniform(0, 5)), 2) if labels.numeric else labels.names[number % len(labels.names)]
        made.append(Labelled(texts, label=label, id=str(number)))
    return made


def examples_of(name: str, made: list[Labelled], labels: dict[str, Labels] = CLASSES, **settings: Any) -> Any:
    builder = LabelledExamples(VOCABULARY, 32, family(name), labels, **settings)
    return builder, builder.build(tokenized(made), 0)


def gold(made: list[Labelled]) -> Tensor:
    return torch.tensor([CLASSES["task"].number(each.label) for each in made]).long()  # type: ignore[arg-type]


def answered(objective: Classify, model: Any, made: Any) -> tuple[Tensor, Any]:
    """Our logits and the whole output."""
    with torch.no_grad():
        output = objective.eval()(model, made)
    return output.predictions["task"], output


# transformers


@pytest.mark.parametrize("numeric", [False, True])
def test_bert_for_sequence_classification(numeric: bool) -> None:
    labels = NUMBERS if numeric else CLASSES
    theirs, model = of_transformers(
        "BertForSequenceClassification", "bert.Bert", num_labels=1 if numeric else 3, **BERT
    )
    given = records(9, labels["task"])
    made = batch(*examples_of("bert.Bert", given, labels))
    objective = Classify(model, VOCABULARY, labels)
    copied(objective.heads["task"], theirs.classifier.weight, theirs.classifier.bias)
    right = torch.tensor([each.label for each in given]) if numeric else gold(given)
    with torch.no_grad():
        expected = theirs(**padded(made), labels=right)
    ours, output = answered(objective, model, made)
    near(ours, expected.logits)
    near(loss(output), expected.loss)
    assert output.terms["label"].count == 9


def test_roberta_for_sequence_classification() -> None:
    """Their head's dense layer and tanh are our pooler."""
    theirs, model = of_transformers(
        "RobertaForSequenceClassification",
        "roberta.Roberta",
        num_labels=3,
        max_position_embeddings=40,
        type_vocab_size=1,
        **BERT,
    )
    model.pooler = torch.nn.Linear(32, 32)
    copied(model.pooler, theirs.classifier.dense.weight, theirs.classifier.dense.bias)
    given = records(7)
    made = batch(*examples_of("roberta.Roberta", given))
    objective = Classify(model, VOCABULARY, CLASSES)
    copied(objective.heads["task"], theirs.classifier.out_proj.weight, theirs.classifier.out_proj.bias)
    table = padded(made)
    del table["token_type_ids"]
    with torch.no_grad():
        expected = theirs(**table, labels=gold(given))
    ours, output = answered(objective, model, made)
    near(ours, expected.logits)
    near(loss(output), expected.loss)


def test_gpt2_for_sequence_classification() -> None:
    theirs, model = of_transformers(
        "GPT2ForSequenceClassification", "gpt2.GPT2", num_labels=3, n_embd=32, n_layer=2, n_head=2, n_positions=40
    )
    given = records(7)
    made = batch(*examples_of("gpt2.GPT2", given, frame="delimited"))
    objective = Classify(model, VOCABULARY, CLASSES, pooling="last")
    copied(objective.heads["task"], theirs.score.weight)
    table = padded(made)
    del table["token_type_ids"]
    with torch.no_grad():
        expected = theirs(**table, labels=gold(given))
    ours, output = answered(objective, model, made)
    near(ours, expected.logits)
    near(loss(output), expected.loss)


@pytest.mark.parametrize("layer", ["last", 1])
def test_gpt_with_the_language_models_loss_beside(layer: Any) -> None:
    """L = L_task + lambda L_lm, each the one of transformers; also where the task reads another layer than the language model."""
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 40, "afn": "gelu"}
    theirs, model = of_transformers("OpenAIGPTForSequenceClassification", "gpt.GPT", num_labels=3, **shape)
    language, _ = of_transformers("OpenAIGPTLMHeadModel", "gpt.GPT", **shape)
    language.transformer.load_state_dict(theirs.transformer.state_dict())
    language.tie_weights()
    given = records(7)
    made = batch(*examples_of("gpt.GPT", given, frame="delimited", lm_weight=0.5))
    objective = Classify(model, VOCABULARY, CLASSES, layer=layer, lm_weight=0.5)
    copied(objective.heads["task"], theirs.score.weight)
    table = padded(made)
    tokens, real = table["input_ids"], table["attention_mask"].bool()
    with torch.no_grad():
        task = theirs(tokens, labels=gold(given)).loss
        lm = language(tokens, labels=tokens.where(real, torch.tensor(-100))).loss
        plain = answered(Classify(model, VOCABULARY, CLASSES, layer=layer), model, made)[1]
    _, output = answered(objective, model, made)
    near(output.terms["lm"].total / output.terms["lm"].count, lm)
    assert output.terms["lm"].count == int(real.sum()) - len(given)
    if layer == "last":
        near(loss(output), task + 0.5 * lm)
    assert list(plain.terms) == ["label"]
    assert objective.idle(model) == [] and bool(Classify(model, VOCABULARY, CLASSES, layer=layer).idle(model)) == (
        layer == 1
    )


def test_bart_reads_the_decoders_last_token() -> None:
    theirs, model = of_transformers(
        "BartForSequenceClassification", "bart.Bart", num_labels=3, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=48,
        max_position_embeddings=40, decoder_start_token_id=EOS, forced_eos_token_id=EOS,
    )  # fmt: skip
    made = batch(*examples_of("bart.Bart", records(6, pairs=True)))
    seen: list[Tensor] = []
    theirs.classification_head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    table = padded(made)
    del table["token_type_ids"]
    objective = Classify(model, VOCABULARY, CLASSES)
    with torch.no_grad():
        theirs(**table)
        states = objective.readout.states(model, made)
        near(objective.readout.pooled(model, states, made), seen[0])


def test_xlnet_for_sequence_classification() -> None:
    theirs, model = of_transformers(
        "XLNetForSequenceClassification", "xlnet.XLNet", num_labels=3, d_model=32, n_layer=2, n_head=2, d_inner=48,
        summary_type="last", summary_activation="tanh",
    )  # fmt: skip
    given = records(7)
    made = batch(*examples_of("xlnet.XLNet", given))
    objective = Classify(model, VOCABULARY, CLASSES)
    copied(objective.heads["task"], theirs.logits_proj.weight, theirs.logits_proj.bias)
    with torch.no_grad():
        expected = theirs(**padded(made, left=True), labels=gold(given))
    ours, output = answered(objective, model, made)
    near(ours, expected.logits)
    near(loss(output), expected.loss)


# ours


@pytest.mark.parametrize("name", NAMES)
def test_every_familys_vector_has_seen_the_whole_text(name: str) -> None:
    """The first word, the last word and the second text each change what the head says."""
    model = built(name, pooler=True)
    objective = Classify(model, VOCABULARY, CLASSES)
    texts = [
        ("11 12 13", "21 22"),
        ("14 12 13", "21 22"),
        ("11 12 15", "21 22"),
        ("11 12 13", "21 23"),
        ("11 12 13", ""),
    ]
    made = batch(*examples_of(name, [Labelled(each, label="no") for each in texts]))
    logits, output = answered(objective, model, made)
    assert ((logits[1:] - logits[0]).abs().max(1).values > 1e-4).all()
    assert torch.isfinite(loss(output))


def test_a_hidden_layer_and_both_orders() -> None:
    given = records(5, pairs=True)
    builder, examples = examples_of("bert.Bert", given, both_orders=True)
    model = built("bert.Bert", pooler=True)
    objective = Classify(model, VOCABULARY, CLASSES, both_orders=True, hidden=7)
    made = batch(builder, examples)
    ours, _ = answered(objective, model, made)
    turned = [Labelled((each.sentences[1], each.sentences[0]), label=each.label) for each in given]
    vectors = []
    for each in (given, turned):
        once = batch(*examples_of("bert.Bert", each))
        with torch.no_grad():
            vectors.append(model.pool(model(once), once))
    first, last = objective.hidden[0], objective.heads["task"]  # type: ignore[index]
    inner = torch.relu((vectors[0] + vectors[1]) @ first.weight.t() + first.bias)  # type: ignore[union-attr, operator]
    near(ours, inner @ last.weight.t() + last.bias)  # type: ignore[union-attr, operator]
    assert examples.total_tokens == sum(made.inputs.layout.lengths) == 2 * examples.lengths.sum()
    swapped = batch(*examples_of("bert.Bert", turned, both_orders=True))
    near(answered(objective, model, swapped)[0], ours)


def test_each_head_learns_from_its_own_examples_only() -> None:
    labels = {
        "first": Labels(("0", "1")),
        "second": Labels(("a", "b", "c"), ("accuracy", "f1_macro")),
        "third": NUMBERS["task"],
    }
    chance = np.random.default_rng(0)
    values: dict[str, list[Any]] = {"first": ["1", "0"], "second": ["c", "a", "b"], "third": [1.5, 4.0]}
    given = [Labelled((words(chance, 1, 6),), label=each, task=task) for task, own in values.items() for each in own]
    builder = LabelledExamples(VOCABULARY, 32, family("bert.Bert"), labels)
    examples = builder.build(tokenized(given), 0)
    model = built("bert.Bert", pooler=True)
    objective = Classify(model, VOCABULARY, labels, dropout=0.0)
    output = objective(model, batch(builder, examples))
    with torch.no_grad():
        vectors = model.pool(model(batch(builder, examples)), batch(builder, examples))
        logits = {task: objective.heads[task](vectors) for task in labels}
        expected = (
            sum(
                torch.nn.functional.cross_entropy(logits[task][rows], torch.tensor(right), reduction="sum")
                for task, rows, right in (("first", slice(0, 2), [1, 0]), ("second", slice(2, 5), [2, 0, 1]))
            )
            + ((logits["third"][5:, 0] - torch.tensor([1.5, 4.0])) ** 2).sum()
        )
    near(output.terms["label"].total.detach(), expected)
    assert output.terms["label"].count == 7
    for task, rows in (("first", range(2)), ("second", range(2, 5)), ("third", range(5, 7))):
        objective.zero_grad()
        others = [row for row in range(7) if row not in rows]
        loss(objective(model, batch(builder, examples, others))).backward()
        assert not objective.heads[task].weight.grad.any()  # type: ignore[union-attr, operator]
        objective.zero_grad()
        loss(objective(model, batch(builder, examples, list(rows)))).backward()
        assert [name for name in labels if objective.heads[name].weight.grad.any()] == [task]  # type: ignore[union-attr, operator]
    assert objective.figures == (
        "first_accuracy", "second_accuracy", "second_f1_macro", "third_pearson", "third_spearman",
    )  # fmt: skip
    rows = objective.rows(output, batch(builder.judge(), examples))
    assert set(objective.score(rows)) == set(objective.figures)
    assert list(objective.score(rows[2:5])) == ["second_accuracy", "second_f1_macro"]
    answers = objective.answers(rows, given)
    assert set(answers[:2]) <= {"0", "1"} and set(answers[2:5]) <= {"a", "b", "c"} and isinstance(answers[5], float)


def test_figures_do_not_depend_on_batches_or_their_order() -> None:
    labels = {"task": Labels(("no", "perhaps", "yes"), ("accuracy", "f1_macro", "matthews"))}
    given = records(23)
    builder, examples = examples_of("bert.Bert", given, labels)
    model, judge = built("bert.Bert", pooler=True), builder.judge()
    objective = Classify(model, VOCABULARY, labels).eval()
    figures, answers = [], []
    for order, size in ((range(23), 23), (range(22, -1, -1), 4), (np.random.default_rng(0).permutation(23), 1)):
        metrics, rows = objective.metrics(), []
        for start in range(0, 23, size):
            made = batch(judge, examples, list(order)[start : start + size])
            with torch.no_grad():
                output = objective(model, made)
            objective.measure(metrics, output, made)
            rows += objective.rows(output, made)
        figures.append({name: float(metric.compute()) for name, metric in metrics.items()})
        answers.append(objective.answers(rows, given))
    assert figures[0] == figures[1] == figures[2] and answers[0] == answers[1] == answers[2]
    kind = labels["task"]
    predicted = [kind.number(answer) for answer in answers[0]]
    assert figures[0] == pytest.approx(score(kind.metrics, predicted, [kind.number(r.label) for r in given]))  # type: ignore[arg-type]


def test_groups_are_scored_together() -> None:
    """MultiRC: a question is right if all its answers are."""
    labels = {"task": Labels(("0", "1"), ("f1_a", "exact_match"))}
    given = [Labelled(("11",), label="1", group=group) for group in "aab"]
    builder, examples = examples_of("bert.Bert", given, labels)
    objective = Classify(built("bert.Bert", pooler=True), VOCABULARY, labels)
    made = batch(builder.judge(), examples)
    assert made.extra["groups"] == list("aab")
    rows = [(0, 0, (0.0, 1.0), 1.0, "a"), (1, 0, (1.0, 0.0), 1.0, "a"), (2, 0, (0.0, 1.0), 1.0, "b")]
    assert objective.score(rows)["exact_match"] == 0.5


def test_what_has_no_label_costs_nothing_and_is_not_scored() -> None:
    given = [Labelled(("11 12",)), *records(3), Labelled(("13", "14"))]
    builder, examples = examples_of("bert.Bert", given)
    model = built("bert.Bert", pooler=True)
    objective = Classify(model, VOCABULARY, CLASSES, dropout=0.0)
    some, known = batch(builder.judge(), examples), batch(builder.judge(), examples, [1, 2, 3])
    with torch.no_grad():
        mixed, alone = objective(model, some), objective(model, known)
    assert mixed.terms["label"].count == alone.terms["label"].count == 3
    near(mixed.terms["label"].total, alone.terms["label"].total)
    assert objective.score(objective.rows(mixed, some)) == objective.score(objective.rows(alone, known))
    hidden = batch(builder.judge(), examples, [0, 4])
    output = objective(model, hidden)
    assert output.terms["label"].count == 0 and float(output.terms["label"].total.detach()) == 0.0
    rows = objective.rows(output, hidden)
    assert objective.score(rows) == {}
    metrics = objective.metrics()
    objective.measure(metrics, output, hidden)
    assert all(bool(metric.compute().isnan()) for metric in metrics.values())
    assert [shown[1] for shown in objective.shown(output, hidden)] == ["", ""]


@pytest.mark.parametrize("settings", [{}, {"lm_weight": 0.5}, {"lm_weight": 0.5, "both_orders": True}], ids=str)
def test_counts_are_known_without_sampling(settings: dict[str, Any]) -> None:
    builder, examples = examples_of("gpt.GPT", [*records(9, pairs=True), Labelled(("11", "12"))], **settings)
    chance = np.random.default_rng(0)
    for _ in range(5):
        indices = chance.permutation(10)[: chance.integers(1, 10)]
        keys = keyed.keys(1, indices)
        assert builder.sample(examples, indices, keys).counts == builder.counts(examples, indices, keys)


def test_the_cut_of_a_step_does_not_change_its_mean() -> None:
    """Also of the language model's loss, which is over tokens."""
    builder, examples = examples_of("gpt.GPT", records(8), lm_weight=0.5)
    model = built("gpt.GPT")
    objective = Classify(model, VOCABULARY, CLASSES, lm_weight=0.5, dropout=0.0)
    whole = objective(model, batch(builder, examples))
    parts = [objective(model, batch(builder, examples, cut)) for cut in ([0, 1], [2], [3, 4, 5, 6, 7])]
    for name, term in whole.terms.items():
        assert sum(part.terms[name].count for part in parts) == term.count
        near(sum(part.terms[name].total for part in parts) / term.count, term.total / term.count)  # type: ignore[arg-type]


def test_refusals() -> None:
    model = built("bert.Bert", pooler=True)
    for settings, message in (
        ({"hidden": 0}, "objective.hidden=0 must be at least 1"),
        ({"dropout": 1.0}, r"objective.dropout=1.0 must lie in \[0, 1\)"),
        ({"lm_weight": -1.0}, "objective.lm_weight=-1 must be 0 or more"),
        ({"lm_weight": 0.5}, "objective.lm_weight=0.5 needs a model that sees only what stands before a token"),
        ({"layer": 3}, "objective.layer=3 must lie in 0 … 2"),
    ):
        with pytest.raises(Refusal, match=message):
            Classify(model, VOCABULARY, CLASSES, **settings)  # type: ignore[arg-type]
    assert VOCABULARY.size == SIZE
