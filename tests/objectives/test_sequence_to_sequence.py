"""Text to text: what each kind of model reads and predicts, losses beside transformers', what is seen, what is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cloze.data import keyed
from cloze.data.base import Labels, SourceTarget
from cloze.errors import Refusal
from cloze.inference.judge import Judge
from cloze.models.base import Bidirectional, EncoderDecoder, Writer
from cloze.models.task_heads import with_task_head
from cloze.objectives.sequence_to_sequence import SequenceToSequence, SourceTargetExamples
from tests.objectives.labelled import (
    BOS,
    CLS,
    EOS,
    FIRST,
    MASK,
    NAMES,
    PAD,
    SEP,
    VOCABULARY,
    Numbers,
    batch,
    built,
    family,
    loss,
    near,
    of_transformers,
    tokenized,
)

WRITERS = [name for name in NAMES if issubclass(family(name), Writer)]
GIVEN = [
    SourceTarget(("20 21 22",), target="30 31", id="one"),
    SourceTarget(("23",), target="32 33 34"),
    SourceTarget(("24 25",)),
]
LABELS = {"pairs": Labels((), ("token_accuracy", "exact_match"))}


def examples_of(name: str, given: Any = GIVEN, length: int = 24, judge: bool = True, **settings: Any) -> Any:
    builder: Any = SourceTargetExamples(VOCABULARY, length, family(name), **settings)
    builder = builder.judge() if judge else builder
    return builder, builder.build(tokenized(given), 0)


def objective_on(model: Any, **settings: Any) -> SequenceToSequence:
    torch.manual_seed(1)
    return SequenceToSequence(model, VOCABULARY, Numbers(), **settings).eval()  # type: ignore[arg-type]


def rows(sequences: Any) -> list[list[int]]:
    return [row.tolist() for row in sequences.tokens.split(sequences.layout.lengths)]


def wanted(made: Any) -> list[list[int]]:
    return [part.tolist() for part in made.targets["tokens"].split(made.targets["size"].tolist())]


# What is read and predicted


def test_those_who_write() -> None:
    assert {name.partition(".")[0] for name in WRITERS} == {
        "unilm", "gpt", "gpt2", "t5", "switch", "bart", "mass", "xlm", "transformer_xl"
    }  # fmt: skip


@pytest.mark.parametrize(("name", "begins"), [("t5.T5", PAD), ("bart.Bart", EOS), ("mass.Mass", MASK)])
def test_an_encoder_reads_the_source_and_a_decoder_writes_the_target(name: str, begins: int) -> None:
    made = batch(*examples_of(name))
    assert rows(made.inputs) == [[BOS, 20, 21, 22, EOS], [BOS, 23, EOS], [BOS, 24, 25, EOS]]
    assert rows(made.decoder) == [[begins, BOS, 30, 31], [begins, BOS, 32, 33, 34], [begins, BOS]]
    assert wanted(made) == [[30, 31, EOS], [32, 33, 34, EOS], []]
    # the token before predicts; what opens a text is given, not asked
    before = made.decoder.tokens[made.targets["at"]].tolist()
    assert before == [BOS, 30, 31, BOS, 32, 33, 34]
    assert made.decoder.layout.pattern == "causal" and made.counts == {"target": 7}


@pytest.mark.parametrize(("name", "opening", "between"), [("gpt2.GPT2", EOS, EOS), ("unilm.UniLM", CLS, SEP)])
def test_one_sequence_holds_source_and_target(name: str, opening: int, between: int) -> None:
    made = batch(*examples_of(name))
    whole = [[opening, 20, 21, 22, between, 30, 31], [opening, 23, between, 32, 33, 34], [opening, 24, 25, between]]
    assert rows(made.inputs) == whole and made.decoder is None
    assert wanted(made) == [[30, 31, between], [32, 33, 34, between], []]
    assert made.inputs.tokens[made.targets["at"]].tolist() == [between, 30, 31, between, 32, 33, 34]
    layout = made.inputs.layout
    if issubclass(family(name), Bidirectional):
        assert layout.pattern == "prefix" and layout.prefix == (5, 3, 4)
    else:
        assert layout.pattern == "causal"
    made = batch(*examples_of(name, prefix=not issubclass(family(name), Bidirectional)))
    assert made.inputs.layout.pattern == ("causal" if issubclass(family(name), Bidirectional) else "prefix")


@pytest.mark.parametrize("name", ["t5.T5", "gpt2.GPT2"])
def test_counts_and_lengths(name: str) -> None:
    chance = np.random.default_rng(3)
    given = [
        SourceTarget(("20 " * chance.integers(1, 20),), target="30 " * chance.integers(1, 20) if n % 5 else None)
        for n in range(40)
    ]
    builder, examples = examples_of(name, given, length=20, target_length=6)
    for few in np.split(np.arange(40), 8):
        made = builder.sample(examples, few, keyed.keys(0, few))
        assert made.counts == builder.counts(examples, few, keyed.keys(0, few))
        assert examples.lengths[few].tolist() == made.inputs.lengths.tolist()
        both = made.inputs.lengths if made.decoder is None else made.inputs.lengths + made.decoder.lengths
        assert examples.tokens[few].tolist() == both.tolist()
        assert made.inputs.lengths.max() <= 20 and (made.decoder is None or made.decoder.lengths.max() <= 20)
        assert made.targets["size"].max() <= 7
    assert "cut" in examples.notes[0]


def test_what_is_cut_is_not_written_without_a_fault() -> None:
    given = [SourceTarget(("20",), target="30 31 32"), SourceTarget(("20",), target="30 31")]
    builder, examples = examples_of("t5.T5", given, target_length=2)
    made = batch(builder, examples)
    assert wanted(made) == [[30, 31, EOS]] * 2 and made.extra["whole"] == [False, True]
    assert examples.notes == ("1 of 2 examples are longer than length=24 holds: cut",)
    # where one sequence holds both, a long target takes no more than its share: what is read does not depend on it
    short, long = (SourceTarget(("20 " * 30,), target=text) for text in ("30", "30 " * 30))
    made = batch(*examples_of("gpt2.GPT2", [short, long], length=12))
    assert [len(row) for row in made.extra["begun"]] == [7, 7] and made.targets["size"].tolist() == [2, 6]


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("t5.T5", {"prefix": True}, "objective.prefix=true has no effect"),
        ("t5.T5", {"target_length": 30}, r"objective\.target_length=30 must lie in 1 … 22 with length=24"),
        ("gpt2.GPT2", {"target_length": 0}, r"objective\.target_length=0 must lie in 1 … 21"),
        ("gpt2.GPT2", {"length": 3}, "length=3 is too short for a source and a target: take length=4"),
    ],
)
def test_what_cannot_be_is_refused(name: str, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(Refusal, match=told):
        examples_of(name, **settings)


def test_settings_of_writing_are_checked() -> None:
    with pytest.raises(Refusal, match=r"length_penalty=2\.0 has no effect without beams"):
        objective_on(built("t5.T5"), length_penalty=2.0)
    with pytest.raises(Refusal, match="beams=0 must be at least 1"):
        objective_on(built("t5.T5"), beams=0)


# Losses, and what they depend on


@pytest.mark.parametrize(
    ("architecture", "name", "config"),
    [
        ("GPT2LMHeadModel", "gpt2.GPT2", {"n_positions": 40, "n_embd": 32, "n_layer": 2, "n_head": 2}),
        ("T5ForConditionalGeneration", "t5.T5", {"d_model": 32, "d_kv": 12, "d_ff": 48, "num_layers": 2, "num_heads": 2}),
        ("BartForConditionalGeneration", "bart.Bart", {
            "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
            "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 40}),
    ],
)  # fmt: skip
def test_losses_are_those_of_transformers(architecture: str, name: str, config: dict[str, Any]) -> None:
    theirs, model = of_transformers(architecture, name, **config)
    made = batch(*examples_of(name, GIVEN[:2]))
    objective = objective_on(model)
    ours = loss(objective(model, made))
    total, count = torch.tensor(0.0), 0
    for number, labels in enumerate(wanted(made)):
        read = torch.tensor([rows(made.inputs)[number]])
        if made.decoder is None:
            target = torch.full_like(read, -100)
            target[0, -len(labels) :] = torch.tensor(labels)
            logits = theirs(input_ids=read).logits
        else:
            written = torch.tensor([rows(made.decoder)[number]])
            target = torch.full_like(written, -100)
            target[0, -len(labels) :] = torch.tensor(labels)
            logits = theirs(input_ids=read, decoder_input_ids=written).logits
        total = total + torch.nn.functional.cross_entropy(logits[0], target[0], reduction="sum")
        count += len(labels)
    near(ours.detach(), (total / count).detach())


@pytest.mark.parametrize("name", WRITERS)
def test_a_token_is_predicted_from_the_source_and_what_stands_before_it(name: str) -> None:
    model = built(name)
    if name == "switch.Switch":  # experts have room for so many tokens: a token's expert may be full of later ones
        model = built(name, capacity_factor=8.0)

    def states(source: str, target: str) -> torch.Tensor:
        made = batch(*examples_of(name, [SourceTarget((source,), target=target)]))
        found: torch.Tensor = model(made).last[made.targets["at"]]
        return found.detach()

    plain = states("20 21 22", "30 31 32")
    later, earlier = states("20 21 22", "30 31 39"), states("29 21 22", "30 31 32")
    near(plain[:3], later[:3])
    assert (plain[3] - later[3]).abs().max() > 1e-4
    assert ((plain - earlier).abs().amax(-1) > 1e-4).all()


def test_a_source_is_seen_whole_where_that_is_so() -> None:
    def first(name: str, source: str, **settings: Any) -> torch.Tensor:
        made = batch(*examples_of(name, [SourceTarget((source,), target="30")], **settings))
        found: torch.Tensor = built(name)(made).last[1]  # the source's first token
        return found.detach()

    for name, settings, whole in (
        ("unilm.UniLM", {}, True),
        ("unilm.UniLM", {"prefix": False}, False),
        ("gpt2.GPT2", {}, False),
        ("gpt2.GPT2", {"prefix": True}, True),
    ):
        apart = (first(name, "20 21 22", **settings) - first(name, "20 21 29", **settings)).abs().max()
        assert (apart > 1e-4) == whole, (name, settings)


# What is written


def learnt(name: str, given: list[SourceTarget], steps: int = 120, **settings: Any) -> tuple[Any, Any, Any, Any]:
    """A model after so many steps on all examples, fewer where it has learnt them by heart."""
    model = built(name).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    builder, examples = examples_of(name, given)
    objective = objective_on(model, **settings)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], 3e-3)
    made = batch(builder, examples)
    for _ in range(steps):
        output = objective(model, made)
        if output.predictions["right"].all() and loss(output) < 0.05:
            break
        optimizer.zero_grad()
        loss(output).backward()
        optimizer.step()
    return model.eval(), objective, builder, examples


@pytest.mark.parametrize("name", ["bart.Bart", "gpt2.GPT2", "unilm.UniLM"])
def test_greedy_decoding_writes_what_was_right_token_by_token(name: str) -> None:
    """Texts all of whose tokens are the first choice are those that are written without a fault, learnt or not."""
    given = [SourceTarget((f"{20 + n} {40 + n % 4}",), target=f"{60 + n} {79 - n} {50 + n}") for n in range(8)]
    for steps in (0, 12, 120):
        model, objective, builder, examples = learnt(name, given, steps)
        made = batch(builder, examples)
        with torch.no_grad():
            output = objective(model, made)
        before, after = objective.rows(output, made), objective.told(model, output, made)
        assert [row[:4] for row in before] == [row[:4] for row in after]
        assert all((row[4] == row[5]) == row[3] for row in after)
        figures = objective.score(after)
        assert {"bleu", "chrf"} <= set(figures) and not {"bleu", "chrf"} & set(objective.score(before))
    assert figures["exact_match"] == figures["token_accuracy"] == 1.0  # it has learnt them by heart
    assert objective.answers(after, given) == [each.target for each in given]
    judge = Judge(objective, builder, Numbers(), "pairs")  # type: ignore[arg-type]
    assert judge(model, ["25 41", "20 40"]) == [given[5].target, given[0].target]


def test_beams_write_too() -> None:
    given = [SourceTarget((str(20 + n),), target=f"{60 + n} {79 - n}") for n in range(6)]
    model, objective, builder, examples = learnt("bart.Bart", given, beams=3, length_penalty=0.5)
    made = batch(builder, examples)
    with torch.no_grad():
        assert [row[4] for row in objective.told(model, objective(model, made), made)] == [e.target for e in given]


def test_texts_without_a_target_are_written_and_not_scored() -> None:
    model = built("gpt2.GPT2")
    objective, (builder, examples) = objective_on(model), examples_of("gpt2.GPT2")
    made = batch(builder, examples)
    found = objective.told(model, objective(model, made), made)
    assert found[2][2] == 0 and isinstance(found[2][4], str) and found[2][5] is None
    assert objective.score([found[2]]) == {}
    assert objective.score(found)["token_accuracy"] == sum(row[1] for row in found) / 7
    assert len(objective.answers(found, GIVEN)) == 3
    assert issubclass(family("t5.T5"), EncoderDecoder) and FIRST > EOS


def test_an_export_keeps_the_token_head() -> None:
    objective = {"_target_": "cloze.objectives.sequence_to_sequence.SequenceToSequence"}
    assert with_task_head("t5", objective, {"pairs": ()}, {}, {}, {}) is None
