"""Batches depend on the micro-batch's number alone: proved by making them in every other way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cloze.data import keyed
from cloze.data.base import Packed, Sample, TokenizedCorpus, Vocabulary
from cloze.data.batches import Position, TrainingBatches, ValidationBatches, batch_of
from cloze.data.module import DataModule
from cloze.errors import Refusal
from cloze.models.base import Batch
from cloze.objectives.base import ExampleBuilder, Examples

SENTENCES = 53


class Noisy(ExampleBuilder):
    """A sentence an example; each token is hidden by the toss of a keyed coin. `bad` raises where a certain example is asked for."""

    def __init__(self, ratio: float = 0.5, bad: int | None = None) -> None:
        self.vocabulary, self.length = Vocabulary(100, {"mask": 0}), 16
        self.ratio, self.bad = ratio, bad

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        table = np.stack([corpus.sentences[:-1], corpus.sentences[1:]], axis=1)
        return Examples(corpus, table, table[:, 1] - table[:, 0])

    def judge(self) -> ExampleBuilder:
        return Noisy(0.25, self.bad)

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        if self.bad is not None and self.bad in indices:
            raise ValueError(f"example {self.bad} is bad")
        rows = examples.table[indices]
        lengths = rows[:, 1] - rows[:, 0]
        tokens = np.concatenate([examples.corpus.tokens[a:b] for a, b in rows]).astype(np.int64)
        counters = np.concatenate([np.arange(n) for n in lengths])
        at = np.flatnonzero(keyed.uniform(np.repeat(keys, lengths), counters) < self.ratio)
        targets = tokens[at]
        tokens[at] = 0
        return Sample(Packed(tokens, lengths), {"at": at, "tokens": targets}, {"hidden": len(at), "rows": len(rows)})


def examples(sentences: int = SENTENCES) -> Examples:
    lengths = np.random.default_rng(0).integers(1, 16, sentences)
    document = [list(range(10 + n, 10 + n + int(length))) for n, length in enumerate(lengths)]
    return Noisy().build(TokenizedCorpus.of([document]), 0)


def rows(batch: Batch) -> dict[int, list[int]]:
    """{example: its tokens as the model reads them}"""
    return dict(
        zip(
            batch.indices, map(torch.Tensor.tolist, batch.inputs.tokens.split(batch.inputs.layout.lengths)), strict=True
        )
    )


def training(**settings: int) -> TrainingBatches:
    return TrainingBatches(examples(), Noisy(), **{"batch_size": 12, "seed": 7, **settings})


@pytest.mark.parametrize(("world", "parts"), [(1, 1), (1, 4), (2, 1), (2, 3), (3, 2), (1, 5)])
def test_a_step_is_the_same_however_it_is_cut(world: int, parts: int) -> None:
    whole = training()
    ranks = [training(world=world, parts_per_rank=parts, rank=rank) for rank in range(world)]
    for step in range(10):
        expected = rows(whole[step])
        micros = [ranks[rank][step * parts + micro] for micro in range(parts) for rank in range(world)]
        found: dict[int, list[int]] = {}
        for micro in micros:
            assert not found.keys() & rows(micro).keys()
            found |= rows(micro)
            assert (micro.step, micro.parts) == (step, world * parts)
        assert found == expected
        for name in ("hidden", "rows"):
            assert (
                {m.step_counts[name] for m in micros}
                == {sum(m.counts[name] for m in micros)}
                == {whole[step].counts[name]}
            )
        sizes = [sum(m.inputs.layout.lengths) for m in micros]
        assert max(sizes) - min(sizes) <= max(whole[step].inputs.layout.lengths)  # balanced as well as dealing can


def test_an_epoch_holds_every_example_once_but_for_the_last_batch() -> None:
    batches = training()
    assert batches.steps_per_epoch == SENTENCES // 12 == 4
    epochs = [[i for step in range(e * 4, e * 4 + 4) for i in batches[step].indices] for e in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == 48
    assert len({tuple(epoch) for epoch in epochs}) == 3
    seen = rows(batches[0]).items()
    later = {i: row for step in range(4, 8) for i, row in rows(batches[step]).items()}
    assert any(later.get(i, row) != row for i, row in seen)  # hidden anew in each epoch


def test_asked_in_any_order() -> None:
    batches, again = training(parts_per_rank=2), training(parts_per_rank=2)
    there = [rows(batches[n]) for n in range(20)]
    assert [rows(again[n]) for n in reversed(range(20))] == there[::-1]
    assert rows(training(seed=8)[0]) != rows(training()[0])


def test_longest_first() -> None:
    for n in range(8):
        lengths = training(parts_per_rank=2)[n].inputs.layout.lengths
        assert list(lengths) == sorted(lengths, reverse=True)


def test_too_few_examples() -> None:
    with pytest.raises(Refusal, match=r"batch_size=54 .* 53 training examples"):
        training(batch_size=54)
    with pytest.raises(Refusal, match=r"batch_size=12 cannot be cut into 16 parts"):
        training(world=4, parts_per_rank=4)
    with pytest.raises(Refusal, match="no example"):
        ValidationBatches(examples(0), Noisy(), batch_size=4)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("limit", [None, 10, 500])
def test_validation_scores_every_example_once(world: int, limit: int | None) -> None:
    ranks = [
        ValidationBatches(examples(), Noisy(), batch_size=4, rank=r, world=world, limit=limit) for r in range(world)
    ]
    scored = [i for rank in ranks for n in range(len(rank)) for i in rank[n].indices]
    assert len(scored) == len(set(scored)) == ranks[0].scored == min(limit or SENTENCES, SENTENCES)
    alone = ValidationBatches(examples(), Noisy(), batch_size=7, limit=limit)
    one = {i: row for n in range(len(alone)) for i, row in rows(alone[n]).items()}
    assert {i: row for rank in ranks for n in range(len(rank)) for i, row in rows(rank[n]).items()} == one


def test_validation_uses_the_judge() -> None:
    batches = ValidationBatches(examples(), Noisy(ratio=1.0), batch_size=SENTENCES)
    batch = batches[0]
    assert 0.1 < batch.counts["hidden"] / len(batch.inputs.tokens) < 0.4
    assert batch.step_counts == batch.counts


def module(workers: int, begin: list[int], builder: ExampleBuilder | None = None) -> DataModule:
    data = examples()
    return DataModule(
        data, data, builder or Noisy(), batch_size=6, parts_per_rank=2, rank=0, world=1, workers=workers, seed=3,
        start=lambda: begin[0], steps=15, validation_examples=None,
    )  # fmt: skip


def test_loaders_are_the_same_for_any_workers_and_from_any_position() -> None:
    begin = [0]
    expected = [rows(batch) for batch in module(0, begin).train_dataloader()]
    assert len(expected) == 30
    state = torch.get_rng_state()
    two = module(2, begin)
    assert [rows(batch) for batch in two.train_dataloader()] == expected
    assert torch.equal(torch.get_rng_state(), state)  # loaders leave the global generator alone
    begin[0] = 13  # asked when iteration begins, not when the loader is made
    loader = two.train_dataloader()
    begin[0] = 17
    assert len(loader) == 30  # the whole training's
    assert [rows(batch) for batch in loader] == expected[17:]
    validation = [rows(batch) for batch in module(0, begin).val_dataloader()]
    for _ in range(2):
        assert [rows(batch) for batch in two.val_dataloader()] == validation


def test_a_workers_error_keeps_its_message() -> None:
    with pytest.raises(ValueError, match="example 5 is bad"):
        list(module(2, [0], Noisy(bad=5)).train_dataloader())


def test_tensors() -> None:
    corpus = np.array([5, 6, 7, 8, 9], np.uint16)
    corpus.flags.writeable = False
    sample = Sample(
        Packed(corpus, np.array([2, 3]), segments=np.array([0, 0, 0, 1, 1])),
        {"share": np.array([0.5], np.float32), "at": np.array([1], np.int32)},
        {"mlm": 1},
        decoder=Packed(np.array([1]), np.array([1]), positions=np.array([4])),
        prefix=np.array([1, 2]),
    )
    batch = batch_of(sample, {"mlm": 9}, [3, 1], step=4, parts=2)
    assert batch.inputs.tokens.dtype == torch.int64 and batch.inputs.tokens.tolist() == [5, 6, 7, 8, 9]
    assert batch.inputs.positions.tolist() == [0, 1, 0, 1, 2]
    assert batch.inputs.layout.pattern == "prefix" and batch.inputs.layout.prefix == (1, 2)
    assert (
        batch.decoder is not None
        and batch.decoder.layout.pattern == "causal"
        and batch.decoder.positions.tolist() == [4]
    )
    assert batch.targets["share"].dtype == torch.float32 and batch.targets["at"].dtype == torch.int64
    assert (batch.step_counts, batch.indices, batch.step, batch.parts) == ({"mlm": 9}, (3, 1), 4, 2)
    sample.causal, sample.prefix = True, None
    assert batch_of(sample).inputs.layout.pattern == "causal" and batch_of(sample).step_counts == {"mlm": 1}


def test_position() -> None:
    position = Position(lambda: 3, 6)
    assert list(position) == [3, 4, 5] and len(position) == 6
    assert list(Position(lambda: 9, 6)) == []
