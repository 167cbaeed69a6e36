"""Cheap dropout is dropout: its rate, its scale, its gradient, and what decides it."""

from __future__ import annotations

import math

import pytest
import torch

from cloze.models.layers.dropout import drop, keep, kept_share


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.013])
def test_rate(rate: float) -> None:
    """Within four standard deviations of the rate, for whole masks and for every column of one."""
    n = 1 << 20
    mask = keep(n, rate, [1])
    assert set(mask.unique().tolist()) == {0, 1}
    assert abs(int(mask.sum()) - n * kept_share(rate)) < 4 * math.sqrt(n * rate * (1 - rate))
    assert abs(kept_share(rate) - (1 - rate)) < 1e-5
    columns = mask.view(-1, 64).float().mean(0)
    assert (columns - kept_share(rate)).abs().max() < 5 * math.sqrt(rate * (1 - rate) / (n / 64))
    # neighbours, and the four numbers that one word gives, know nothing of each other
    x = mask.float() - mask.float().mean()
    for lag in (1, 2, 3, 4, 64):
        assert abs(float((x[lag:] * x[:-lag]).mean() / x.var())) < 5 / math.sqrt(n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_and_gradients(dtype: torch.dtype) -> None:
    x = torch.randn(50, 33, dtype=dtype).t().requires_grad_()  # not contiguous
    torch.manual_seed(1)
    y = drop(x, 0.25, True)
    kept = y != 0
    torch.testing.assert_close(y[kept], (x / 0.75)[kept], rtol=1e-2 if dtype != torch.float32 else 1e-6, atol=0)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, kept.to(dtype) / 0.75, rtol=1e-2 if dtype != torch.float32 else 1e-6, atol=0)
    assert drop(x, 0.25, False) is x
    assert drop(x, 0.0, True) is x


def test_the_default_generator_decides_and_threads_do_not() -> None:
    x = torch.ones(1 << 21)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(3)
            results += [drop(x, 0.1, True), drop(x, 0.1, True)]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[2]) and torch.equal(results[1], results[3])
    assert not torch.equal(results[0], results[1])
