"""Floating-point operations of a run: counted by torch's own counter while a real micro-batch is read and learnt from, never by a
formula such as 6 × parameters (https://arxiv.org/abs/2001.08361, section 2.1), which knows neither shared weights nor experts.

Counted are matrix products, convolutions and attention, a multiplication and an addition being two, forward and backward of what
trains; not what is done element by element, nor the optimizer's step. It is done on the CPU in 32 bits, whatever the run is to compute
on: the same run has the same number everywhere, and every product passes through an operator that the counter knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop, sdpa_flop

from cloze.data import keyed
from cloze.data.batches import TrainingBatches
from cloze.models.base import Backbone, Batch, Memory
from cloze.objectives.base import ExampleBuilder, Examples, Objective

# Tokens of the micro-batch that is measured; of a larger one a part, so that large models do not wait for minutes.
MOST_TOKENS = 4096
_LONGEST_WAY = 64  # steps at most until a memory is full

# What torch's counter leaves out: the attention that it has for CPUs alone.
_FURTHER = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
}


def counted(work: Callable[[], object]) -> int:
    """The floating-point operations of a piece of work."""
    counter = FlopCounterMode(display=False)
    counter.flop_registry |= _FURTHER
    counter.mod_tracker = _Nowhere()  # type: ignore[assignment]
    with counter:
        work()
    return int(counter.get_total_flops())


class _Nowhere:
    """Stands for the part of the counter that says which module each operation was in. Nobody asks, and its hooks end in an error where a
    module is called with a leaf under `no_grad`, as ELECTRA's generator is."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def loss(model: Backbone, objective: Objective[Any, Any], batch: Batch) -> Tensor:
    """The loss of one micro-batch as if it were a whole step."""
    terms = objective(model, batch).terms.values()
    return sum((term.weight * term.total / max(term.count, 1) for term in terms), torch.zeros(()))


def backward(value: Tensor, *modules: nn.Module) -> None:
    """The gradients of a loss, which are thrown away."""
    value.backward()  # type: ignore[no-untyped-call]
    for module in modules:
        module.zero_grad(set_to_none=True)


def per_token(
    model: Backbone,
    objective: Objective[Any, Any],
    builder: ExampleBuilder,
    train: Examples,
    *,
    batch_size: int,
    seed: int,
    micro_batches: int = 1,
    trained: frozenset[str] | None = None,
    frozen: bool = False,
) -> float:
    """FLOPs a real token of training, forward and backward; of the run itself nothing is changed, no random state either.

    Measured is one of the `micro_batches` (or more, where they would be larger than `MOST_TOKENS`) of the first step; where text goes on
    from batch to batch, of the first one that finds the model's memory as long as it gets. `trained` are the parameters that train at
    some step ("model.…", "objective.…"): nothing is counted for the gradients of the others. None: those that are not switched off.
    `frozen`: the model is read as it is, without dropout.
    """
    tokens = batch_size * train.total_tokens / max(1, len(train))
    parts = min(batch_size, max(micro_batches, -(-int(tokens) // MOST_TOKENS)))
    batches = TrainingBatches(train, builder, batch_size=batch_size, seed=seed, parts_per_rank=parts)
    with _as_it_was(model, objective):
        torch.manual_seed(keyed.key(seed, "flops") >> 1)  # alike in all processes
        objective.train()
        model.train(not frozen)
        if trained is not None:
            for name, parameter in _named(model, objective):
                parameter.requires_grad_(name in trained)
        # parts are dealt from the longest on: the one in the middle has neither the longest nor the shortest sequences
        batch = _with_a_full_memory(model, objective, batches, parts // 2)
        work = counted(lambda: backward(loss(model, objective, batch), model, objective))
    return work / batch.real_tokens


def _with_a_full_memory(model: Backbone, objective: Objective[Any, Any], batches: TrainingBatches, part: int) -> Batch:
    """The micro-batch of that number of the first step, or of the first whose memory does not grow any more."""
    batch = batches[part]
    for step in range(1, min(batches.steps_per_epoch, _LONGEST_WAY)):
        if not batch.goes_on:
            break
        with torch.no_grad():
            memory = objective(model, batch).memory
        following = batches[step * batches.parts_per_rank + part]
        if not memory or not following.continues or _shapes(memory) == _shapes(batch.memory):
            break
        batch = replace(following, memory=memory)
    return batch


def _shapes(memory: Memory | None) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in (memory or {}).items()}


def _named(model: nn.Module, objective: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters under the names that a run's state has them by."""
    for part, module in (("model", model), ("objective", objective)):
        for name, parameter in module.named_parameters():
            yield f"{part}.{name}", parameter


@contextmanager
def _as_it_was(*modules: nn.Module) -> Iterator[None]:
    """Gives back what work with a model changes: random state, buffers, mode, what may train."""
    modes = {each: each.training for module in modules for each in module.modules()}
    able = {parameter: parameter.requires_grad for module in modules for parameter in module.parameters()}
    buffers: dict[Tensor, Tensor] = {buffer: buffer.clone() for module in modules for buffer in module.buffers()}
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for each, mode in modes.items():
            each.training = mode
        for parameter, wanted in able.items():
            parameter.requires_grad_(wanted)
        with torch.no_grad():
            for buffer, before in buffers.items():
                buffer.copy_(before)
