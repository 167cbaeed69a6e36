"""Text that goes on from batch to batch: its lanes, what a model carries along them, and a resume in the middle."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jobs
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cloze.data.base import Vocabulary
from cloze.data.batches import TrainingBatches, ValidationBatches
from cloze.errors import Preempted
from cloze.folder import RunFolder
from cloze.models.base import Batch, Causal, HiddenStates, TokenHead
from cloze.objectives.clm import CausalExamples, CausalLM
from cloze.training.callbacks.conductor import Conductor
from cloze.training.hardware import Hardware

VOCABULARY = Vocabulary(jobs.SIZE, {**jobs.VOCABULARY.special, "eos": 4})
LENGTH = 7


class Summing(Causal):
    """Every state is the running mean of all that was read, in earlier batches too: state = 0.9 * state before + 0.1 * token."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8
        self.word = nn.Embedding(jobs.SIZE, self.width)

    @property
    def word_embedding(self) -> Tensor:
        return self.word.weight

    def token_head(self) -> TokenHead:
        return TokenHead()

    def depth(self, parameter_name: str) -> int:
        return 0

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        words = self.word(batch.inputs.tokens).view(batch.size, -1, self.width)
        state = words.new_zeros(batch.size, self.width) if batch.memory is None else batch.memory["state"]
        states = []
        for word in words.unbind(1):
            state = 0.9 * state + 0.1 * word
            states.append(state)
        return HiddenStates(torch.stack(states, 1).flatten(0, 1), memory={"state": state.detach()})


def builder() -> CausalExamples:
    return CausalExamples(VOCABULARY, LENGTH, documents="continued")


def settings(**changed: Any) -> dict[str, Any]:
    torch.manual_seed(5)
    model, made = Summing(), builder()
    return {
        "model": model, "objective": CausalLM(model, VOCABULARY), "builder": made, "train": made.build(jobs.corpus(40, 1), 1),
        "validation": made.build(jobs.corpus(8, 2), 2), "vocabulary": VOCABULARY, **changed,
    }  # fmt: skip


def stream() -> list[int]:
    examples = builder().build(jobs.corpus(40, 1), 1)
    sample = builder().sample(examples, np.arange(len(examples)), np.zeros(len(examples), np.uint64))
    return sample.inputs.tokens.tolist()


@pytest.mark.parametrize(("world", "parts"), [(1, 1), (1, 3), (2, 2)])
def test_each_lane_reads_on_whatever_the_cut(world: int, parts: int) -> None:
    examples, whole, lanes = builder().build(jobs.corpus(40, 1), 1), stream(), 6
    per_lane = len(examples) // lanes
    for rank in range(world):
        batches = TrainingBatches(
            examples, builder(), batch_size=lanes, seed=3, parts_per_rank=parts, rank=rank, world=world
        )
        for micro in range(parts):
            read: dict[int, list[int]] = {}
            for step in range(per_lane):
                batch = batches[step * parts + micro]
                assert batch.continues == (step > 0)
                for row, tokens in enumerate(batch.inputs.tokens.view(batch.size, LENGTH).tolist()):
                    read.setdefault(row, []).extend(tokens)
            for row, tokens in read.items():
                lane = micro * world + rank + row * world * parts
                start = lane * per_lane * LENGTH
                assert tokens == whole[start : start + per_lane * LENGTH]
            assert not batches[per_lane * parts + micro].continues  # the next epoch begins anew


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("limit", [None, 25])
def test_validation_lanes(world: int, limit: int | None) -> None:
    """Every window once over all ranks; each row of a batch goes on where the same row of the batch before ended."""
    examples = builder().build(jobs.corpus(40, 1), 1)
    seen: list[int] = []
    for rank in range(world):
        batches = ValidationBatches(examples, builder(), batch_size=2, rank=rank, world=world, limit=limit, lanes=10)
        before: tuple[int, ...] = ()
        for number in range(len(batches)):
            batch = batches[number]
            if batch.continues:
                assert batch.indices == tuple(index + 1 for index in before[: batch.size])
            before = batch.indices
            seen += batch.indices
        assert batches.scored == (len(examples) if limit is None else 20)  # two windows of each lane
    assert len(seen) == len(set(seen)) == batches.scored


def test_the_state_is_carried_and_nothing_else_is(tmp_path: Path) -> None:
    """Against a plain loop over the lanes, in which nothing is cut into batches by us."""
    lanes, steps = 8, 18
    parts = settings()
    train = parts["train"]
    per_lane = len(train) // lanes
    assert per_lane > steps
    reference = {name: value.clone() for name, value in parts["model"].state_dict().items()}
    jobs.run(tmp_path / "run", steps=steps, batch_size=lanes, rate=1e-12, validate_every=50, micro=4, **parts)
    losses = [point["train/loss"] for point in RunFolder(tmp_path / "run").points() if "train/loss" in point]

    text = torch.tensor(stream())[: per_lane * lanes * LENGTH].view(lanes, -1)
    following = torch.tensor([*stream(), VOCABULARY["eos"]])[1 : per_lane * lanes * LENGTH + 1].view(lanes, -1)
    words, state = reference["word.weight"], torch.zeros(lanes, 8)
    nats = []
    for place in range(steps * LENGTH):
        state = 0.9 * state + 0.1 * words[text[:, place]]
        nats.append(torch.nn.functional.cross_entropy(state @ words.T, following[:, place]))
    together = torch.stack(nats).view(steps, LENGTH).mean(1)
    expected = [float(together[max(0, end - 3) : end].mean()) for end in (3, 6, 9, 12, 15, 18)]
    np.testing.assert_allclose(losses[:6], expected, rtol=1e-5)


def test_measuring_threads_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that are only measured change neither what is carried nor what is logged."""
    from cloze.training import threads

    def measured(step: Callable[[], object], *_: object) -> tuple[int, str]:
        for _ in range(3):
            step()
        return 1, "measured"

    common: dict[str, Any] = {"batch_size": 8, "steps": 6}
    plain = jobs.run(tmp_path / "plain", **common, **settings())
    monkeypatch.setattr(threads, "chosen_outside", lambda: None)
    monkeypatch.setattr(threads, "calibrate", measured)
    hardware = Hardware(accelerator="cpu", precision=32, workers=0)
    after = jobs.run(tmp_path / "measured", **common, **settings(hardware=hardware))
    assert after["weights_sha256"] == plain["weights_sha256"]
    assert after["metrics"]["train/loss"] == plain["metrics"]["train/loss"]


@pytest.mark.parametrize(("micro", "micro_after"), [(None, None), (4, 4), (4, 2)])
def test_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, micro: int | None, micro_after: int | None) -> None:
    """Bitwise with the same parts; with other parts what is added up is added in another order."""
    common: dict[str, Any] = {"batch_size": 8, "validate_every": 4, "save_every": 4}
    whole = jobs.run(tmp_path / "whole", micro=micro, **common, **settings())
    agree = Conductor._agree

    def stop_at_six(self: Conductor, module: Any) -> int:
        agree(self, module)
        return signal.SIGTERM if self.progress.step == 6 else 0

    folder = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(Conductor, "_agree", stop_at_six)
        with pytest.raises(Preempted):
            jobs.run(folder, micro=micro, **common, **settings())
    resumed = jobs.run(folder, resume=True, micro=micro_after, **common, **settings())
    if micro == micro_after:
        assert resumed["weights_sha256"] == whole["weights_sha256"]
    for name in ("train/loss", "val/loss"):
        assert resumed["metrics"][name] == pytest.approx(whole["metrics"][name], rel=1e-6)
