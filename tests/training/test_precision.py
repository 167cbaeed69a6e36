"""Mixed precision casts each weight once a pass, and loses no gradient by it."""

from __future__ import annotations

import torch
from torch import nn

from cloze.training.precision import CachedMixedPrecision


def test_a_weight_first_used_without_gradients_still_gets_one() -> None:
    dense, x = nn.Linear(4, 4), torch.randn(2, 4)
    with CachedMixedPrecision("bf16-mixed", "cpu").forward_context():
        with torch.no_grad():
            dense(x)
        output = dense(x)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert dense.weight.grad is not None and dense.weight.grad.abs().sum() > 0
    assert dense.bias.grad is not None and torch.equal(dense.bias.grad, torch.full((4,), 2.0))
