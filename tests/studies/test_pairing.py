"""Arms of one seed are a pair: the same weights to begin with, the same documents in the same order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cloze.check import check
from cloze.compose import compose
from cloze.data.batches import TrainingBatches
from cloze.prepare import Prepared, prepare

SMALL = (
    "data.documents=40", "data.validation_documents=10", "data.test_documents=10", "size.layers=1", "size.width=16", "size.heads=2",
    "size.inner=32", "length=32", "tokenizer.vocabulary=300",
)  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def made(cache: Path, words: str) -> Prepared:
    return prepare(check(compose([*SMALL, f"cache_dir={cache}", *words.split()])), say=lambda line: None)


def batches(arm: Prepared, seed: int = 1) -> TrainingBatches:
    return TrainingBatches(arm.train, arm.builder, batch_size=8, seed=seed, parts_per_rank=1, rank=0, world=1)


def shared(one: Prepared, other: Prepared) -> list[str]:
    """The parameters of one name and shape, which must be equal."""
    found = []
    for part in ("model", "objective"):
        first, second = getattr(one, part).state_dict(), getattr(other, part).state_dict()
        for name in first.keys() & second.keys():
            if first[name].shape == second[name].shape:
                assert torch.equal(first[name], second[name]), name
                found.append(name)
    return found


@pytest.mark.parametrize("model", ["bert", "albert", "electra"])
def test_a_pooler_leaves_the_other_weights_as_they_are(cache: Path, model: str) -> None:
    """One arm of nsp_vs_sop pools and another does not."""
    arms = [made(cache, f"model={model} objective={each} objective.format=segment_pair") for each in ("mlm", "mlm_sop")]
    assert arms[0].model.pooler is None and arms[1].model.pooler is not None
    assert len(shared(*arms)) == len(arms[0].model.state_dict()) + len(arms[0].objective.state_dict())


def test_arms_read_the_same_documents_in_the_same_order(cache: Path) -> None:
    arms = [made(cache, f"objective={each} objective.format=segment_pair") for each in ("mlm", "mlm_nsp", "mlm_sop")]
    none, nsp, sop = (each.train.table for each in arms)
    assert len(none) == len(sop) and np.array_equal(nsp, sop)
    # both losses ask for two sentences: a document's last one, where it would be alone, takes the one before it along
    differs = none[:, 0] != sop[:, 0]
    assert np.array_equal(none[:, 1:], sop[:, 1:]) and np.all(none[differs, 0] - 1 == sop[differs, 0])
    assert np.all(none[differs, 1] - none[differs, 0] == 1) and 0 < differs.sum() < len(none) / 5
    orders = [
        [sorted(batches(arm)[step].indices) for step in range(6)] for arm in arms
    ]  # within a step they go by length
    assert orders[0] == orders[1] == orders[2]


def test_arms_of_one_builder_hide_the_same_words_where_they_differ_in_the_loss_alone(cache: Path) -> None:
    words = "objective=mlm_sop objective.mask_ratio=0.3"
    arms = [made(cache, f"{words} objective.pair_loss_weight={weight}") for weight in (1, 0)]
    first, second = (batches(arm)[3] for arm in arms)
    assert torch.equal(first.inputs.tokens, second.inputs.tokens)
    other = made(cache, f"{words} seed=2")
    assert not torch.equal(
        other.model.state_dict()["embeddings.word.weight"], arms[0].model.state_dict()["embeddings.word.weight"]
    )
    assert batches(other, 2)[3].indices != first.indices
