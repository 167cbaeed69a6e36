"""Attention alone on the CPU, forward and backward in bf16: torch's fused kernel, its path with dropout, and ours.

python -m benchmarks.attention [--threads N]

Nanoseconds for each attention weight (sequences * heads * length^2), medians of turns; all sequences equally long, which
is the fused kernel's best case.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

SHAPES = {  # sequences, heads, length
    "tiny, 128": (32, 2, 128),
    "tiny, 512": (8, 2, 512),
    "mini, 512": (8, 4, 512),
    "base, 128": (16, 12, 128),
    "base, 512": (4, 12, 512),
}


def main() -> None:
    """Prints the table."""
    from cloze.environment import prepare

    prepare()
    import torch
    from torch.nn import functional as F

    from cloze.models.layers.attention import attend
    from cloze.models.layout import Layout

    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    clock = time.process_time if given.threads == 1 else time.perf_counter
    print(f"## Attention, forward and backward, bf16, {given.threads} thread{'s' * (given.threads > 1)}: ns a weight\n")
    print("| model, length | SDPA | SDPA, dropout 0.1 | ours | ours, dropout 0.1 |")
    print("|---|---|---|---|---|")
    for name, (sequences, heads, length) in SHAPES.items():
        weights = sequences * heads * length**2
        x = torch.randn(sequences * length, 3, heads, 64).bfloat16().requires_grad_()
        layout = Layout([length] * sequences)

        def sdpa(rate: float, x: torch.Tensor = x, n: int = sequences, length: int = length) -> torch.Tensor:
            q, k, v = (part.view(n, length, -1, 64).transpose(1, 2) for part in x.unbind(1))
            return F.scaled_dot_product_attention(q, k, v, dropout_p=rate).transpose(1, 2).flatten(0, 1)

        def own(rate: float, x: torch.Tensor = x, layout: Layout = layout) -> torch.Tensor:
            return attend(*x.unbind(1), layout, dropout=rate, training=True)

        ways: list[Callable[[], torch.Tensor]] = [
            lambda: sdpa(0.0),
            lambda: sdpa(0.1),
            lambda: own(0.0),
            lambda: own(0.1),
        ]
        times: list[list[float]] = [[] for _ in ways]
        probe = torch.randn(sequences * length, heads, 64).bfloat16()
        for turn in range(given.rounds + 1):
            for taken, way in zip(times, ways, strict=True):
                began = clock()
                way().backward(probe)
                x.grad = None
                if turn:
                    taken.append(clock() - began)
        found = [f"{statistics.median(taken) / weights * 1e9:.1f}" for taken in times]
        print(f"| {name} | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
