"""One training session: the built parts and a run folder in, a trained model and its facts out. It reads no config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloze.folder import RunFolder

if TYPE_CHECKING:
    from cloze.data.base import Vocabulary
    from cloze.models.base import Backbone
    from cloze.objectives.base import ExampleBuilder, Examples, Objective
    from cloze.tracking.base import Tracking
    from cloze.training.budget import Budget
    from cloze.training.checkpoints import Checkpointing
    from cloze.training.hardware import Hardware
    from cloze.training.optimizers import OptimizerSettings
    from cloze.training.schedules import Schedule


@dataclass(frozen=True)
class CorpusFacts:
    """What is known of the validation text: lines of reference for the loss. Nats a token; None where not known."""

    announcement: str
    unigram_entropy: float | None = None
    entropy_floor: float | None = None


@dataclass(frozen=True)
class Parts:
    """Everything that a run is made of, built and checked.

    `config` is the composed run as plain containers (for trackers and records), `config_text` the same as YAML. `identity` holds,
    flat and plain, what decides the weights (model, objective, data and tokenizer fingerprints, optimizer, schedule, budget, seed,
    geometry of a batch): a resumed run must have the same, save for the keys in `may_differ`.
    `description` is what `models.storage.save_model` writes; `save_tokenizer` puts the tokenizer into a folder.
    """

    name: str
    model: Backbone
    objective: Objective[Any, Any]
    builder: ExampleBuilder
    train: Examples
    validation: Examples
    vocabulary: Vocabulary
    tokenizer: Any
    save_tokenizer: Callable[[Path], object]
    description: dict[str, Any]
    facts: CorpusFacts
    optimizer: OptimizerSettings
    schedule: Schedule
    budget: Budget
    hardware: Hardware
    checkpoint: Checkpointing
    tracking: Tracking
    seed: int
    batch_size: int
    validation_every: int = 250
    validation_examples: int | None = 512
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    identity: dict[str, Any] = field(default_factory=dict)
    may_differ: tuple[str, ...] = ()
    cache: Path | None = None
    provenance: dict[str, Any] = field(default_factory=dict)  # added to run.json: fingerprints of data and tokenizer


def train(parts: Parts, folder: RunFolder) -> dict[str, Any]:
    """Trains to the end of the budget, from the newest valid checkpoint where `folder.resumed`; returns what run.json then says.

    Raises Refusal (the folder or the checkpoint cannot be used, the run to go on with is another one), RunFailure (the loss is not
    a number, the disk is full) or Preempted (a signal; a checkpoint has been saved). In each case run.json says so.
    """
    raise NotImplementedError
