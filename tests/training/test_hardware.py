"""How a batch is cut, how long a budget is, and what a machine without GPUs refuses."""

from __future__ import annotations

import pytest
import torch

from cloze.errors import Refusal
from cloze.training import threads
from cloze.training.budget import Budget, Plan
from cloze.training.hardware import Cut, Hardware, cores


def test_cut() -> None:
    assert Hardware().cut(32, 1) == Cut(32, 1, 32, 1)
    assert Hardware(micro_batch=4).cut(32, 2) == Cut(32, 2, 4, 4)
    with pytest.raises(
        Refusal,
        match=r"batch_size=32 cannot be cut for 2 devices into micro-batches of 6.*hardware.micro_batch=4 would",
    ):
        Hardware(micro_batch=6).cut(32, 2)
    with pytest.raises(Refusal, match=r"batch_size=3 cannot be cut for 2 devices"):
        Hardware().cut(3, 2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_machine_without_gpus() -> None:
    for settings, message in [
        ({"accelerator": "gpu"}, "sees no GPU here; hardware=auto"),
        ({"accelerator": "cpu", "precision": "16-mixed"}, "16-mixed needs a GPU"),
        ({"accelerator": "cpu", "strategy": "fsdp"}, "fsdp needs GPUs"),
        ({"accelerator": "cpu", "devices": 64_000}, rf"devices=64000: this machine has {cores()} cores"),
        ({"accelerator": "tpu"}, "torch_xla"),
    ]:
        with pytest.raises(Refusal, match=message):
            Hardware(**settings).resolve(64_000)  # type: ignore[arg-type]
    found = Hardware().resolve(32)
    assert (found.accelerator, found.devices, found.strategy, found.workers) == ("cpu", 1, "single", 0)


def test_ranges() -> None:
    for settings, message in [
        ({"devices": 0}, r"hardware\.devices=0 must be at least 1"),
        ({"workers": -1}, r"hardware\.workers=-1"),
        ({"micro_batch": 0}, r"hardware\.micro_batch=0"),
        ({"devices": 2, "strategy": "single"}, "strategy=single takes one device"),
        ({"timeout": 0.0}, r"hardware\.timeout=0\.0"),
    ]:
        with pytest.raises(Refusal, match=message):
            Hardware(**settings)  # type: ignore[arg-type]


def test_budget() -> None:
    assert Budget().plan(1000, 50_000, 10) == Plan(steps=1000)
    assert Budget(steps=7).plan(1000, 50_000, 10) == Plan(steps=7)
    assert Budget(tokens=1e6).plan(1000, 50_000, 10) == Plan(steps=2000)  # 500 tokens a step
    assert Budget(epochs=2.5).plan(1009, 50_000, 10) == Plan(steps=250)  # incomplete batches are left out
    assert Budget(minutes=2).plan(1000, 50_000, 10) == Plan(seconds=120)
    with pytest.raises(Refusal, match=r"budget\.steps=5 and budget\.minutes=1: a run has one budget"):
        Budget(steps=5, minutes=1)
    with pytest.raises(Refusal, match=r"budget\.steps=0 must be above 0"):
        Budget(steps=0)
    with pytest.raises(Refusal, match="gives 5 examples, fewer than one step takes"):
        Budget().plan(5, 100, 10)


def test_minutes() -> None:
    plan = Plan(seconds=100)
    assert not plan.over(10**9, 99) and plan.over(0, 100)
    assert plan.total(50, 25) == pytest.approx(200)  # a quarter of the time, 50 steps: 200 in all
    assert plan.total(10, 200) >= 11


def test_threads_are_measured_once(tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    cache = Path(str(tmp_path))
    monkeypatch.setattr(threads, "cores", lambda: 2)
    calls: list[int] = []

    def slow_with_two() -> None:
        import time

        calls.append(torch.get_num_threads())
        time.sleep(0.02 if torch.get_num_threads() == 2 else 0.001)

    before = torch.get_num_threads()
    chosen, why = threads.calibrate(slow_with_two, "shape", cache, limit=0.1)
    assert chosen == 1 and "ms a step with 2" in why and torch.get_num_threads() == before
    asked = len(calls)
    assert threads.calibrate(slow_with_two, "shape", cache) == (1, "1 of 2 threads, as measured before on this machine")
    assert len(calls) == asked
    assert threads.calibrate(slow_with_two, "another", cache, limit=0.1)[0] == 1 and len(calls) > asked
