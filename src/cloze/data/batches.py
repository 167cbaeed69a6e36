"""From examples to batches: which examples a step has, how it is cut into micro-batches, and their tensors.

Everything is a function of the micro-batch's number. Example i of epoch e is corrupted with a key of (seed, e, i) alone; the order
of epoch e is a permutation of (seed, e); step k has the batch k of it, over all ranks and parts. So the batches are the same for any
number of ranks, parts and workers, and the only state to restore is one integer.

Where text goes on from batch to batch (`ExampleBuilder.continuous`) there is no permutation: the text is cut into as many lanes as a
batch has sequences, and step k has the k-th window of every lane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler, get_worker_info

from cloze.data import keyed
from cloze.data.base import Packed, Sample
from cloze.errors import Refusal
from cloze.models.base import Batch, Sequences
from cloze.models.layout import Layout, Pattern
from cloze.objectives.base import ExampleBuilder, Examples


def batch_of(
    sample: Sample,
    step_counts: dict[str, int] | None = None,
    indices: Sequence[int] = (),
    step: int = 0,
    parts: int = 1,
    continues: bool = False,
    goes_on: bool = True,
) -> Batch:
    """A sample's arrays as the tensors that a model reads.

    `step_counts` are the targets of the whole step that this is a part of; None says that it is the whole step.
    """
    pattern: Pattern = "causal" if sample.causal else "bidirectional"
    prefix = None
    if sample.prefix is not None:
        pattern, prefix = "prefix", sample.prefix.tolist()
    return Batch(
        inputs=_sequences(sample.inputs, pattern, prefix),
        targets={name: tensor_of(array) for name, array in sample.targets.items()},
        counts=sample.counts,
        step_counts=sample.counts if step_counts is None else step_counts,
        decoder=None if sample.decoder is None else _sequences(sample.decoder, "causal", None),
        streams={
            name: batch_of(each, _of_stream(name, step_counts), indices, step, parts, continues, goes_on)
            for name, each in sample.streams.items()
        },
        indices=tuple(int(index) for index in indices),
        step=step,
        parts=parts,
        extra=sample.extra,
        continues=continues,
        goes_on=goes_on,
    )


def _of_stream(name: str, counts: dict[str, int] | None) -> dict[str, int] | None:
    """The counts of one stream, under the names that its objective knows."""
    prefix = f"{name}/"
    return counts and {term.removeprefix(prefix): n for term, n in counts.items() if term.startswith(prefix)}


class _Parcel:
    """What a worker process sends: it arrives as a `Batch`. A few arrays through a pipe cost a third of a handful of tensors, each of
    which would be a file of its own in shared memory."""

    def __init__(self, *contents: Any) -> None:
        self.contents = contents

    def __reduce__(self) -> tuple[Any, ...]:
        return batch_of, self.contents


def _delivered(
    sample: Sample,
    step_counts: dict[str, int] | None,
    indices: NDArray[np.int64],
    step: int,
    parts: int,
    continues: bool,
    goes_on: bool,
) -> Batch:
    contents = sample, step_counts, indices.tolist(), step, parts, continues, goes_on
    return batch_of(*contents) if get_worker_info() is None else cast(Batch, _Parcel(*contents))


def _sequences(packed: Packed, pattern: Pattern, prefix: list[int] | None) -> Sequences:
    lengths = np.asarray(packed.lengths)
    positions = packed.positions
    if positions is None:
        ends = np.cumsum(lengths)
        positions = np.arange(len(packed.tokens)) - np.repeat(ends - lengths, lengths)
    return Sequences(
        tokens=tensor_of(packed.tokens),
        layout=Layout(lengths.tolist(), pattern, prefix),
        positions=tensor_of(positions),
        segments=None if packed.segments is None else tensor_of(packed.segments),
        languages=None if packed.languages is None else tensor_of(packed.languages),
        order=None if packed.order is None else tensor_of(packed.order),
        queries=None if packed.queries is None else tensor_of(packed.queries),
    )


def tensor_of(array: NDArray[Any]) -> Tensor:
    """The array's memory as a tensor, integers as int64 (a copy where it is of another type or not to be written to)."""
    if array.dtype.kind in "iu" and array.dtype != np.int64:
        array = array.astype(np.int64)
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


class TrainingBatches(Dataset[Batch]):
    """The micro-batches of one rank, by their number: micro-batch i is part i % parts_per_rank of step i // parts_per_rank.

    The step's batch of `batch_size` examples is sorted by length, longest first, and dealt in turn to `world * parts_per_rank` parts,
    so that parts have nearly the same number of tokens and each is sorted. An epoch's last, incomplete batch is left out.

    Continuous text is not sorted: lane b stays sequence b of the step, and part p has the lanes p, p + parts, … in every step.
    Raises Refusal where there are fewer examples than a batch holds, or fewer in a batch than there are parts.
    """

    def __init__(
        self,
        examples: Examples,
        builder: ExampleBuilder,
        *,
        batch_size: int,
        seed: int,
        parts_per_rank: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.parts = world * parts_per_rank
        if len(examples) < batch_size:
            raise Refusal(
                f"batch_size={batch_size} is more than the {len(examples)} training examples that this corpus gives; "
                f"at most batch_size={len(examples)}, or more text, or a smaller length="
            )
        if batch_size < self.parts:
            raise Refusal(
                f"batch_size={batch_size} cannot be cut into {self.parts} parts ({world} processes with {parts_per_rank} each)"
            )
        self.examples = examples
        self.builder = builder
        self.batch_size = batch_size
        self.seed = seed
        self.parts_per_rank = parts_per_rank
        self.rank = rank
        self.world = world
        self.steps_per_epoch = len(examples) // batch_size
        self._order: tuple[int, NDArray[np.int64]] | None = None  # the epoch last asked for, and its order
        self._counts: tuple[int, dict[str, int]] | None = None  # the step last asked for, and its counts

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_order": None, "_counts": None}  # cheap to make again, dear to send

    def epoch(self, step: int) -> int:
        """The epoch that a step belongs to."""
        return step // self.steps_per_epoch

    def indices(self, step: int) -> NDArray[np.int64]:
        """(batch_size,): the examples of a step, over all ranks and parts, longest first; of continuous text, lane by lane."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self.builder.continuous:
            return np.arange(self.batch_size) * self.steps_per_epoch + place
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, keyed.permutation(keyed.key(self.seed, "order", epoch), len(self.examples))
        chosen = self._order[1][place * self.batch_size : (place + 1) * self.batch_size]
        return chosen[np.argsort(-self.examples.lengths[chosen], kind="stable")]

    def __getitem__(self, number: int) -> Batch:
        step, micro = divmod(int(number), self.parts_per_rank)
        epoch = self.epoch(step)
        whole = self.indices(step)
        mine = whole[micro * self.world + self.rank :: self.parts]
        builder = self.builder.at_step(self.seed, step)
        sample = builder.sample(self.examples, mine, builder.keys(self.seed, epoch, mine))
        counts = None
        if self.parts > 1:
            if self._counts is None or self._counts[0] != step:
                keys = builder.keys(self.seed, epoch, whole)
                self._counts = step, builder.counts(self.examples, whole, keys)
            counts = self._counts[1]
        continues = self.builder.continuous and step % self.steps_per_epoch > 0
        return _delivered(sample, counts, mine, step, self.parts, continues, self.builder.continuous)


class ValidationBatches(Dataset[Batch]):
    """The validation batches of one rank: every example once over all ranks, the same corruption in every run whatever its seed.

    Examples lie in batches of similar length, longest first; rank r has the batches r, r + world, … With `limit` only so many
    examples are scored, the same ones in every run.

    Continuous text lies in `lanes` lanes; rank r has the lanes r, r + world, …, `batch_size` of them at a time, each read from its
    beginning to its end. A lane that ends before the others is the last of its batch.
    """

    def __init__(
        self,
        examples: Examples,
        builder: ExampleBuilder,
        *,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        limit: int | None = None,
        lanes: int = 1,
    ) -> None:
        if len(examples) == 0:
            raise Refusal("the validation split gives no example; give more text, or a smaller length=")
        self.examples = examples
        self.builder = builder.judge()
        if self.builder.continuous:
            self._batches, self.scored = _lanes(len(examples), limit, lanes, batch_size, rank, world)
            return
        chosen = np.arange(len(examples))
        if limit is not None and limit < len(examples):
            chosen = np.sort(keyed.permutation(keyed.key("validation", "choice"), len(examples))[:limit])
        chosen = chosen[np.argsort(-examples.lengths[chosen], kind="stable")]
        self.scored = len(chosen)  # by all ranks together
        starts = range(rank * batch_size, len(chosen), world * batch_size)
        self._batches = [(chosen[start : start + batch_size], False) for start in starts]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> Batch:
        mine, continues = self._batches[number]
        sample = self.builder.sample(self.examples, mine, keyed.keys(keyed.key("validation"), mine))
        return _delivered(sample, None, mine, 0, 1, continues, self.builder.continuous)


def _lanes(
    count: int, limit: int | None, lanes: int, batch_size: int, rank: int, world: int
) -> tuple[list[tuple[NDArray[np.int64], bool]], int]:
    """The batches of a rank: (examples, whether they continue those of the batch before); and how many examples all ranks score."""
    lanes = min(lanes, count)
    longest = -(-count // lanes)
    read = longest if limit is None else min(longest, max(1, limit // lanes))
    starts = np.arange(lanes) * longest
    ends = np.minimum(starts + read, count)
    batches = []
    for first in range(rank, lanes, world * batch_size):
        own = slice(first, min(first + world * batch_size, lanes), world)
        for place in range(read):
            here = starts[own] + place
            here = here[here < ends[own]]
            if len(here):
                batches.append((here, place > 0))
    return batches, int(np.maximum(ends - starts, 0).sum())


class Position(Sampler[int]):
    """The numbers start() … end - 1; `start` is asked when iteration begins, so that it can be the trainer's own counter.

    Its length is the whole training's, wherever it begins: Lightning holds its own count of batches against it, which goes on
    after a resume.
    """

    def __init__(self, start: Callable[[], int], end: int) -> None:
        self.start = start
        self.end = end

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start(), self.end))

    def __len__(self) -> int:
        return self.end


def one_thread(_: int) -> None:
    """What a loader's worker does first: a batch is made by one thread. (Here, as a worker need not import Lightning for it.)"""
    torch.set_num_threads(1)
