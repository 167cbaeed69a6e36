"""What the processes of a distributed run say to each other. With one process nothing is said and nothing costs anything."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


def distributed() -> bool:
    """Whether there is more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather(content: T) -> list[T]:
    """What every rank has, in the order of the ranks, on every rank. Plain things only."""
    if not distributed():
        return [content]
    everything: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everything, content)
    return everything


def highest_over_ranks(values: list[float], device: torch.device) -> list[float]:
    """The elementwise maximum over all ranks, on every rank."""
    if not distributed():
        return values
    agreed = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(agreed, op=dist.ReduceOp.MAX)
    return [float(value) for value in agreed.tolist()]
