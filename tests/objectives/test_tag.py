"""Tags: each word once whatever the length, first sub-tokens, transformers' logits and loss, figures of whole sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cloze.data import keyed
from cloze.data.base import NO_TAG, Labels, Tagged
from cloze.objectives.tag import Tag, TaggedExamples
from cloze.scoring.tags import score_tags
from tests.objectives.labelled import (
    FIRST,
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
)

NAMED = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
LABELS = {"task": Labels(NAMED, ("span_f1", "accuracy"))}


def document(sizes: list[list[int]], chance: np.random.Generator, tagged: bool = True) -> Tagged:
    """Sentences of words of so many tokens each; a word of none is one that the tokenizer makes nothing of."""
    words = tuple(
        tuple("+".join(map(str, chance.integers(FIRST, SIZE, size))) or "-" for size in sentence) for sentence in sizes
    )
    tags = tuple(tuple(str(chance.choice(NAMED)) for _ in sentence) for sentence in sizes) if tagged else None
    return Tagged(tuple(" ".join(sentence) for sentence in words), words=words, tags=tags)


def documents(seed: int = 0, count: int = 5, longest: int = 4) -> list[Tagged]:
    chance = np.random.default_rng(seed)
    return [
        document(
            [chance.integers(0, longest, chance.integers(1, 12)).tolist() for _ in range(chance.integers(1, 5))], chance
        )
        for _ in range(count)
    ]


def examples_of(made: list[Tagged], length: int = 16, context: Any = "sentence", name: str = "bert.Bert") -> Any:
    builder = TaggedExamples(VOCABULARY, length, family(name), LABELS, context)
    return builder, builder.build(tokenized(made), 0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.lists(st.integers(0, 6), max_size=8), min_size=1, max_size=4), min_size=1, max_size=4),
    st.integers(4, 20),
    st.sampled_from(["sentence", "document"]),
    st.sampled_from(["bert.Bert", "xlnet.XLNet", "gpt2.GPT2"]),
)
def test_each_word_is_tagged_exactly_once(sizes: list[list[list[int]]], length: int, context: str, name: str) -> None:
    """At its first token, which is the word's own, whatever the length; sequences fit; counts are those of the sample."""
    made = [document(each, np.random.default_rng(0)) for each in sizes if any(each)]
    if not made:
        return
    builder, examples = examples_of(made, length, context, name)
    indices = np.arange(len(examples))
    sample = builder.sample(examples, indices, keyed.keys(0, indices))
    lengths = sample.inputs.lengths
    assert lengths.max() <= length and lengths.tolist() == examples.lengths.tolist()
    seen = []
    at = iter(sample.targets["at"].tolist())
    tags = iter(sample.targets["tag"].tolist())
    ends = np.cumsum(lengths)
    for number, (record, begin, end) in enumerate(examples.table.tolist()):
        words = [word for sentence in made[record].words for word in sentence]
        right = [tag for sentence in made[record].tags or () for tag in sentence]
        edges = np.cumsum([0, *(len(sentence) for sentence in made[record].words)])
        if context == "sentence":  # never words of two
            assert np.searchsorted(edges, begin, side="right") == np.searchsorted(edges, end - 1, side="right")
        for word in range(begin, end):
            place = next(at)
            assert ends[number] - lengths[number] <= place < ends[number]
            assert sample.inputs.tokens[place] == int(words[word].split("+")[0].replace("-", "1"))
            assert NAMED[next(tags)] == right[word]
            seen.append((record, word))
    everything = [(r, w) for r, each in enumerate(made) for w in range(sum(map(len, each.words)))]
    assert seen == everything and next(at, None) is None
    assert sample.counts == builder.counts(examples, indices, keyed.keys(0, indices)) == {"tag": len(everything)}


def test_a_document_is_filled_with_sentences_that_follow() -> None:
    made = [document([[1] * 4, [1] * 4, [1] * 6, [1] * 20, [1]], np.random.default_rng(0))]
    for context, rows in {
        "sentence": [(0, 4), (4, 8), (8, 14), (14, 24), (24, 34), (34, 35)],
        "document": [(0, 8), (8, 14), (14, 24), (24, 34), (34, 35)],
    }.items():
        _, examples = examples_of(made, 12, context)
        assert [tuple(row[1:]) for row in examples.table.tolist()] == rows
        assert examples.notes == ("1 sentences are longer than length=12: read in pieces",)


def test_bert_for_token_classification() -> None:
    theirs, model = of_transformers(
        "BertForTokenClassification", "bert.Bert", num_labels=len(NAMED), hidden_size=32, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=48,
    )  # fmt: skip
    builder, examples = examples_of(documents(), 32)
    made = batch(builder, examples)
    objective = Tag(model, VOCABULARY, LABELS).eval()
    copied(objective.tag_head, theirs.classifier.weight, theirs.classifier.bias)
    table = padded(made)
    right = torch.full((len(made.inputs.tokens),), -100)
    right[made.targets["at"]] = made.targets["tag"]
    labels = torch.full_like(table["input_ids"], -100).masked_scatter(table["attention_mask"].bool(), right)
    with torch.no_grad():
        expected = theirs(**table, labels=labels)
        output = objective(model, made)
        near(
            objective.tag_head(model(made).last[made.targets["at"]]),
            expected.logits[table["attention_mask"].bool()][made.targets["at"]],
        )
    near(loss(output), expected.loss)


@pytest.mark.parametrize("name", NAMES)
def test_every_family_reads_the_word_it_tags(name: str) -> None:
    """Another first token of a word changes what is said of it."""
    chance = np.random.default_rng(0)
    one = document([[2, 1, 3]], chance)
    other = Tagged(one.sentences, words=((one.words[0][0], "33", one.words[0][2]),), tags=one.tags)
    model = built(name)
    objective = Tag(model, VOCABULARY, LABELS).eval()
    builder, examples = examples_of([one, other], 32, name=name)
    made = batch(builder, examples)
    with torch.no_grad():
        states = objective.readout.states(model, made)
        logits = objective.tag_head(states.last[made.targets["at"]])
        output = objective(model, made)
    assert (logits[1] - logits[4]).abs().max() > 1e-4
    assert output.predictions["tags"].tolist() == logits.argmax(-1).tolist()


def scored(
    objective: Tag, model: Any, builder: Any, examples: Any, order: Any, size: int
) -> tuple[dict[str, float], Any]:
    metrics, rows = objective.metrics(), []
    for start in range(0, len(order), size):
        made = batch(builder.judge(), examples, order[start : start + size])
        with torch.no_grad():
            output = objective(model, made)
        objective.measure(metrics, output, made)
        rows += objective.rows(output, made)
    return {name: float(metric.compute()) for name, metric in metrics.items()}, rows


@pytest.mark.parametrize("context", ["sentence", "document"])
def test_figures_are_of_whole_sentences_in_any_order(context: str) -> None:
    """Also of sentences that were read in pieces: a name that goes over the cut is one name."""
    made = documents(count=6)
    model = built("bert.Bert")
    objective = Tag(model, VOCABULARY, LABELS).eval()
    builder, examples = examples_of(made, 9, context)
    assert len(examples) > sum(len(each.words) for each in made) / 2
    order = np.arange(len(examples))
    figures, rows = scored(objective, model, builder, examples, order, 7)
    other, others = scored(objective, model, builder, examples, np.random.default_rng(1).permutation(order), 2)
    answers = objective.answers(rows, made)
    assert figures == other and answers == objective.answers(others, made)
    assert [[len(tags) for tags in each] for each in answers] == [[len(s) for s in each.words] for each in made]
    right = [list(tags) for each in made for tags in each.tags or () if tags]
    said = [tags for each in answers for tags in each if tags]
    expected = score_tags(right, said)
    assert figures == {"span_f1": pytest.approx(expected["f1"] / 100), "accuracy": expected["accuracy"] / 100}


def test_a_name_over_a_cut_is_one_name() -> None:
    """By hand: gold B-PER I-PER I-PER in two pieces, all of it found."""
    objective = Tag(built("bert.Bert"), VOCABULARY, LABELS)
    pieces = [(0, 0, (1, 2), (1, 2), (0,)), (0, 2, (2, 0), (2, 0), ()), (0, 4, (2,), (2,), (4,))]
    assert objective.score(pieces) == {"span_f1": 1.0, "accuracy": 1.0}
    assert objective.score(pieces[::-1]) == {"span_f1": 1.0, "accuracy": 1.0}
    missed = [(0, 0, (1, 2), (1, 2), (0,)), (0, 2, (0, 0), (2, 0), ()), (0, 4, (2,), (2,), (4,))]
    assert objective.score(missed)["span_f1"] == 0.5  # of two names one, and one that is none


def test_words_and_documents_without_tags() -> None:
    chance = np.random.default_rng(0)
    known = document([[1, 2], [1]], chance)
    assert known.tags is not None
    some = Tagged(known.sentences, words=known.words, tags=((known.tags[0][0], NO_TAG), known.tags[1]))
    hidden = document([[1, 1, 1]], chance, tagged=False)
    builder, examples = examples_of([some, hidden])
    model = built("bert.Bert")
    objective = Tag(model, VOCABULARY, LABELS, dropout=0.0)
    made = batch(builder.judge(), examples)
    output = objective(model, made)
    assert made.counts == {"tag": 2}
    indices = np.arange(len(examples))
    assert builder.counts(examples, indices, keyed.keys(0, indices)) == {"tag": 2}
    rows = objective.rows(output, made)
    assert len(objective.answers(rows, [some, hidden])[1][0]) == 3
    only = batch(builder.judge(), examples, [len(examples) - 1])
    output = objective(model, only)
    assert float(output.terms["tag"].total.detach()) == 0.0 and output.terms["tag"].count == 0
    assert objective.score(objective.rows(output, only)) == {}
    assert objective.shown(output, only)[0][1] == "? ? ?"
