"""FLOPs a token are those of the run's own steps, are counted without a trace in the run, and can be what ends it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jobs
import pytest
import torch
from test_resume import interrupted
from torch import Tensor, nn
from torch.nn import functional as F

from cloze import cli
from cloze.check import check
from cloze.compose import compose
from cloze.data.batches import TrainingBatches
from cloze.errors import Refusal, RunFailure
from cloze.finetuning.ways import Finetuning
from cloze.folder import RunFolder
from cloze.prepare import Prepared, prepare
from cloze.training import flops
from cloze.training.budget import Budget, Plan

SMALL = [
    "size=tiny", "length=32", "batch_size=8", "data.documents=120", "data.validation_documents=20", "data.test_documents=20",
    "validation.examples=8", "tracking=none", "hardware.threads=1", "hardware.precision=32",
]  # fmt: skip
FAMILIES = {
    "electra": ["model=electra"],
    "elmo": ["model=elmo"],
    "switch": ["model=switch", "objective=span_corruption"],
    "transformer_xl": ["model=transformer_xl"],
    "xlnet": ["model=xlnet"],
}


def prepared(*words: str, cache: Path) -> Prepared:
    return prepare(check(compose([*SMALL, f"cache_dir={cache}", *words])), None, lambda line: None)


def per_token(made: Prepared, **more: Any) -> float:
    return flops.per_token(made.model, made.objective, made.builder, made.train, batch_size=8, seed=1, **more)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_a_product_is_counted_as_two_for_each_pair() -> None:
    layer, x = nn.Linear(5, 7), torch.randn(3, 5)
    assert flops.counted(lambda: layer(x)) == 2 * 3 * 5 * 7
    assert flops.counted(lambda: layer(x).sum().backward()) == 2 * 2 * 3 * 5 * 7  # nobody asks for the gradient of x
    q, k, v = (torch.randn(2, 3, 8, 4, requires_grad=True) for _ in range(3))
    products = 2 * (2 * 3 * 8 * 8 * 4)  # queries with keys, weights with values
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        assert flops.counted(lambda: F.scaled_dot_product_attention(q, k, v)) == 2 * products
        # backward: each product has two, and the weights are computed again
        whole = flops.counted(lambda: F.scaled_dot_product_attention(q, k, v).sum().backward())
        assert whole == 2 * products + 5 * products


def test_a_bert_has_as_many_as_its_matrices_say() -> None:
    made = jobs.parts(layers=2, batch_size=4)
    found = flops.per_token(made.model, made.objective, made.builder, made.train, batch_size=4, seed=1, micro_batches=4)
    batches = TrainingBatches(made.train, made.builder, batch_size=4, seed=1, parts_per_rank=4)
    batch = batches[2]  # one sequence, so nothing is attended to beside it
    (length,), masked, width, inner = batch.inputs.layout.lengths, batch.counts["mlm"], 16, 32
    layer = length * (4 * width * width + 2 * width * inner) + 2 * length * length * width
    head = masked * (width * width + width * jobs.SIZE)
    bias = masked * jobs.SIZE  # the gradient of the head's bias is a product with ones
    assert found * length == 2 * (3 * (2 * layer + head) + bias)


@pytest.mark.parametrize("family", FAMILIES)
def test_counting_leaves_no_trace(family: str, cache: Path) -> None:
    made = prepared(*FAMILIES[family], cache=cache)
    modules = nn.ModuleDict({"model": made.model, "objective": made.objective})
    modules.get_parameter(next(name for name, _ in modules.named_parameters())).requires_grad_(False)
    made.objective.eval()
    before = {name: tensor.clone() for name, tensor in modules.state_dict().items()}
    able = [parameter.requires_grad for parameter in modules.parameters()]
    random = torch.get_rng_state()
    everything = frozenset(name for name, _ in modules.named_parameters())
    assert per_token(made, trained=everything) > 0
    assert torch.equal(torch.get_rng_state(), random)
    after = modules.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert [parameter.requires_grad for parameter in modules.parameters()] == able
    assert made.model.training and not made.objective.training
    assert all(parameter.grad is None for parameter in modules.parameters())


@pytest.mark.parametrize("memory", [0, 16, 80])
def test_a_memory_is_counted_when_it_is_full(memory: int, cache: Path) -> None:
    """Against a step in the middle of a run, whose memory has come from all the steps before it."""
    made = prepared("model=transformer_xl", f"model.memory_length={memory}", cache=cache)
    batches = TrainingBatches(made.train, made.builder, batch_size=8, seed=1)
    assert batches.steps_per_epoch > 8
    kept: dict[str, Tensor] | None = None
    for step in range(7):
        batch = replace(batches[step], memory=kept or None)
        kept = made.objective(made.model, batch).memory
    work = flops.counted(lambda: flops.backward(flops.loss(made.model, made.objective, batch), made.model))
    # how many targets a window has is not always the same: a text's first token is nobody's
    assert per_token(made) == pytest.approx(work / batch.real_tokens, rel=0.01)
    if memory:
        without = prepared("model=transformer_xl", "model.memory_length=0", cache=cache)
        assert per_token(made) > 1.05 * per_token(without)


def test_what_does_not_train_has_no_gradient_to_be_counted(tmp_path: Path) -> None:
    found = {
        trains: jobs.run(tmp_path / trains, steps=1, finetuning=Finetuning(trains=trains))["flops_per_token"]
        for trains in ("all", "head")
    }
    assert found["head"] < 0.7 * found["all"]


def test_a_run_is_bitwise_the_one_that_was_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ways: list[dict[str, Any]] = [{"micro": 4, "steps": 6}, {"objective": "mlm_sop", "steps": 6}]
    counted = [jobs.run(tmp_path / f"counted-{number}", **way) for number, way in enumerate(ways)]
    assert all(facts["flops_per_token"] > 1000 for facts in counted)
    monkeypatch.setattr(flops, "per_token", lambda *_, **__: 1.0)
    others = [jobs.run(tmp_path / f"not-{number}", **way) for number, way in enumerate(ways)]
    assert all(facts["flops_per_token"] == 1.0 for facts in others)
    assert [facts["weights_sha256"] for facts in counted] == [facts["weights_sha256"] for facts in others]


def test_a_budget_in_flops() -> None:
    assert Budget(flops=1e9).plan(1000, 50_000, 10, lambda: 1e4) == Plan(steps=200)  # 500 tokens a step
    assert Budget(flops=1.0).plan(1000, 50_000, 10, lambda: 1e4) == Plan(steps=1)
    assert Budget(steps=3).plan(1000, 50_000, 10, lambda: pytest.fail("nobody asks")) == Plan(steps=3)
    with pytest.raises(Refusal, match=r"budget\.flops=0 must be above 0"):
        Budget(flops=0)
    with pytest.raises(Refusal, match=r"budget\.tokens=5 and budget\.flops=1000000\.0: a run has one budget"):
        Budget(tokens=5, flops=1e6)


def test_a_run_of_so_many_flops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"budget": Budget(flops=1e8), "may_differ": ("budget.steps", "budget.flops")}
    facts = jobs.run(tmp_path / "whole", **settings)
    spent = facts["tokens"] * facts["flops_per_token"]
    assert facts["steps"] > 5 and spent == pytest.approx(1e8, rel=0.5 / facts["steps"] + 0.05)
    # a resumed one is not counted again, so it ends where it would have ended
    folder = tmp_path / "stopped"
    interrupted(folder, monkeypatch, 3, **settings)
    monkeypatch.setattr(flops, "per_token", lambda *_, **__: pytest.fail("it stands in the record"))
    resumed = jobs.run(folder, resume=True, **settings)
    same = ("steps", "weights_sha256", "flops_per_token")
    assert [resumed[key] for key in same] == [facts[key] for key in same]


def test_what_cannot_be_counted_ends_a_run_only_where_the_budget_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> float:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(flops, "per_token", fails)
    facts = jobs.run(tmp_path / "run", steps=1)
    assert facts["status"] == "done" and facts["flops_per_token"] is None
    assert "no such kernel" in (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    with pytest.raises(RunFailure, match=r"budget\.flops: a step cannot be counted \(RuntimeError: no such kernel\)"):
        jobs.run(tmp_path / "other", budget=Budget(flops=1e9))
    assert not RunFolder(tmp_path / "other").facts()


def test_the_plan_says_what_the_run_will_do(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*SMALL, f"cache_dir={cache}", "budget.flops=3e9"]
    assert cli._guarded(cli._train, [*words, "plan=true"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert cli._guarded(cli._train, [*words, "output_dir=run"]) == 0
    facts = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert f"steps │ {facts['steps']} (" in shown and facts["identity"]["budget.flops"] == 3e9
    # a longer one goes on
    assert cli._guarded(cli._train, [*words, "budget.flops=6e9", "output_dir=run", "resume=auto"]) == 0
    longer = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert longer["steps"] == pytest.approx(2 * facts["steps"], abs=1) and longer["attempts"][1]["from_step"] > 0
