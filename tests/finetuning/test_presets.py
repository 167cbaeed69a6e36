"""conf/finetune: every choice builds, says what it is, and trains what its name says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cloze.compose import as_settings, choices, compose, conf_directory
from cloze.finetuning.course import Course, groups
from cloze.finetuning.low_rank import is_added
from cloze.finetuning.ways import Finetuning
from cloze.recipes import completed
from cloze.schema import Node, locate
from tests.finetuning.reading import batch
from tests.finetuning.test_course import Reader
from tests.models.test_layouts import FAMILIES

WAYS = list(choices("finetune"))


def built(choice: str) -> Finetuning:
    settings = as_settings(compose([f"finetune={choice}"]).config)["finetune"]
    way: Finetuning = Node("finetune", locate(settings.pop("_target_"), "finetune"), settings).build()
    return way


def test_the_ways() -> None:
    assert set(WAYS) == {
        "full", "linear_probe", "layerwise", "ulmfit", "gradual", "chain_thaw", "lora", "adapters", "prompt_tuning", "bitfit",
        "scratch",
    }  # fmt: skip
    assert built("full").plain and not any(built(choice).plain for choice in WAYS if choice != "full")
    assert built("ulmfit").layer_decay == 1 / 2.6 and built("ulmfit").unfreeze == "gradual"
    for choice in set(WAYS) - {"full"}:
        assert (
            "https://" in (conf_directory() / "finetune" / f"{choice}.yaml").read_text(encoding="utf-8").splitlines()[0]
        )


def test_ulmfit_brings_its_schedule() -> None:
    """Also where a task's recipe would bring another; what is said wins."""
    assert compose(["finetune=ulmfit"]).choices["schedule"] == "slanted_triangular"
    assert compose(["finetune=ulmfit", "schedule=cosine"]).choices["schedule"] == "cosine"
    for way, schedule in (("ulmfit", "slanted_triangular"), ("gradual", "linear")):
        words, note = completed(["data=world/sst2", f"finetune={way}"])
        assert note and compose(words).choices["schedule"] == schedule


def test_a_recipe_has_a_rate_for_what_trains_little() -> None:
    rates: dict[str, Any] = {}
    for way in ("full", "linear_probe", "lora"):
        words, note = completed(["data=world/sst2", f"finetune={way}", "size=base"])
        rates[way] = compose(words).config.optimizer.learning_rate
        assert ("and for the rate LoRA's paper" in note) == (way == "lora")
    assert rates["full"] < rates["lora"] < rates["linear_probe"]
    words, _ = completed(["data=world/sst2", "finetune=lora", "optimizer.learning_rate=1.0"])
    assert compose(words).config.optimizer.learning_rate == 1.0


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("choice", ["lora", "adapters"])
def test_whatever_trains_has_a_gradient(choice: str, name: str) -> None:
    """In every family: processes that add up gradients would wait for one that never comes."""
    if name == "elmo" and choice == "adapters":
        return  # refused, as another test says
    torch.manual_seed(0)
    model, reader = FAMILIES[name](), Reader()
    settings = {"targets": "all", "rank": 2} if choice == "lora" else {"bottleneck": 4}
    way = Finetuning(trains="head", adapter="lora" if choice == "lora" else "bottleneck", **settings)
    Course.install(way, model)
    able = Course(way, model, reader).able
    for parameter, tensor in model.named_parameters():
        tensor.requires_grad_(f"model.{parameter}" in able)
    states = model(batch(model, name)).last
    (states * torch.randn(states.shape)).sum().backward()
    for parameter, tensor in model.named_parameters():
        assert (tensor.grad is not None) == (f"model.{parameter}" in able), parameter
        if is_added(parameter) and parameter.endswith(".up"):
            assert tensor.grad is not None and tensor.grad.abs().sum() > 0, parameter
    assert sum(len(group) for group in groups(model, reader)) == len(list(model.parameters())) + 2
