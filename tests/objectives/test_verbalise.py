"""A task as a blank: what is read, whose head answers, words of the classes, and what cannot be asked so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cloze.data import keyed
from cloze.data.base import Labelled, Labels
from cloze.data.batches import batch_of
from cloze.data.records import of_records
from cloze.errors import Refusal
from cloze.objectives.verbalise import BlankExamples, Verbalise
from tests.objectives.labelled import loss, near
from tests.pretrained import built, tokenizer_of

BERT = "bert.Bert"
TOKENIZER = tokenizer_of(BERT)
LABELS = {"task": Labels(("0", "1", "2"), ("accuracy", "f1_macro"))}
WORDS = {"0": "the", "1": "harbour", "2": "winter"}
TEMPLATE = "{first} He said {answer} and {second}"
GIVEN = [
    Labelled(("the old harbour", "nobody said so"), label="1"),
    Labelled(("in winter the ships would come back before the old man could see", "fog"), label="0"),
    Labelled(("she", "he"), label="2"),
    Labelled(("nobody", "nothing")),
]


def examples_of(made: list[Labelled] = GIVEN, length: int = 32, template: str | None = TEMPLATE) -> Any:
    builder = BlankExamples(
        TOKENIZER.vocabulary, length, type(built(BERT, TOKENIZER.vocabulary.size)[0]), LABELS, template
    )
    texts = of_records(builder.reworded(made, "task"), TOKENIZER)
    return builder, builder.build(texts, 0)


def batch(builder: Any, examples: Any, indices: Any = None) -> Any:
    chosen = np.arange(len(examples)) if indices is None else np.asarray(indices)
    return batch_of(builder.sample(examples, chosen, keyed.keys(0, chosen)), indices=chosen.tolist())


def ids(text: str) -> list[int]:
    return [int(n) for n in TOKENIZER.encode_flat([text])[0]]


def objective_on(model: Any, **settings: Any) -> Verbalise:
    return Verbalise(model, TOKENIZER.vocabulary, LABELS, TOKENIZER, **{"words": WORDS, **settings})


def test_the_text_around_the_blank() -> None:
    builder, examples = examples_of()
    made = batch(builder, examples)
    vocabulary = TOKENIZER.vocabulary
    rows = [row.tolist() for row in made.inputs.tokens.split(made.inputs.layout.lengths)]
    before, behind = ids("the old harbour He said"), ids("and nobody said so")
    assert rows[0] == [vocabulary["cls"], *before, vocabulary["mask"], *behind, vocabulary["sep"]]
    assert made.inputs.tokens[made.targets["at"]].tolist() == [vocabulary["mask"]] * 4
    assert made.targets["label"].tolist() == [1, 0, 2, -1]
    assert examples.lengths.tolist() == [len(row) for row in rows]
    places = [
        row.index("masked")
        for row in builder.explain(builder.sample(examples, np.arange(4), keyed.keys(0, np.arange(4))))
    ]
    assert places == [row.index(vocabulary["mask"]) for row in rows]
    assert builder.counts(examples, np.arange(4), keyed.keys(0, np.arange(4))) == made.counts == {"label": 3}


def test_what_is_too_long_loses_its_beginning() -> None:
    builder, examples = examples_of(length=12)
    made = batch(builder, examples)
    vocabulary = TOKENIZER.vocabulary
    assert (
        examples.notes and examples.lengths.tolist() == list(made.inputs.layout.lengths) and max(examples.lengths) == 12
    )
    row = made.inputs.tokens.split(made.inputs.layout.lengths)[1].tolist()
    behind = ids("and fog")[:9]
    before = ids(f"{GIVEN[1].sentences[0]} He said")[-(9 - len(behind)) :] if len(behind) < 9 else []
    assert row == [vocabulary["cls"], *before, vocabulary["mask"], *behind, vocabulary["sep"]]


def test_the_checkpoints_own_head_answers() -> None:
    """The logits of the classes' words where the blank is; the loss is their cross-entropy; nothing is new."""
    model, state = built(BERT, TOKENIZER.vocabulary.size)
    objective = objective_on(model).eval()
    objective.load_state_dict({key[10:]: value for key, value in state.items() if key.startswith("objective.")})
    builder, examples = examples_of()
    made = batch(builder.judge(), examples)
    with torch.no_grad():
        output = objective(model, made)
        everything = objective.head(model(made).last[made.targets["at"]], model.word_embedding)
    chosen = everything[:, [TOKENIZER.id(word) for word in WORDS.values()]]
    near(loss(output), torch.nn.functional.cross_entropy(chosen[:3], torch.tensor([1, 0, 2])))
    assert output.predictions["classes"].tolist() == chosen.argmax(-1).tolist()
    assert {name for name, _ in objective.named_parameters()} == {
        key[10:] for key in state if key.startswith("objective.")
    }
    assert objective.idle(model) == []
    rows = objective.rows(output, made)
    answers = objective.answers(rows[::-1], GIVEN)
    assert answers == [LABELS["task"].names[n] for n in chosen.argmax(-1).tolist()]
    right = [answer == each.label for answer, each in zip(answers[:3], GIVEN[:3], strict=True)]
    assert objective.score(rows)["accuracy"] == pytest.approx(np.mean(right))
    assert objective.score(rows[3:]) == {}
    assert [shown[1] for shown in objective.shown(output, made)] == ["1", "0", "2", ""]
    alone = objective(model, batch(builder.judge(), examples, [3]))
    assert alone.terms["label"].count == 0 and float(alone.terms["label"].total.detach()) == 0.0


def test_a_word_of_each_class_may_be_learnt_from_few_examples() -> None:
    model, _ = built(BERT, TOKENIZER.vocabulary.size)
    objective = objective_on(model)
    made = batch(*examples_of(), [0, 1, 2])
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], 3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        loss(objective(model, made)).backward()
        optimizer.step()
    assert float(loss(objective(model, made)).detach()) < 0.1


def test_refusals() -> None:
    model, _ = built(BERT, TOKENIZER.vocabulary.size)
    for words, message in (
        ({"0": "the", "1": "harbour"}, "objective.words must have a word for each class, .* it has 0, 1"),
        ({**WORDS, "2": "harbour"}, "two classes have the same token: the, harbour, harbour"),
        ({**WORDS, "2": "harbours"}, "'harbours' for the class '2' is not one token of this vocabulary but "),
        ({**WORDS, "2": ""}, "'' for the class '2' is not one token of this vocabulary but nothing"),
        (None, "objective.words: '0' for the class '0' is not one token of this vocabulary but"),
    ):
        with pytest.raises(Refusal, match=message):
            objective_on(model, words=words)
    with pytest.raises(Refusal, match="this task asks for a number: objective=classify"):
        BlankExamples(TOKENIZER.vocabulary, 32, type(model), {"task": Labels(())})
    with pytest.raises(Refusal, match=r"objective.template: \{frist\} is not there.*first"):
        BlankExamples(TOKENIZER.vocabulary, 32, type(model), LABELS, "{frist} {answer}")
    assert BlankExamples.needs({})[0] == ("mask",)
