"""`plan=true`: what would run and what it costs, before anything is trained.

The cost is not estimated from a formula: a few real steps of the run's first micro-batch are taken on this machine, their
floating-point operations counted by torch's own counter, and the run's length multiplied out.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cloze.data.module import batch_of
from cloze.models.base import Batch
from cloze.prepare import Prepared


@dataclass(frozen=True)
class Cost:
    """What one micro-batch costs here: forward and backward."""

    seconds: float  # median of several
    flops: int
    activations: int  # bytes that the forward pass keeps for the backward pass
    tokens: int  # real tokens read


def measure(prepared: Prepared, batch: Batch, precision: torch.dtype | None, repeats: int = 5) -> Cost:
    """Takes `repeats` steps on one micro-batch (after one that warms up); leaves no gradient behind."""
    model, objective = prepared.model, prepared.objective
    parameters = [*model.parameters(), *objective.parameters()]
    kept: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def step() -> None:
        with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
            output = objective(model, batch)
        loss = sum((term.weight * term.total / max(term.count, 1) for term in output.terms.values()), torch.zeros(()))
        loss.backward()  # type: ignore[no-untyped-call]
        for parameter in parameters:
            parameter.grad = None

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    with FlopCounterMode(display=False) as counter:
        step()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    return Cost(statistics.median(seconds), counter.get_total_flops(), sum(kept.values()), batch.real_tokens)
