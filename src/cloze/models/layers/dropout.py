"""Dropout whose random numbers are cheap (Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html).

On the CPU, torch draws a Bernoulli variable in about 7.5 ns; with that, drawing is what dropout, and attention with it,
mostly does. Here a generator seeded from torch's default generator gives four 16-bit numbers a word (0.6 ns each), so the
rate is a multiple of 1/65536: 0.1 becomes 0.100006. What is kept is scaled by exactly what that rate asks for.
Elsewhere torch's own dropout serves.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_WORDS = 1 << 18  # drawn from one seed: fixed, so that what is dropped does not depend on the number of threads


def drop(x: Tensor, rate: float, training: bool) -> Tensor:
    """`x` with a share `rate` of its elements set to 0 and the others divided by 1 - rate; `x` itself out of training."""
    if not training or rate == 0:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, rate, True)
    dropped: Tensor = _Dropout.apply(x, rate)  # type: ignore[no-untyped-call]
    return dropped


def kept_share(rate: float) -> float:
    """The probability that `keep` keeps an element: 1 - rate to within 1/131072."""
    return 1 - round(rate * 65536) / 65536


def draw_seed() -> int:
    """A seed for `keep` from torch's default generator, which the trainer seeds for every step."""
    return int(torch.randint(2**63 - 1, ()))


def keep(count: int, rate: float, seed: Sequence[int]) -> Tensor:
    """(count,) int16 on the CPU: 1 with probability `kept_share(rate)`, else 0; the same for the same seed."""
    words = np.empty(-(-count // 4), np.uint64)

    def fill(start: int) -> None:
        part = words[start : start + _WORDS]
        generator = np.random.Generator(np.random.SFC64([*seed, start]))
        part[:] = generator.integers(0, 1 << 64, len(part), np.uint64)

    starts = range(0, len(words), _WORDS)
    threads = torch.get_num_threads()
    if threads > 1 and len(starts) > 1:
        list(_pool(threads, os.getpid()).map(fill, starts))
    else:
        for start in starts:
            fill(start)
    drawn = torch.from_numpy(words.view(np.int16))[:count]
    return drawn.ge_(round(rate * 65536) - 32768)


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that draw, for this process: a forked one has none of its parent's."""
    return ThreadPoolExecutor(threads, "cloze-dropout")


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """`x` where the int16 `mask` of its shape is 1, else 0."""
    if x.element_size() == 2:  # 16-bit floats: a product of their bits with 0 or 1 is vectorised, one of numbers is not
        return (x.view(torch.int16) * mask).view(x.dtype)
    return x * mask


def masked_(x: Tensor, mask: Tensor) -> Tensor:
    """The same in place, for a contiguous `x` that nobody else reads."""
    if x.element_size() == 2:
        x.view(torch.int16).mul_(mask)
        return x
    return x.mul_(mask)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float) -> Tensor:
        mask = keep(x.numel(), rate, [draw_seed()]).view(x.shape)
        ctx.save_for_backward(mask)
        ctx.kept = kept_share(rate)
        return masked(x.contiguous(), mask).mul_(1 / ctx.kept)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return masked(gradient.contiguous(), mask).mul_(1 / ctx.kept), None
