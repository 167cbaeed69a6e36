"""GPT against transformers and against the published count."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from cloze.compose import compose
from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models.gpt import GPT
from tests.models.parity import scramble
from tests.models.test_gpt2 import VOCABULARY, batch_of, rows_of

transformers = import_module("transformers")

SHAPES = [
    {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 40},
    {"n_embd": 40, "n_layer": 1, "n_head": 1, "n_positions": 33, "layer_norm_epsilon": 1e-3},
]


def theirs_of(shape: dict[str, Any]) -> Any:
    config = transformers.OpenAIGPTConfig(
        vocab_size=VOCABULARY, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **shape
    )
    model = transformers.OpenAIGPTLMHeadModel(config).eval()
    scramble(model)
    model.tie_weights()
    return model


def ours_of(theirs: Any) -> GPT:
    settings, weights = GPT.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    model = GPT(VOCABULARY, 30, False, **settings).eval()
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in weights.items()})
    return model


def test_published_count() -> None:
    settings = dict(compose(["model=gpt", "size=gpt/original", "length=512"]).config.model)
    assert settings.pop("_target_") == "cloze.models.gpt.GPT"
    with torch.device("meta"):
        model = GPT(40_478, 512, False, **settings)
        head = model.token_head()
    assert sum(p.numel() for p in [*model.parameters(), *head.parameters()]) == 116_534_784


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_and_layers_are_transformers(shape: dict[str, Any]) -> None:
    theirs = theirs_of(shape)
    ours = ours_of(theirs)
    rows = rows_of([5, shape["n_positions"], 1, 17])
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    real = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]).bool()
    with torch.no_grad():
        states = ours(batch_of(rows), every_layer=True)
        logits = ours.token_head()(states.last, ours.word_embedding)
        expected = theirs(ids, attention_mask=real.long(), output_hidden_states=True)
    assert (logits - expected.logits[real]).abs().max() <= 1e-5
    assert len(states.layers) == len(expected.hidden_states)
    for layer, hidden in zip(states.layers, expected.hidden_states, strict=True):
        assert (layer - hidden[real]).abs().max() <= 1e-5


def test_loss_and_gradients_are_transformers() -> None:
    theirs = theirs_of(SHAPES[0])
    ours = ours_of(theirs)
    rows = rows_of([13, 13, 13])
    loss = theirs(torch.tensor(rows), labels=torch.tensor(rows)).loss
    loss.backward()
    states = ours(batch_of([row[:-1] for row in rows])).last
    own = F.cross_entropy(
        ours.token_head()(states, ours.word_embedding), torch.tensor([token for row in rows for token in row[1:]])
    )
    own.backward()
    assert abs(own - loss) <= 1e-5
    _, expected = GPT.from_transformers(
        theirs.config.to_dict(), {name: p.grad for name, p in theirs.named_parameters()}
    )
    gradients = {f"model.{name}": p.grad for name, p in ours.named_parameters()}
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert gradient is not None
        assert (gradient - expected[name]).abs().max() <= 2e-5, name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transformers_loads_what_we_write(shape: dict[str, Any]) -> None:
    theirs = theirs_of(shape)
    settings, weights = GPT.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    config, state = GPT.to_transformers(settings, weights, Vocabulary(VOCABULARY, {"eos": 1, "pad": 0}))
    again = transformers.OpenAIGPTLMHeadModel(transformers.OpenAIGPTConfig(**config)).eval()
    left = again.load_state_dict(state, strict=False)
    assert left.missing_keys == ["lm_head.weight"] and not left.unexpected_keys
    again.tie_weights()
    ids = torch.tensor(rows_of([20]))
    with torch.no_grad():
        assert torch.equal(again(ids).logits, theirs(ids).logits)


def test_what_does_not_fit_is_refused() -> None:
    theirs = theirs_of(SHAPES[0])
    with pytest.raises(Refusal, match="afn='relu'"):
        GPT.from_transformers(theirs.config.to_dict() | {"afn": "relu"}, theirs.state_dict())
    settings, weights = GPT.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    with pytest.raises(Refusal, match=r"model\.inner=50"):
        GPT.to_transformers(settings | {"inner": 50}, weights, Vocabulary(VOCABULARY, {}))


def test_buffers_of_old_checkpoints_are_passed_over() -> None:
    theirs = theirs_of(SHAPES[0])
    old = theirs.state_dict() | {
        "transformer.position_ids": torch.arange(40),
        "transformer.h.0.attn.bias": torch.ones(1, 1, 40, 40),
    }
    _, weights = GPT.from_transformers(theirs.config.to_dict(), old)
    _, expected = GPT.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    assert weights.keys() == expected.keys()


def test_depth_covers_every_parameter() -> None:
    model = GPT(50, 30, False, layers=3, width=32, heads=2, inner=64)
    depths = {name: model.depth(name) for name, _ in model.named_parameters()}
    assert depths["word.weight"] == depths["position.weight"] == 0
    assert depths["layers.0.attention.qkv.weight"] == 1 and depths["layers.2.feed_forward_norm.bias"] == 3
    assert set(depths.values()) == {0, 1, 2, 3}


def test_initial_deviations() -> None:
    """No projection begins smaller than the others: that came with GPT-2."""
    model = GPT(1000, 64, False, layers=2, width=128, heads=4, inner=512)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name
        else:
            assert parameter.unique().tolist() == ([0.0] if name.endswith("bias") else [1.0]), name
