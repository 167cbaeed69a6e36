"""`plan=true`: what would run and what it costs, before anything is trained.

The cost is not estimated from a formula: a few real steps of the run's first micro-batch are taken on this machine, their
floating-point operations counted as the run itself will (`training.flops`), and the run's length multiplied out.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass

import torch
from rich.table import Table
from torch import Tensor

from cloze.data import keyed
from cloze.data.batches import batch_of
from cloze.finetuning.course import Course
from cloze.models.base import Batch
from cloze.prepare import Prepared
from cloze.training import flops
from cloze.training.budget import Budget
from cloze.training.hardware import Hardware
from cloze.training.threads import calibrate, chosen_outside

MEASURED = 8  # sequences at most: enough to be busy, few enough for a large model on a small machine


@dataclass(frozen=True)
class Cost:
    """What one micro-batch costs here: forward and backward."""

    seconds: float  # median of several
    activations: int  # bytes that the forward pass keeps for the backward pass
    threads: int  # of the CPU, the number that was fastest unless one was asked for

    def times(self, factor: float) -> Cost:
        """The cost of so many times the tokens."""
        return Cost(self.seconds * factor, round(self.activations * factor), self.threads)


def measure(
    prepared: Prepared, batch: Batch, precision: torch.dtype | None, threads: int | None, repeats: int = 5
) -> Cost:
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
            value = flops.loss(model, objective, batch)
        flops.backward(value, model, objective)

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    if threads is None:
        threads, _ = calibrate(step, "plan", None)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    torch.set_num_threads(before)
    return Cost(statistics.median(seconds), sum(kept.values()), threads)


def plan(prepared: Prepared) -> Table:
    """The table that `plan=true` prints."""
    checked = prepared.checked
    top = checked.top
    hardware: Hardware = checked.nodes["hardware"].build()
    machine = hardware.resolve(top.batch_size)
    budget: Budget = checked.nodes["budget"].build()
    examples, tokens = len(prepared.train), prepared.train.total_tokens
    parts = machine.cut.parts_per_rank * machine.world
    rate = flops.per_token(
        prepared.model, prepared.objective, prepared.builder, prepared.train, batch_size=top.batch_size, seed=top.seed,
        micro_batches=parts, trained=_made_ready(prepared), frozen=prepared.checked.nodes["finetune"].build().freezes_all,
    )  # fmt: skip
    length = budget.plan(examples, tokens, top.batch_size, lambda: rate)
    step_flops = rate * top.batch_size * tokens / examples
    precision = torch.bfloat16 if machine.precision == "bf16-mixed" else None
    asked = hardware.threads if isinstance(hardware.threads, int) else chosen_outside()
    sample = _first_batch(prepared, min(machine.cut.micro_batch, MEASURED))
    cost = measure(prepared, sample, precision, asked)
    cost = cost.times(machine.cut.micro_batch * tokens / examples / sample.real_tokens)
    step_seconds = cost.seconds * machine.cut.parts_per_rank
    steps = length.steps or max(1, round((length.seconds or 0) / step_seconds))
    weights = [*prepared.model.parameters(), *prepared.objective.parameters()]
    count = sum(parameter.numel() for parameter in weights)
    memory = 16 * count + cost.activations  # float32 weight, gradient and two moments, and what the backward pass needs
    table = Table(title=checked.name, show_header=False)
    for name, value in (
        ("parameters", f"{count:,} ({sum(p.numel() for p in prepared.model.parameters()):,} in the model)"),
        ("vocabulary", f"{prepared.tokenizer.vocabulary.size:,} tokens"),
        ("training text", f"{len(prepared.train_text):,} documents, {len(prepared.train_text.tokens):,} tokens"),
        ("examples", f"{examples:,} of {tokens / examples:.1f} tokens on average"),
        ("a step", f"{top.batch_size} examples in {parts} part(s) on {machine.world} {machine.accelerator} process(es)"),
        ("steps", f"{steps:,} ({steps * top.batch_size / examples:.2f} epochs)"),
        ("tokens in all", f"{round(steps * top.batch_size * tokens / examples):,}"),
        ("FLOPs", f"{step_flops:.3g} a step, {step_flops * steps:.3g} in all"),
        ("memory", f"about {memory / 1e6:,.0f} MB ({cost.activations / 1e6:,.0f} MB of activations), beside the program"),
        ("precision", machine.precision),
        ("here", f"{step_seconds * 1e3:,.1f} ms a step on {cost.threads} CPU thread(s), without optimizer and validation"),
        ("time", f"about {steps * step_seconds / 60:,.1f} minutes"),
    ):  # fmt: skip
        table.add_row(name, value)
    if machine.accelerator != "cpu":
        table.caption = "Measured on the CPU of this machine; the accelerator will be faster."
    if top.batch_size > 1 and machine.cut.micro_batch == top.batch_size and memory > _free_memory():
        table.caption = (
            f"This may not fit: hardware.micro_batch={max(1, machine.cut.micro_batch // 4)} needs less memory."
        )
    return table


def _made_ready(prepared: Prepared) -> frozenset[str]:
    """Adds what fine-tuning adds and switches off what does not train; the names of what does."""
    way = prepared.checked.nodes["finetune"].build()
    Course.install(way, prepared.model)
    trained = Course(way, prepared.model, prepared.objective).able
    for part, module in (("model", prepared.model), ("objective", prepared.objective)):
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(f"{part}.{name}" in trained)
    return trained


def _first_batch(prepared: Prepared, size: int) -> Batch:
    """The first examples of the first epoch, longest first as the data module orders them."""
    seed = prepared.checked.top.seed
    indices = keyed.permutation(keyed.key(seed, "order", 0), len(prepared.train))[:size]
    indices = indices[prepared.train.lengths[indices].argsort(kind="stable")[::-1]]
    sample = prepared.builder.sample(prepared.train, indices, prepared.builder.keys(seed, 0, indices))
    return batch_of(sample, sample.counts, tuple(int(index) for index in indices), 0, 1)


def _free_memory() -> int:
    """Bytes of main memory that are free now; no limit where the system does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 1 << 62
