"""GPT-2 against transformers and against published counts."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from cloze.compose import compose
from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Batch
from cloze.models.gpt2 import GPT2
from cloze.models.padding import flat
from tests.models.parity import laid_out, scramble

transformers = import_module("transformers")

SHAPES = [
    {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 40},
    {
        "n_embd": 40,
        "n_layer": 2,
        "n_head": 1,
        "n_inner": 72,
        "n_positions": 64,
        "activation_function": "gelu_pytorch_tanh",
    },
    {"n_embd": 64, "n_layer": 1, "n_head": 8, "n_positions": 33, "layer_norm_epsilon": 1e-3},
]
VOCABULARY = 97


def batch_of(rows: list[list[int]]) -> Batch:
    return Batch(flat(rows, "causal"), {}, {}, {})


def rows_of(lengths: list[int], seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


def theirs_of(shape: dict[str, Any]) -> Any:
    config = transformers.GPT2Config(vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=1, **shape)
    model = transformers.GPT2LMHeadModel(config).eval()
    scramble(model)
    model.tie_weights()
    return model


def ours_of(theirs: Any) -> GPT2:
    settings, weights = GPT2.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    model = GPT2(VOCABULARY, 30, False, **settings).eval()
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in weights.items()})
    return model


@pytest.mark.parametrize(
    ("size", "vocabulary", "parameters"),
    [
        ("gpt2/small", 50257, 124_439_808),
        ("gpt2/medium", 50257, 354_823_168),
        ("gpt2/large", 50257, 774_030_080),
        ("gpt2/xl", 50257, 1_557_611_200),
        ("megatron/8.3b", 51200, 8_317_040_640),
        ("gpt3/175b", 50257, 174_604_259_328),
    ],
)
def test_published_counts(size: str, vocabulary: int, parameters: int) -> None:
    settings = dict(compose(["model=gpt2", "objective=clm", f"size={size}"]).config.model)
    assert settings.pop("_target_") == "cloze.models.gpt2.GPT2"
    with torch.device("meta"):
        model = GPT2(vocabulary, 128, False, **settings)
        head = model.token_head()
    assert sum(p.numel() for p in [*model.parameters(), *head.parameters()]) == parameters


@pytest.mark.parametrize(
    ("size", "billions"),
    [
        ("small", 0.125), ("medium", 0.35), ("large", 0.76), ("xl", 1.3),
        ("2.7b", 2.7), ("6.7b", 6.7), ("13b", 13.0), ("175b", 175.0),
    ],
)  # fmt: skip
def test_gpt3_sizes_are_as_large_as_their_paper_says(size: str, billions: float) -> None:
    """Its table rounds: to two digits, and to 3 % (its medium and small are 356 and 125 million)."""
    settings = dict(compose(["model=gpt2", f"size=gpt3/{size}", "length=2048"]).config.model)
    del settings["_target_"]
    with torch.device("meta"):
        model = GPT2(50257, 2048, False, **settings)
    assert model.positions == 2048
    assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, rel=0.03)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_are_transformers(shape: dict[str, Any]) -> None:
    theirs = theirs_of(shape)
    ours = ours_of(theirs)
    rows = rows_of([5, shape["n_positions"], 1, 17])
    with torch.no_grad():
        logits = ours.token_head()(ours(batch_of(rows)).last, ours.word_embedding)
        # one batch of theirs, padded on the right
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        expected = theirs(ids, attention_mask=mask).logits[mask.bool()]
    assert (logits - expected).abs().max() <= 1e-5


def test_every_layer_is_transformers() -> None:
    theirs = theirs_of(SHAPES[0])
    ours = ours_of(theirs)
    row = rows_of([21])
    with torch.no_grad():
        layers = ours(batch_of(row), every_layer=True).layers
        expected = theirs(torch.tensor(row), output_hidden_states=True).hidden_states
    assert len(layers) == len(expected) == 4
    for layer, hidden in zip(layers, expected, strict=True):
        assert (layer - hidden[0]).abs().max() <= 1e-5


def test_loss_and_gradients_are_transformers() -> None:
    theirs = theirs_of(SHAPES[0] | {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}).train()
    ours = ours_of(theirs).train()
    rows = rows_of([13, 13, 13])
    loss = theirs(torch.tensor(rows), labels=torch.tensor(rows)).loss
    loss.backward()
    states = ours(batch_of([row[:-1] for row in rows])).last
    targets = torch.tensor([token for row in rows for token in row[1:]])
    own = F.cross_entropy(ours.token_head()(states, ours.word_embedding), targets)
    own.backward()
    assert abs(own - loss) <= 1e-5
    gradients = {f"model.{name}": p.grad for name, p in ours.named_parameters() if p.grad is not None}
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    _, own_expected = GPT2.from_transformers(theirs.config.to_dict(), expected)
    assert gradients.keys() == own_expected.keys()
    for name, gradient in gradients.items():
        assert (gradient - own_expected[name]).abs().max() <= 1e-5, name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transformers_loads_what_we_write(shape: dict[str, Any]) -> None:
    theirs = theirs_of(shape)
    settings, weights = GPT2.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    config, state = GPT2.to_transformers(settings, weights, Vocabulary(VOCABULARY, {"eos": 1, "pad": 0}))
    again = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config))
    missing = again.load_state_dict(state, strict=False)
    assert missing.missing_keys == ["lm_head.weight"] and not missing.unexpected_keys  # tied
    again.tie_weights()
    row = torch.tensor(rows_of([20]))
    with torch.no_grad():
        assert (again.eval()(row).logits - theirs(row).logits).abs().max() <= 1e-5


def test_nothing_is_seen_ahead() -> None:
    """The gradient of position t's state with respect to later tokens is exactly 0, and of no other sequence's."""
    model = ours_of(theirs_of(SHAPES[0]))
    batch = batch_of(rows_of([9, 6]))
    embedded: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    model.word.register_forward_hook(keep)
    for at in (0, 4, 8, 9, 12):
        embedded.clear()
        model(batch).last[at].square().sum().backward()
        reached = embedded[0].grad.abs().sum(1) > 0  # type: ignore[union-attr]
        start = 0 if at < 9 else 9
        assert reached.nonzero().squeeze(1).tolist() == list(range(start, at + 1))


def test_initial_deviations() -> None:
    model = GPT2(1000, 64, False, layers=8, width=128, heads=4, inner=512)
    layer = model.layers[3]
    assert model.word.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert layer.attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for written in (layer.attention.output, layer.feed_forward.outer):
        assert written.weight.std().item() == pytest.approx(0.02 / 16**0.5, rel=0.05)
        assert written.bias.abs().max() == 0


@pytest.mark.parametrize(
    ("settings", "length", "words"),
    [
        ({"heads": 5, "width": 64}, 30, ["model.heads=5", "model.width=64", "model.heads=4"]),
        ({"positions": 20}, 30, ["length=30", "model.positions=20"]),
        ({"embedding_dropout": 1.5}, 30, ["model.embedding_dropout=1.5"]),
        ({"heads": 0}, 30, ["model.heads=0 must be at least 1"]),
        ({"inner": -5}, 30, ["model.inner=-5 must be at least 1"]),
        ({"layers": -2}, 30, ["model.layers=-2 must be at least 1"]),
        ({"norm_epsilon": float("nan")}, 30, ["model.norm_epsilon=nan must be more than 0"]),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], length: int, words: list[str]) -> None:
    with pytest.raises(Refusal) as refusal:
        GPT2(50, length, False, **{"layers": 1, "width": 32, "heads": 2, "inner": 64} | settings)
    assert all(word in str(refusal.value) for word in words)


def test_what_it_does_not_do_is_refused() -> None:
    theirs = theirs_of(SHAPES[0])
    config = theirs.config.to_dict() | {"scale_attn_by_inverse_layer_idx": True}
    with pytest.raises(Refusal, match="scale_attn_by_inverse_layer_idx"):
        GPT2.from_transformers(config, theirs.state_dict())


def test_depth_covers_every_parameter() -> None:
    model = GPT2(50, 30, False, layers=3, width=32, heads=2, inner=64)
    depths = {name: model.depth(name) for name, _ in model.named_parameters()}
    assert depths["word.weight"] == depths["position.weight"] == 0
    assert depths["layers.0.attention.qkv.weight"] == 1 and depths["layers.2.feed_forward.outer.bias"] == 3
    assert set(depths.values()) == {0, 1, 2, 3}


@pytest.mark.parametrize("stride", [None, 12])
@pytest.mark.parametrize("way", ["grouped", "padded"])
def test_every_layout_gives_the_same(way: Any, stride: int | None) -> None:
    model = ours_of(theirs_of(SHAPES[0]))
    rows = rows_of([9, 3, 12, 1])
    expected = model(batch_of(rows))
    batch, real = laid_out(batch_of(rows), way, stride)
    states = model(batch)
    assert (states.last[real] - expected.last).abs().max() <= 1e-5
    pooled = model.pool(expected, batch_of(rows))
    assert torch.equal(pooled, expected.last[torch.tensor([8, 11, 23, 24])])
    assert (model.pool(states, batch) - pooled).abs().max() <= 1e-5
