"""T5 against transformers and against published counts."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

import cloze
from cloze.compose import compose
from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Batch
from cloze.models.padding import flat
from cloze.models.t5 import T5, RelativeBias
from cloze.objectives.cross_entropy import token_cross_entropy
from tests.models.parity import laid_out, scramble
from tests.pretrained import tokenizer_of

transformers = import_module("transformers")

SHAPES: list[dict[str, Any]] = [
    {"d_model": 48, "d_kv": 20, "d_ff": 100, "num_layers": 3, "num_heads": 5},
    {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 2},
    {
        "d_model": 40,
        "d_kv": 8,
        "d_ff": 50,
        "num_layers": 1,
        "num_heads": 3,
        "relative_attention_num_buckets": 16,
        "relative_attention_max_distance": 40,
    },
    {
        "d_model": 48,
        "d_kv": 16,
        "d_ff": 70,
        "num_layers": 2,
        "num_heads": 2,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
    },
]
VOCABULARY = 97


def rows_of(lengths: list[int], seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


def padded(rows: list[list[int]], fill: int = 0, left: bool = False) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows))
    pads = [[fill] * (longest - len(row)) for row in rows]
    masks = [[0] * (longest - len(row)) for row in rows]
    if left:
        tokens = [pad + row for pad, row in zip(pads, rows, strict=True)]
        return torch.tensor(tokens), torch.tensor([m + [1] * len(r) for m, r in zip(masks, rows, strict=True)])
    tokens = [row + pad for pad, row in zip(pads, rows, strict=True)]
    return torch.tensor(tokens), torch.tensor([[1] * len(r) + m for m, r in zip(masks, rows, strict=True)])


def theirs_of(shape: dict[str, Any], scale: float = 0.1) -> Any:
    config = transformers.T5Config(vocab_size=VOCABULARY, decoder_start_token_id=0, dropout_rate=0.0, **shape)
    model = transformers.T5ForConditionalGeneration(config).eval()
    scramble(model, scale=scale)
    model.tie_weights()
    if not config.scale_decoder_outputs:  # published checkpoints of version 1.1 have an output layer of their own
        model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, config.d_model) * 0.1)
    return model


def ours_of(theirs: Any) -> T5:
    settings, weights = T5.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    model = T5(VOCABULARY, 30, False, **settings).eval()
    model.load_state_dict(part(weights, "model."))
    return model


def part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def head_of(theirs: Any, ours: T5) -> Any:
    head = ours.token_head()
    _, weights = T5.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    head.load_state_dict(part(weights, "objective.head."))
    return head.to(ours.word_embedding.dtype)


def batch_of(inputs: list[list[int]], outputs: list[list[int]]) -> Batch:
    return Batch(flat(inputs), {}, {}, {}, flat(outputs, "causal"))


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("small", 60_506_624),
        ("base", 222_903_552),
        ("large", 737_668_096),
        ("3b", 2_851_598_336),
        ("11b", 11_307_321_344),
    ],
)
def test_published_counts(size: str, parameters: int) -> None:
    settings = dict(compose(["model=t5", "objective=span_corruption", f"size=t5/{size}"]).config.model)
    assert settings.pop("_target_") == "cloze.models.t5.T5"
    with torch.device("meta"):
        model = T5(32128, 512, False, **settings)
        head = model.token_head()
    assert sum(p.numel() for p in [*model.parameters(), *head.parameters()]) == parameters


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("small", 76_961_152),
        ("base", 247_577_856),
        ("large", 783_150_080),
        ("xl", 2_849_757_184),
        ("xxl", 11_135_332_352),
    ],
)
def test_counts_of_version_1_1(size: str, parameters: int) -> None:
    """As of the checkpoints that Flan-T5 and T5 1.1 are published as; theirs is counted with its output layer apart."""
    settings = dict(compose(["model=t5_v1_1", "objective=span_corruption", f"size=t5_v1_1/{size}"]).config.model)
    assert settings.pop("_target_") == "cloze.models.t5.T5"
    with torch.device("meta"):
        model = T5(32128, 512, False, **settings)
        head = model.token_head()
        theirs = transformers.T5ForConditionalGeneration(
            transformers.T5Config(
                d_model=model.width,
                d_ff=settings["inner"],
                num_layers=settings["layers"],
                num_heads=settings["heads"],
                feed_forward_proj="gated-gelu",
            )
        )
    assert sum(p.numel() for p in [*model.parameters(), *head.parameters()]) == parameters
    assert sum(p.numel() for p in theirs.parameters()) + theirs.lm_head.weight.numel() == parameters


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("left", [False, True], ids=["right-padded", "left-padded"])
@pytest.mark.parametrize("scale", [0.02, 0.1])
def test_logits_and_loss_are_transformers(shape: dict[str, Any], left: bool, scale: float) -> None:
    """Padding on either side, of the encoder and of the decoder; distances reach beyond the last bucket.

    Unscaled attention between far scrambled weights has scores of a size at which 32 bits differ in the fifth place:
    those are compared in 64.
    """
    theirs = theirs_of(shape, scale)
    ours = ours_of(theirs)
    if scale == 0.1:
        theirs, ours = theirs.double(), ours.double()
    inputs, targets = rows_of([5, 150, 1, 17]), rows_of([50, 3, 1, 27], seed=1)
    ids, mask = padded(inputs, left=left)
    labels, label_mask = padded(targets, fill=-100, left=left)
    shifted = [[0, *target[:-1]] for target in targets]
    decoder_ids, decoder_mask = padded(shifted, left=left)
    with torch.no_grad():
        expected = theirs(
            ids,
            attention_mask=mask,
            decoder_input_ids=decoder_ids,
            decoder_attention_mask=decoder_mask,
            labels=labels,
        )
        states = ours(batch_of(inputs, shifted))
        logits = head_of(theirs, ours)(states.last, ours.word_embedding)
    flat_targets = torch.tensor([token for target in targets for token in target])
    assert (logits - expected.logits[label_mask.bool()]).abs().max() <= 1e-5
    assert abs(F.cross_entropy(logits, flat_targets) - expected.loss) <= 1e-5
    assert (states.encoder - expected.encoder_last_hidden_state[mask.bool()]).abs().max() <= 1e-5


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[3]], ids=str)
@pytest.mark.parametrize("rows", [0, 4])
def test_gradients_are_transformers(shape: dict[str, Any], rows: int) -> None:
    """By way of the objective's cross-entropy, all tokens through the head at once and a few at a time."""
    theirs = theirs_of(shape)
    ours, head = ours_of(theirs), head_of(theirs, ours_of(theirs))
    inputs, targets = rows_of([15, 15]), rows_of([9, 9], seed=1)
    theirs(torch.tensor(inputs), labels=torch.tensor(targets)).loss.backward()
    states = ours(batch_of(inputs, [[0, *target[:-1]] for target in targets])).last
    total, _ = token_cross_entropy(head, states, ours.word_embedding, torch.tensor(targets).flatten(), rows)
    (total / 18).backward()
    gradients = {f"model.{name}": p.grad for name, p in ours.named_parameters()}
    gradients |= {f"objective.head.{name}": p.grad for name, p in head.named_parameters()}
    _, expected = T5.from_transformers(theirs.config.to_dict(), {name: p.grad for name, p in theirs.named_parameters()})
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert gradient is not None
        assert (gradient - expected[name]).abs().max() <= 2e-5, name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transformers_loads_what_we_write(shape: dict[str, Any], tmp_path: Path) -> None:
    theirs = theirs_of(shape)
    settings, weights = T5.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    config, state = T5.to_transformers(settings, weights, Vocabulary(VOCABULARY, {"eos": 1, "pad": 0}))
    (tmp_path / "config.json").write_text(json.dumps(config))
    safetensors.torch.save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    again, told = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    ids, labels = torch.tensor(rows_of([20])), torch.tensor(rows_of([11], seed=1))
    with torch.no_grad():
        assert torch.equal(again.eval()(ids, labels=labels).logits, theirs(ids, labels=labels).logits)


@pytest.mark.parametrize("both_sides", [True, False])
@pytest.mark.parametrize(("buckets", "furthest"), [(32, 128), (16, 40), (8, 9)])
def test_buckets_are_transformers(both_sides: bool, buckets: int, furthest: int) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(-300, 301)
    expected = T5Attention._relative_position_bucket(distance, both_sides, buckets, furthest)
    assert torch.equal(RelativeBias(1, buckets, furthest, both_sides).bucket(distance), expected)


def test_bias_depends_on_the_distance_alone() -> None:
    bias = RelativeBias(3, 8, 20, both_sides=True)
    torch.nn.init.normal_(bias.weight)
    table = bias(7)
    assert table.shape == (3, 7, 7)
    for query in range(7):
        for key in range(7):
            bucket = int(bias.bucket(torch.tensor(key - query)))
            assert torch.equal(table[:, query, key], bias.weight[bucket])


def test_the_decoder_sees_nothing_ahead_and_no_other_sequence() -> None:
    model = ours_of(theirs_of(SHAPES[0]))
    batch = batch_of(rows_of([7, 4]), rows_of([5, 6], seed=1))
    embedded: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    model.word.register_forward_hook(keep)
    for at, sequence in ((0, 0), (3, 0), (5, 1), (8, 1)):
        embedded.clear()
        model(batch).last[at].square().sum().backward()
        read, written = (tensor.grad.abs().sum(1) > 0 for tensor in embedded)  # type: ignore[union-attr]
        assert read.nonzero().squeeze(1).tolist() == (list(range(7)) if sequence == 0 else list(range(7, 11)))
        assert written.nonzero().squeeze(1).tolist() == list(range(0 if sequence == 0 else 5, at + 1))


def test_initial_deviations() -> None:
    """As transformers initialises the published configuration (T5's own way)."""
    ours = T5(1000, 64, False, layers=2, width=256, heads=4, head_width=32, inner=512)
    width, inner, head_width, attended = 256, 512, 32, 128
    expected = {
        "word.weight": 1.0,
        "encoder.layers.0.attention.output.weight": attended**-0.5,
        "encoder.layers.1.feed_forward.inner.weight": width**-0.5,
        "decoder.layers.1.feed_forward.outer.weight": inner**-0.5,
        "decoder.layers.0.cross_attention.query.weight": (width * head_width) ** -0.5,
        "decoder.layers.0.cross_attention.key_value.weight": width**-0.5,
        "decoder.relative_bias.weight": width**-0.5,
    }
    state = ours.state_dict()
    for name, deviation in expected.items():
        assert state[name].std().item() == pytest.approx(deviation, rel=0.15), name
    queries, keys, values = state["encoder.layers.0.attention.qkv.weight"].chunk(3)
    assert queries.std().item() == pytest.approx((width * head_width) ** -0.5, rel=0.05)
    assert keys.std().item() == pytest.approx(width**-0.5, rel=0.05)
    assert values.std().item() == pytest.approx(width**-0.5, rel=0.05)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"buckets": 6}, "model.buckets=6"),
        ({"furthest": 10}, "model.furthest=10"),
        ({"dropout": 1.0}, "model.dropout=1"),
        ({"heads": 0}, "model.heads=0 must be at least 1"),
        ({"head_width": 0}, "model.head_width=0 must be at least 1"),
        ({"layers": -1}, "model.layers=-1 must be at least 1"),
        ({"decoder_layers": 0}, "model.decoder_layers=0 must be at least 1"),
        ({"inner": 0}, "model.inner=0 must be at least 1"),
        ({"initializer_factor": -1.0}, "model.initializer_factor=-1 must be more than 0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(Refusal, match=word):
        T5(50, 30, False, **{"layers": 1, "width": 16, "heads": 2, "head_width": 8, "inner": 32} | settings)


def test_what_it_does_not_do_is_refused() -> None:
    theirs = theirs_of(SHAPES[0])
    with pytest.raises(Refusal, match="feed_forward_proj"):
        T5.from_transformers(theirs.config.to_dict() | {"feed_forward_proj": "gated-silu"}, theirs.state_dict())
    with pytest.raises(Refusal, match=r"lm_head\.weight is not its shared\.weight"):
        T5.from_transformers(
            theirs.config.to_dict(), theirs.state_dict() | {"lm_head.weight": torch.zeros(VOCABULARY, 48)}
        )


def test_published_configurations_of_version_1_1_are_read() -> None:
    """They say tie_word_embeddings: false; what transformers itself writes today says scale_decoder_outputs."""
    theirs = theirs_of(SHAPES[3])
    published = theirs.config.to_dict() | {"tie_word_embeddings": False}
    del published["scale_decoder_outputs"]
    for config in (published, theirs.config.to_dict()):
        settings, weights = T5.from_transformers(config, theirs.state_dict())
        assert (settings["feed_forward"], settings["tied"]) == ("gated_gelu", False)
        assert torch.equal(weights["objective.head.weight"], theirs.lm_head.weight)


@pytest.mark.parametrize("kind", ["T5", "MT5"])
def test_directories_of_version_1_1_load(kind: str, tmp_path: Path) -> None:
    """As Flan-T5 and mT5 are published: with an output layer of its own beside the embedding."""
    tokenizer = tokenizer_of("t5.T5")
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=tokenizer.vocabulary.size,
        d_model=32,
        d_kv=8,
        d_ff=40,
        num_layers=2,
        num_heads=3,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    theirs = getattr(transformers, f"{kind}ForConditionalGeneration")(config).eval()
    theirs.lm_head.weight = torch.nn.Parameter(torch.randn_like(theirs.lm_head.weight) * 0.1)
    theirs.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    ours = cloze.load(tmp_path)
    ids, decoder_ids = (torch.tensor(rows_of([n], n)) % tokenizer.vocabulary.size for n in (20, 11))
    with torch.no_grad():
        expected = theirs(ids, decoder_input_ids=decoder_ids).logits
        states = ours.hidden_states(ids, decoder_input_ids=decoder_ids)
        assert ours.head is not None
        logits = ours.head(states, ours.model.word_embedding)
    assert (logits - expected).abs().max() <= 1e-5


def test_mt5_is_read() -> None:
    config = transformers.MT5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=40, num_layers=2, num_heads=3)
    theirs = transformers.MT5ForConditionalGeneration(config).eval()
    scramble(theirs)
    theirs.tie_weights()
    theirs.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, 32) * 0.1)
    ours = ours_of(theirs)
    ids, targets = torch.tensor(rows_of([20])), rows_of([11], seed=1)
    with torch.no_grad():
        expected = theirs(ids, labels=torch.tensor(targets)).logits[0]
        states = ours(batch_of(ids.tolist(), [[0, *targets[0][:-1]]]))
        assert (head_of(theirs, ours)(states.last, ours.word_embedding) - expected).abs().max() <= 1e-5


def test_depth_covers_every_parameter() -> None:
    model = T5(50, 30, False, layers=2, decoder_layers=3, width=16, heads=2, head_width=8, inner=32)
    depths = {name: model.depth(name) for name, _ in model.named_parameters()}
    assert depths["word.weight"] == 0 and depths["encoder.relative_bias.weight"] == 1
    assert depths["encoder.layers.1.attention.qkv.weight"] == depths["encoder.final_norm.weight"] == 2
    assert depths["decoder.relative_bias.weight"] == depths["decoder.layers.0.attention_norm.weight"] == 3
    assert depths["decoder.layers.2.feed_forward.inner.weight"] == depths["decoder.final_norm.weight"] == 5


@pytest.mark.parametrize("stride", [None, 14])
@pytest.mark.parametrize("way", ["grouped", "padded"])
def test_every_layout_gives_the_same(way: Any, stride: int | None) -> None:
    model = ours_of(theirs_of(SHAPES[0], 0.02))
    inputs, outputs = rows_of([9, 3, 14, 1]), rows_of([4, 14, 1, 8], seed=1)
    plain = batch_of(inputs, outputs)
    expected = model(plain)
    laid, real = laid_out(Batch(plain.inputs, {}, {}, {}), way, stride)
    assert plain.decoder is not None
    decoder, real_outputs = laid_out(Batch(plain.decoder, {}, {}, {}), way, stride)
    batch = Batch(laid.inputs, {}, {}, {}, decoder.inputs)
    states = model(batch)
    assert states.encoder is not None and expected.encoder is not None
    assert (states.encoder[real] - expected.encoder).abs().max() <= 1e-5
    assert (states.last[real_outputs] - expected.last).abs().max() <= 1e-5
    pooled = model.pool(expected, plain)
    means = torch.stack([part.mean(0) for part in expected.encoder.split([9, 3, 14, 1])])
    assert (pooled - means).abs().max() <= 1e-6
    assert (model.pool(states, batch) - pooled).abs().max() <= 1e-5
