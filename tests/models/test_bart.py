"""BART against transformers and against published counts."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cloze.compose import compose
from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models.bart import Bart
from cloze.models.base import Batch, Sequences
from cloze.models.layers.heads import OffsetHead
from cloze.models.layout import Layout
from cloze.models.padding import flat
from tests.models.parity import reached, scramble

transformers = import_module("transformers")

SHAPES: list[dict[str, Any]] = [
    {"d_model": 48, "encoder_layers": 3, "decoder_layers": 3, "heads": 4, "inner": 100},
    {"d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "heads": 2, "inner": 64, "activation_function": "relu"},
]
VOCABULARY, PAD, START = 97, 1, 2


def rows_of(lengths: list[int], seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


def padded(rows: list[list[int]], fill: int, left: bool) -> tuple[Tensor, Tensor]:
    """(B, L) ids and mask, padding on the left or on the right."""
    longest = max(map(len, rows))
    ids, mask = [], []
    for row in rows:
        pad = [fill] * (longest - len(row))
        ids.append(pad + row if left else row + pad)
        mask.append([0] * len(pad) + [1] * len(row) if left else [1] * len(row) + [0] * len(pad))
    return torch.tensor(ids), torch.tensor(mask)


def as_they_count(rows: list[list[int]], left: bool, pattern: Any) -> Sequences:
    """transformers' BART counts padding on the left as positions: the same positions for ours."""
    sequences = flat(rows, pattern)
    if left:
        longest = max(map(len, rows))
        sequences.positions += torch.repeat_interleave(
            torch.tensor([longest - len(row) for row in rows]), torch.tensor([len(row) for row in rows])
        )
    return sequences


def theirs_of(shape: dict[str, Any], cls: str = "BartForConditionalGeneration") -> Any:
    shape = dict(shape)
    heads, inner = shape.pop("heads"), shape.pop("inner")
    config = transformers.BartConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=60,
        dropout=0.0,
        pad_token_id=PAD,
        decoder_start_token_id=START,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=inner,
        decoder_ffn_dim=inner,
        **shape,
    )
    model = getattr(transformers, cls)(config).eval()
    scramble(model)
    model.tie_weights()
    if cls == "BartForConditionalGeneration":
        model.final_logits_bias.copy_(torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(5)))
    return model


def ours_of(theirs: Any) -> tuple[Bart, OffsetHead]:
    settings, weights = Bart.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    model = Bart(VOCABULARY, 30, False, **settings).eval()
    model.load_state_dict({k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")})
    head = model.token_head()
    head.load_state_dict({"bias": weights["objective.head.bias"]})
    return model, head


@pytest.mark.parametrize(("size", "parameters"), [("base", 139_420_416), ("large", 406_291_456)])
def test_published_counts(size: str, parameters: int) -> None:
    settings = dict(compose(["model=bart", f"size=bart/{size}"]).config.model)
    assert settings.pop("_target_") == "cloze.models.bart.Bart"
    with torch.device("meta"):
        model = Bart(50265, 1024, False, **settings)
        head = model.token_head()
    assert sum(p.numel() for p in [*model.parameters(), *head.parameters()]) == parameters


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("left", [False, True], ids=["encoder-right", "encoder-left"])
@pytest.mark.parametrize("decoder_left", [False, True], ids=["decoder-right", "decoder-left"])
def test_logits_and_loss_are_transformers(shape: dict[str, Any], left: bool, decoder_left: bool) -> None:
    """Ragged batches, padding on either side of encoder and decoder; the offset of the logits is not 0."""
    theirs = theirs_of(shape)
    model, head = ours_of(theirs)
    inputs, targets = rows_of([5, 50, 1, 17]), rows_of([40, 3, 1, 27], seed=1)
    written = [[START, *target[:-1]] for target in targets]
    ids, mask = padded(inputs, PAD, left)
    decoder_ids, decoder_mask = padded(written, PAD, decoder_left)
    labels, _ = padded(targets, -100, decoder_left)
    batch = Batch(
        as_they_count(inputs, left, "bidirectional"), {}, {}, {}, as_they_count(written, decoder_left, "causal")
    )
    with torch.no_grad():
        expected = theirs(
            ids, attention_mask=mask, decoder_input_ids=decoder_ids, decoder_attention_mask=decoder_mask, labels=labels
        )
        states = model(batch)
        logits = head(states.last, model.word_embedding)
    real = decoder_mask.bool()
    assert (logits - expected.logits[real]).abs().max() <= 1e-5
    assert abs(F.cross_entropy(logits, labels[real]) - expected.loss) <= 1e-5
    assert (states.encoder - expected.encoder_last_hidden_state[mask.bool()]).abs().max() <= 1e-5


def test_the_loss_of_labels_alone_is_transformers() -> None:
    """Their own shift of the labels, which puts the end token first, is what the objective's decoder reads."""
    theirs = theirs_of(SHAPES[0])
    model, head = ours_of(theirs)
    inputs, targets = rows_of([9, 9]), [[0, *row, 2] for row in rows_of([7, 7], seed=1)]
    expected = theirs(torch.tensor(inputs), labels=torch.tensor(targets)).loss
    written = [[2, *target[:-1]] for target in targets]
    states = model(Batch(flat(inputs), {}, {}, {}, flat(written, "causal"))).last
    loss = F.cross_entropy(head(states, model.word_embedding), torch.tensor(targets).flatten())
    assert abs(loss - expected) <= 1e-5


def test_gradients_are_transformers() -> None:
    theirs = theirs_of(SHAPES[0])
    model, head = ours_of(theirs)
    inputs, targets = rows_of([15, 15]), rows_of([9, 9], seed=1)
    theirs(torch.tensor(inputs), labels=torch.tensor(targets)).loss.backward()
    states = model(Batch(flat(inputs), {}, {}, {}, flat([[START, *t[:-1]] for t in targets], "causal"))).last
    F.cross_entropy(head(states, model.word_embedding), torch.tensor(targets).flatten()).backward()
    named = {name: p.grad for name, p in theirs.named_parameters()}
    _, expected = Bart.from_transformers(theirs.config.to_dict(), named)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        difference = parameter.grad - expected[f"model.{name}"]
        if (
            name == "word.weight"
        ):  # theirs does not learn the padding token's row as an input, which no batch of ours has
            difference[PAD] = 0
        assert difference.abs().max() <= 2e-5, name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transformers_loads_what_we_write(shape: dict[str, Any]) -> None:
    theirs = theirs_of(shape)
    settings, weights = Bart.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    vocabulary = Vocabulary(VOCABULARY, {"bos": 0, "pad": PAD, "eos": 2})
    config, state = Bart.to_transformers({**settings, "norm_epsilon": 1e-5}, weights, vocabulary)
    again = transformers.BartForConditionalGeneration(transformers.BartConfig(**config)).eval()
    left = again.load_state_dict(state, strict=False)
    tied = {"model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"}
    assert set(left.missing_keys) == tied and not left.unexpected_keys
    again.tie_weights()
    ids, labels = torch.tensor(rows_of([20])), torch.tensor(rows_of([11], seed=1))
    with torch.no_grad():
        assert torch.equal(again(ids, labels=labels).logits, theirs(ids, labels=labels).logits)
    assert again.config.decoder_start_token_id == 2


def test_a_bare_model_has_the_head_all_the_same() -> None:
    theirs = theirs_of(SHAPES[0], "BartModel")
    model, head = ours_of(theirs)
    inputs, written = rows_of([8]), rows_of([6], seed=1)
    with torch.no_grad():
        states = model(Batch(flat(inputs), {}, {}, {}, flat(written, "causal"))).last
        expected = theirs(torch.tensor(inputs), decoder_input_ids=torch.tensor(written)).last_hidden_state
    assert (states - expected[0]).abs().max() <= 1e-5
    assert torch.equal(head(states, model.word_embedding), states @ model.word_embedding.t())


def test_a_classifiers_checkpoint_gives_its_body() -> None:
    theirs = theirs_of(SHAPES[0], "BartForSequenceClassification")
    model, head = ours_of(theirs)
    inputs, written = rows_of([8]), rows_of([6], seed=1)
    with torch.no_grad():
        states = model(Batch(flat(inputs), {}, {}, {}, flat(written, "causal"))).last
        expected = theirs.model(torch.tensor(inputs), decoder_input_ids=torch.tensor(written)).last_hidden_state
    assert (states - expected[0]).abs().max() <= 1e-5 and not head.state_dict()["bias"].any()


def test_the_offset_of_the_logits_is_kept_and_never_learnt() -> None:
    head = Bart(50, 30, False, layers=1, width=16, heads=2, inner=32).token_head()
    assert not list(head.parameters()) and head.state_dict()["bias"].tolist() == [0.0] * 50


@pytest.mark.parametrize(
    "change",
    [
        {"normalize_before": True},
        {"add_final_layer_norm": True},
        {"scale_embedding": True},
        {"static_position_embeddings": True},
        {"normalize_embedding": False},
        {"decoder_ffn_dim": 7},
        {"encoder_layerdrop": 0.1},
        {"tie_word_embeddings": False},
    ],
)
def test_other_networks_of_the_name_are_refused(change: dict[str, Any]) -> None:
    """mBART's first checkpoints call themselves BART and differ in these."""
    theirs = theirs_of(SHAPES[0])
    with pytest.raises(Refusal, match=f"{next(iter(change))}=.* a bart model is read here only with"):
        Bart.from_transformers(theirs.config.to_dict() | change, theirs.state_dict())


def test_another_epsilon_is_not_exported() -> None:
    settings, weights = Bart.from_transformers(theirs_of(SHAPES[0]).config.to_dict(), theirs_of(SHAPES[0]).state_dict())
    with pytest.raises(Refusal, match=r"model\.norm_epsilon=1e-12"):
        Bart.to_transformers({**settings, "norm_epsilon": 1e-12}, weights, Vocabulary(VOCABULARY, {}))


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"dropout": 1.0}, "model.dropout=1"),
        ({"inner_dropout": -0.1}, "model.inner_dropout=-0.1"),
        ({"heads": 3}, "model.heads=3 must divide model.width=16"),
        ({"decoder_layers": 0}, "model.decoder_layers=0 must be at least 1"),
        ({"positions": 20}, "length=30 is more than model.positions=20"),
        ({"initializer_range": 0.0}, "model.initializer_range=0 must be more than 0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(Refusal, match=word):
        Bart(50, 30, False, **{"layers": 1, "width": 16, "heads": 2, "inner": 32} | settings)


def test_what_is_longer_than_the_tables_is_refused() -> None:
    model = Bart(50, 30, False, layers=1, width=16, heads=2, inner=32, positions=30)
    short, long = flat([[3] * 30]), flat([[3] * 31])
    model(Batch(short, {}, {}, {}, short))
    for inputs, decoder, who in ((long, None, "encoder"), (short, long, "decoder")):
        with pytest.raises(Refusal, match=f"model.positions=30 is too few: the {who} is to read 31 tokens"):
            model(Batch(inputs, {}, {}, {}, decoder))


def test_depth_covers_every_parameter() -> None:
    model = Bart(50, 30, False, layers=2, decoder_layers=3, width=16, heads=2, inner=32)
    depths = {name: model.depth(name) for name, _ in model.named_parameters()}
    assert {n for n, d in depths.items() if d == 0} == {
        "word.weight",
        *(f"{stack}.{part}" for stack in ("encoder", "decoder")
          for part in ("position.weight", "embedding_norm.weight", "embedding_norm.bias")),
    }  # fmt: skip
    assert depths["encoder.layers.1.attention.qkv.weight"] == 2
    assert depths["decoder.layers.0.cross_attention.norm.weight"] == 3
    assert depths["decoder.layers.2.feed_forward.inner.weight"] == 5


def test_the_pooled_vector_is_the_last_tokens() -> None:
    model = Bart(50, 30, False, layers=1, width=16, heads=2, inner=32).eval()
    inputs, outputs = flat([[3, 4, 5], [6]]), flat([[7, 8], [9, 10, 11]], "causal")
    both, alone = Batch(inputs, {}, {}, {}, outputs), Batch(inputs, {}, {}, {})
    states = model(both)
    assert torch.equal(model.pool(states, both), states.last[[1, 4]])
    states = model(alone)
    assert torch.equal(model.pool(states, alone), states.last[[2, 3]])


def test_gradients_reach_what_a_token_may_see_and_nothing_else() -> None:
    model, _ = ours_of(theirs_of(SHAPES[0]))
    batch = Batch(flat(rows_of([7, 4])), {}, {}, {}, flat(rows_of([5, 6], seed=1), "causal"))
    for at, sequence in ((0, 0), (3, 0), (5, 1), (8, 1)):
        read, written = reached(model.word, lambda at=at: model(batch).last[at].square().sum())
        assert read == (list(range(7)) if sequence == 0 else list(range(7, 11)))
        assert written == list(range(0 if sequence == 0 else 5, at + 1))


def test_a_layout_that_says_nothing_is_read_from_left_to_right() -> None:
    model, _ = ours_of(theirs_of(SHAPES[0]))
    inputs, outputs = rows_of([7]), rows_of([5], seed=1)
    said = model(Batch(flat(inputs), {}, {}, {}, flat(outputs, "causal"))).last
    unsaid = model(Batch(flat(inputs), {}, {}, {}, Sequences(flat(outputs).tokens, Layout([5]), torch.arange(5)))).last
    assert torch.equal(said, unsaid)
