"""Optimizers: LAMB against the paper's formula, groups, and what may be set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cloze.errors import Refusal
from cloze.training.optimizers import (
    LAMB,
    Adafactor,
    Adagrad,
    AdamW,
    Lamb,
    OptimizerSettings,
    decay_groups,
    matrices_of,
    refuse_pieces,
)


def lamb_by_hand(
    weight: np.ndarray, gradients: list[np.ndarray], rate: float, decay: float, adapted: bool, corrected: bool
) -> np.ndarray:
    """Algorithm 2 of https://arxiv.org/abs/1904.00962, written down in numpy in 64 bits."""
    beta1, beta2, epsilon = 0.9, 0.999, 1e-6
    x, m, v = weight.astype(np.float64), np.zeros_like(weight, np.float64), np.zeros_like(weight, np.float64)
    for t, g in enumerate(gradients, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = (m / (1 - beta1**t), v / (1 - beta2**t)) if corrected else (m, v)
        update = m_hat / (np.sqrt(v_hat) + epsilon) + decay * x
        ratio = 1.0
        if adapted:
            size, length = np.linalg.norm(x), np.linalg.norm(update)
            ratio = size / length if size > 0 and length > 0 else 1.0
        x = x - rate * ratio * update
    return x


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("adapted", [True, False])
@pytest.mark.parametrize("zero", [True, False])
def test_lamb(corrected: bool, adapted: bool, zero: bool) -> None:
    random = np.random.default_rng(0)
    weight = np.zeros((7, 5), np.float32) if zero else random.normal(size=(7, 5)).astype(np.float32)
    gradients = [random.normal(size=(7, 5)).astype(np.float32) for _ in range(6)]
    parameter = nn.Parameter(torch.from_numpy(weight.copy()))
    optimizer = Lamb(
        [{"params": [parameter], "weight_decay": 0.1, "adapted": adapted}], 0.01, bias_correction=corrected
    )
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
    expected = lamb_by_hand(weight, gradients, 0.01, 0.1, adapted, corrected)
    np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=2e-5, atol=1e-6)


def test_adagrad_begins_with_a_sum() -> None:
    """rate * gradient / (root of the sum of squares + epsilon), the sum beginning at 1."""
    parameter = nn.Parameter(torch.tensor([[1.0, -2.0]]))
    module = nn.Module()
    module.weight = parameter
    optimizer = Adagrad(learning_rate=0.2).build(module)
    expected, squares = np.array([[1.0, -2.0]]), 1.0 + np.zeros((1, 2))
    for gradient in (np.array([[3.0, 0.5]]), np.array([[-1.0, 4.0]])):
        parameter.grad = torch.from_numpy(gradient).float()
        optimizer.step()
        squares += gradient**2
        expected -= 0.2 * gradient / np.sqrt(squares)
    np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-6)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.dense = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.tied = self.embedding
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def test_groups() -> None:
    """BERT's rule: no decay on biases and on the norms' weights; every trained parameter once."""
    module = Small()
    decayed, kept = decay_groups(module, 0.01)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {"embedding.weight", "dense.weight"}
    assert {names[id(p)] for p in kept["params"]} == {"dense.bias", "norm.weight", "norm.bias"}
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.01, 0.0)


def test_pieces_of_matrices_decay_as_the_matrices_did() -> None:
    """FSDP leaves flat pieces (of some parameters none) under names of its own before there is an optimizer."""
    module = nn.Module()
    module._fsdp_wrapped_module = Small()
    matrices = matrices_of(module)
    names = {id(parameter): name for name, parameter in module._fsdp_wrapped_module.named_parameters()}
    for parameter in module.parameters():
        parameter.data = parameter.data.flatten()[:2]
    decayed, kept = AdamW(weight_decay=0.01).build(module, matrices=matrices).param_groups
    assert {names[id(p)] for p in decayed["params"]} == {"embedding.weight", "dense.weight"}
    assert {names[id(p)] for p in kept["params"]} == {"dense.bias", "norm.weight", "norm.bias"}
    for settings in (LAMB(), Adafactor()):
        with pytest.raises(Refusal, match=r"strategy=fsdp cuts matrices into pieces; take optimizer=adamw"):
            refuse_pieces(settings, "fsdp")
        refuse_pieces(settings, "ddp")
    refuse_pieces(AdamW(), "fsdp")


@pytest.mark.parametrize(
    "settings", [AdamW(), LAMB(), Adagrad(), Adafactor(), Adafactor(beta1=0.9, scale_parameter=False)]
)
def test_builds_steps_and_restores(settings: OptimizerSettings) -> None:
    torch.manual_seed(0)
    module = Small()
    optimizer = settings.build(module)

    def step(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            module.norm(module.dense(module.embedding(torch.arange(5)))).square().mean().backward()
            optimizer.step()

    step(2)
    state = {"module": {k: v.clone() for k, v in module.state_dict().items()}, "optimizer": optimizer.state_dict()}
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    step(2)
    expected = {k: v.clone() for k, v in module.state_dict().items()}
    saved = torch.load(file, weights_only=True)
    module.load_state_dict(saved["module"])
    optimizer = settings.build(module)
    optimizer.load_state_dict(saved["optimizer"])
    step(2)
    assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())
    assert not torch.equal(expected["dense.weight"], saved["module"]["dense.weight"])


def test_adamw_is_fused() -> None:
    assert AdamW().build(Small()).param_groups[0]["fused"] is True
    assert not AdamW().build(Small(), fused=False).param_groups[0]["fused"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AdamW(learning_rate=-1.0), r"optimizer\.learning_rate=-1\.0 must be above 0"),
        (lambda: AdamW(beta2=1.0), r"optimizer\.beta2=1\.0 must lie in \[0, 1\)"),
        (lambda: LAMB(epsilon=0.0), r"optimizer\.epsilon=0\.0"),
        (lambda: AdamW(clip_norm=0.0), r"optimizer\.clip_norm=0\.0 must be above 0, or null"),
        (lambda: Adafactor(decay_exponent=2.0), r"optimizer\.decay_exponent=2\.0"),
        (lambda: AdamW(weight_decay=-0.1), r"optimizer\.weight_decay=-0\.1"),
    ],
)
def test_refusals(build: object, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        build()  # type: ignore[operator]
