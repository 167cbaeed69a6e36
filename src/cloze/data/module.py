"""The LightningDataModule: loaders over the batches, with worker processes that cannot change what is in them."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from cloze.data.batches import Position, TrainingBatches, ValidationBatches, batch_of, one_thread
from cloze.models.base import Batch
from cloze.objectives.base import ExampleBuilder, Examples

__all__ = ["DataModule", "batch_of"]

TIMEOUT = 300  # seconds after which a worker that gives nothing is an error, not a wait for ever


class DataModule(LightningDataModule):
    """Training is one epoch of `steps * parts_per_rank` micro-batches; `start` says at which one to begin.

    batch_size           examples per optimizer step, over all ranks and parts
    parts_per_rank       micro-batches that a rank accumulates into one step
    rank, world          this process among all
    workers              processes that make batches (0: this one does)
    start                the micro-batches that this run has done: asked whenever iteration begins
    steps                the optimizer steps of the whole run
    validation_examples  how many validation examples to score at most; None: all
    """

    def __init__(
        self,
        train: Examples,
        validation: Examples,
        builder: ExampleBuilder,
        *,
        batch_size: int,
        parts_per_rank: int,
        rank: int,
        world: int,
        workers: int,
        seed: int,
        start: Callable[[], int],
        steps: int,
        validation_examples: int | None,
    ) -> None:
        super().__init__()
        self.training = TrainingBatches(
            train, builder, batch_size=batch_size, seed=seed, parts_per_rank=parts_per_rank, rank=rank, world=world
        )
        part = -(-batch_size // self.training.parts)
        self.validation = ValidationBatches(
            validation, builder, batch_size=part, rank=rank, world=world, limit=validation_examples, lanes=batch_size
        )
        self.position = Position(start, steps * parts_per_rank)
        self.workers = workers

    def train_dataloader(self) -> DataLoader[Batch]:
        return _loader(self.training, self.workers, self.position, keep=False)

    def val_dataloader(self) -> DataLoader[Batch]:
        return _loader(self.validation, min(self.workers, 1), range(len(self.validation)), keep=True)


def _loader(batches: Dataset[Batch], workers: int, sampler: Sampler[int] | range, keep: bool) -> DataLoader[Batch]:
    context = None
    if workers:
        # Copying this process is quick and shares the arrays; but a process that runs a GPU must not be copied.
        fork = (
            sys.platform == "linux"
            and "fork" in multiprocessing.get_all_start_methods()
            and not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        )
        context = "fork" if fork else "spawn"
    more: dict[str, Any] = {"prefetch_factor": 4, "persistent_workers": keep} if workers else {}
    return DataLoader(
        batches,
        batch_size=None,
        sampler=sampler,
        num_workers=workers,
        generator=torch.Generator().manual_seed(0),  # a private one: loaders draw from the global one otherwise
        timeout=TIMEOUT if workers else 0,
        multiprocessing_context=context,
        worker_init_fn=one_thread if workers else None,
        pin_memory=False,
        **more,
    )
